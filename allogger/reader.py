"""Reader: what does a file of values have to answer to become part of a run?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "Reader", "SeriesId", "uniform"]


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
        numbers = np.flatnonzero(rows) if rows.dtype == bool else rows
        attrs = {new: self.attrs[old] for new, old in enumerate(numbers.tolist()) if old in self.attrs}
        return Columns(self.step[rows], self.time[rows], self.value[rows], attrs)


def uniform(values: list[Any]) -> NDArray[Any]:
    """Return *values* stacked along a new first axis when they are arrays of one shape and dtype, else as objects."""
    arrays = [v for v in values if isinstance(v, np.ndarray)]
    if (
        values
        and len(arrays) == len(values)
        and len({(a.shape, a.dtype.str, a.dtype.descr.__repr__()) for a in arrays}) == 1
    ):
        stacked: NDArray[Any] = np.stack(arrays)
        return stacked
    out = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        out[row] = value
    return out


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

    def last_time(self) -> float:
        """Return the time of the last value in the file (Unix seconds), minus infinity if it has none."""
        times = [columns.time.max() for series in self.keys() if len(columns := self.read(series))]
        return float(max(times, default=-np.inf))
