"""Closing: how long does a program wait at its end, after 1,000,000 numbers?"""

from __future__ import annotations

import random
from pathlib import Path
from time import perf_counter as now
from typing import Any

from benchmarks.work import Goal, Rows, Size, Work

__all__ = ["WORK"]


def measure(subject: str, folder: Path, size: Size) -> Rows:
    import allogger

    log = allogger.basic_configure(folder / "run").log
    for value in [random.random() for _ in range(size.of(1_000_000))]:
        log(value, "loss")
    begin = now()
    allogger.close()
    closed = now() - begin
    return {
        "allogger.close": {"wall_s": closed},
        "h5py, the same rows, gzip": {"wall_s": _write(folder, compression="gzip", compression_opts=1, shuffle=True)},
        "h5py, the same rows, as they are": {"wall_s": _write(folder)},
    }


def _write(folder: Path, **how: Any) -> float:
    """Return how long h5py takes to write the rows of the finished file to another."""
    import h5py

    (finished,) = folder.glob("run/events/*.h5")
    with h5py.File(finished) as file:
        dataset = file["scalar/root/loss"]
        rows, chunks = dataset[()], dataset.chunks
    begin = now()
    with h5py.File(folder / "raw.h5", "w") as file:
        file.create_dataset("loss", data=rows, chunks=chunks, **how)
    return now() - begin


WORK = Work(
    "closing",
    "The end of a program, after 1,000,000 numbers of one key",
    measure,
    ("allogger",),
    (
        Goal("close, s", lambda r: r["allogger.close"]["wall_s"], 0.5),
        Goal(
            "close, times what h5py takes for the same rows, compressed",
            lambda r: r["allogger.close"]["wall_s"] / r["h5py, the same rows, gzip"]["wall_s"],
            3,
        ),
    ),
)
