"""Killed runs: what does kill -9 leave on the disk? Made without a process, so that a test can have many of them."""

from __future__ import annotations

import itertools
import os
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import allogger
from allogger.record import Series, file_name
from allogger.registry import writers
from allogger.rundir import EVENTS, Shard, host_name
from allogger.testing.rows import Row, batch_of

# Linux gives no process a number above 4194304.
NOBODY = 4194305
_counter = itertools.count()

PLAIN = [
    *(Row("main", "loss", step, 1 / step) for step in range(1, 40)),
    *(Row("main", "count", step, step) for step in range(1, 40)),
    Row("main", "note", 1, "halved", "text"),
    Row("agent.critic", "weights", 1, np.arange(300.0), "array"),
]


def a_shard(
    logdir: Path, process: str = "MainProcess", *, pid: int = NOBODY, host: str | None = None, attempt: str = ""
) -> Shard:
    """Return a shard of a process that does not exist, unless *pid* or *host* say otherwise."""
    (logdir / EVENTS).mkdir(parents=True, exist_ok=True)
    host = host or host_name()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(1.6e9)) + f".{next(_counter):06d}"
    name = f"{stamp}-{file_name(host, 60)}-{pid}-0"
    return Shard(logdir, name, process, attempt or name, 1.6e9, host, pid)


def write(
    shard: Shard,
    rows: Sequence[Row] = PLAIN,
    outputs: Iterable[str] = ("hdf",),
    *,
    batches: int = 2,
    is_closed: bool = False,
) -> Shard:
    """Write *rows* into the files of *shard* as its process would have, and end without closing them."""
    for output in outputs:
        writer = writers[output](shard)
        names: list[Series] = []
        size = -(-len(rows) // batches) or 1
        for start in range(0, len(rows), size):
            writer.write(batch_of(rows[start : start + size], names))
        writer.close() if is_closed else writer.abandon()
    return shard


def everything(logdir: Path) -> dict[str, Any]:
    """Return every value under *logdir*, by full key, in a form that equal values share to the last bit."""
    run = allogger.open_run(logdir, attempts="all")
    return {key: _exact(run[key]) for key in run}


def _exact(series: allogger.Series) -> tuple[Any, ...]:
    value = series.value
    return (
        series.kind,
        series.step.tolist(),
        series.time.tobytes(),
        series.process.tolist(),
        [_bits(item) for item in value] if value.dtype == object else _bits(value),
        series.meta,
    )


def _bits(item: Any) -> Any:
    if isinstance(item, str):
        return item
    array = np.asarray(item)
    if array.dtype.names or array.dtype.itemsize > 16 or array.dtype.char in "gG":
        return array.shape, array.dtype.newbyteorder("=").str, repr(array.tolist())
    return array.shape, array.dtype.str, array.tobytes()


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of all files under a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def in_a_child(step: Callable[[], object]) -> int:
    """Do *step* in a forked child and return its exit status: 0, 1 if it raised, or minus the signal that ended it."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            step()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
