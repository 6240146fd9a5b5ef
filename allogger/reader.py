"""Reader: what does a file of values have to answer to become part of a run?"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "Entry", "Reader", "SeriesId", "Tail", "Value", "in_order", "objects", "pieces", "uniform"]


class SeriesId(NamedTuple):
    """The identity of a series inside one shard; *scope* starts with ``root``."""

    kind: str
    scope: str
    key: str


@dataclass(frozen=True)
class Columns:
    """The values of one series of one shard in the order logged.

    ``step`` int64, ``time`` float64 Unix seconds; ``value`` an array whose first axis counts the values, with object
    dtype (one array or text each) where shapes or dtypes differ or the values are texts. ``attrs`` has the attributes
    of single values by row, where they have any.
    """

    step: NDArray[np.int64]
    time: NDArray[np.float64]
    value: NDArray[Any]
    attrs: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.step)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Columns:
        """Return some of the rows, given by a mask or by their numbers."""
        attrs = {}
        if self.attrs:
            numbers = np.flatnonzero(rows) if rows.dtype == bool else rows
            attrs = {new: self.attrs[old] for new, old in enumerate(numbers.tolist()) if old in self.attrs}
        return Columns(self.step[rows], self.time[rows], self.value[rows], attrs)


@dataclass(frozen=True, slots=True)
class Entry:
    """What an index says about one series of one shard, so that nobody has to read its values.

    ``is_sorted`` says that the steps never go back, nor the times where steps repeat; False if nobody knows.
    ``is_number`` says that all values are real numbers; then ``min``, ``max`` and ``mean`` are those of the values that
    are not NaN (NaN if all are), and ``last`` is the last value.
    """

    count: int
    first_step: int
    first_time: float
    last_step: int
    last_time: float
    is_sorted: bool = False
    is_number: bool = False
    min: float = math.nan
    max: float = math.nan
    mean: float = math.nan
    last: float | int | bool | None = None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Entry | None:
        """Return what the index of a finished file says, which nobody vouches for; None if it makes no sense."""
        try:
            count, first_step, last_step = (_int(told[name]) for name in ("count", "first_step", "last_step"))
            first_time, last_time = (_time(told[name]) for name in ("first_time", "last_time"))
            dtypes = [np.dtype(_text(dtype)) for dtype, _ in told["layouts"] if dtype is not None]
            shapes = [shape for _, shape in told["layouts"]]
            ends = count, first_step, first_time, last_step, last_time, told.get("is_sorted") is True
            if count < 1 or not shapes:
                return None
            if len(dtypes) != len(shapes) or any(shapes) or not all(map(_is_exact_in_json, dtypes)):
                return cls(*ends)
            low, high, mean = (_float(told[name]) for name in ("min", "max", "mean"))
            last = bool(told["last"]) if {dtype.kind for dtype in dtypes} == {"b"} else _number(told["last"])
        except (LookupError, TypeError, ValueError, OverflowError, AttributeError):
            return None
        return cls(*ends, True, low, high, mean, last)


def _text(told: Any) -> str:
    if not isinstance(told, str) or len(told) > 8:
        raise ValueError("no name of a number")
    return told


def _is_exact_in_json(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def _int(told: Any) -> int:
    if type(told) is not int or not -(2**63) <= told < 2**63:
        raise ValueError(f"{told!r:.80} is no int64")
    return told


def _time(told: Any) -> float:
    if type(told) is not float:
        raise ValueError(f"{told!r:.80} is no time")
    return told


def _float(told: Any) -> float:
    return float(_number(told))


def _number(told: Any) -> float | int:
    """Return a number as JSON holds it: null is NaN, and what is infinite is a text."""
    if told is None:
        return math.nan
    if told in ("inf", "-inf"):
        return float(told)
    if type(told) not in (int, float):
        raise ValueError(f"{told!r:.80} is no number")
    return told  # type: ignore[no-any-return]  # has just been checked


def in_order(step: NDArray[np.int64], time: NDArray[np.float64]) -> bool:
    """Return whether steps never go back, nor times where steps repeat."""
    if len(step) < 2:
        return True  # of ten thousand short series each asks
    return bool(np.all((step[1:] > step[:-1]) | ((step[1:] == step[:-1]) & (time[1:] >= time[:-1]))))


def pieces(columns: Columns, rows: int) -> Iterator[Columns]:
    """Yield *columns* in pieces of *rows* rows, which share its memory."""
    for start in range(0, len(columns), rows):
        stop = start + rows
        attrs = {row - start: own for row, own in columns.attrs.items() if start <= row < stop}
        yield Columns(columns.step[start:stop], columns.time[start:stop], columns.value[start:stop], attrs)


def objects(values: Iterable[Any]) -> NDArray[Any]:
    """Return a column of values, or a list of them, as an object array; of an array, numbers become 0-d arrays."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        # numpy's own numbers would lose their byte order.
        values = [values[row, ...] for row in range(len(values))]
    items = list(values)
    out = np.empty(len(items), dtype=object)
    for row, item in enumerate(items):
        out[row] = item
    return out


def uniform(values: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    """Return *values* stacked along a new first axis when they are arrays of one shape and dtype, else as objects."""
    first = values[0] if len(values) else None
    if not isinstance(first, np.ndarray) or not all(
        isinstance(v, np.ndarray) and v.shape == first.shape and v.dtype == first.dtype for v in values
    ):
        return objects(values)
    try:
        # np.stack would make big-endian values native, and np.empty U1 out of U0.
        stacked: NDArray[Any] = np.ndarray((len(values), *first.shape), first.dtype)
    except ValueError:  # no room for another axis
        return objects(values)
    for row, value in enumerate(values):
        stacked[row] = value
    return stacked


class Value(NamedTuple):
    """One value of a shard; *time* in Unix seconds, *value* as it was stored, and the attributes that it has."""

    series: SeriesId
    step: int
    time: float
    value: Any
    attrs: Mapping[str, Any]


class Tail(ABC):
    """Gives what a process goes on to write, each value once; nothing of the file is read twice."""

    #: How many values of each series were given so far, those included that a reader gave before.
    counts: Counter[SeriesId]

    @property
    @abstractmethod
    def is_closed(self) -> bool:
        """Whether the process has finished the file, and nothing more will come."""

    @abstractmethod
    def take(self) -> Iterator[Value]:
        """Yield what has come since, in the order logged; raises `FileNotFoundError` if the file is gone."""


class Reader(ABC):
    """Gives the series of one shard. Opening is cheap; values are read when asked for."""

    #: One sentence for each damaged place that was found so far.
    damage: list[str]

    @property
    @abstractmethod
    def about(self) -> Mapping[str, Any]:
        """What the shard says about itself: ``process``, ``attempt``, ``start``, ``host``, ``pid``; as far as known."""

    @abstractmethod
    def keys(self) -> list[SeriesId]:
        """Return the series in the file."""

    @abstractmethod
    def read(self, series: SeriesId) -> Columns:
        """Return all values of a series; raises `KeyError` if the file does not hold it."""

    def part(self, series: SeriesId, rows: slice) -> Columns:
        """Return some of the values of a series, in their order; like `read` otherwise."""
        columns = self.read(series)
        return columns.take(np.arange(len(columns))[rows])

    def steps(self, series: SeriesId) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the steps and times of all values of a series; like `read` otherwise."""
        columns = self.read(series)
        return columns.step, columns.time

    def entry(self, series: SeriesId) -> Entry | None:
        """Return what an index says about a series, None if there is none."""
        return None

    def blocks(self, series: SeriesId) -> NDArray[Any] | None:
        """Return a row for each 1,024 values of a series of real numbers, None if there are no such rows.

        Its fields are ``row``, ``step`` and ``time`` of the first of them, ``min``, ``max`` and ``mean`` of those that
        are not NaN, and the ``count`` of these.
        """
        return None

    def portions(self, series: SeriesId, rows: int) -> Iterator[Columns]:
        """Yield all values of a series, about *rows* at once; raises like `read`, before the first of them."""
        yield from pieces(self.read(series), rows)

    def tail(self) -> Tail | None:
        """Return what goes on where this reader has read to; None if the file does not grow."""
        return None

    def close(self) -> None:
        """Release the file."""

    def last_step(self, series: SeriesId) -> int | None:
        """Return the step of the last value of a series, None if it has none; raises `KeyError` like `read`."""
        step = self.read(series).step
        return int(step[-1]) if len(step) else None

    def last_time(self) -> float:
        """Return the time of the last value in the file (Unix seconds), minus infinity if it has none."""
        times = [columns.time.max() for series in self.keys() if len(columns := self.read(series))]
        return float(max(times, default=-np.inf))
