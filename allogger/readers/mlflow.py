"""MlflowReader, MlflowDatabaseReader: which series are in a run that MLflow recorded, in files or in SQLite?

Both are read as they lie on disk: MLflow's own client would change them when it opens them.
"""

from __future__ import annotations

import math
import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allogger.errors import DamagedFile
from allogger.formats.regular import open_regular
from allogger.reader import Columns, Reader, SeriesId
from allogger.readers.growing import Growing
from allogger.record import MAIN_PROCESS

if TYPE_CHECKING:
    import sqlite3

__all__ = ["MlflowDatabaseReader", "MlflowReader", "runs_in_database"]

_META = re.compile(r"^(run_name|start_time|end_time): *(.*?) *$", re.MULTILINE)
_MOST_META_BYTES = 2**20
_MOST_LINE_BYTES = 2**16
_MOST_FILES = 100_000
_MOST_NOTES = 100


class _Run(Reader):
    """What both have in common: series of the root by their key, and what is known about the run."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.damage: list[str] = []
        #: The label under which the run is shown.
        self.process = MAIN_PROCESS
        self._about = about

    @property
    def about(self) -> Mapping[str, Any]:
        """The id of the run, the name that people gave it (``label``), its start and its end."""
        return {**self._about, "process": self.process, "system": "mlflow"}

    def _note(self, what: str) -> None:
        if len(self.damage) < _MOST_NOTES:
            self.damage.append(f"{self.path}: {what}")

    def read(self, series: SeriesId) -> Columns:
        """Return all values of a series; raises `KeyError` if the run does not hold it."""
        if series not in self.keys():  # no mapping
            raise KeyError(series)
        return self._growing(series.key).columns()

    def _growing(self, key: str) -> Growing:
        raise NotImplementedError


def _moments(start: Any, end: Any) -> dict[str, float]:
    """Return the start and the end, given in milliseconds or not at all."""
    found = {"start": start, "end": end}
    return {name: told / 1000 for name, told in found.items() if isinstance(told, int | float) and told > 0}


class MlflowReader(_Run):
    """Reads the folder of a run, ``mlruns/<experiment>/<run>``; raises `OSError` or `DamagedFile` if it is none."""

    def __init__(self, path: Path) -> None:
        with open_regular(path / "meta.yaml") as file:
            told = dict(_META.findall(file.read(_MOST_META_BYTES).decode("utf-8", "replace")))
        start, end = (
            int(text) if (text := told.get(name, "")).isdecimal() else None for name in ("start_time", "end_time")
        )
        label = str(told.get("run_name", "")).strip("'\"") or path.name
        super().__init__(path, {"name": path.name, "label": label, "attempt": path.name, **_moments(start, end)})

    @cached_property
    def params(self) -> Mapping[str, str]:
        """The parameters of the run, which are texts."""
        found = {}
        for key, path in _files(self.path / "params"):
            with open_regular(path) as file:
                found[key] = file.read(_MOST_META_BYTES).decode("utf-8", "backslashreplace")
        return found

    @cached_property
    def _metrics(self) -> dict[str, Path]:
        return dict(_files(self.path / "metrics"))

    def keys(self) -> list[SeriesId]:
        """Return the metrics of the run."""
        return [SeriesId("scalar", "root", key) for key in self._metrics]

    def _growing(self, key: str) -> Growing:
        found = Growing()
        path = self._metrics[key]
        with open_regular(path) as file:
            offset = 0
            while (line := file.readline(_MOST_LINE_BYTES)).endswith(b"\n"):
                try:
                    time, value, *rest = line.split()
                    found.add(int(rest[0]) if rest else 0, int(time) / 1000, float(value))
                except (ValueError, OverflowError) as error:
                    self._note(f"{key!r} has no value at byte {offset}: {error}")
                offset += len(line)
            if len(line) == _MOST_LINE_BYTES:
                self._note(f"{key!r} has a far too long line at byte {offset}; nothing behind it is read")
        return found


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files below a folder with their names, whose parts are folders; symbolic links are not followed."""
    count = 0
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            count += 1
            if count > _MOST_FILES:
                return
            if not path.is_symlink():
                yield path.relative_to(folder).as_posix(), path


# ------------------------------------------------------------------------------------------------------------- database


@contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading; raises `DamagedFile` if it is none of MLflow's, also inside of the block."""
    # Not every Python has it.
    import sqlite3

    open_regular(path).close()
    try:
        connection = sqlite3.connect(f"file:{urllib.parse.quote(str(path.absolute()))}?mode=ro", uri=True)
        try:
            # Nothing in it may be run.
            connection.execute("PRAGMA trusted_schema = OFF")
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            if not {("runs",), ("metrics",), ("params",)} <= set(tables):
                raise DamagedFile(f"{path} is no database of MLflow")
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DamagedFile(f"{path}: {error}") from error


def runs_in_database(path: Path) -> list[str]:
    """Return the ids of the runs in the order of their start; raises `OSError` or `DamagedFile`."""
    with _database(path) as database:
        found = database.execute(
            "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active' ORDER BY start_time, run_uuid"
        )
        return [str(run) for (run,) in found]


class MlflowDatabaseReader(_Run):
    """Reads the run with that id in a SQLite database; raises `OSError`, or `DamagedFile` if there is none."""

    def __init__(self, path: Path, run: str) -> None:
        with _database(path) as database:
            told = database.execute("SELECT name, start_time, end_time FROM runs WHERE run_uuid = ?", (run,)).fetchone()
            if told is None:
                raise DamagedFile(f"{path} holds no run {run!r}")
            keys = database.execute(
                "SELECT DISTINCT key FROM metrics WHERE run_uuid = ? ORDER BY key", (run,)
            ).fetchall()
            params = database.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run,)).fetchall()
        name, start, end = told
        super().__init__(path, {"name": run, "label": str(name or run), "attempt": run, **_moments(start, end)})
        self._run = run
        self._keys = [str(key) for (key,) in keys]
        #: The parameters of the run, which are texts.
        self.params: Mapping[str, str] = {str(key): str(value) for key, value in params}

    def keys(self) -> list[SeriesId]:
        """Return the metrics of the run."""
        return [SeriesId("scalar", "root", key) for key in self._keys]

    def _growing(self, key: str) -> Growing:
        found = Growing()
        with _database(self.path) as database:
            rows = database.execute(
                "SELECT step, timestamp, value, is_nan FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY rowid",
                (self._run, key),
            )
            for step, time, value, is_nan in rows:
                try:
                    found.add(int(step), time / 1000, math.nan if is_nan else float(value))
                except (ValueError, TypeError, OverflowError) as error:
                    self._note(f"{key!r} has a row without a value: {error}")
        return found

    def last_time(self) -> float:
        """Return the latest time of a value (Unix seconds), minus infinity if there is none."""
        with _database(self.path) as database:
            (time,) = database.execute("SELECT max(timestamp) FROM metrics WHERE run_uuid = ?", (self._run,)).fetchone()
        return time / 1000 if isinstance(time, int | float) else -np.inf
