"""Calls: how long does a log call take, and how long can it hold up the loop that it is in?"""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks import peers
from benchmarks.meters import time_calls
from benchmarks.work import Goal, Rows, Size, Work

__all__ = ["WORK"]


def measure(subject: str, folder: Path, size: Size) -> Rows:
    peer = peers.open_peer(subject, folder)
    count = size.of(100_000, peer.slowness)
    # The first calls of a key are another question.
    for _ in range(10):
        peer.log(1.0, "loss")
    row = time_calls(peer.log, [random.random() for _ in range(count)], ["loss"] * count)
    peer.close()
    return {subject: row}


WORK = Work(
    "calls",
    "A log call in a tight loop, 100,000 times, with a timer around each",
    measure,
    ("no-op", "allogger", "allogger, all outputs", *(name for name in peers.OUTSIDE if name != "no-op")),
    (
        Goal("median call, times a no-op's", lambda r: r["allogger"]["p50_ns"] / r["no-op"]["p50_ns"], 4),
        Goal("99th percentile, times the median", lambda r: r["allogger"]["p99_ns"] / r["allogger"]["p50_ns"], 3),
        Goal("longest pause in 100,000 calls, ms", lambda r: r["allogger"]["longest-pause_ms"], 1),
    ),
)
