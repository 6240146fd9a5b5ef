"""JournalReader: what has a process written that is still running, or was killed?"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allogger.errors import DamagedFile
from allogger.formats import journal
from allogger.reader import Columns, Reader, SeriesId
from allogger.record import normal_scope

__all__ = ["JournalReader"]


class JournalReader(Reader):
    """Reads a journal, also while it grows: what is there when it is opened, whole values only.

    Keeps the numbers in memory (29 bytes each); arrays and texts stay in the file until they are asked for, so the file
    is kept open: it can be read to the end even if its process finishes and removes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "rb", buffering=1 << 20)  # noqa: SIM115  # lives as long as the reader
        # Nobody closes what `open_run` returns, and that is fine.
        weakref.finalize(self, self._file.close)
        self._scan = journal.Scan(path.stem)
        self._contents = journal.Contents()
        self._by_series: dict[int, journal.Rows] | None = None
        self.damage: list[str] = self._scan.damage
        self.refresh()

    @property
    def about(self) -> Mapping[str, Any]:
        """What the first frame says about the shard."""
        return self._scan.about

    @property
    def is_closed(self) -> bool:
        """Whether the process that wrote the journal finished it."""
        return self._scan.closed is not None

    @property
    def torn_bytes(self) -> int:
        """The length of an incomplete frame at the end, in bytes."""
        return self._scan.torn_bytes

    def refresh(self) -> None:
        """Take up what was written since the last look."""
        self._by_series = None
        self._scan.torn_bytes = 0
        for frame in journal.scan(self._file, self._scan):
            try:
                self._contents.add(frame)
            except DamagedFile as error:
                self.damage.append(str(error))
        unnamed = sorted({index for index, _ in self._contents.series()} - self._scan.names.keys())
        if unnamed:
            self.damage.append(f"the names of the series {unnamed} are lost, so their values cannot be shown")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def keys(self) -> list[SeriesId]:
        """Return the series in the file."""
        named = self._scan.names
        return [self._id(index, kind) for index, kind in self._contents.series() if index in named]

    def _id(self, index: int, kind: str) -> SeriesId:
        scope, key = self._scan.names[index]
        return SeriesId(kind, normal_scope(scope), key)

    def read(self, series: SeriesId) -> Columns:
        """Return all values of a series; raises `KeyError` if the journal does not hold it."""
        for which in self._contents.series():
            if which[0] in self._scan.names and self._id(*which) == series:
                return self._columns(which)
        raise KeyError(series)

    def _columns(self, which: tuple[int, str]) -> Columns:
        index, kind = which
        if self._by_series is None:
            self._by_series = dict(journal.in_series(self._contents.rows))
        rows = self._by_series.get(index) if kind == "scalar" else None
        places = self._contents.objects.get(which, [])
        if rows is None:
            return self._of_objects(places)
        if places:
            return journal.mixed_columns(self._file, self._contents, index, self.damage)
        return Columns(rows.step, rows.time, journal.numbers(rows, self._contents.dtype(index)))

    def _of_objects(self, places: list[journal.Place]) -> Columns:
        items = []
        for place in places:
            try:
                items.append((place.meta, journal.read_object(self._file, place)))
            except DamagedFile as error:
                self.damage.append(str(error))
        return journal.object_columns(items)
