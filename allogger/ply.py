"""Ply: which bytes are the PLY file of a mesh or a point cloud?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.png import bytes_of

__all__ = ["colour_bytes", "ply"]

_TYPES = {"u1": "uchar", "<i4": "int", "<f4": "float", "<f8": "double"}


def ply(parts: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the file of what is in *parts*: ``vertices`` or ``points``, and ``faces``, ``colors``, ``face_colors``.

    Places are float32 if they are, or 16 bits long, and else float64; colours have 8 bits.
    """
    places = parts["vertices"] if "vertices" in parts else parts["points"]
    is_short = np.can_cast(places.dtype, np.float32)
    elements = {"vertex": _element({"xyz": places.astype("<f4" if is_short else "<f8")}, parts.get("colors"))}
    if "faces" in parts:
        corners = {"n": np.full((len(parts["faces"]), 1), 3, "u1"), "i": parts["faces"].astype("<i4")}
        elements["face"] = _element(corners, parts.get("face_colors"))
    lines = ["ply", "format binary_little_endian 1.0"]
    for name, rows in elements.items():
        lines += [f"element {name} {len(rows)}", *_properties(rows.dtype)]
    head = "\n".join([*lines, "end_header", ""]).encode()
    return b"".join([head, *(rows.tobytes() for rows in elements.values())])


def _element(parts: Mapping[str, NDArray[Any]], colors: NDArray[Any] | None) -> NDArray[Any]:
    columns = {**parts} if colors is None else {**parts, "rgba"[: colors.shape[1]]: colour_bytes(colors)}
    (length,) = {len(its) for its in columns.values()}
    rows = np.empty(length, [(name, its.dtype, its.shape[1:]) for name, its in columns.items()])
    for name, its in columns.items():
        rows[name] = its
    return rows


def _properties(row: np.dtype[Any]) -> list[str]:
    found = []
    for name in row.names or ():
        dtype = row[name].base.str.replace("|", "")
        if name == "i":
            found.append("property list uchar int vertex_indices")
        elif name != "n":
            words = {"r": "red", "g": "green", "b": "blue", "a": "alpha"}
            found += [f"property {_TYPES[dtype]} {words.get(letter, letter)}" for letter in name]
    return found


def colour_bytes(colors: NDArray[Any]) -> NDArray[np.uint8]:
    """Return colours from 0 to 255: floats go from 0 to 1 or, if any is above 1, to 255."""
    if colors.dtype.kind == "f" and (colors > 1).any():
        colors = np.rint(np.nan_to_num(colors.astype(np.float64).clip(0, 255))).astype(np.int64)
    return bytes_of(colors)
