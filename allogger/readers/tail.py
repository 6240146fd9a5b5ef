"""JournalTail: what does a process append to its journal, each value once?"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from allogger.errors import DamagedFile
from allogger.formats import journal
from allogger.reader import SeriesId, Tail, Value
from allogger.record import BOOL, FLOAT, INT, normal_scope

__all__ = ["JournalTail"]


class JournalTail(Tail):
    """Goes on reading a journal where a pass over it ended, which *found* tells; the file is open only meanwhile.

    *counts* are the values of each series that were read so far, *identity* the device and inode of the file.
    """

    def __init__(
        self, path: Path, found: journal.Scan, counts: Counter[SeriesId], identity: tuple[int, int] | None
    ) -> None:
        self.path = path
        self.counts = counts
        self._scan = found
        self._identity = identity

    @property
    def is_closed(self) -> bool:
        """Whether the process has finished the journal."""
        return self._scan.closed is not None

    def take(self) -> Iterator[Value]:
        """Yield what has come since, in the order logged; raises `FileNotFoundError` if the file is gone."""
        info = os.stat(self.path)
        if (info.st_dev, info.st_ino) != self._identity:
            # It was removed under its process, which has begun another.
            self._identity = info.st_dev, info.st_ino
            self._scan.offset = 0
        if info.st_size == self._scan.offset:
            return
        with open(self.path, "rb", 1 << 20, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as file:
            yield from self._new(file)

    def _new(self, file: IO[bytes]) -> Iterator[Value]:
        rows, done = None, 0
        for frame in journal.scan(file, self._scan):
            try:
                if frame.type == journal.ROWS:
                    yield from self._numbers(rows, done)
                    rows, done = journal.decode_rows(frame), 0
                    continue
                meta = journal.decode_meta(frame)
                value = journal.decode_object(frame, meta)
            except DamagedFile:
                continue  # whoever reads the run is told
            if rows is not None and meta.at[0] == rows.number and meta.at[1] > done:
                yield from self._numbers(rows, done, meta.at[1])
                done = meta.at[1]
            if (series := self._series(meta.series, meta.kind)) is not None:
                yield self._counted(Value(series, meta.step, meta.time, value, meta.attrs))
        yield from self._numbers(rows, done)

    def _numbers(self, rows: journal.Rows | None, start: int, end: int | None = None) -> Iterator[Value]:
        if rows is None:
            return
        part = slice(start, end)
        columns = (rows.series, rows.code, rows.step, rows.time, rows.bits, rows.bits.view("<f8"))
        for index, code, step, time, bits, number in zip(*(column[part].tolist() for column in columns), strict=True):
            value = {FLOAT: number, INT: bits, BOOL: bool(bits)}[code]
            if (series := self._series(index, "scalar")) is not None:
                yield self._counted(Value(series, step, time, value, {}))

    def _series(self, index: int, kind: str) -> SeriesId | None:
        name = self._scan.names.get(index)
        return None if name is None else SeriesId(kind, normal_scope(name[0]), name[1])

    def _counted(self, value: Value) -> Value:
        self.counts[value.series] += 1
        return value
