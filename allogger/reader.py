"""Reader: what does a file of values have to answer to become part of a run?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "Reader", "SeriesId", "objects", "uniform"]


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
