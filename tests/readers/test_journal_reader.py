"""JournalReader: what is in the file is read while it grows, and after it has gone."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from allogger.formats import journal
from allogger.reader import SeriesId
from allogger.readers.journal import JournalReader
from allogger.record import Series
from allogger.rundir import JOURNAL, Shard, new_shard
from allogger.testing import Row, batch_of
from allogger.writers.hdf import HdfWriter

LOSS = SeriesId("scalar", "root.main", "loss")
NOTE = SeriesId("text", "root.main", "note")


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    (tmp_path / "events").mkdir()
    return new_shard(tmp_path, "Process-1")


@pytest.fixture
def writer(shard: Shard) -> HdfWriter:
    return HdfWriter(shard, snapshot_seconds=None)


class Process:
    """What a process logs: one number and, if wanted, one text at each step."""

    def __init__(self, writer: HdfWriter, texts: bool = True) -> None:
        self.writer, self.texts, self.step = writer, texts, 0
        self.names: list[Series] = []

    def log(self, count: int = 1) -> None:
        for _ in range(count):
            self.step += 1
            rows = [Row("main", "loss", self.step, self.step / 2)]
            if self.texts:
                rows.append(Row("main", "note", self.step, f"step {self.step}", "text"))
            self.writer.write(batch_of(rows, self.names))


def test_a_reader_shows_what_was_there_when_it_was_opened_until_it_is_refreshed(
    shard: Shard, writer: HdfWriter
) -> None:
    process = Process(writer)
    process.log(2)
    reader = JournalReader(shard.path(JOURNAL))
    process.log(3)

    assert reader.read(LOSS).value.tolist() == [0.5, 1.0]
    assert reader.read(NOTE).value.tolist() == ["step 1", "step 2"]
    reader.refresh()
    assert reader.read(LOSS).step.tolist() == [1, 2, 3, 4, 5]
    assert reader.read(NOTE).step.tolist() == [1, 2, 3, 4, 5]
    assert dict(reader.about) == shard.about()


def test_what_was_there_can_be_read_after_the_process_has_finished_and_removed_the_file(
    shard: Shard, writer: HdfWriter
) -> None:
    process = Process(writer)
    process.log(2)
    reader = JournalReader(shard.path(JOURNAL))
    process.log()
    writer.close()
    assert not shard.path(JOURNAL).exists()

    assert reader.read(NOTE).value.tolist() == ["step 1", "step 2"]
    reader.refresh()
    assert reader.read(NOTE).value.tolist() == ["step 1", "step 2", "step 3"]
    assert reader.is_closed
    assert reader.about["end"] >= shard.start


def test_a_reader_of_numbers_alone_holds_no_file_open(shard: Shard, writer: HdfWriter) -> None:
    process = Process(writer, texts=False)
    process.log(2)
    before = set(os.listdir("/proc/self/fd"))
    reader = JournalReader(shard.path(JOURNAL))

    assert set(os.listdir("/proc/self/fd")) <= before | {str(max(map(int, before)) + 1)}
    assert reader._file is None
    process.log()
    reader.refresh()
    assert reader.read(LOSS).step.tolist() == [1, 2, 3]


def test_a_closed_reader_opens_the_file_again_and_says_when_it_is_gone(shard: Shard, writer: HdfWriter) -> None:
    process = Process(writer)
    process.log(2)
    reader = JournalReader(shard.path(JOURNAL))

    reader.close()
    assert reader.read(NOTE).value.tolist() == ["step 1", "step 2"]
    reader.close()
    os.replace(shard.path(JOURNAL), shard.path(".old"))
    assert reader.read(LOSS).value.tolist() == [0.5, 1.0]
    with pytest.raises(FileNotFoundError):
        reader.read(NOTE)
    shard.path(JOURNAL).write_bytes(b"another file")
    with pytest.raises(FileNotFoundError):
        reader.read(NOTE)
    with pytest.raises(FileNotFoundError):
        reader.refresh()


def test_the_last_step_and_time_are_those_of_the_values(shard: Shard, writer: HdfWriter) -> None:
    names: list[Series] = []
    rows = [
        Row("main", "loss", 5, 1.0, time=10.0),
        Row("main", "loss", 3, 2.0, time=11.0),
        Row("main", "note", 9, "a", "text", time=30.0),
        Row("main", "note", 7, "b", "text", time=20.0),
        Row("main", "mixed", 1, 1j, time=1.0),
        Row("main", "mixed", 2, 1.0, time=1.0),
    ]
    writer.write(batch_of(rows, names))

    reader = JournalReader(shard.path(JOURNAL))

    assert reader.last_time() == 30.0
    last = {series.key: reader.last_step(series) for series in reader.keys()}  # noqa: SIM118  # no mapping
    assert last == {"loss": 3, "note": 7, "mixed": 2}


def test_an_empty_file_is_a_journal_without_values(shard: Shard) -> None:
    shard.path(JOURNAL).touch()

    reader = JournalReader(shard.path(JOURNAL))

    assert (reader.keys(), reader.damage, dict(reader.about)) == ([], [], {})
    assert reader.last_time() == -np.inf


def test_a_series_that_is_not_there_is_a_key_error(shard: Shard, writer: HdfWriter) -> None:
    Process(writer).log()

    with pytest.raises(KeyError):
        JournalReader(shard.path(JOURNAL)).read(LOSS._replace(kind="text"))


def test_an_array_that_has_become_unreadable_since_is_left_out_and_told(shard: Shard, writer: HdfWriter) -> None:
    Process(writer).log(3)
    reader = JournalReader(shard.path(JOURNAL))
    raw = bytearray(shard.path(JOURNAL).read_bytes())
    raw[raw.index(b"step 2")] ^= 1

    with open(shard.path(JOURNAL), "r+b") as file:
        file.write(raw)

    assert reader.read(NOTE).value.tolist() == ["step 1", "step 3"]
    assert len(reader.damage) == 1
    assert "this frame was sound" in reader.damage[0]
    assert reader.read(LOSS).step.tolist() == [1, 2, 3]


def test_ten_thousand_series_are_read_one_by_one_in_no_time(shard: Shard, writer: HdfWriter) -> None:
    rows = [Row("main", f"key {n}", 1, float(n)) for n in range(10_000)]
    writer.write(batch_of(rows))

    reader = JournalReader(shard.path(JOURNAL))

    assert len(reader.keys()) == 10_000
    assert [reader.read(series).value[0] for series in reader.keys()] == list(range(10_000))  # noqa: SIM118


def test_damage_is_told_once_however_often_the_file_is_looked_at(shard: Shard) -> None:
    salt = journal.salt_of(shard.name)
    frames = journal.encode_head(shard.about()) + journal.encode_names([(0, "root.main", "loss")], salt)
    first, _ = journal.encode_batch(batch_of([Row("main", "loss", 1, 1.0)]), 0, salt)
    shard.path(JOURNAL).write_bytes(frames + b"garbage" + b"".join(first))
    reader = JournalReader(shard.path(JOURNAL))
    before = list(reader.damage)

    for _ in range(3):
        reader.refresh()

    assert reader.damage == before
    assert len(before) == 1
