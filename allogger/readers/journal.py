"""JournalReader: what has a process written that is still running, or was killed?"""

from __future__ import annotations

import contextlib
import os
import stat
import weakref
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from allogger.errors import DamagedFile
from allogger.formats import journal
from allogger.reader import Columns, Reader, SeriesId
from allogger.readers.tail import JournalTail

__all__ = ["JournalReader"]


class JournalReader(Reader):
    """Reads a journal, also while it grows: what is there when it is opened, whole values only.

    Keeps the numbers in memory (29 bytes each). Arrays and texts stay in the file until they are asked for, so if there
    are any the file stays open: it can be read even when its process has finished and removed it. Raises `OSError` if
    the file cannot be opened, `DamagedFile` if it is no regular file.

    `close` may be called at any time; the next `read` opens the file again, and raises `FileNotFoundError` if it is
    gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self._scan = journal.Scan(path.stem)
        self._contents = journal.Contents()
        self._series: dict[SeriesId, journal.Which] = {}
        self._by_series: dict[int, journal.Rows] | None = None
        self._mixed: dict[int, journal.Mixed] | None = None
        self._file: IO[bytes] | None = None
        self._identity: tuple[int, int] | None = None
        self.refresh()
        if not self._contents.objects:
            # Hundreds of workers are hundreds of files.
            self.close()

    @property
    def about(self) -> Mapping[str, Any]:
        """What the first frame says about the shard, and ``end``: when its process finished it, if it has."""
        closed = self._scan.closed
        return self._scan.about if closed is None else {**self._scan.about, "end": closed["time"]}

    @property
    def is_closed(self) -> bool:
        """Whether the process that wrote the journal finished it."""
        return self._scan.closed is not None

    @property
    def torn_bytes(self) -> int:
        """The length of an incomplete frame at the end, in bytes."""
        return self._scan.torn_bytes

    def refresh(self) -> None:
        """Take up what was written since the last look.

        Raises `FileNotFoundError` if the file was closed and is gone.
        """
        for frame in journal.scan(self._open(), self._scan):
            try:
                self._contents.add(frame)
            except DamagedFile as error:
                self._scan.damage.append(str(error))
        self._by_series = self._mixed = None
        self._series, trouble = self._contents.named(self._scan)
        self.damage = [*self._scan.damage, *trouble]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> IO[bytes]:
        if self._file is not None:
            return self._file
        # Without O_NONBLOCK a pipe would keep us waiting for its other end.
        file = open(self.path, "rb", 1 << 20, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))  # noqa: SIM115  # lives as long as the reader
        info = os.fstat(file.fileno())
        identity = info.st_dev, info.st_ino
        if not stat.S_ISREG(info.st_mode):
            file.close()
            raise DamagedFile(f"{self.path} is no regular file")
        if self._identity not in (None, identity):
            file.close()
            raise FileNotFoundError(f"{self.path} is gone; there is another file of that name")
        self._file, self._identity = file, identity
        # Nobody closes what `open_run` returns, and that is fine.
        weakref.finalize(self, file.close)
        return file

    def tail(self) -> JournalTail:
        """Return what goes on where this reader has read to."""
        seen = self._scan
        found = replace(seen, about=dict(seen.about), names=dict(seen.names), damage=[])
        counts = Counter({series: self._contents.count(which) for series, which in self._series.items()})
        return JournalTail(self.path, found, counts, self._identity)

    def keys(self) -> list[SeriesId]:
        """Return the series in the file."""
        return list(self._series)

    def read(self, series: SeriesId) -> Columns:
        """Return all values of a series; raises `KeyError` if the journal does not hold it."""
        which = self._series[series]
        if self._contents.is_mixed(which):
            return self._mixed_columns(which)
        if which in self._contents.objects:
            return journal.object_columns(self._objects(which))
        rows = self._rows(which[0])
        return Columns(rows.step, rows.time, journal.numbers(rows, self._contents.dtype(which[0])))

    def part(self, series: SeriesId, rows: slice) -> Columns:
        """Return some of the values of a series, and read no others from the file."""
        which = self._series[series]
        if which in self._contents.objects and not self._contents.is_mixed(which):
            return journal.object_columns(self._objects(which, rows))
        return super().part(series, rows)

    def steps(self, series: SeriesId) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the steps and times of all values of a series, with one of the values at a time in memory."""
        which = self._series[series]
        if which not in self._contents.objects or self._contents.is_mixed(which):
            return super().steps(series)
        metas = [journal.read_object(self._open(), offset)[0] for offset in self._contents.objects[which]]
        return np.array([meta.step for meta in metas], np.int64), np.array([meta.time for meta in metas])

    def last_step(self, series: SeriesId) -> int | None:
        """Return the step of the last value of a series, None if it cannot be read."""
        which = self._series[series]
        if which not in self._contents.objects:
            return int(self._rows(which[0]).step[-1])
        if self._contents.is_mixed(which):
            return super().last_step(series)
        items = self._objects(which, slice(-1, None))
        return items[0][0].step if items else None

    def last_time(self) -> float:
        """Return the latest time of a value in the file (Unix seconds), minus infinity if it has none."""
        return self._contents.last_time

    def _rows(self, index: int) -> journal.Rows:
        if self._by_series is None:
            self._by_series = dict(journal.in_series(self._contents.rows))
        return self._by_series[index]

    def _objects(self, which: journal.Which, part: slice = slice(None)) -> list[tuple[journal.Meta, Any]]:
        items = []
        for offset in self._contents.objects[which][part]:
            try:
                items.append(journal.read_object(self._open(), offset))
            except DamagedFile as error:
                if str(error) not in self.damage:
                    self.damage.append(str(error))
        return items

    def _mixed_columns(self, which: journal.Which) -> Columns:
        if self._mixed is None:
            self._mixed = self._read_mixed()
        return self._mixed[which[0]].columns()

    def _read_mixed(self) -> dict[int, journal.Mixed]:
        """Return those series whose order is known only by their frames; they are rare, so the file is read again."""
        which = [one for one in self._series.values() if self._contents.is_mixed(one)]
        found = {index: journal.Mixed(index, self._contents.dtype(index)) for index, _ in which}
        for frame in journal.scan(self._open(), journal.Scan(self._scan.name), self._scan.offset):
            with contextlib.suppress(DamagedFile):  # has been told
                if frame.type == journal.ROWS:
                    rows = journal.decode_rows(frame)
                    for index in found.keys() & set(rows.series.tolist()):
                        found[index].add_rows(rows)
                else:
                    meta = journal.decode_meta(frame)
                    if meta.kind == "scalar" and meta.series in found:
                        found[meta.series].add_object(meta, journal.decode_object(frame, meta))
        return found
