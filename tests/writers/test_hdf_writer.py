"""HdfWriter: is there always a whole HDF5 file, and never a live one?"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import allogger
from allogger.errors import ConfigError, WriteFailed
from allogger.record import Batch, Record, Series
from allogger.rundir import Shard, new_shard
from allogger.writers.hdf import HdfWriter


def _batch(*values: float) -> Batch:
    n = len(values)
    return Batch(
        [Series(0, "root.main", "loss")],
        np.zeros(n, np.uint32),
        np.zeros(n, np.uint8),
        np.arange(1, n + 1),
        np.full(n, 1000.5),
        np.array(values).view(np.int64),
    )


def _wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.01)


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    return new_shard(tmp_path)


def test_there_is_a_journal_while_the_writer_is_open_and_an_hdf_file_afterwards(shard: Shard) -> None:
    writer = HdfWriter(shard)

    writer.write(_batch(0.5, 0.25))
    live = {path.name for path in shard.events.iterdir()}
    writer.close()

    assert live == {f"{shard.name}.journal"}
    assert {path.name for path in shard.events.iterdir()} == {f"{shard.name}.h5", f"{shard.name}.index.json"}
    with h5py.File(shard.path(".h5")) as file:
        np.testing.assert_array_equal(file["scalar/main/loss"]["value"], [0.5, 0.25])


def test_a_writer_that_never_wrote_leaves_no_file(shard: Shard) -> None:
    HdfWriter(shard).close()

    assert not shard.events.exists()


def test_a_long_run_has_a_snapshot_that_plain_h5py_reads_and_the_journal_stays_the_truth(shard: Shard) -> None:
    writer = HdfWriter(shard, snapshot_seconds=0.001)
    writer.write(_batch(0.5))
    time.sleep(0.002)  # the clock has to pass the time at which the snapshot is due
    writer.write(_batch(0.25))

    _wait_for(shard.path(".h5").exists)

    with h5py.File(shard.path(".h5")) as file:
        assert set(file["scalar/main/loss"]["value"]) <= {0.5, 0.25}
    assert len(allogger.open_run(shard.logdir)["main/loss"]) == 2
    writer.close()
    assert len(allogger.open_run(shard.logdir)["main/loss"]) == 2


def test_closing_in_the_middle_of_a_snapshot_ends_it_and_leaves_nothing_of_it(shard: Shard) -> None:
    writer = HdfWriter(shard, snapshot_seconds=0.001)
    writer.write(_batch(0.5))
    time.sleep(0.002)
    writer.write(_batch(0.25))
    (shard.events / f".{shard.name}.h5.1-0.tmp").touch()  # as a builder that was killed leaves it

    writer.close()

    assert {path.name for path in shard.events.iterdir()} == {f"{shard.name}.h5", f"{shard.name}.index.json"}


def test_what_hdf5_cannot_hold_keeps_the_journal_and_costs_no_other_key(shard: Shard) -> None:
    huge = np.ones(2, [(f"field {n}", "f8") for n in range(6000)])
    names = [Series(0, "root.main", "loss"), Series(1, "root.main", "odd")]
    odd = Record(names[1], "array", 1, 1000.5, huge)
    writer = HdfWriter(shard)
    writer.write(replace(_batch(0.5, 0.25), names=names, objects=(odd,)))

    for _ in range(2):  # close may be called twice
        with pytest.raises(WriteFailed, match=r"1 values of 'main/odd' .*is kept"):
            writer.close()

    with h5py.File(shard.path(".h5")) as file:
        np.testing.assert_array_equal(file["scalar/main/loss"]["value"], [0.5, 0.25])
    run = allogger.open_run(shard.logdir)
    assert run["main/loss"].value.tolist() == [0.5, 0.25]
    assert (run["main/odd"].value[0] == huge).all()
    assert not run.damage


def test_a_journal_that_was_removed_in_the_middle_begins_again_with_all_names(shard: Shard) -> None:
    writer = HdfWriter(shard)
    writer.write(_batch(0.5))
    shard.path(".journal").unlink()

    writer.write(_batch(0.25))

    assert allogger.open_run(shard.logdir)["main/loss"].value.tolist() == [0.25]


def test_a_child_that_was_forked_during_a_snapshot_says_nothing(tmp_path: Path) -> None:
    program = f"""
import os, sys, time, allogger
allogger.basic_configure({str(tmp_path / "run")!r}, hdf_writer_params={{"snapshot_seconds": 0.01}}, flush_seconds=0.01)
logger = allogger.get_logger("main")
end = time.monotonic() + 0.5
while time.monotonic() < end:
    logger.log(1.0, "loss")
    time.sleep(0.01)
if os.fork() == 0:
    logger.log(2.0, "loss")
    sys.exit()
os.wait()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_an_impossible_time_between_snapshots_is_refused(shard: Shard, seconds: float) -> None:
    with pytest.raises(ConfigError, match="snapshot_seconds"):
        HdfWriter(shard, snapshot_seconds=seconds)
