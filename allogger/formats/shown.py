"""Shown: what does TensorBoard show of tables, confusion matrices, curves, videos, sounds and meshes?"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.films import gif, pictures_of
from allogger.kinds.mesh import MeshKind
from allogger.kinds.point_cloud import PointCloudKind
from allogger.kinds.pr_curve import THRESHOLDS
from allogger.kinds.table import Column, columns_of
from allogger.ply import colour_bytes
from allogger.record import Payload
from allogger.sounds import wav_of

__all__ = [
    "NotShown",
    "animation",
    "confusion_pixels",
    "file_text",
    "mesh_tensors",
    "pr_curve_rows",
    "sound",
    "table_text",
]


class NotShown(Exception):
    """A value that TensorBoard cannot show; the message says why."""


# --------------------------------------------------------------------------------------------------------------- tables

_MOST_ROWS, _MOST_COLUMNS, _MOST_CHARACTERS = 100, 50, 200
# What Markdown or HTML would take for more than text.
_SPECIAL = re.compile(r"[&<>|*_`\\\[\]#~]")


def table_text(payload: Payload, attrs: Mapping[str, Any]) -> str:
    """Return the first rows and columns of a table as Markdown, and how many others there are."""
    columns = columns_of(payload, attrs)
    rows = max((len(column.cells) for column in columns), default=0)
    shown = columns[:_MOST_COLUMNS]
    cells = [_texts(column) for column in shown]
    lines = [[_text(column.about["name"]) for column in shown], ["---"] * len(shown), *zip(*cells, strict=True)]
    left_out = [
        f"{count - most} more {what}"
        for what, count, most in (("rows", rows, _MOST_ROWS), ("columns", len(columns), _MOST_COLUMNS))
        if count > most
    ]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{table}\n{', '.join(left_out)}\n" if left_out else table


def _texts(column: Column) -> list[str]:
    """Return the first cells of a column as texts."""
    cells = column.cells[:_MOST_ROWS]
    if column.about.get("dtype") == "category":
        # -1 is a missing one.
        names = [*column.about["categories"], ""]
        cells = [names[number] for number in np.asarray(cells).tolist()]
    elif isinstance(cells, np.ndarray) and cells.dtype.kind == "S":
        cells = cells.tolist()
    zone = " UTC" if str(column.about.get("dtype")).startswith("datetime64[") else ""
    return [_text(cell, zone) for cell in cells]


def _text(cell: Any, unit: str = "") -> str:
    if cell is None:
        return ""
    text = " ".join(f"{cell}{unit}".split())
    text = text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", text)


def file_text(payload: Payload) -> str:
    """Return name, size, hash and place of a file that was logged."""
    told = json.loads(str(payload))
    metric = f", metric {told['metric']}" if "metric" in told else ""
    return (
        f"{_text(told['name'])}, {told['size']:,} bytes{metric}, SHA-256 {_text(told['sha256'])}, {_text(told['path'])}"
    )


# ------------------------------------------------------------------------------------------------ matrices and curves

# From none to all of a row, in equal steps.
_COLOURS = np.array([(247, 251, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107)], np.float64)
# The side of a picture is at least, and at most, about so long.
_LEAST_SIDE, _MOST_SIDE = 320, 1024


def confusion_pixels(matrix: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a picture of a matrix: each square the darker, the more of the row is there.

    Of very many classes, neighbours share a square.
    """
    counts = np.nan_to_num(matrix.astype(np.float64)).clip(0)
    if not counts.size:
        raise NotShown("a confusion matrix without classes")
    starts = np.arange(0, len(counts), -(-len(counts) // _MOST_SIDE))
    counts = np.add.reduceat(np.add.reduceat(counts, starts, 0), starts, 1)
    parts = counts / np.maximum(counts.sum(1, keepdims=True), np.finfo(np.float64).tiny)
    places = parts.clip(0, 1) * (len(_COLOURS) - 1)
    channels = [np.interp(places, np.arange(len(_COLOURS)), colour) for colour in _COLOURS.T]
    pixels = np.rint(np.stack(channels, 2)).astype(np.uint8)
    size = -(-_LEAST_SIDE // len(counts))
    squares: NDArray[np.uint8] = pixels.repeat(size, 0).repeat(size, 1)
    return squares


def pr_curve_rows(payload: NDArray[Any], attrs: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return a curve as TensorBoard has them, at thresholds in equal distances from 0 to 1.

    The rows are true and false positives, true and false negatives, precision and recall; where nobody has counted, 1.
    """
    if len(attrs["rows"]) == 6:
        return payload.astype(np.float32)
    thresholds = np.asarray(attrs["thresholds"])
    if len(thresholds) and not 0 <= thresholds[0] <= thresholds[-1] <= 1:
        raise NotShown("TensorBoard's thresholds go from 0 to 1")
    # What holds at a threshold is what holds at the next one above it.
    points = np.searchsorted(thresholds, np.linspace(0, 1, THRESHOLDS)).clip(0, payload.shape[1] - 1)
    # Where nothing is positive TensorBoard cuts the curve off.
    return np.concatenate([np.ones((4, THRESHOLDS)), payload[:, points]]).astype(np.float32)


# --------------------------------------------------------------------------------------------------------------- videos

_DEFAULT_FPS = 10.0
# Files are written by one thread, which more pixels would keep from its work. Of a longer video every second, third and
# so on picture is shown, of a very large one every second, third and so on pixel.
_MOST_PIXELS = 2**22


def animation(frames: NDArray[Any], attrs: Mapping[str, Any]) -> tuple[int, int, bytes]:
    """Return the height, the width and an animated GIF; raises `NotShown` without Pillow."""
    pictures = pictures_of(frames, str(attrs["layout"]))
    count, height, width, _ = pictures.shape
    coarse = math.ceil(math.sqrt(height * width / _MOST_PIXELS))
    pictures = pictures[:, ::coarse, ::coarse]
    every = math.ceil(count * pictures.shape[1] * pictures.shape[2] / _MOST_PIXELS)
    pictures = pictures[::every]
    try:
        encoded = gif(pictures, attrs.get("fps", _DEFAULT_FPS) / every)
    except ImportError:
        raise NotShown("videos are shown with Pillow only: pip install 'allogger[images]'") from None
    except ValueError as error:
        raise NotShown(str(error)) from None
    return pictures.shape[1], pictures.shape[2], encoded


# --------------------------------------------------------------------------------------------------------------- sounds


def sound(samples: NDArray[Any], attrs: Mapping[str, Any]) -> tuple[int, int, int, bytes]:
    """Return the rate, the number of channels, that of samples of each, and a WAV file."""
    columns = samples.T if attrs["layout"] == "CT" else samples
    channels = columns.shape[1] if columns.ndim > 1 else 1
    try:
        return attrs["rate"], channels, len(columns), wav_of(columns, attrs["rate"])
    except ValueError as error:
        raise NotShown(str(error)) from None


# ---------------------------------------------------------------------------------------------- meshes and point clouds


def mesh_tensors(kind: str, payload: NDArray[Any], attrs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return ``VERTEX`` (float32) and, if there are any, ``FACE`` (int32) and ``COLOR`` (uint8), each of shape (N, 3).

    TensorBoard has colours of vertices only, so a mesh with those of faces gets vertices of its own for each face.
    """
    parts = (MeshKind() if kind == "mesh" else PointCloudKind()).decode(payload, attrs)
    places, faces, colors = parts.get("vertices", parts.get("points")), parts.get("faces"), parts.get("colors")
    if "face_colors" in parts and colors is None:
        places, colors = places[faces.ravel()], parts["face_colors"].repeat(3, axis=0)
        faces = np.arange(len(places)).reshape(-1, 3)
    if not len(places):
        raise NotShown(f"a {kind.replace('_', ' ')} without any points")
    with np.errstate(over="ignore", invalid="ignore"):
        found = {"VERTEX": places.astype("<f4")}
    if faces is not None and len(faces):
        found["FACE"] = faces.astype("<i4")
    if colors is not None:
        found["COLOR"] = colour_bytes(colors[:, :3])
    return found
