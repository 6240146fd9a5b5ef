"""Many keys: what do 10,000 keys cost that are logged once each?"""

from __future__ import annotations

import gc
import random
from pathlib import Path
from time import perf_counter as now

from benchmarks import peers
from benchmarks.meters import cpu_seconds, time_calls
from benchmarks.work import Goal, Rows, Size, Work

__all__ = ["WORK"]


def measure(subject: str, folder: Path, size: Size) -> Rows:
    peer = peers.open_peer(subject, folder)
    count = size.of(10_000, peer.slowness)
    keys = [f"layer_{i // 100}/weight_{i % 100}" for i in range(count)]
    peer.log(1.0, "first")
    values = [random.random() for _ in keys]
    # Whoever makes objects after an import pays, once, for the garbage collector's look at all that was imported: 10 ms
    # of a pause that has nothing to do with keys.
    gc.collect()
    cpu = cpu_seconds()
    took = time_calls(peer.log, values, keys)
    begin = now()
    peer.close()
    closed = now() - begin
    cpu = cpu_seconds() - cpu
    return {
        subject: {
            "processor_us": cpu / count * 1e6,
            "call_us": took["mean_ns"] / 1e3,
            "longest-pause_ms": took["longest-pause_ms"],
            "close_us": closed / count * 1e6,
        }
    }


WORK = Work(
    "many-keys",
    "10,000 keys, one number each; per key",
    measure,
    ("allogger", "allogger, all outputs", *peers.OUTSIDE),
    (
        Goal("processor time in all, s", lambda r: r["allogger"]["processor_us"] / 100, 3),
        Goal("longest pause, ms", lambda r: r["allogger"]["longest-pause_ms"], 5),
    ),
)
