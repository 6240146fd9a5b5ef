"""Does an outlet write or count every value, and does a lane outlive whatever happens in it?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allogger.lane import Lane, Outlet
from allogger.record import Batch, Record, Series
from allogger.rundir import Shard
from allogger.writer import Writer

SERIES = [Series(index, "root", f"k{index}") for index in range(4)]


class Recorder(Writer):
    """Remembers every value in order; *broken* says of a value whether it cannot be written."""

    lane = "disk"

    def __init__(self, broken: Callable[[Any], bool] = lambda value: False) -> None:
        super().__init__(Shard(Path(), "test"))
        self.values: list[Any] = []
        self.batches: list[int] = []
        self.error: BaseException | None = None
        self.broken = broken
        self.closed = self.synced = 0

    def write(self, batch: Batch) -> None:
        if self.error is not None:
            raise self.error
        values = [record.payload for record in batch]
        if any(self.broken(value) for value in values):
            raise ValueError("a value that cannot be written")
        self.batches.append(len(values))
        self.values += values

    def sync(self) -> None:
        self.synced += 1

    def close(self) -> None:
        self.closed += 1


def batch(*values: float, key: int = 0) -> Batch:
    count = len(values)
    return Batch(
        SERIES,
        np.full(count, key, np.uint32),
        np.zeros(count, np.uint8),
        np.arange(1, count + 1),
        np.zeros(count),
        np.array(values, np.float64).view(np.int64),
    )


def text(value: str, key: int = 0) -> Batch:
    empty = batch()
    record = Record(SERIES[key], "text", 1, 0.0, value)
    return Batch(SERIES, empty.series, empty.code, empty.step, empty.time, empty.bits, (record,), (0,))


class Bench:
    """An outlet and what it reports."""

    def __init__(self, writer: Recorder | None = None, flush_seconds: float = 1.0, max_bytes: int = 1 << 20) -> None:
        self.writer = writer or Recorder()
        self.reports: list[str] = []
        self.outlet = Outlet("test", self.writer, flush_seconds, max_bytes, self.reports.append)


# --------------------------------------------------------------------------------------------------------------- outlet


def test_values_are_written_once_in_order_and_small_batches_together() -> None:
    bench = Bench()
    for value in range(10):
        bench.outlet.offer(batch(value))
    bench.outlet.offer(text("end"))

    bench.outlet.flush()
    bench.outlet.flush()

    assert bench.writer.values == [*range(10), "end"]
    assert bench.writer.batches == [11]
    assert bench.outlet.waiting_bytes == 0
    assert bench.reports == []


def test_values_wait_at_most_the_flush_time() -> None:
    bench = Bench(flush_seconds=2.0)
    now = time.monotonic()
    bench.outlet.offer(batch(1))
    bench.outlet.pump(now)
    bench.outlet.offer(batch(2))

    bench.outlet.pump(now + 0.5)
    assert bench.writer.values == [1]
    bench.outlet.pump(now + 1.01)
    assert bench.writer.values == [1, 2]


def test_a_broken_value_is_counted_and_all_others_are_written() -> None:
    bench = Bench(Recorder(broken=lambda value: value in (3, 4, 12, "bad")))
    for value in range(16):
        bench.outlet.offer(batch(value, key=value % 2))
    bench.outlet.offer(text("bad", key=2))
    bench.outlet.offer(text("good", key=2))

    bench.outlet.flush()

    assert bench.writer.values == [*(value for value in range(16) if value not in (3, 4, 12)), "good"]
    assert bench.outlet.lost == {"root/k0": 2, "root/k1": 1, "root/k2": 1}
    assert len(bench.reports) == 1
    assert "ValueError: a value that cannot be written" in bench.reports[0]


def test_a_writer_that_refuses_everything_is_not_asked_for_each_value() -> None:
    class Counting(Recorder):
        calls = 0

        def write(self, batch: Batch) -> None:
            self.calls += 1
            super().write(batch)

    writer = Counting(broken=lambda value: True)
    bench = Bench(writer)
    bench.outlet.offer(batch(*range(10_000)))

    bench.outlet.flush()

    assert bench.outlet.lost == {"root/k0": 10_000}
    assert writer.calls < 500


def test_after_an_os_error_everything_is_kept_and_written_when_it_works_again() -> None:
    bench = Bench()
    bench.writer.error = OSError(28, "No space left on device")
    now = time.monotonic()
    for value in range(5):
        bench.outlet.offer(batch(value))
        bench.outlet.pump(now + 1000 * value)
    assert bench.outlet.is_failing

    bench.writer.error = None
    bench.outlet.flush()

    assert bench.writer.values == list(range(5))
    assert not bench.outlet.is_failing
    assert bench.outlet.lost == {}
    assert len(bench.reports) == 2
    assert "No space left on device" in bench.reports[0]
    assert "writes again" in bench.reports[1]


def test_a_writer_that_fails_is_tried_again_with_growing_pauses() -> None:
    tries: list[float] = []

    class Failing(Recorder):
        def write(self, batch: Batch) -> None:
            tries.append(time.monotonic())
            raise OSError("no")

    bench = Bench(Failing(), flush_seconds=0)
    bench.outlet.offer(batch(1))
    start = time.monotonic()
    while time.monotonic() < start + 0.8:
        bench.outlet.pump(time.monotonic())

    # At 0, 0.1, 0.3 and 0.7 s, on a machine that is not too busy.
    pauses = np.diff(tries)
    assert 2 <= len(tries) <= 4
    assert (pauses >= [0.1, 0.2, 0.4][: len(pauses)]).all()
    assert len(bench.reports) == 1


def test_with_a_writer_that_fails_for_ever_memory_is_bounded_and_the_rest_is_counted() -> None:
    bench = Bench(max_bytes=100_000)
    bench.writer.error = OSError("no")
    bench.outlet.offer(batch(0))
    bench.outlet.flush()
    for value in range(1, 1000):
        bench.outlet.offer(batch(*[value] * 100))

    assert bench.outlet.waiting_bytes <= 100_000
    bench.outlet.close()

    assert bench.outlet.lost == {"root/k0": 1 + 999 * 100}
    assert bench.writer.closed == 1


def test_what_arrives_after_the_close_is_counted() -> None:
    bench = Bench()
    bench.outlet.offer(batch(1))
    bench.outlet.close()

    bench.outlet.offer(batch(2, 3))
    bench.outlet.close()

    assert bench.writer.values == [1]
    assert bench.outlet.lost == {"root/k0": 2}
    assert bench.writer.closed == 1


def test_values_that_a_writer_rejects_are_reported_once_per_key() -> None:
    class Picky(Recorder):
        def write(self, batch: Batch) -> None:
            for record in batch:
                self.reject(record.series, 1, "not my kind")

    bench = Bench(Picky())
    for value in range(5):
        bench.outlet.offer(batch(value, key=value % 2))
        bench.outlet.flush()

    assert sorted(bench.reports) == [
        "output 'test' cannot represent values of 'root/k0': not my kind",
        "output 'test' cannot represent values of 'root/k1': not my kind",
    ]
    assert bench.writer.rejected == {"root/k0": (3, "not my kind"), "root/k1": (2, "not my kind")}


class Unspeakable(Exception):
    """An error that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("where", ["write", "flush", "close", "sync"])
@pytest.mark.parametrize("error", [RuntimeError("on purpose"), Unspeakable(), OSError("no"), MemoryError()], ids=repr)
def test_an_error_anywhere_in_a_writer_stays_there(where: str, error: Exception) -> None:
    class Broken(Recorder):
        pass

    def fail(*args: object) -> None:
        raise error

    setattr(Broken, where, fail)
    bench = Bench(Broken())
    bench.outlet.offer(batch(1, 2))

    bench.outlet.flush()
    bench.outlet.pump(time.monotonic() + 100)
    bench.outlet.close()

    assert bench.outlet.is_closed
    assert bench.outlet.is_finished
    assert sum(bench.outlet.lost.values()) == (2 if where == "write" else 0)
    assert bench.reports


def test_a_writer_that_can_never_flush_is_reported_once() -> None:
    class Broken(Recorder):
        def flush(self) -> None:
            raise RuntimeError("on purpose")

    bench = Bench(Broken())
    for value in range(5):
        bench.outlet.offer(batch(value))
        bench.outlet.flush()

    assert bench.writer.values == list(range(5))
    assert bench.reports == ["output 'test' cannot flush (RuntimeError: on purpose)"]


def test_what_was_written_is_forced_onto_the_disk_now_and_then() -> None:
    bench = Bench()
    now = time.monotonic()
    bench.outlet.offer(batch(1))
    bench.outlet.pump(now)
    assert bench.writer.synced == 0

    for seconds in (10, 31, 32, 62):
        bench.outlet.pump(now + seconds)

    assert bench.writer.synced == 2


# ----------------------------------------------------------------------------------------------------------------- lane


def test_orders_are_carried_out_by_the_thread_in_their_order() -> None:
    lane = Lane("test", print)
    lane.start()
    done: list[tuple[int, str]] = []

    waits = [lane.submit(lambda n=n: done.append((n, threading.current_thread().name))) for n in range(20)]  # type: ignore[misc]
    assert all(lane.wait(wait, 10) for wait in waits)
    lane.stop()
    lane.join(10)

    assert done == [(n, "allogger-test") for n in range(20)]


def test_without_a_thread_orders_are_carried_out_at_once() -> None:
    lane = Lane("test", print)
    done: list[str] = []

    assert lane.call(lambda: done.append(threading.current_thread().name))

    assert done == [threading.current_thread().name]


def test_an_order_given_by_the_thread_itself_is_carried_out_at_once() -> None:
    lane = Lane("test", print)
    lane.start()
    done: list[bool] = []

    assert lane.call(lambda: done.append(lane.call(lambda: None)), 10)
    lane.stop()

    assert done == [True]


def test_an_order_that_takes_too_long_is_not_waited_for() -> None:
    lane = Lane("test", print)
    lane.start()
    release = threading.Event()

    is_done = lane.call(lambda: release.wait(30), timeout=0.05)
    release.set()
    lane.stop()
    lane.join(10)

    assert not is_done


def test_the_thread_outlives_an_error_and_reports_it() -> None:
    reports: list[str] = []
    lane = Lane("test", reports.append)
    lane.start()

    def fail() -> None:
        raise KeyError("on purpose")

    assert lane.call(fail, 10)
    done: list[int] = []
    assert lane.call(lambda: done.append(1), 10)
    lane.stop()

    assert done == [1]
    assert len(reports) == 1
    assert "KeyError" in reports[0]


def test_an_outlet_that_fails_does_not_hold_up_the_others_of_its_lane() -> None:
    bad, good = Bench(), Bench()
    bad.writer.error = OSError("no")
    lane = Lane("test", print)
    for bench in (bad, good):
        lane.add(bench.outlet)
        bench.outlet.offer(batch(1))
    lane.start()

    assert lane.call(lane.flush, 10)
    lane.stop()

    assert good.writer.values == [1]


def test_values_reach_the_writer_without_a_flush() -> None:
    written = threading.Event()

    class Telling(Recorder):
        def write(self, batch: Batch) -> None:
            super().write(batch)
            written.set()

    bench = Bench(Telling(), flush_seconds=0.01)
    waiting = [batch(1)]
    lane = Lane("test", print, lambda: bench.outlet.offer(waiting.pop()) if waiting else None)
    lane.add(bench.outlet)
    lane.start()

    assert written.wait(10)
    lane.stop()


def test_finishing_some_outlets_leaves_the_others_open() -> None:
    first, second = Bench(), Bench()
    lane = Lane("test", print)
    for bench in (first, second):
        lane.add(bench.outlet)
        bench.outlet.offer(batch(1))

    lane.finish([first.outlet])

    assert (first.outlet.is_closed, second.outlet.is_closed) == (True, False)
    assert lane.outlets == [second.outlet]
    assert first.writer.values == [1]


def test_a_wake_from_many_threads_is_one_wake() -> None:
    lane = Lane("test", print)

    for _ in range(1000):
        lane.wake()

    assert lane.call(lambda: None)
