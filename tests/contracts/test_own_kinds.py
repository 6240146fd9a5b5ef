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
import pandas as pd
import plotly.graph_objects as go
import polars as pl
import pydantic
import pytest
import torch
import trimesh
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from allogger.kinds.array import ArrayKind
from allogger.kinds.audio import AudioKind
from allogger.kinds.confusion import ConfusionKind
from allogger.kinds.figure import FigureKind
from allogger.kinds.histogram import HistogramKind
from allogger.kinds.image import ImageKind
from allogger.kinds.mesh import MeshKind
from allogger.kinds.params import ParamsKind
from allogger.kinds.point_cloud import PointCloudKind
from allogger.kinds.pr_curve import PrCurveKind
from allogger.kinds.scalar import ScalarKind
from allogger.kinds.table import TableKind
from allogger.kinds.text import TextKind
from allogger.kinds.video import VideoKind
from allogger.plain import Unstorable
from allogger.testing import KindContract
from allogger.testing.rows import same


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


class Config(pydantic.BaseModel):
    rate: float = 0.1
    sizes: tuple[int, ...] = (64, 64)


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
        yield Config(rate=0.5)
        yield OmegaConf.create({"rate": 0.5, "sizes": [64, {"a": "x"}]})
        yield types.SimpleNamespace(rate=np.float32(0.1), size=np.int64(3), colour=Colour.RED, options={"b", "a"})

    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* has the same names and values, as JSON has them."""
        return repr(shown) == repr(_as_json(value))


def _as_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _as_json(dataclasses.asdict(value))
    if isinstance(value, pydantic.BaseModel):
        return _as_json(value.model_dump())
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value)
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


class TestFigureKind(KindContract):
    def make_kind(self) -> FigureKind:
        return FigureKind()

    def values(self) -> Iterable[Any]:
        figure = Figure(figsize=(2, 1), dpi=30, facecolor="none")
        yield figure
        yield figure.add_subplot()
        yield Figure(figsize=(1, 1), dpi=20).subfigures(1, 2)[0]
        yield go.Figure(go.Scatter(x=np.arange(3.0), y=[1, None, "é"]), {"title": {"text": "a title"}})

    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* is the picture of *value*, or another figure that looks alike."""
        kind = FigureKind()
        payload, other = (one if isinstance(one, np.ndarray) else kind.encode(one)[0] for one in (value, shown))
        # As dicts, because plotly does not keep the order of names.
        return bool(np.array_equal(payload, other)) or kind.decode(payload, {}) == kind.decode(other, {})


class TestTableKind(KindContract):
    def make_kind(self) -> TableKind:
        return TableKind()

    def values(self) -> Iterable[Any]:
        yield {"a": [1, 2, 3], "b": np.arange(3.0), "c": ["x", "y", "z"]}
        yield {"a": [1, None], "long": ["x" * 1000, "é\0"]}
        yield [{"a": 1}, {"a": 2, "b": True}]
        yield pd.DataFrame({"a": [1.5, None], "": pd.Categorical(["x", "y"])}, index=pd.Index(["r", "s"], name="row"))
        yield pd.DataFrame({number: [number] for number in range(300)})
        yield pl.DataFrame({"a": [1, 2], "b": ["x", None]})
        yield {}

    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* has the same names and cells as *value*."""
        one, other = (_as_frame(each).astype(object).fillna("missing") for each in (value, shown))
        return bool(one.equals(other)) and list(one.index) == list(other.index)


def _as_frame(value: Any) -> pd.DataFrame:
    return pd.DataFrame(value.to_dict(as_series=False) if isinstance(value, pl.DataFrame) else value)


class TestConfusionKind(KindContract):
    def make_kind(self) -> ConfusionKind:
        return ConfusionKind()

    def values(self) -> Iterable[Any]:
        yield from (np.arange(4).reshape(2, 2), [[1.5]], torch.eye(3), np.zeros((0, 0)), np.ones((2, 2), ">u2").T)
        yield {"matrix": np.arange(4).reshape(2, 2), "names": ["é", ""]}
        yield {"matrix": [[1, 2], [3, 4]], "names": np.arange(2)}

    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* is the matrix in *value*."""
        one, other = (each["matrix"] if isinstance(each, dict) else each for each in (value, shown))
        return super().same(np.asarray(one), np.asarray(other))


class TestPrCurveKind(KindContract):
    def make_kind(self) -> PrCurveKind:
        return PrCurveKind()

    def values(self) -> Iterable[Any]:
        yield {"labels": [0, 1, 1], "scores": [0.2, 0.9, 0.4]}
        yield {"labels": torch.tensor([True, False]), "scores": torch.tensor([1.0, 0.0])}
        yield {"labels": [], "scores": []}
        yield {"precision": [0.5, 1], "recall": np.array([1, 0], "f4"), "thresholds": [0.5]}

    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* has the rows that *value* has, or gives."""
        rows = shown if isinstance(shown, np.ndarray) else PrCurveKind().encode(shown)[0]
        return super().same(PrCurveKind().encode(value)[0], rows)


class TestVideoKind(KindContract):
    def make_kind(self) -> VideoKind:
        return VideoKind()

    def values(self) -> Iterable[Any]:
        frames = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
        yield from (frames, frames.transpose(0, 3, 1, 2), frames[..., 0] / 255, torch.zeros(1, 4, 2, 2))
        yield {"frames": frames, "fps": 25}
        yield {"frames": frames[:, ::2]}

    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* has the frames of *value*."""
        one, other = (each["frames"] if isinstance(each, dict) else each for each in (value, shown))
        return super().same(one, other)


class TestAudioKind(KindContract):
    def make_kind(self) -> AudioKind:
        return AudioKind()

    def values(self) -> Iterable[Any]:
        samples = np.arange(12, dtype=np.int16).reshape(6, 2)
        yield from ((samples[:, 0], 8000), {"samples": samples.T, "rate": 1}, (torch.rand(1, 5), 2**32 - 1))
        yield {"samples": samples[:2], "rate": 44_100, "layout": "CT"}
        yield (np.array([0, 128, 255], np.uint8), 8000.0)
        yield (np.array([np.nan, -np.inf], ">f8"), 8000)

    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* has the samples of *value*."""
        one, other = (
            each["samples"] if isinstance(each, dict) else each[0] if isinstance(each, tuple) else each
            for each in (value, shown)
        )
        return super().same(one, other)


class _ShapeContract(KindContract):
    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* has the arrays of *value*."""
        kind = self.make_kind()
        one, other = (kind.decode(*kind.encode(each)) for each in (value, shown))
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)


class TestMeshKind(_ShapeContract):
    def make_kind(self) -> MeshKind:
        return MeshKind()

    def values(self) -> Iterable[Any]:
        square = {"vertices": np.eye(4, 3), "faces": np.array([[0, 1, 2], [1, 2, 3]], np.int32)}
        yield from (square, {**square, "colors": np.full((4, 4), 7, np.uint8)}, trimesh.creation.box())
        yield {**square, "colors": torch.rand(4, 3), "face_colors": np.zeros((2, 3))}
        yield {"vertices": np.zeros((0, 3), ">f2"), "faces": []}


class TestPointCloudKind(_ShapeContract):
    def make_kind(self) -> PointCloudKind:
        return PointCloudKind()

    def values(self) -> Iterable[Any]:
        yield from (np.eye(3), torch.rand(5, 6), np.zeros((2, 7), np.float32), np.zeros((0, 3)), [[1, 2, 3]])
        yield {"points": np.arange(6).reshape(2, 3), "colors": np.full((2, 4), 9, np.uint8)}
        yield trimesh.PointCloud(np.eye(3), colors=np.full((3, 4), 9, np.uint8))


def test_parameters_that_would_not_read_back_are_refused() -> None:
    itself: dict[str, Any] = {}
    itself["self"] = itself
    for value in (itself, {1: "a", "1": "b"}, 0.5, "text", [1, 2]):
        with pytest.raises(Unstorable):
            ParamsKind().encode(value)
