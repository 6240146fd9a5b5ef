"""Do allogger's own kinds keep the promises of `allogger.Kind`?"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import math
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from allogger.kinds.array import ArrayKind
from allogger.kinds.histogram import HistogramKind
from allogger.kinds.image import ImageKind
from allogger.kinds.params import ParamsKind
from allogger.kinds.scalar import ScalarKind
from allogger.kinds.text import TextKind
from allogger.plain import Unstorable
from allogger.testing import KindContract


class TestScalarKind(KindContract):
    def make_kind(self) -> ScalarKind:
        return ScalarKind()

    def values(self) -> Iterable[Any]:
        yield from (0.5, 7, True, 1 + 2j, -0.0, float("nan"), float("-inf"), 2**63 - 1, -(2**63), 2**53 + 1, 5e-324)
        yield from (
            np.float16(0.1),
            np.float32(0.1),
            np.uint64(3),
            np.bool_(False),
            np.complex64(1j),
            np.longdouble("1.1"),
        )
        yield from (np.array(3), torch.tensor(0.25), torch.tensor(True), torch.tensor([2.5], requires_grad=True))

    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* is the one number that *value* is."""
        return super().same(_number(value), _number(shown))


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) else value


class TestTextKind(KindContract):
    def make_kind(self) -> TextKind:
        return TextKind()

    def values(self) -> Iterable[Any]:
        yield from ("", "a text", "two\nlines\r\n", "NUL \0 inside and at the end \0", "é漢😀", "\ud800", "x" * 10**5)
        yield np.str_("of numpy")

    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* is that very text."""
        return isinstance(shown, str) and shown == str(value)


class TestHistogramKind(KindContract):
    def make_kind(self) -> HistogramKind:
        return HistogramKind()

    def values(self) -> Iterable[Any]:
        yield from (np.arange(5.0), np.array([], np.float32), np.array([True, False]), np.array([1j, np.nan]))
        yield from ([1, 2, 3], np.arange(20)[::-3], torch.arange(3), np.array([2**63, 0]), np.ones((2, 3)))
        yield np.array([1, 2], ">i2")


class TestImageKind(KindContract):
    def make_kind(self) -> ImageKind:
        return ImageKind()

    def values(self) -> Iterable[Any]:
        pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
        yield from (pixels, pixels.transpose(2, 0, 1), pixels[:, :, 0], pixels[::2, ::-1] > 7, pixels / 255)
        yield from (np.full((1, 1, 1), np.nan, np.float16), torch.zeros(3, 2, 2), np.zeros((2, 2, 4), ">f4"))


class TestArrayKind(KindContract):
    def make_kind(self) -> ArrayKind:
        return ArrayKind()

    def values(self) -> Iterable[Any]:
        yield from (
            np.arange(6).reshape(2, 3),
            np.zeros((0, 3)),
            np.array(0.5),
            np.arange(24.0).reshape(2, 3, 4).T[::-1],
        )
        yield from (
            np.array(["a", "bc"]),
            np.array([b"a\0b"]),
            np.array(["2020-01-01", "NaT"], "M8[s]"),
            np.ones((1,) * 20),
        )
        yield from (np.array([(1, 2.5, "x")], [("a", "<i4"), ("b", ">f8"), ("c", "U3")]), np.array([[1]], ">i2"))
        yield from ([[1, 2], [3, 4]], torch.ones(2, 2), bytearray(b"abc"), np.ma.array([1, 2]), np.arange(9)[::2])


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Optimizer:
    name: str = "adam"
    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)


class TestParamsKind(KindContract):
    def make_kind(self) -> ParamsKind:
        return ParamsKind()

    def values(self) -> Iterable[Any]:
        yield {}
        yield {"seed": 1, "rate": 0.1, "name": "é\ud800\0", "flag": True, "none": None, "large": 2**70, "nan": math.nan}
        yield {"nested": {"deeper": {"list": [1, [2.5, {"x": "y"}]]}}, "": "", "a/b": 1, "a.b": 2}
        yield Optimizer()
        yield argparse.Namespace(optimizer=Optimizer(rate=0.5), path=Path("data"), sizes=(64, 64))
        yield types.SimpleNamespace(rate=np.float32(0.1), size=np.int64(3), colour=Colour.RED, options={"b", "a"})

    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* has the same names and values, as JSON has them."""
        return repr(shown) == repr(_as_json(value))


def _as_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _as_json(dataclasses.asdict(value))
    if isinstance(value, argparse.Namespace | types.SimpleNamespace):
        return _as_json(vars(value))
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, enum.Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def test_parameters_that_would_not_read_back_are_refused() -> None:
    itself: dict[str, Any] = {}
    itself["self"] = itself
    for value in (itself, {1: "a", "1": "b"}, 0.5, "text", [1, 2]):
        with pytest.raises(Unstorable):
            ParamsKind().encode(value)
