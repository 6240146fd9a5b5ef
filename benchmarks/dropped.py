"""Dropped: what does a call cost that keeps nothing, because a filter drops its key or everything is disabled?

Both net, and with a timer around each call as in `benchmarks.calls`; the goals are about the latter.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.meters import alternate, time_calls
from benchmarks.work import Goal, Rows, Size, Work

__all__ = ["WORK"]


def measure(subject: str, folder: Path, size: Size) -> Rows:
    import allogger

    def nothing(value: float, key: str) -> None:
        return None

    plain = logging.getLogger("benchmark")
    plain.setLevel("INFO")
    others: dict[str, Callable[..., object]] = {"no-op": nothing, "logging, disabled level": plain.debug}
    root = allogger.basic_configure(folder / "run", hdf_writer_params={"exclude": "loss"})
    rows = _compared({**others, "allogger, filtered": root.log}, size)
    root = allogger.basic_configure(folder / "run", enable=False)
    return rows | _compared({**others, "allogger, disabled": root.log}, size)


def _compared(calls: Mapping[str, Callable[..., object]], size: Size) -> Rows:
    number, blocks = size.of(20_000), 2 if size.is_quick else 20
    net = alternate({name: ("log(0.5, 'loss')", {"log": call}) for name, call in calls.items()}, number, blocks)
    timed: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(blocks):
        for name, call in calls.items():
            timed[name].append(time_calls(call, [0.5] * number, ["loss"] * number)["p50_ns"])
    medians = {name: statistics.median(each) for name, each in timed.items()}
    return {
        name: {"call_ns": net[name], "with-a-timer_ns": ns, "times-no-op-with-timers_x": ns / medians["no-op"]}
        for name, ns in medians.items()
    }


def _times_no_op(row: Mapping[str, float]) -> float:
    return row["times-no-op-with-timers_x"]


WORK = Work(
    "dropped",
    "A call that keeps nothing",
    measure,
    ("allogger",),
    (
        Goal("a key that a filter drops, times a no-op", lambda r: _times_no_op(r["allogger, filtered"]), 1.7),
        Goal("enable=False, times a no-op", lambda r: _times_no_op(r["allogger, disabled"]), 1.7),
    ),
)
