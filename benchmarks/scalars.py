"""Scalars: how much processor time and how much disk does a number take until it lies in a finished file?

100,000 numbers, ten keys a step. Processor time is that of all processes and threads, from the first call to the end of
`close`; imports and the opening of files are not counted.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from time import perf_counter as now

from benchmarks import peers
from benchmarks.meters import cpu_seconds, folder_bytes
from benchmarks.work import Goal, Rows, Size, Work

__all__ = ["WORK"]

KEYS = [f"train/loss_{i}" for i in range(10)]


def measure(subject: str, folder: Path, size: Size) -> Rows:
    peer = peers.open_peer(subject, folder)
    steps = size.of(10_000, peer.slowness)
    rows = [{key: math.exp(-3 * step / steps) + random.gauss(0, 0.1) for key in KEYS} for step in range(steps)]
    before = folder_bytes(folder)
    cpu, begin = cpu_seconds(), now()
    for row in rows:
        peer.log_row(row)
    logged = now()
    peer.close()
    wall, cpu = now() - begin, cpu_seconds() - cpu
    count = steps * len(KEYS)
    return {
        subject: {
            "processor_us": cpu / count * 1e6,
            "wall_us": wall / count * 1e6,
            "call_us": (logged - begin) / count * 1e6,
            "disk_bytes": (folder_bytes(folder) - before) / count,
        }
    }


WORK = Work(
    "scalars",
    "100,000 numbers on ten keys until the files are closed; per number",
    measure,
    ("allogger", "allogger, tensorboard", "allogger, all outputs", *peers.OUTSIDE),
    (
        Goal(
            "processor time to HDF5, times h5py's in batches",
            lambda r: r["allogger"]["processor_us"] / r["h5py, batched"]["processor_us"],
            1,
        ),
        Goal(
            "tensorboardX's, times that to HDF5",
            lambda r: r["tensorboardX"]["processor_us"] / r["allogger"]["processor_us"],
            60,
            at_least=True,
        ),
        Goal(
            "tensorboardX's, times that to TensorBoard",
            lambda r: r["tensorboardX"]["processor_us"] / r["allogger, tensorboard"]["processor_us"],
            30,
            at_least=True,
        ),
        Goal(
            "tensorboardX's, times that to all four outputs",
            lambda r: r["tensorboardX"]["processor_us"] / r["allogger, all outputs"]["processor_us"],
            8,
            at_least=True,
        ),
        Goal("bytes of a number in the finished HDF5 file", lambda r: r["allogger"]["disk_bytes"], 10),
    ),
)
