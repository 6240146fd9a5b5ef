"""Growing: how do values that come one by one become columns, without a Python object for each of them?"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.reader import Columns, Reader, SeriesId, objects

__all__ = ["Growing", "GrowingReader"]

_PIECE = 4096
# Integers up to here are exact as float64.
_EXACT = 2**53
_DTYPES = {bool: np.bool_, int: np.int64, float: np.float64, complex: np.complex128}


class Growing:
    """The values of one series: bools, ints, floats, complex numbers or texts."""

    def __init__(self) -> None:
        self._step, self._time = array("q"), array("d")
        self._values: list[Any] = []
        self._pieces: list[NDArray[Any]] = []

    def __len__(self) -> int:
        return len(self._step)

    def add(self, step: int, time: float, value: Any) -> None:
        """Take a value; raises `ValueError` for a step beyond int64."""
        if not -(2**63) <= step < 2**63:
            raise ValueError(f"{step!r:.80} is no step")
        self._step.append(step)
        self._time.append(time)
        self._values.append(value)
        if len(self._values) >= _PIECE:
            self._put_away()

    @property
    def last_step(self) -> int | None:
        """The step of the last value."""
        return self._step[-1] if self._step else None

    @property
    def first_time(self) -> float:
        """The earliest time, infinity if there is none."""
        return min(self._time, default=np.inf)

    @property
    def last_time(self) -> float:
        """The latest time, minus infinity if there is none."""
        return max(self._time, default=-np.inf)

    @property
    def has_text(self) -> bool:
        """Whether one of the values is a text."""
        return any(
            piece.dtype == object and any(type(v) is str for v in piece)
            for piece in [*self._pieces, _array(self._values)]
        )

    def columns(self) -> Columns:
        """Return what there is, numbers in a dtype that holds all of them exactly, else as objects."""
        self._put_away()
        step, time = np.array(self._step, np.int64), np.array(self._time, np.float64)
        return Columns(step, time, _joined(self._pieces))

    def _put_away(self) -> None:
        if self._values:
            self._pieces.append(_array(self._values))
            self._values = []


class GrowingReader(Reader):
    """A reader that goes through its whole file at the first look, and then has all series at hand."""

    #: The latest time of a value, as far as the file has been read.
    _last_time = -np.inf

    @property
    @abstractmethod
    def _series(self) -> Mapping[SeriesId, Growing]:
        """The series in the file, read when they are first asked for."""

    def keys(self) -> list[SeriesId]:
        """Return the series in the file."""
        return list(self._series)

    def read(self, series: SeriesId) -> Columns:
        """Return all values of a series; raises `KeyError` if the file does not hold it."""
        return self._series[series].columns()

    def last_step(self, series: SeriesId) -> int | None:
        """Return the step of the last value of a series."""
        return self._series[series].last_step

    def last_time(self) -> float:
        """Return the latest time of a value in the file (Unix seconds), minus infinity if it has none."""
        return self._last_time if self._series else -np.inf


def _array(values: list[Any]) -> NDArray[Any]:
    types = set(map(type, values))
    if len(types) == 1 and (dtype := _DTYPES.get(next(iter(types)))) is not None:
        try:
            return np.array(values, dtype)
        except OverflowError:
            pass  # an integer beyond int64
    if types == {int, float} and all(-_EXACT <= v <= _EXACT for v in values if type(v) is int):
        return np.array(values, np.float64)
    return objects(values)


def _joined(pieces: list[NDArray[Any]]) -> NDArray[Any]:
    if not pieces:
        return np.empty(0)
    dtypes = {piece.dtype for piece in pieces}
    if len(dtypes) == 1:
        return np.concatenate(pieces)
    if dtypes == {np.dtype(np.int64), np.dtype(np.float64)}:
        whole = [piece for piece in pieces if piece.dtype == np.int64]
        if all(piece.max() <= _EXACT and piece.min() >= -_EXACT for piece in whole):
            return np.concatenate([piece.astype(np.float64) for piece in pieces])
    return objects([value for piece in pieces for value in piece.tolist()])
