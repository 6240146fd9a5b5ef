"""Memory: how much does a process grow while numbers and arrays pass through?"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter as now

import numpy as np

from benchmarks.meters import peak_bytes
from benchmarks.work import Goal, Rows, Size, Work

__all__ = ["ARRAYS", "WORK"]

_ARRAY_BYTES = 2**20


def measure(subject: str, folder: Path, size: Size) -> Rows:
    import allogger

    log = allogger.basic_configure(folder / "run").log
    keys = [f"loss_{i}" for i in range(10)]
    for key in keys:
        log(0.5, key)
    allogger.flush()
    steps = size.of(1_000_000)
    before, begin = peak_bytes(anew=True), now()
    for step in range(steps):
        value = float(step)
        for key in keys:
            log(value, key)
    return {"10 million numbers": _grown(before, begin)}


def measure_arrays(subject: str, folder: Path, size: Size) -> Rows:
    import allogger

    log = allogger.basic_configure(folder / "run").log
    array = np.random.default_rng(0).random(_ARRAY_BYTES // 4, np.float32).reshape(512, 512)
    log(array, "weights")
    allogger.flush()
    before, begin = peak_bytes(anew=True), now()
    for _ in range(size.of(10_000)):
        log(array, "weights")
    return {"10 GB of arrays": _grown(before, begin)}


def _grown(before: int, begin: float) -> dict[str, float]:
    """Return how far the memory has grown at most since it was *before*, and again until everything is closed."""
    import allogger

    logged = now() - begin
    passed = peak_bytes()
    allogger.close()
    return {
        "growth_MB": (passed - before) / 1e6,
        "growth-with-close_MB": (peak_bytes() - before) / 1e6,
        "logging_s": logged,
        "all_s": now() - begin,
    }


WORK = Work(
    "memory",
    "Resident memory while 10 million numbers pass",
    measure,
    ("allogger",),
    (Goal("growth, MB", lambda r: r["10 million numbers"]["growth_MB"], 64),),
)
ARRAYS = Work(
    "memory-of-arrays",
    "Resident memory while 10 GB of arrays of 1 MB pass",
    measure_arrays,
    ("allogger",),
    (Goal("growth, MB", lambda r: r["10 GB of arrays"]["growth_MB"], 200),),
)
