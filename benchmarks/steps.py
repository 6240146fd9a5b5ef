"""Steps: what does logging add to a step of a training, with what it does in the background?

Stretches with and without a log call in each step take turns within one process. What runs in the background goes on
for a moment after a stretch, so the beginning of each is left out of the count: by then it is what it always is.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter as now

import numpy as np

from benchmarks import peers
from benchmarks.meters import cpu_seconds
from benchmarks.work import Goal, Rows, Size, Work

__all__ = ["WORK"]

STEP_SECONDS = 200e-6


def measure(subject: str, folder: Path, size: Size) -> Rows:
    peer = peers.open_peer(subject, folder)
    step = _step_of(STEP_SECONDS)
    # Its own numbers are small beside what the machine does in between, so they are taken more often.
    stretches = 3 if subject.startswith("allogger") and not size.is_quick else 1
    steps = size.of(5_000)
    wall, cpu = [], []
    for _ in range(stretches):
        without = _stretch(steps, step, lambda value, key: None)
        with_calls = _stretch(steps, step, peer.log)
        wall.append(with_calls[0] - without[0])
        cpu.append(with_calls[1] - without[1])
    peer.close()
    return {
        subject: {
            "added-to-a-step_us": statistics.median(wall) * 1e6,
            "processor-time-added_us": statistics.median(cpu) * 1e6,
        }
    }


def _stretch(steps: int, step: Callable[[], float], log: Callable[[float, str], object]) -> tuple[float, float]:
    """Return the seconds, and those of the processor, that a step takes with its log call."""
    for _ in range(steps // 2):
        log(step(), "loss")
    cpu, begin = cpu_seconds(), now()
    for _ in range(steps):
        log(step(), "loss")
    return (now() - begin) / steps, (cpu_seconds() - cpu) / steps


def _step_of(seconds: float) -> Callable[[], float]:
    """Return something for numpy to do that takes so long."""
    numbers = np.linspace(0.0, 1.0, 20_000)
    out = np.empty_like(numbers)

    def step() -> float:
        np.exp(numbers, out=out)
        return float(out.sum())

    trials = []
    for _ in range(200):
        begin = now()
        step()
        trials.append(now() - begin)
    numbers = np.linspace(0.0, 1.0, int(20_000 * seconds / statistics.median(trials)))
    out = np.empty_like(numbers)
    return step


WORK = Work(
    "steps",
    "A step of 200 µs of numpy with one log call, beside the same without",
    measure,
    (
        "no-op",
        "allogger",
        "allogger, tensorboard",
        "allogger, all outputs",
        *(name for name in peers.OUTSIDE if name != "no-op"),
    ),
    (Goal("time added to a step, µs", lambda r: r["allogger"]["added-to-a-step_us"], 2),),
)
