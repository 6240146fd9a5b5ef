"""Pieces: how are columns of values joined and cut while they wait to be stored?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.reader import Columns, objects

__all__ = ["joined", "nbytes", "owned", "part"]


def joined(pieces: Sequence[Columns]) -> Columns:
    """Return pieces of one series, at least one, as one."""
    if len(pieces) == 1:
        return pieces[0]
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    first = pieces[0].value
    alike = all(piece.value.dtype == first.dtype and piece.value.shape[1:] == first.shape[1:] for piece in pieces)
    # np.empty would make U1 out of U0.
    shape, dtype = ((ends[-1], *first.shape[1:]), first.dtype) if alike else ((ends[-1],), np.dtype(object))
    value: NDArray[Any] = np.ndarray(shape, dtype)
    attrs: dict[int, Mapping[str, Any]] = {}
    for piece, end in zip(pieces, ends, strict=True):
        start = end - len(piece)
        value[start:end] = piece.value if alike else objects(piece.value)
        attrs.update((start + row, own) for row, own in piece.attrs.items())
    step, time = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("step", "time"))
    return Columns(step, time, value, attrs)


def part(columns: Columns, start: int, stop: int) -> Columns:
    """Return the rows from *start* up to *stop*, sharing memory."""
    if (start, stop) == (0, len(columns)):
        return columns
    attrs = {row - start: own for row, own in columns.attrs.items() if start <= row < stop}
    return Columns(columns.step[start:stop], columns.time[start:stop], columns.value[start:stop], attrs)


def owned(columns: Columns) -> Columns:
    """Return a copy: a few rows that wait must not keep the large array alive that they were cut out of."""
    value = _copy(columns.value)
    if value.dtype == object:
        value = objects(_copy(v) if isinstance(v, np.ndarray) else v for v in value)
    return Columns(columns.step.copy(), columns.time.copy(), value, dict(columns.attrs))


def _copy(array: NDArray[Any]) -> NDArray[Any]:
    # Its own copy() would make U1 out of U0.
    out: NDArray[Any] = np.ndarray(array.shape, array.dtype)
    out[...] = array
    return out


def nbytes(columns: Columns) -> int:
    """Return about the memory that columns take, in bytes."""
    size = 16 * len(columns) + columns.value.nbytes + 200 * len(columns.attrs)
    if columns.value.dtype == object:
        size += sum(60 + 4 * len(v) if isinstance(v, str) else 120 + getattr(v, "nbytes", 0) for v in columns.value)
    return size
