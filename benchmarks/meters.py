"""Meters: how are time, processor time, memory and sizes taken, within the process that does the work?"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import resource
import signal
import statistics
import time
import timeit
from array import array
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import perf_counter_ns as now
from typing import Any

__all__ = ["adopt_orphans", "alternate", "cpu_seconds", "end_descendants", "folder_bytes", "peak_bytes", "time_calls"]

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36


def time_calls(call: Callable[[Any, str], object], values: Iterable[Any], keys: Iterable[str]) -> dict[str, float]:
    """Call with each value and key, and return how long calls took, a timer around each.

    A pause is the time from the begin of a call to the begin of the next: it also has what stops the loop between them.
    """
    calls = list(zip(values, keys, strict=True))
    # Arrays, because new memory for what a timer says would be counted as the call's.
    begins, ends = (array("q", bytes(8 * len(calls))) for _ in range(2))
    for i, (value, key) in enumerate(calls):
        begin = now()
        call(value, key)
        end = now()
        begins[i] = begin
        ends[i] = end
    took = sorted(end - begin for begin, end in zip(begins, ends, strict=True))
    pauses = [after - begin for begin, after in itertools.pairwise(begins)]
    return {
        "p50_ns": took[len(took) // 2],
        "p99_ns": took[len(took) * 99 // 100],
        "worst_ms": took[-1] / 1e6,
        "mean_ns": statistics.fmean(took),
        "longest-pause_ms": max(pauses) / 1e6,
    }


def alternate(statements: Mapping[str, tuple[str, Mapping[str, Any]]], number: int, blocks: int) -> dict[str, float]:
    """Return how many ns each statement takes, the loop around it not counted.

    Each comes with the names that it uses. They take turns, *number* times each, and the median of the turns counts.
    """
    timers = {name: timeit.Timer(code, globals=dict(names)) for name, (code, names) in statements.items()}
    empty = timeit.Timer("pass")
    turns: dict[str, list[float]] = {name: [] for name in timers}
    for timer in timers.values():
        timer.timeit(100)
    for _ in range(blocks):
        for name, timer in timers.items():
            turns[name].append((timer.timeit(number) - empty.timeit(number)) / number * 1e9)
    return {name: statistics.median(each) for name, each in turns.items()}


# ------------------------------------------------------------------------------------------------------- processor time


def adopt_orphans() -> None:
    """Have processes whose parent ends become children of this one, so that `cpu_seconds` finds them; Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def cpu_seconds() -> float:
    """Return the processor time, of user and system, that this process and all below it have taken so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    below = sum(_ticks_of(child) for child in _children_of(os.getpid())) / os.sysconf("SC_CLK_TCK")
    return sum(times.ru_utime + times.ru_stime for times in used) + below


def end_descendants() -> None:
    """Kill what is left below this process: some libraries leave a service behind."""
    while children := [child for child in _children_of(os.getpid()) if not _is_over(child)]:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


def _is_over(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return (_PROC / f"{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX"
    return True


def _ticks_of(pid: int) -> int:
    """Return the time of a process and of all below it that still run."""
    try:
        # The name, in brackets, may hold anything.
        fields = (_PROC / f"{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15])) + sum(_ticks_of(child) for child in _children_of(pid))


def _children_of(pid: int) -> list[int]:
    found: list[int] = []
    for children in (_PROC / f"{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, children.read_text().split())
    return found


# ------------------------------------------------------------------------------------------------------ memory and disk


def peak_bytes(anew: bool = False) -> int:
    """Return the largest resident memory of this process so far, or since it was asked *anew*."""
    if anew:
        with contextlib.suppress(OSError):
            (_PROC / "self/clear_refs").write_text("5")
    status = _PROC / "self/status"
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def folder_bytes(folder: Path, pattern: str = "*") -> int:
    """Return the size of all files below *folder* that match."""
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file() and not path.is_symlink())
