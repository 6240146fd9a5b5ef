"""Live readers: who reads in a loop beside programs that write, finish and start again never sees an error or a gap."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import allogger
from allogger.api.hdf import list_keys, read_from_key
from allogger.errors import NotARun

ROOT = Path(__file__).parents[1]
# The programs end by themselves; this is for a machine that is very busy.
DEADLINE_SECONDS = 60.0

PROGRAM = """
    import multiprocessing as mp
    import os, signal, sys
    import numpy as np
    import allogger

    def work(logger, name, first, count):
        for n in range(first, first + count):
            logger.log(float(n), "loss")
            logger.log(n, f"{name}/count {n % 3}")
            if n % 5 == 0:
                logger.log(f"{name} {n}", "note")
                logger.log(np.arange(n % 7), "w")
            if n % 20 == 0:
                allogger.flush()

    def child(first, count):
        work(allogger.get_root(), "child", first, count)

    if __name__ == "__main__":
        end, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
        logger = allogger.basic_configure("run", hdf_writer_params={"snapshot_seconds": 0.05})
        worker = mp.get_context("fork").Process(target=child, args=(first, count))
        work(logger, "main", first, 1)
        worker.start()
        work(logger, "main", first + 1, count - 1)
        worker.join()
        if end == "kill":
            allogger.flush()
            os.kill(os.getpid(), signal.SIGKILL)
"""

#: Key, process, step and value of one point.
Point = tuple[str, str, int, str]


@contextmanager
def programs(folder: Path, names: int, rounds: int, count: int) -> Iterator[threading.Event]:
    """Run *names* programs at a time, each started again *rounds* times; the event is set when all have ended."""
    script = folder / "program.py"
    script.write_text(textwrap.dedent(PROGRAM))
    running: list[subprocess.Popen[bytes]] = []
    errors: list[str] = []
    done, stop = threading.Event(), threading.Event()

    def one(which: int) -> None:
        for number in range(rounds):
            if stop.is_set():
                return
            end = "kill" if (number + which) % 3 == 1 else "exit"
            process = subprocess.Popen(
                [sys.executable, script, end, str(number * count), str(count)],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            running.append(process)
            output = process.communicate()[0]
            if process.returncode != (-9 if end == "kill" else 0):
                errors.append(output.decode())

    threads = [threading.Thread(target=one, args=(which,)) for which in range(names)]

    def wait() -> None:
        for thread in threads:
            thread.join()
        done.set()

    for thread in threads:
        thread.start()
    waiter = threading.Thread(target=wait)
    waiter.start()
    try:
        yield done
    finally:
        stop.set()
        for process in running:
            if process.poll() is None:
                process.kill()
        waiter.join()
    assert not errors, errors[0]


def points_of(run: allogger.Run) -> set[Point]:
    found = set()
    for key in run.keys():  # noqa: SIM118  # no mapping
        series = run.series(key, "all")
        values = map(str, series.value)
        found |= set(zip([key] * len(series), series.process.tolist(), series.step.tolist(), values, strict=True))
    assert run.damage == []
    return found


def test_a_reader_never_sees_an_error_or_loses_a_point(tmp_path: Path) -> None:
    logdir = tmp_path / "run"
    seen: set[Point] = set()
    names: set[str] = set()
    reads = n_rows = 0
    began = time.monotonic()

    with programs(tmp_path, names=2, rounds=3, count=60) as done:
        is_last = False
        while not is_last:
            # One more look when all have ended.
            is_last = done.is_set()
            assert time.monotonic() - began < DEADLINE_SECONDS
            try:
                points = points_of(allogger.open_run(logdir))
                now = set(list_keys(logdir))
                frame = allogger.open_run(logdir, attempts="all").frame()
            except NotARun:
                assert not seen, "the run has gone"
                continue
            assert seen <= points, f"missing: {sorted(seen - points)[:3]}"
            assert names <= now
            assert len(frame) >= max(n_rows, len(points))
            for name in list(now)[:2]:
                assert len(read_from_key(logdir, name, "all"))
            seen, names, n_rows = points, now, len(frame)
            reads += 1

    assert reads > 3
    # All programs began with the same steps or went on after each other; each logged its own values.
    for process in ("MainProcess", "ForkProcess-1"):
        losses = {value for key, who, _, value in seen if key == "root/loss" and who == process}
        assert losses == {str(float(n)) for n in range(3 * 60)}
    assert n_rows == 2 * 2 * 3 * (60 + 60 + 12 + 12)


def test_a_run_that_is_looked_at_again_never_loses_a_point(tmp_path: Path) -> None:
    seen: set[Point] = set()
    run: allogger.Run | None = None
    began = time.monotonic()

    with programs(tmp_path, names=1, rounds=3, count=100) as done:
        is_last = False
        while not is_last:
            is_last = done.is_set()
            assert time.monotonic() - began < DEADLINE_SECONDS
            try:
                run = run or allogger.open_run(tmp_path / "run")
            except NotARun:
                continue
            run.refresh()
            points = points_of(run)
            assert seen <= points, f"missing: {sorted(seen - points)[:3]}"
            seen = points

    assert len({value for key, who, _, value in seen if key == "root/loss"}) == 300


@pytest.mark.parametrize("attempt", range(3))
def test_a_run_opened_at_the_end_of_its_process_is_read_later_on(tmp_path: Path, attempt: int) -> None:
    # What `open_run` has found stays readable while the process finishes and removes its journal.
    logger = allogger.basic_configure(tmp_path, hdf_writer_params={"snapshot_seconds": None})
    for n in range(50):
        logger.log(float(n), "loss")
        logger.log(f"note {n}", "note")
    allogger.flush()
    runs: list[allogger.Run] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            runs.append(allogger.open_run(tmp_path))

    thread = threading.Thread(target=look)
    thread.start()
    allogger.close()
    stop.set()
    thread.join()

    for run in [*runs, allogger.open_run(tmp_path)]:
        assert run["root/loss"].value.tolist() == list(range(50))
        assert run["root/note"].value.tolist() == [f"note {n}" for n in range(50)]
        assert run.damage == []
