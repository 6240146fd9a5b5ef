"""TableReader: which series are in a CSV table with a column for each, as PyTorch Lightning or Keras write it?"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from allogger.errors import DamagedFile
from allogger.formats.regular import open_regular
from allogger.reader import Columns, SeriesId, objects
from allogger.readers.growing import Growing, GrowingReader
from allogger.readers.params import params_beside
from allogger.record import MAIN_PROCESS

__all__ = ["Head", "TableReader", "head_of"]

# The first of these columns is the step.
_STEPS = ("step", "global_step", "time/total_timesteps", "total_timesteps", "epoch", "iteration")
# Unix seconds, and seconds since some time that the table does not tell.
_TIMES = ("wall time", "wall_time", "timestamp", "_timestamp")
_ELAPSED = "time/time_elapsed"
_MISSING = ("", "NA")
_SEPARATORS = (",", ";", "\t")
_MOST_LINE_BYTES = 2**22
_MOST_NOTES = 100
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


@dataclass(frozen=True)
class Head:
    """What the first lines of a table say; *start* is the offset of the first row, *about* what a comment says."""

    columns: tuple[str, ...]
    separator: str
    step: int
    start: int
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_monitor(self) -> bool:
        """Whether it is a file of stable-baselines3's Monitor: a row for each episode, its reward, length and time."""
        return "t_start" in self.about and {"r", "l", "t"} <= set(self.columns)


def head_of(path: Path) -> Head | None:
    """Return what the first lines of a file say, None if it is no such table; raises `OSError`, `DamagedFile`."""
    with open_regular(path) as file:
        line = _line(file)
        about: Mapping[str, Any] = {}
        if line is not None and line.startswith("#{"):
            about = _json_object(line[1:])
            line = _line(file)
        if line is None:
            return None
        separator = max(_SEPARATORS, key=line.count)
        columns = tuple(name.strip() for name in next(csv.reader([line], delimiter=separator), ()))
        lower = [name.lower() for name in columns]
        step = next((lower.index(name) for name in _STEPS if name in lower), -1)
        head = Head(columns, separator, step, file.tell(), about)
        is_table = len(columns) > 1 and len(set(columns)) == len(columns) and all(columns)
        return head if is_table and (step >= 0 or head.is_monitor) else None


def _line(file: BinaryIO) -> str | None:
    """Return the next line, None if it is not complete; raises `DamagedFile` if it is far too long."""
    line = file.readline(_MOST_LINE_BYTES)
    if not line.endswith(b"\n"):
        if len(line) == _MOST_LINE_BYTES:
            raise DamagedFile(f"a line of more than {_MOST_LINE_BYTES:,} bytes")
        return None
    return line.decode("utf-8-sig", "backslashreplace")


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class TableReader(GrowingReader):
    """Reads a table whole at the first look: each column is a series of the root, in which empty cells are no values.

    The step is the first column of a known name (``step``, ``time/total_timesteps``, ``epoch``, ...); in a monitor file
    it is the number of time steps until the end of the episode. The time is what the table says about it. If it says
    nothing it is when the file was changed last, for all rows.

    Raises `OSError` if the file cannot be opened, `DamagedFile` if it is no such table.
    """

    def __init__(self, path: Path, process: str = MAIN_PROCESS) -> None:
        self.path = path
        self.damage: list[str] = []
        self._process = process
        head = head_of(path)
        if head is None:
            raise DamagedFile(f"{path} is no table with a column for the step, such as {', '.join(_STEPS)}")
        self._head = head
        self._later = 0.0

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """The name of the file, and when it began: at its first time, if it says so nowhere."""
        start = _start(self._head) if self._head.is_monitor else self._first_time
        name = self.path.name
        return {"name": name, "process": self._process, "attempt": name, "start": start, "system": "table"}

    @property
    def _first_time(self) -> float:
        return min((its.first_time for its in self._series.values()), default=-self._later) + self._later

    @cached_property
    def params(self) -> Mapping[str, Any]:
        """The hyperparameters in the ``hparams.yaml`` beside the table; none without PyYAML."""
        return params_beside(self.path, self._note)

    @cached_property
    def _series(self) -> dict[SeriesId, Growing]:
        head = self._head
        found = [Growing() for _ in head.columns]
        clock = _Clock(head, self.path.stat().st_mtime)
        length = head.columns.index("l") if head.is_monitor else -1
        step = 0
        for number, cells in self._rows():
            try:
                step = step + _step(cells[length]) if head.is_monitor else _step(cells[head.step])
                time = clock.time(cells)
                for column, cell in enumerate(cells):
                    if column != head.step and cell not in _MISSING:
                        found[column].add(step, time, _value(cell))
            except (ValueError, LookupError) as error:
                if tuple(cells) != head.columns:  # a second start of the program may have written its own
                    self._note(f"row {number} is left out: {error}")
        self._later = clock.later
        series = {
            SeriesId("text" if its.has_text else "scalar", "root", name): its
            for name, its in zip(head.columns, found, strict=True)
        }
        return {one: its for one, its in series.items() if len(its)}

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        columns = len(self._head.columns)
        with open_regular(self.path) as file:
            file.seek(self._head.start)
            lines = iter(partial(_line, file), None)
            try:
                for number, cells in enumerate(csv.reader(lines, delimiter=self._head.separator), 1):
                    if len(cells) > columns:
                        self._note(f"row {number} is left out: it has {len(cells)} cells instead of {columns}")
                    elif cells:
                        yield number, cells
                # Of an incomplete line `_line` has taken everything.
                if not _ends_in_line_feed(file):
                    self._note("the last row has no end, and is left out")
            except (csv.Error, DamagedFile) as error:
                self._note(f"{error}; nothing behind it is read")

    def _note(self, what: str) -> None:
        if len(self.damage) < _MOST_NOTES:
            self.damage.append(f"{self.path}: {what}")

    def read(self, series: SeriesId) -> Columns:
        """Return all values of a series; raises `KeyError` if the file does not hold it."""
        columns = super().read(series)
        if series.kind == "text":
            columns = replace(columns, value=objects([str(value) for value in columns.value]))
        return replace(columns, time=columns.time + self._later)

    def last_time(self) -> float:
        """Return the latest time of a row (Unix seconds), minus infinity if there is none."""
        return max((its.last_time for its in self._series.values()), default=-np.inf) + self._later


class _Clock:
    """Tells the time of each row; *changed* is when the file was changed last. All in Unix seconds."""

    def __init__(self, head: Head, changed: float) -> None:
        self._changed = changed
        self._start = _start(head) if head.is_monitor else None
        elapsed = ("t",) if head.is_monitor else (_ELAPSED,)
        self._told = _column(head, _TIMES)
        self._elapsed = _column(head, elapsed) if self._told < 0 else -1
        self._longest = 0.0

    def time(self, cells: Sequence[str]) -> float:
        """Return the time of a row, to which `later` has to be added; raises `ValueError` for what is none."""
        if max(self._told, self._elapsed) < 0:
            return self._changed
        found = float(cells[max(self._told, self._elapsed)])
        if not math.isfinite(found):
            raise ValueError(f"{found} is no time")
        self._longest = max(self._longest, found)
        return found

    @property
    def later(self) -> float:
        """How much later everything was: when the table knows how long it took only, it ended at its last change."""
        if self._elapsed < 0:
            return 0.0
        return self._changed - self._longest if self._start is None else self._start


def _column(head: Head, names: Sequence[str]) -> int:
    lower = [name.lower() for name in head.columns]
    return next((lower.index(name) for name in names if name in lower), -1)


def _start(head: Head) -> float:
    told = head.about.get("t_start")
    return float(told) if isinstance(told, int | float) and math.isfinite(told) else 0.0


def _step(cell: str) -> int:
    number = float(cell)
    if not number.is_integer():
        raise ValueError(f"{cell!r:.80} is no step")
    return int(cell) if _INTEGER.fullmatch(cell) else int(number)


def _value(cell: str) -> bool | int | float | str:
    if _INTEGER.fullmatch(cell):
        return int(cell)
    if cell in ("True", "False"):
        return cell == "True"
    try:
        return float(cell)
    except ValueError:
        return cell


def _ends_in_line_feed(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
