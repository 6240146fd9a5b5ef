"""Reading: how long does it take to have 1,000,000 points of one key in numpy?"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter as now

from benchmarks import peers
from benchmarks.work import Goal, Rows, Size, Work

__all__ = ["WORK"]

# EventAccumulator would take a quarter of a minute for all.
_FEWER = 20


def measure(subject: str, folder: Path, size: Size) -> Rows:
    count = size.of(1_000_000)
    return {
        name: {"all_ms": each * count * 1e3, "point_ns": each * 1e9} for name, each in _READ[subject](folder, count)
    }


def _allogger(folder: Path, count: int) -> list[tuple[str, float]]:
    import allogger

    log = allogger.basic_configure(folder / "run").log
    for value in [random.random() for _ in range(count)]:
        log(value, "loss")
    allogger.flush()
    live = _seconds(lambda: len(allogger.open_run(folder / "run")["root/loss"]), count)
    allogger.close()
    finished = _seconds(lambda: len(allogger.open_run(folder / "run")["root/loss"]), count)
    (path,) = folder.glob("run/events/*.h5")
    return [
        ("allogger, live", live / count),
        ("allogger, finished", finished / count),
        ("h5py, the finished file", _seconds(lambda: _h5py(path), count) / count),
    ]


def _h5py(path: Path) -> int:
    """Read the rows and take them apart: a compound dataset is of no use before that."""
    import h5py

    with h5py.File(path) as file:
        rows = file["scalar/root/loss"][()]
    columns = [rows[name].copy() for name in ("step", "time", "value")]
    return len(columns[0])


def _event_accumulator(folder: Path, count: int) -> list[tuple[str, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fewer = max(count // _FEWER, 20)
    writer = peers.open_peer("allogger, tensorboard", folder)
    for _ in range(fewer):
        writer.log(random.random(), "loss")
    writer.close()
    (events,) = folder.rglob("*tfevents*")

    def read() -> int:
        found = EventAccumulator(str(events), size_guidance={"scalars": 0})
        found.Reload()
        return len(found.Scalars("root/loss"))

    return [("TensorBoard, EventAccumulator", _seconds(read, fewer, times=1) / fewer)]


def _seconds(read: Callable[[], int], count: int, times: int = 5) -> float:
    took = []
    for _ in range(times):
        begin = now()
        assert read() == count
        took.append(now() - begin)
    return statistics.median(took)


_READ: dict[str, Callable[[Path, int], list[tuple[str, float]]]] = {
    "allogger": _allogger,
    "TensorBoard": _event_accumulator,
}

WORK = Work(
    "reading",
    "1,000,000 points of one key, from the path to numpy arrays; TensorBoard's from 50,000",
    measure,
    tuple(_READ),
    (
        Goal(
            "a finished run, times h5py",
            lambda r: r["allogger, finished"]["point_ns"] / r["h5py, the finished file"]["point_ns"],
            1.5,
        ),
        Goal(
            "a live run, times h5py",
            lambda r: r["allogger, live"]["point_ns"] / r["h5py, the finished file"]["point_ns"],
            4,
        ),
        Goal(
            "EventAccumulator, times a finished run",
            lambda r: r["TensorBoard, EventAccumulator"]["point_ns"] / r["allogger, finished"]["point_ns"],
            100,
            at_least=True,
        ),
    ),
)
