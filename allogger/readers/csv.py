"""CsvReader: which series are in a table with one row per value, as the output ``csv`` writes it?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from allogger.errors import DamagedFile
from allogger.formats.csv import rows
from allogger.formats.regular import open_regular
from allogger.reader import SeriesId
from allogger.readers.growing import Growing, GrowingReader
from allogger.record import MAIN_PROCESS, split_full_key
from allogger.rundir import shard_name_of, shard_of

__all__ = ["CsvReader"]


class CsvReader(GrowingReader):
    """Reads the table of one process, at the first look whole; a last row that is not complete is not there yet.

    *attempt* is the one that the process belongs to, ``""`` one of its own. Rows behind a damaged one are not read.
    Raises `OSError` if there is no such file, `DamagedFile` if it is no regular file.
    """

    def __init__(self, path: Path, attempt: str = "") -> None:
        self.path = path
        self._attempt = attempt
        self.damage: list[str] = []
        open_regular(path).close()

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """What the name of the file and its first row say."""
        shard = shard_name_of(self.path.name, ".csv")
        try:
            first = next(rows(self.path), None)
        except DamagedFile:
            first = None
        name, start = (shard, shard_of(shard)[0]) if shard else (self.path.stem, first.time if first else 0.0)
        process = first.process if first else MAIN_PROCESS
        return {"name": name, "process": process, "attempt": self._attempt or name, "start": start, "system": "csv"}

    @cached_property
    def _series(self) -> dict[SeriesId, Growing]:
        found: dict[tuple[str, str], Growing] = {}
        try:
            for row in rows(self.path):
                try:
                    found.setdefault((row.kind, row.key), Growing()).add(row.step, row.time, row.value)
                except ValueError as error:
                    raise DamagedFile(f"{self.path}: {error}") from None
                self._last_time = max(self._last_time, row.time)
        except DamagedFile as error:
            self.damage.append(f"{error}; nothing behind it is read")
        return {SeriesId(kind, *split_full_key(key)): its for (kind, key), its in found.items() if len(its)}
