"""Arrays: what do 1,000 arrays of float32 (64, 64) cost, beside what must be done with them in any case?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter as now
from typing import Any

import numpy as np

from benchmarks.meters import time_calls
from benchmarks.work import Goal, Rows, Size, Work

__all__ = ["WORK"]


def measure(subject: str, folder: Path, size: Size) -> Rows:
    source = np.random.default_rng(0).random((64, 64), np.float32)
    log, flush, close = _SUBJECTS[subject](folder)
    log(source, "weights")
    count = size.of(1_000)
    # Each a new array, as a program has them.
    arrays = [source + i for i in range(count)]
    megabytes = count * source.nbytes / 1e6
    begin = now()
    took = time_calls(log, arrays, ["weights"] * count)
    row = {"call_us": took["p50_ns"] / 1e3, "longest-pause_ms": took["longest-pause_ms"]}
    if flush:
        flush()
        row["to-disk_MB/s"] = megabytes / (now() - begin)
    if close:
        close()
        row["closed_MB/s"] = megabytes / (now() - begin)
    return {subject: row}


#: How an array is logged, how all are brought to disk, and how the files are closed, where there is something to do.
Subject = tuple[Callable[[Any, str], object], Callable[[], object] | None, Callable[[], object] | None]


def _copy(folder: Path) -> Subject:
    kept = []
    return lambda array, key: kept.append(array.copy()), None, None


def _raw(folder: Path) -> Subject:
    file = open(folder / "values.bin", "wb", buffering=0)  # noqa: SIM115
    return lambda array, key: file.write(array.data), lambda: None, file.close


def _savez(folder: Path) -> Subject:
    kept: list[Any] = []
    return lambda array, key: kept.append(array.copy()), None, lambda: np.savez(folder / "values.npz", *kept)


def _h5py(folder: Path) -> Subject:
    import h5py

    file = h5py.File(folder / "values.h5", "w")
    dataset = file.create_dataset("weights", (0, 64, 64), "f4", maxshape=(None, 64, 64), chunks=(16, 64, 64))

    def append(array: Any, key: str) -> None:
        dataset.resize(len(dataset) + 1, axis=0)
        dataset[-1] = array

    return append, file.flush, file.close


def _tensorboardx(folder: Path) -> Subject:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder))
    return lambda array, key: writer.add_histogram(key, array), None, writer.close


def _allogger(folder: Path) -> Subject:
    import allogger

    return allogger.basic_configure(folder / "run").log, allogger.flush, allogger.close


_SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "ndarray.copy": _copy,
    "written to a file": _raw,
    "savez at the end": _savez,
    "h5py, one by one": _h5py,
    "allogger": _allogger,
    "tensorboardX": _tensorboardx,
}

WORK = Work(
    "arrays",
    "1,000 arrays of float32 (64, 64), 16 MB; tensorboardX keeps histograms of them",
    measure,
    tuple(_SUBJECTS),
    (
        Goal("call, times ndarray.copy", lambda r: r["allogger"]["call_us"] / r["ndarray.copy"]["call_us"], 3),
        Goal(
            "throughput to disk, times that of a plain file",
            lambda r: r["allogger"]["to-disk_MB/s"] / r["written to a file"]["to-disk_MB/s"],
            0.5,
            at_least=True,
        ),
    ),
)
