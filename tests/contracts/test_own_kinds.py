"""Do allogger's own kinds keep the promises of `allogger.Kind`?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from allogger.kinds.array import ArrayKind
from allogger.kinds.histogram import HistogramKind
from allogger.kinds.image import ImageKind
from allogger.kinds.scalar import ScalarKind
from allogger.kinds.text import TextKind
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
