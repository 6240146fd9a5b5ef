"""Cells: how does a value of any dtype and shape lie in a row, and how does it come out again?"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import h5py
import numpy as np
from h5py import h5t
from numpy.typing import NDArray

from allogger.dtypes import check_items, dtype_from_json, dtype_to_json
from allogger.reader import objects, uniform

__all__ = ["TEXT", "Cells", "Layout", "by_layout", "cells_of", "layout_of", "put_values", "shown", "values_of"]

TEXT = h5py.string_dtype()

# The size of a row is a 32-bit integer in HDF5, a signed one in numpy.
_FIXED_ROW_BYTES = 2**30
# Of 64 KiB; the other fields of a row take some.
_TYPE_BYTES = 60_000
_FRONT: list[tuple[Any, ...]] = [("step", "<i8"), ("time", "<f8"), ("walltime", "<f8")]


@dataclass(frozen=True)
class Layout:
    """What the values of one dataset have in common; *dtype* is None for texts, *shape* is None where it differs."""

    dtype: np.dtype[Any] | None
    shape: tuple[int, ...] | None = ()

    @property
    def is_ragged(self) -> bool:
        """Whether a value cannot be a field of fixed size: no bytes, too many of them, or too many axes for HDF5."""
        if self.dtype is None:
            return False
        if self.shape is None or len(self.shape) > 32:
            return True
        return not 0 < math.prod(self.shape) * self.dtype.itemsize <= _FIXED_ROW_BYTES

    @property
    def is_real_number(self) -> bool:
        """Whether a value is one real number or bool."""
        return self.dtype is not None and self.shape == () and self.dtype.kind in "biuf"


_PYTHON_NUMBERS = {kind: Layout(np.dtype(kind)) for kind in (float, int, bool, complex)}


def layout_of(value: Any) -> Layout:
    """Return the layout of one value: a text, a number or an array."""
    found = _PYTHON_NUMBERS.get(type(value))
    if found is not None:
        return found
    if isinstance(value, str) and not isinstance(value, np.generic):
        return Layout(None)
    array = np.asarray(value)
    return Layout(array.dtype, array.shape)


def by_layout(value: NDArray[Any]) -> Iterator[tuple[slice | NDArray[np.intp], Layout, Any]]:
    """Yield ``(rows, layout, values)`` for each layout in a column of values."""
    if value.dtype != object:
        yield slice(None), Layout(value.dtype, value.shape[1:]), value
        return
    groups: dict[Layout, list[int]] = {}
    for row, one in enumerate(value):
        groups.setdefault(layout_of(one), []).append(row)
    for layout, rows in groups.items():
        values: Any = [value[row] for row in rows]
        if layout.dtype is not None and not layout.is_ragged:
            values = uniform([np.asarray(one) for one in values])
        yield np.array(rows), layout, values


@dataclass(frozen=True)
class Cells:
    """How values lie in rows: the dtype of a *row*, and *descr*, their own dtype as JSON where HDF5 has none for it."""

    row: np.dtype[Any]
    descr: str = ""
    is_ragged: bool = False


@lru_cache(1024)
def _is_native(dtype: np.dtype[Any]) -> bool:
    """Return whether HDF5 has a type that gives back exactly this dtype, and fits into the header of a dataset."""
    try:
        kind = h5t.py_create(dtype)
        return bool(kind.dtype == dtype) and len(kind.encode()) <= _TYPE_BYTES
    except (TypeError, ValueError, RuntimeError):
        return False


@lru_cache(1024)
def cells_of(layout: Layout, has_order: bool) -> Cells:
    """Return how values of *layout* lie in rows; raises `ValueError` for a dtype that cannot be described."""
    dtype, descr = layout.dtype, ""
    back: list[tuple[Any, ...]] = [("order", "<i8")] if has_order else []
    if dtype is None:
        return Cells(np.dtype([*_FRONT, ("value", TEXT), *back]))
    if layout.is_ragged:
        is_plain = dtype.kind in "iuf" and dtype.isnative and _is_native(dtype)
        descr = "" if is_plain else json.dumps(dtype_to_json(dtype))
        value = h5py.vlen_dtype(dtype if is_plain else np.uint8)
        return Cells(np.dtype([*_FRONT, ("value", value), *back, ("shape", h5py.vlen_dtype("<i8"))]), descr, True)
    if not _is_native(dtype):
        descr = json.dumps(dtype_to_json(dtype))
        dtype = np.dtype((np.void, dtype.itemsize))
    return Cells(np.dtype([*_FRONT, ("value", dtype, layout.shape), *back]), descr)


def put_values(rows: NDArray[Any], values: Sequence[Any] | NDArray[Any], cells: Cells) -> None:
    """Set the fields of *rows* that hold *values*."""
    if cells.is_ragged:
        arrays = [np.asarray(value) for value in objects(values)]
        rows["value"] = objects(
            np.frombuffer(a.tobytes(), np.uint8) if cells.descr else np.ascontiguousarray(a).reshape(-1) for a in arrays
        )
        rows["shape"] = objects(np.array(a.shape, "<i8") for a in arrays)
    elif cells.descr:
        rows["value"] = np.ascontiguousarray(values).view(rows.dtype["value"].base)
    else:
        rows["value"] = values


def values_of(rows: NDArray[Any], descr: str = "") -> NDArray[Any]:
    """Return the values in *rows* that were read from a dataset, *descr* being its attribute ``dtype``.

    The first axis counts the rows; texts and ragged values come as objects. Raises `ValueError` for damaged rows.
    """
    value = rows["value"]
    dtype = dtype_from_json(json.loads(descr)) if descr else None
    if "shape" in (rows.dtype.names or ()):
        pairs = zip(value, rows["shape"], strict=True)
        return objects(_reshaped(flat, flat.dtype if dtype is None else dtype, shape) for flat, shape in pairs)
    if value.dtype == object:
        return objects(v if isinstance(v, str) else bytes(v).decode("utf-8", "replace") for v in value)
    value = np.ascontiguousarray(value)
    if dtype is not None:
        if value.dtype.kind != "V" or value.dtype.names is not None or value.dtype.itemsize != dtype.itemsize:
            raise ValueError(f"the values are not of dtype {dtype}")
        value = value.view(dtype)
    check_items(value)
    return value


def _reshaped(flat: NDArray[Any], dtype: np.dtype[Any], shape: NDArray[Any]) -> NDArray[Any]:
    axes = tuple(shape.tolist())
    if min(axes, default=0) < 0 or math.prod(axes) * dtype.itemsize != flat.nbytes:
        raise ValueError(f"{flat.nbytes} bytes are no array of shape {axes} and dtype {dtype}")
    # Unlike np.empty this keeps a dtype of no bytes, such as U0.
    return np.ndarray(axes, dtype, bytearray(flat.tobytes()) if flat.nbytes else None)


def shown(text: str) -> str | None:
    """Return what an HDF5 string shows of a text that it cannot hold exactly, or None if it can."""
    try:
        if "\0" not in text:
            text.encode()
            return None
    except UnicodeEncodeError:
        pass
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
