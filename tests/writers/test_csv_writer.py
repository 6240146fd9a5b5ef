from __future__ import annotations

import csv
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import allogger
from allogger.formats.csv import HEADER, rows
from allogger.record import Batch, Record, Series
from allogger.rundir import Shard, new_shard
from allogger.writers.csv import CsvWriter

LOSS = Series(0, "root.main", "loss")
NOTE = Series(1, "root.main", "note")


def batch_of(*values: float, objects: tuple[Record, ...] = ()) -> Batch:
    """Return a batch with these losses at the steps 1, 2, ..."""
    count = len(values)
    return Batch(
        names=[LOSS, NOTE],
        series=np.zeros(count, np.uint32),
        code=np.zeros(count, np.uint8),
        step=np.arange(1, count + 1),
        time=1.7e9 + np.arange(count) / 3,
        bits=np.array(values, np.float64).view(np.int64),
        objects=objects,
    )


def values_in(path: Path) -> list[object]:
    return [row.value for row in rows(path)]


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    return new_shard(tmp_path / "logdir", "rank3")


@pytest.fixture
def path(shard: Shard) -> Path:
    return shard.path(".csv")


def test_it_takes_numbers_and_texts_on_the_lane_of_the_disk(shard: Shard) -> None:
    writer = CsvWriter(shard)
    assert [kind for kind in ("scalar", "text", "array", "histogram", "image") if writer.accepts(kind)] == [
        "scalar",
        "text",
    ]
    assert CsvWriter.lane == "disk"
    assert CsvWriter.needs_logdir


def test_nothing_is_made_before_the_first_value(shard: Shard, path: Path) -> None:
    writer = CsvWriter(shard)
    writer.write(batch_of())
    writer.flush()
    writer.sync()
    writer.close()
    assert not shard.logdir.exists()


def test_batches_are_rows_under_one_header_that_pandas_and_csv_read(shard: Shard, path: Path) -> None:
    writer = CsvWriter(shard)
    note = Record(NOTE, "text", 7, 1.7e9, 'a "quoted"\nline')
    number = Record(LOSS, "scalar", 8, 1.7e9, np.array(1 + 2j))
    writer.write(batch_of(0.1, 0.2, objects=(note, number)))
    writer.write(batch_of(float("nan")))
    writer.sync()
    writer.close()
    writer.close()
    assert path.read_bytes().startswith(HEADER)
    with path.open(newline="", encoding="utf-8") as file:
        assert [(row["key"], row["process"], row["kind"], row["value"]) for row in csv.DictReader(file)] == [
            ("main/loss", "rank3", "scalar", "0.1"),
            ("main/loss", "rank3", "scalar", "0.2"),
            ("main/note", "rank3", "text", 'a "quoted"\nline'),
            ("main/loss", "rank3", "scalar", "(1+2j)"),
            ("main/loss", "rank3", "scalar", "nan"),
        ]
    frame = pd.read_csv(path)
    assert frame["step"].tolist() == [1, 2, 7, 8, 1]
    assert frame["time"].tolist()[:2] == [1.7e9, 1.7e9 + 1 / 3]


def test_each_batch_is_readable_when_write_returns(shard: Shard, path: Path) -> None:
    writer = CsvWriter(shard)
    for count in (1, 2, 3):
        writer.write(batch_of(0.5))
        assert values_in(path) == [0.5] * count


def test_a_value_that_is_no_cell_is_rejected_alone(shard: Shard, path: Path) -> None:
    writer = CsvWriter(shard)
    bad = Record(NOTE, "scalar", 1, 1.0, np.zeros(3))
    writer.write(batch_of(0.1, objects=(bad, Record(NOTE, "text", 2, 1.0, "fine"), bad)))
    assert values_in(path) == [0.1, "fine"]
    assert writer.rejected == {"main/note": (2, "a number is needed, not an array of shape (3,) and dtype float64")}


def test_a_batch_of_rejected_values_only_makes_no_file(shard: Shard, path: Path) -> None:
    writer = CsvWriter(shard)
    writer.write(batch_of(objects=(Record(NOTE, "scalar", 1, 1.0, np.zeros(3)),)))
    assert not path.exists()
    assert writer.rejected["main/note"][0] == 1


def test_a_full_disk_stores_nothing_of_a_batch_and_the_same_batch_may_come_again(shard: Shard, path: Path) -> None:
    writer = CsvWriter(shard)
    bad = Record(NOTE, "scalar", 1, 1.0, np.zeros(3))
    writer.write(batch_of(0.5))
    before = path.read_bytes()
    batch = batch_of(*[0.25] * 1000, objects=(bad,))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        for _ in range(3):
            with pytest.raises(OSError, match="File too large"):
                writer.write(batch)
            assert path.read_bytes() == before
            assert writer.rejected == {}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.write(batch)
    assert values_in(path) == [0.5] + [0.25] * 1000
    assert writer.rejected["main/note"][0] == 1


def test_the_header_comes_again_when_the_first_write_failed(shard: Shard, path: Path) -> None:
    writer = CsvWriter(shard)
    path.parent.mkdir(parents=True)
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        writer.write(batch_of(0.5))
    path.rmdir()
    writer.write(batch_of(0.5))
    assert values_in(path) == [0.5]
    assert path.read_bytes().count(HEADER) == 1


def test_a_file_or_folder_that_vanished_is_made_again_with_its_header(shard: Shard, path: Path) -> None:
    writer = CsvWriter(shard)
    writer.write(batch_of(1.0))
    path.unlink()
    writer.write(batch_of(2.0))
    assert values_in(path) == [2.0]
    shutil.rmtree(shard.logdir)
    writer.write(batch_of(3.0))
    writer.write(batch_of(4.0))
    assert path.read_bytes().startswith(HEADER)
    assert values_in(path) == [3.0, 4.0]


def test_a_child_that_abandons_the_writer_changes_nothing(shard: Shard, path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    writer = CsvWriter(shard)
    writer.write(batch_of(1.0))
    written = path.read_bytes()
    writer.abandon()
    writer.abandon()
    assert len(os.listdir("/proc/self/fd")) == before
    writer.close()
    assert path.read_bytes() == written


def test_what_was_written_outlives_a_kill(shard: Shard, path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from {__name__.rpartition(".")[2]} import CsvWriter, batch_of, new_shard
from dataclasses import replace
writer = CsvWriter(replace(new_shard(Path({str(shard.logdir)!r})), name={shard.name!r}))
for _ in range(10):
    writer.write(batch_of(1.0, 2.0))
os.kill(os.getpid(), signal.SIGKILL)
"""
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    ended = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": paths}, timeout=60)
    assert ended.returncode == -9
    assert values_in(path) == [1.0, 2.0] * 10


def test_two_processes_with_the_same_key_write_two_files(shard: Shard, path: Path) -> None:
    for process in (shard, replace(shard, name=shard.name + "0", process="Process-1")):
        CsvWriter(process).write(batch_of(1.0))
    assert sorted(row.process for file in shard.events.iterdir() for row in rows(file)) == ["Process-1", "rank3"]


def test_the_next_attempt_cuts_the_torn_row_that_a_killed_one_left(tmp_path: Path) -> None:
    dead = tmp_path / "events" / "20200101T000000.000000-elsewhere-1-0.csv"
    dead.parent.mkdir()
    whole = b"key,step,time,process,kind,value\nmain/note,1,1.5,MainProcess,text,hello\n"
    dead.write_bytes(whole + b'main/note,2,2.5,MainProcess,text,"a torn')
    os.utime(dead, (0, 0))

    allogger.basic_configure(tmp_path, ["csv"])
    allogger.get_logger("main").log("again", "note")
    allogger.close()

    assert dead.read_bytes() == whole
    assert [len(pd.read_csv(path)) for path in sorted(dead.parent.glob("*.csv"))] == [1, 1]
