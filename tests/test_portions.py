"""Portions: does a key read piece by piece have the values that it has when it is read at once?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allogger
from allogger.record import Batch
from allogger.rundir import Shard
from allogger.testing.rows import Row, batch_of, same
from allogger.writers.hdf import HdfWriter

Part = tuple[str, str, float, list[tuple[int, float]]]


def a_shard(
    logdir: Path, number: int, process: str, attempt: str, start: float, batch: Batch, is_finished: bool
) -> None:
    name = f"20240101T0000{number:02}.000000-host-{number + 1}-0"
    shard = Shard(logdir, name, process, attempt or name, start, "host", number + 1)
    shard.events.mkdir(parents=True, exist_ok=True)
    writer = HdfWriter(shard, snapshot_seconds=None)
    writer.write(batch)
    writer.close() if is_finished else writer.sync()


def portions(run: allogger.Run, key: str, rows: int) -> list[allogger.Series]:
    return list(run.portions(key, rows))


def check(run: allogger.Run, key: str, rows: int) -> None:
    whole, parts = run[key], portions(run, key, rows)

    for name in ("step", "time", "process"):
        joined = [item for part in parts for item in getattr(part, name).tolist()]
        assert joined == getattr(whole, name).tolist()
    values = [item for part in parts for item in part.value]
    assert len(values) == len(whole)
    assert all(map(same, values, whole.value))
    assert all(len(part) for part in parts)


ROWS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([1.0, 2.0, 3.0, 4.0])), min_size=1, max_size=25)
SHARDS = st.lists(
    st.tuples(st.sampled_from(["MainProcess", "Process-1", "Process-2"]), st.integers(0, 2), ROWS, st.booleans()),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60)
@given(shards=SHARDS, rows=st.integers(1, 9), is_sorted=st.booleans(), attempts=st.sampled_from(["last", "all"]))
def test_portions_are_the_pieces_of_the_whole(
    shards: list[Any], rows: int, is_sorted: bool, attempts: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    logdir = tmp_path_factory.mktemp("run")
    for number, (process, attempt, pairs, is_finished) in enumerate(shards):
        pairs = sorted(pairs) if is_sorted else pairs
        many = [Row("main", "x", step, float(100 * number + n), time=time) for n, (step, time) in enumerate(pairs)]
        name = f"20240101T0000{attempt:02}.500000-host-{attempt + 50}-0"
        a_shard(logdir, number, process, name, float(attempt), batch_of(many), is_finished)

    check(allogger.open_run(logdir, attempts=attempts), "main/x", rows)


def test_a_portion_of_one_process_is_as_long_as_asked_for(tmp_path: Path) -> None:
    a_shard(tmp_path, 0, "MainProcess", "", 0.0, batch_of([Row("m", "x", n, n / 2) for n in range(100)]), True)
    run = allogger.open_run(tmp_path)

    assert [len(part) for part in portions(run, "m/x", 30)] == [30, 30, 30, 10]
    check(run, "m/x", 30)


@pytest.mark.parametrize("is_finished", [True, False])
def test_values_of_every_kind_come_in_portions(tmp_path: Path, is_finished: bool) -> None:
    many = [Row("m", "text", n, "é" * n, "text") for n in range(10)]
    many += [Row("m", "array", n, np.full((n % 3, 2), n), "array") for n in range(10)]
    many += [Row("m", "picture", n, np.full((2, 2), n, np.uint8), "image") for n in range(10)]
    many += [Row("m", "mixed", n, n if n % 2 else "odd", "scalar" if n % 2 else "text") for n in range(10)]
    a_shard(tmp_path, 0, "MainProcess", "", 0.0, batch_of(many), is_finished)
    run = allogger.open_run(tmp_path)

    for key in run:
        check(run, key, 3)
    assert portions(run, "m/picture", 3)[1].meta == {"layout": "HW"}


def test_side_by_side_only_a_portion_of_each_process_is_read_at_once(tmp_path: Path) -> None:
    for number, process in enumerate(["MainProcess", "Process-1"]):
        many = [Row("m", "x", n, float(n), time=n + number / 2) for n in range(10_000)]
        a_shard(tmp_path, number, process, "a", 0.0, batch_of(many), True)
    run = allogger.open_run(tmp_path)

    parts = portions(run, "m/x", 4000)

    assert max(map(len, parts)) <= 4000
    check(run, "m/x", 4000)


def test_attempts_beside_another_process_are_merged_even_where_that_has_nothing(tmp_path: Path) -> None:
    first, second = (f"20240101T00000{n}.500000-host-{n + 50}-0" for n in (1, 8))
    for number, (attempt, start) in enumerate([(first, 1.5), (second, 8.5)]):
        many = [Row("m", "x", n, float(n), time=start + n / 100) for n in range(20)]
        a_shard(tmp_path, number, "MainProcess", attempt, start, batch_of(many), False)
    late = [Row("m", "x", 100 + n, float(n), time=2.0 + n / 100) for n in range(20)]
    a_shard(tmp_path, 3, "Process-1", first, 1.5, batch_of(late), False)

    check(allogger.open_run(tmp_path, attempts="all"), "m/x", 9)
