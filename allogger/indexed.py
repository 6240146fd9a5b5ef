"""IndexedReader: what is in a finished HDF5 file, as far as the index beside it tells?"""

from __future__ import annotations

import math
import os
import resource
import stat
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.errors import DamagedFile
from allogger.reader import Columns, Entry, Reader, SeriesId
from allogger.registry import readers
from allogger.rundir import INDEX, load_json

__all__ = ["IndexedReader"]

# So many files stay open once something was read from them; of a thousand runs most are opened each time.
_MAX_OPEN = 64
_open: weakref.WeakSet[IndexedReader] = weakref.WeakSet()


class IndexedReader(Reader):
    """Knows from ``<shard>.index.json`` what there is, and opens the HDF5 file when values are wanted.

    Raises `OSError` if one of the files is missing, and `ValueError` unless the index looks like that of this file,
    whole and not older: then the file, which has another index inside, must be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self._hdf: Reader | None = None
        index = path.with_name(path.stem + INDEX)
        file, beside = os.stat(path), os.stat(index)
        if not stat.S_ISREG(file.st_mode) or beside.st_mtime_ns < file.st_mtime_ns:
            raise ValueError(f"{index} is older than its file")
        told = load_json(index)
        try:
            if told["format"] != 1 or told["about"]["name"] != path.stem:
                raise ValueError(f"{index} is about something else")
            self._about: dict[str, Any] = dict(told["about"])
            self._told = {_checked(entry): entry for entry in told["series"]}
            if len(self._told) != len(told["series"]):
                raise ValueError(f"{index} names a series twice")
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{index} is damaged: {error!r}") from error

    @property
    def about(self) -> Mapping[str, Any]:
        """What the index says about the shard."""
        return self._about

    def keys(self) -> list[SeriesId]:
        """Return the series that the index names."""
        return list(self._told)

    def entry(self, series: SeriesId) -> Entry | None:
        """Return what the index says about a series, None if that makes no sense."""
        return Entry.of(self._told[series])

    def last_step(self, series: SeriesId) -> int | None:
        """Return the step of the last value of a series."""
        entry = self.entry(series)
        return entry.last_step if entry is not None else super().last_step(series)

    def last_time(self) -> float:
        """Return the time of the last value in the file (Unix seconds), minus infinity if it has none."""
        times = (told.get("last_time") for told in self._told.values())
        return max((time for time in times if isinstance(time, float) and math.isfinite(time)), default=-math.inf)

    # -- what is in the file itself

    def read(self, series: SeriesId) -> Columns:
        """Return all values of a series; raises `DamagedFile` if the file does not hold what its index names."""
        with self._opened(series) as file:
            return file.read(series)

    def part(self, series: SeriesId, rows: slice) -> Columns:
        """Return some of the values of a series."""
        with self._opened(series) as file:
            return file.part(series, rows)

    def steps(self, series: SeriesId) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the steps and times of all values of a series."""
        with self._opened(series) as file:
            return file.steps(series)

    def portions(self, series: SeriesId, rows: int) -> Iterator[Columns]:
        """Yield all values of a series, about *rows* at once."""
        with self._opened(series) as file:
            yield from file.portions(series, rows)

    def blocks(self, series: SeriesId) -> NDArray[Any] | None:
        """Return a row for each 1,024 values of a series of real numbers."""
        with self._opened(series) as file:
            return file.blocks(series)

    def close(self) -> None:
        """Close the file; the next `read` opens it again."""
        if self._hdf is not None:
            self._hdf.close()
        _open.discard(self)

    @contextmanager
    def _opened(self, series: SeriesId) -> Iterator[Reader]:
        if series not in self._told:
            raise KeyError(series)
        try:
            if self._hdf is None:
                self._hdf = self._first_opened()
            yield self._hdf
        except FileNotFoundError:
            raise
        except KeyError:
            raise self._noted(f"{self.path} does not hold {series}, which the index beside it names") from None
        except OSError as error:
            raise self._noted(f"{self.path} cannot be read: {error}") from error
        except DamagedFile as error:
            raise self._noted(str(error)) from error
        finally:
            self._note_all()
            self._stay_open()

    def _first_opened(self) -> Reader:
        file = readers["hdf"](self.path)  # type: ignore[call-arg]  # every reader takes a path
        if set(file.keys()) != set(self._told):
            self._noted(f"{self.path}: the index beside it does not name the series that it holds")
        return file

    def _note_all(self) -> None:
        for what in self._hdf.damage if self._hdf is not None else ():
            self._noted(what)

    def _noted(self, damage: str) -> DamagedFile:
        if damage not in self.damage:
            self.damage.append(damage)
        return DamagedFile(damage)

    def _stay_open(self) -> None:
        if self not in _open and len(_open) >= _most_open():
            self.close()
        elif self._hdf is not None:
            _open.add(self)


def _most_open() -> int:
    """Return how many files may stay open: no more than a part of those that the program may have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MAX_OPEN if most == resource.RLIM_INFINITY else min(_MAX_OPEN, most // 4)


def _checked(entry: Mapping[str, Any]) -> SeriesId:
    """Return which series an entry of the index is about; raises `ValueError` unless all of it is in the file."""
    kind, scope, key = entry["kind"], entry["scope"], entry["key"]
    if not (type(kind) is type(scope) is type(key) is str) or entry["left_out"] is not None or not entry["paths"]:
        raise ValueError("an entry of the index cannot be relied on")
    return SeriesId(kind, scope, key)
