"""Crowd: do eight processes that log at once get in each other's way?

What the cores allow is what eight processes take that have nothing to do with each other: eight times the processor
time of one that runs alone, shared by the cores, and no less than that one takes. Starting the interpreters counts.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from pathlib import Path
from time import perf_counter as now

from benchmarks import peers
from benchmarks.meters import cpu_seconds
from benchmarks.work import Goal, Rows, Size, Work

__all__ = ["WORK"]

PROCESSES = 8


def measure(subject: str, folder: Path, size: Size) -> Rows:
    count = size.of(100_000, peers.PEERS[subject].slowness)
    alone, alone_cpu = _together(1, subject, folder / "alone", count)
    wall, cpu = _together(PROCESSES, subject, folder / "crowd", count)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = max(alone, PROCESSES * alone_cpu / cores)
    row = {
        "wall_s": wall,
        "times-allowed_x": wall / allowed,
        "processor-of-a-number_us": cpu / (PROCESSES * count) * 1e6,
    }
    if subject == "allogger":
        row["lost_values"] = PROCESSES * count - _stored(folder / "crowd" / "run")
    return {subject: row}


def _together(processes: int, subject: str, folder: Path, count: int) -> tuple[float, float]:
    """Return the time and processor time that so many processes take until the last has ended."""
    context = multiprocessing.get_context("spawn")
    crowd = [context.Process(target=_log, args=(subject, folder, index, count)) for index in range(processes)]
    folder.mkdir()
    cpu, begin = cpu_seconds(), now()
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    if any(process.exitcode for process in crowd):
        raise RuntimeError(f"exit codes {[process.exitcode for process in crowd]}")
    return now() - begin, cpu_seconds() - cpu


def _log(subject: str, folder: Path, index: int, count: int) -> None:
    own = folder
    if not subject.startswith("allogger"):
        # All processes of allogger log to one folder.
        own = folder / str(index)
        own.mkdir()
    peer = peers.open_peer(subject, own)
    log = peer.log
    for i in range(count):
        log(math.sin(i), "loss")
    peer.close()


def _stored(logdir: Path) -> int:
    import allogger

    return len(allogger.open_run(logdir)["root/loss"])


WORK = Work(
    "crowd",
    "8 processes, 100,000 numbers each",
    measure,
    ("allogger", "CSV by hand", "tensorboardX", "W&B, offline"),
    (
        Goal("wall time, times what the cores allow", lambda r: r["allogger"]["times-allowed_x"], 1.2),
        Goal("values lost", lambda r: r["allogger"]["lost_values"], 0),
    ),
)
