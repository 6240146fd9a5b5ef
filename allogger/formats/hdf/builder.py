"""ImageBuilder: how does an image of many series come into being, whole or not at all, in bounded memory?"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from h5py import h5g

from allogger.formats.hdf.files import Sink
from allogger.formats.hdf.paths import Paths
from allogger.formats.hdf.pieces import joined, nbytes, owned, part
from allogger.formats.hdf.series import Image, SeriesBuilder, SeriesPlan
from allogger.formats.hdf.tables import FORMAT, INDEX, SIDE_TABLES, SideTable, Table, set_text
from allogger.reader import Columns, SeriesId
from allogger.record import MAIN_PROCESS, full_key
from allogger.rundir import sync_folder

__all__ = ["ImageBuilder"]

PENDING_BYTES = 32 * 2**20
CHUNK_BYTES, LEAST_CHUNK_BYTES, LEAST_CHUNK_ROWS = 256 * 2**10, 8 * 2**10, 64

_counter = itertools.count()


@dataclass
class _Waiting:
    """A series that is being built, and what waits until there is enough of it to be stored."""

    builder: SeriesBuilder
    received: int = 0
    pieces: list[Columns] = field(default_factory=list)
    nbytes: int = 0
    drain_at: int = 0


class ImageBuilder:
    """Builds the image of a shard under a temporary name and installs it at *path*, whole or not at all.

    *about* holds the JSON values that the file says about its shard, with ``start`` (Unix seconds) and ``process``.
    *plan* says which series will come. Memory stays bounded: about 32 MB of values wait for others of their series.

    Every method may raise the `OSError` of the disk, or `ValueError` if there are more or fewer values than planned.
    Then the builder is good for `abort` only, which a ``with`` statement calls::

        with ImageBuilder(path, about, plan) as builder:
            builder.append(series, columns)
            index = builder.finish()

    A series with a value that HDF5 cannot hold is left out; its entry in the index says so.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], plan: Mapping[SeriesId, SeriesPlan]) -> None:
        self._path = path
        self._about = dict(about)
        self._pending_bytes = 0
        self._pid = os.getpid()
        self._temporary = path.with_name(f".{path.name}.{self._pid}-{next(_counter)}.tmp")
        self._sink = Sink(self._temporary)
        self._is_done = False
        self._file: Any = None
        try:
            self._file = h5py.File(self._sink, "w", libver="v110")
            planned = {series: its for series, its in plan.items() if its.count}
            self._image = self._new_image(planned)
            self._series = {
                series: _Waiting(SeriesBuilder(self._image, series, number, its))
                for number, (series, its) in enumerate(planned.items())
            }
            self._write_about()
            self._sink.check()
        except BaseException:
            self.abort()
            raise

    def _new_image(self, plan: Mapping[SeriesId, SeriesPlan]) -> Image:
        large = sum(its.count * 32 > CHUNK_BYTES for its in plan.values())
        process = str(self._about.get("process", MAIN_PROCESS))
        return Image(
            self._file.id,
            process,
            float(self._about.get("start", 0.0)),
            Paths(plan, process),
            min(max(PENDING_BYTES // max(large, 1), LEAST_CHUNK_BYTES), CHUNK_BYTES),
            *(SideTable(self._file.id, path) for path in SIDE_TABLES),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abort()

    def append(self, series: SeriesId, columns: Columns) -> None:
        """Add *columns* to the end of *series*; their arrays are not kept."""
        self._check_open()
        if not len(columns):
            return
        waiting = self._series.get(series)
        if waiting is None or waiting.received + len(columns) > waiting.builder.plan.count:
            raise ValueError(f"there are more values of {series} than planned")
        waiting.received += len(columns)
        waiting.pieces.append(columns)
        self._count_pending(waiting, nbytes(columns))
        if waiting.received == waiting.builder.plan.count:
            self._drain(waiting, True)
        elif waiting.nbytes >= (waiting.drain_at or self._image.chunk_bytes):
            self._drain(waiting, False)
            waiting.drain_at = waiting.nbytes + self._image.chunk_bytes
        else:
            waiting.pieces[-1] = owned(columns)
        if self._pending_bytes > PENDING_BYTES:
            self._make_room()
        self._sink.check()

    def finish(self) -> dict[str, Any]:
        """Install the file, durably, and return its index: JSON values under ``format``, ``about`` and ``series``."""
        self._check_open()
        for series, waiting in self._series.items():
            if waiting.received != waiting.builder.plan.count:
                raise ValueError(f"of {series} came {waiting.received} of {waiting.builder.plan.count} values")
        entries = [waiting.builder.finish() for waiting in self._series.values()]
        for table in (self._image.blocks, self._image.attrs, self._image.texts):
            table.finish()
        index = {"format": FORMAT, "about": self._about, "series": entries}
        self._write_index(index)
        self._file.close()
        self._sink.sync()
        self._sink.close()
        os.replace(self._temporary, self._path)
        self._is_done = True
        sync_folder(self._path.parent)
        return index

    def abort(self) -> None:
        """Remove the temporary file, unless `finish` has installed it; may be called twice."""
        # A forked child has inherited the builder, not the file.
        if self._is_done or os.getpid() != self._pid:
            return
        self._is_done = True
        self._sink.error = self._sink.error or ValueError("the image was given up")
        try:
            if self._file is not None:
                self._file.close()
        finally:
            self._sink.close()
            self._temporary.unlink(missing_ok=True)

    def _check_open(self) -> None:
        if os.getpid() != self._pid:
            raise ValueError("this image is built by another process")
        if self._is_done:
            raise ValueError("this image is finished")
        self._sink.check()

    # -- what waits

    def _count_pending(self, waiting: _Waiting, size: int) -> None:
        waiting.nbytes += size
        self._pending_bytes += size

    def _make_room(self) -> None:
        some = [waiting for waiting in self._series.values() if waiting.pieces]
        for waiting in some:
            # When it comes round again, about as many values will wait: chunks of this size are written once.
            if waiting.builder.max_chunk_rows is None:
                waiting.builder.max_chunk_rows = max(sum(map(len, waiting.pieces)), LEAST_CHUNK_ROWS)
            self._drain(waiting, not waiting.builder.stored)
        if self._pending_bytes > PENDING_BYTES // 2:
            for waiting in some:
                self._drain(waiting, True)

    def _drain(self, waiting: _Waiting, everything: bool) -> None:
        """Store the values that wait: all of them, or as many as fill whole chunks."""
        if not waiting.pieces:
            return
        columns = joined(waiting.pieces)
        waiting.pieces.clear()
        self._count_pending(waiting, -waiting.nbytes)
        count = waiting.builder.store(columns, everything)
        if count < len(columns):
            rest = owned(part(columns, count, len(columns)))
            waiting.pieces.append(rest)
            self._count_pending(waiting, nbytes(rest))

    # -- about the whole

    def _write_about(self) -> None:
        root = h5g.open(self._file.id, b"/")
        self._file.attrs["allogger_format"] = FORMAT
        for name, value in self._about.items():
            if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63):
                self._file.attrs[name] = value
            else:
                set_text(root, name, value if isinstance(value, str) else json.dumps(value))

    def _write_index(self, index: Mapping[str, Any]) -> None:
        entries = index["series"]
        left_out = {full_key(entry["scope"], entry["key"]): entry["left_out"] for entry in entries if entry["left_out"]}
        if left_out:
            set_text(h5g.open(self._file.id, b"/"), "left_out", json.dumps(left_out))
        # Columns are read twice as fast as ten thousand objects with the same names.
        names = list(entries[0]) if entries else []
        columns = {name: [entry[name] for entry in entries] for name in names}
        text = json.dumps({**index, "series": columns}, separators=(",", ":"))
        data = np.frombuffer(text.encode(), np.uint8)
        Table(self._file.id, INDEX, data.dtype, len(data), 2**20, {}).write(data)
