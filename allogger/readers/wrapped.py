"""Wrapped: what stands for a file that cannot be opened, or for what a file adds to another one?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.reader import Columns, Reader, SeriesId

__all__ = ["ReaderWithout", "UnreadableReader"]


class UnreadableReader(Reader):
    """Stands for a file that cannot be opened."""

    def __init__(self, path: Path, error: Exception) -> None:
        self.damage = [f"{path} cannot be read: {error}"]

    @property
    def about(self) -> Mapping[str, Any]:
        """Nothing is known."""
        return {}

    def keys(self) -> list[SeriesId]:
        """Return no series."""
        return []

    def read(self, series: SeriesId) -> Columns:
        """Raise `KeyError`."""
        raise KeyError(series)


class ReaderWithout(Reader):
    """A reader without the series that another one has."""

    def __init__(self, reader: Reader, other: Reader) -> None:
        self._reader, self._other = reader, other
        self.damage = reader.damage

    @property
    def about(self) -> Mapping[str, Any]:
        """What the file says about itself."""
        return self._reader.about

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters that lie with the values."""
        found: Mapping[str, Any] = getattr(self._reader, "params", {})
        return found

    def keys(self) -> list[SeriesId]:
        """Return the series that are left."""
        others = set(self._other.keys())
        return [series for series in self._reader.keys() if series not in others]  # noqa: SIM118  # no mapping

    def read(self, series: SeriesId) -> Columns:
        """Return all values of a series."""
        return self._reader.read(series)

    def part(self, series: SeriesId, rows: slice) -> Columns:
        """Return some of the values of a series."""
        return self._reader.part(series, rows)

    def steps(self, series: SeriesId) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the steps and times of a series."""
        return self._reader.steps(series)

    def portions(self, series: SeriesId, rows: int) -> Iterator[Columns]:
        """Yield all values of a series."""
        return self._reader.portions(series, rows)

    def last_step(self, series: SeriesId) -> int | None:
        """Return the step of the last value of a series."""
        return self._reader.last_step(series)

    def last_time(self) -> float:
        """Return the time of the last value in the file."""
        return self._reader.last_time()

    def close(self) -> None:
        """Release the file."""
        self._reader.close()
