"""Do allogger's own writers keep the promises of `allogger.Writer`?"""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util

from allogger.formats import csv
from allogger.record import Record, file_name, full_key
from allogger.rundir import EVENTS, Shard
from allogger.shards import list_shards, open_shard
from allogger.testing import MemoryWriter, Stored, WriterContract
from allogger.writers.console import ConsoleWriter
from allogger.writers.csv import CsvWriter
from allogger.writers.hdf import HdfWriter
from allogger.writers.tensorboard import TensorboardWriter


class TestHdfWriter(WriterContract):
    def make_writer(self, shard: Shard, **params: Any) -> HdfWriter:
        return HdfWriter(shard, **params)

    def read_back(self, shard: Shard) -> list[Stored]:
        if shard.name not in [found.name for found in list_shards(shard.events)]:
            return []
        reader = open_shard(shard.events, shard.name)
        try:
            assert not reader.damage
            found: list[Stored] = []
            for series in reader.keys():  # noqa: SIM118
                columns = reader.read(series)
                name = full_key(series.scope, series.key)
                found += [(name, int(step), value) for step, value in zip(columns.step, columns.value, strict=True)]
            return found
        finally:
            reader.close()


class TestCsvWriter(WriterContract):
    def make_writer(self, shard: Shard, **params: Any) -> CsvWriter:
        return CsvWriter(shard, **params)

    def read_back(self, shard: Shard) -> list[Stored]:
        path = shard.path(".csv")
        return [(row.key, row.step, row.value) for row in csv.rows(path)] if path.exists() else []

    def same(self, record: Record, stored: Any) -> bool:
        """Return whether the number or text is the same; of a longdouble our reader gives the nearest float."""
        if isinstance(record.payload, np.ndarray) and record.payload.dtype == np.longdouble:
            return bool(float(record.payload) == stored)
        return super().same(record, stored)


class TestTensorboardWriter(WriterContract):
    bad_params = ({"bins": 0}, {"bins": 1.5}, {"use_hdf_hook": "yes"})

    def make_writer(self, shard: Shard, **params: Any) -> TensorboardWriter:
        return TensorboardWriter(shard, **params)

    def read_back(self, shard: Shard) -> list[Stored]:
        folder = shard.logdir / EVENTS / file_name(shard.process)
        found: list[Stored] = []
        for path in sorted(folder.glob("events.out.tfevents.*")):
            # TensorBoard reads bins as float32, and warns of those that are infinite there.
            with np.errstate(over="ignore"):
                events = list(EventFileLoader(str(path)).Load())
            for event in events:
                for value in event.summary.value:
                    found.append((value.tag, event.step, tensor_util.make_ndarray(value.tensor)))
        return found

    def same(self, record: Record, stored: Any) -> bool:
        """Return whether TensorBoard shows what it can: float32, bins, a picture of that size, UTF-8."""
        if record.kind == "text":
            return bool(stored[0] == str(record.payload).encode("utf-8", "backslashreplace"))
        if record.kind == "image":
            width, height = int(stored[0]), int(stored[1])
            return (height, width) in {record.payload.shape[:2], record.payload.shape[1:]}  # type: ignore[union-attr]
        values = np.asarray(record.payload)
        if values.dtype.kind not in "biuf":
            return False
        if record.kind == "histogram":
            return bool(stored.reshape(-1, 3)[:, 2].sum() == np.isfinite(values.astype(float)).sum())
        with np.errstate(over="ignore"):
            return bool(np.array_equal(stored, values.astype(np.float32), equal_nan=True))


class TestConsoleWriter(WriterContract):
    bad_params = ({"interval_seconds": -1}, {"interval_seconds": "soon"})

    def make_writer(self, shard: Shard, **params: Any) -> ConsoleWriter:
        return ConsoleWriter(shard, **params)


class TestMemoryWriter(WriterContract):
    def make_writer(self, shard: Shard, **params: Any) -> MemoryWriter:
        class Kept(MemoryWriter):
            """Has a list of its own."""

        self.kept = Kept.records
        return Kept(shard, **params)

    def read_back(self, shard: Shard) -> list[Stored]:
        return [(record.full_key, record.step, record.payload) for record in self.kept]
