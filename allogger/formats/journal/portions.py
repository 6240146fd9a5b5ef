"""Portions: how does a journal of any size give the values of its series in bounded memory?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any, TypeAlias

from numpy.typing import NDArray

from allogger.errors import DamagedFile
from allogger.formats.journal.contents import Contents, Mixed, Which, in_series, numbers, object_columns
from allogger.formats.journal.frames import ROWS, Frame, Meta, RowBuffer, decode_meta, decode_object, decode_rows
from allogger.formats.journal.scanning import Scan, scan
from allogger.reader import Columns

__all__ = ["portions"]

# Values are brought into the order of their series when there are about so many of them.
_ROWS_AT_ONCE = 1 << 19
_BYTES_AT_ONCE = 8 << 20

Portion: TypeAlias = tuple[Which, Columns]


def portions(file: IO[bytes], found: Scan, contents: Contents) -> Iterator[Portion]:
    """Yield the values of all series, each series' in order; *found* and *contents* are what a first pass has found.

    What was appended since is not looked at. Frames whose values cannot be read are left out.
    """
    waiting = _Waiting(contents)
    for frame in scan(file, Scan(found.name), found.offset):
        try:
            yield from waiting.add(frame)
        except DamagedFile:
            continue  # the first pass has told, or the file has changed, which the caller finds out by counting
    yield from waiting.rest()


class _Waiting:
    """Values that wait until there are enough of them to be brought into the order of their series."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._mixed = {
            which[0]: Mixed(which[0], contents.dtype(which[0]))
            for which in contents.series()
            if contents.is_mixed(which)
        }
        self._rows = RowBuffer()
        self._objects: dict[Which, list[tuple[Meta, NDArray[Any] | str]]] = {}
        self._n_mixed = self._n_bytes = 0

    def add(self, frame: Frame) -> Iterator[Portion]:
        """Take a frame and yield what need not wait any more; raises `DamagedFile`."""
        if frame.type == ROWS:
            yield from self._add_rows(frame)
        else:
            yield from self._add_object(frame)
        if self._rows.count + len(self._rows) >= _ROWS_AT_ONCE or self._n_bytes >= _BYTES_AT_ONCE:
            yield from self._plain_columns()

    def rest(self) -> Iterator[Portion]:
        """Yield everything that waits."""
        yield from self._plain_columns()
        yield from self._mixed_columns()

    def _add_rows(self, frame: Frame) -> Iterator[Portion]:
        if self._mixed:
            rows = decode_rows(frame)
            # Only between two batches: in the file, the numbers of a batch come before its other values.
            if self._n_mixed >= _ROWS_AT_ONCE:
                yield from self._mixed_columns()
            for index in set(rows.series.tolist()) & self._mixed.keys():
                self._n_mixed += self._mixed[index].add_rows(rows)
        self._rows.add(frame)

    def _add_object(self, frame: Frame) -> Iterator[Portion]:
        meta = decode_meta(frame)
        value = decode_object(frame, meta)
        if meta.kind != "scalar" or meta.series not in self._mixed:
            self._objects.setdefault((meta.series, meta.kind), []).append((meta, value))
            self._n_bytes += len(frame.payload) + 500
            return
        if self._n_mixed >= _ROWS_AT_ONCE and meta.at[0] == frame.number:
            yield from self._mixed_columns()
        self._mixed[meta.series].add_object(meta, value)
        self._n_mixed += 1

    def _plain_columns(self) -> Iterator[Portion]:
        for index, rows in in_series(self._rows.take()):
            if index not in self._mixed:
                yield (index, "scalar"), Columns(rows.step, rows.time, numbers(rows, self._contents.dtype(index)))
        for which, items in self._objects.items():
            yield which, object_columns(items)
        self._objects, self._n_bytes = {}, 0

    def _mixed_columns(self) -> Iterator[Portion]:
        for index, mixed in self._mixed.items():
            if len(mixed):
                yield (index, "scalar"), mixed.columns()
                mixed.clear()
        self._n_mixed = 0
