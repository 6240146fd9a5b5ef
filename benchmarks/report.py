"""Report: what do the rounds say, as tables for people and as JSON for programs?"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.catalog import WORKS
from benchmarks.work import Goal, Rows, Work

__all__ = ["Verdict", "about_here", "as_markdown", "goals_table", "medians", "rows_table", "verdicts", "write_into"]

#: A goal, the median of its value over the rounds, the smallest and the largest.
Verdict = tuple[Goal, float, float, float]


def medians(rounds: Sequence[Rows]) -> Rows:
    """Return the median over the rounds of each number."""
    names = list(dict.fromkeys(name for rows in rounds for name in rows))
    each = {name: [rows[name] for rows in rounds if name in rows] for name in names}
    return {
        name: {column: statistics.median(row[column] for row in rows) for column in rows[0]}
        for name, rows in each.items()
    }


def verdicts(work: Work, rounds: Sequence[Rows]) -> list[Verdict]:
    """Return how the goals of a work stand; those are left out that are about somebody who did not take part."""
    found = []
    for goal in work.goals:
        values = []
        for rows in rounds:
            with contextlib.suppress(KeyError):
                values.append(goal.value(rows))
        if values:
            found.append((goal, statistics.median(values), min(values), max(values)))
    return found


# --------------------------------------------------------------------------------------------------------------- tables


def rows_table(work: Work, results: Mapping[str, Any]) -> str:
    """Return the medians of a work as a table in Markdown, and who could not take part."""
    rows = medians(results["rounds"])
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [["", *(_heading(column) for column in columns)]]
    lines += [
        [name, *(_number(row[column]) if column in row else "" for column in columns)] for name, row in rows.items()
    ]
    notes = [f"{name} failed: {why}" for name, why in results["failed"].items()]
    missing = [name for name in work.subjects if not peers.is_installed(name)]
    if missing:
        notes.append(f"Not installed: {', '.join(missing)}.")
    return "\n\n".join([as_markdown(lines), *notes])


def goals_table(works: Mapping[str, Any]) -> str:
    """Return how the goals of all these works stand, as a table in Markdown."""
    lines = [["work", "goal", "limit", "median", "in the rounds", "met"]]
    for name, results in works.items():
        for goal, value, low, high in verdicts(WORKS[name], results["rounds"]):
            limit = f"{'≥' if goal.at_least else '≤'} {_number(goal.limit)}"
            met = "yes" if goal.is_met(value) else "**no**"
            lines.append([name, goal.what, limit, _number(value), f"{_number(low)} to {_number(high)}", met])
    return as_markdown(lines)


def as_markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; the first line is its head, and all columns but the first hold numbers."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _heading(column: str) -> str:
    name, _, unit = column.replace("-", " ").rpartition("_")
    return f"{name}, {unit.replace('us', 'µs')}"


def _number(value: float) -> str:
    if value == 0 or 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.3g}"


# ------------------------------------------------------------------------------------------------------------ the page


def write_into(page: Path, results: Mapping[str, Any]) -> None:
    """Put the tables between the marks of a page: ``<!-- benchmarks: NAME -->`` and ``<!-- end -->``."""
    parts = {name: rows_table(WORKS[name], work) for name, work in results["works"].items()}
    parts |= {"goals": goals_table(results["works"]), "machine": _described(results["about"])}
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        marked = re.compile(rf"(<!-- benchmarks: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = marked.sub(lambda found, part=part: f"{found[1]}\n{part}\n\n{found[2]}", text)  # type: ignore[misc]
    page.write_text(text, encoding="utf-8")


def _described(about: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    load = " / ".join(f"{load:.1f}" for load in about["load"])
    return (
        f"{about['processor']}, {about['cores']} cores, {about['memory_GB']:.0f} GB; {about['system']};"
        f" Python {about['python']}; files on {about['file system']}. {about['rounds']} rounds on {about['date']},"
        f" load of the machine before and after {load}.\n\n{versions}."
    )


# ---------------------------------------------------------------------------------------------------------- the machine


def about_here(scratch: Path) -> dict[str, Any]:
    """Return what the numbers depend on: the machine, the versions."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_GB": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        "system": platform.platform(),
        "file system": _file_system(scratch),
        "python": platform.python_version(),
        "versions": {"allogger": _own_version(), "numpy": importlib.metadata.version("numpy"), **_versions()},
    }


def _processor() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    with contextlib.suppress(OSError):
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
        return max((len(at), kind) for at, kind in mounts if folder.resolve().is_relative_to(at))[1]
    return "unknown"


def _own_version() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return "of unknown version"


def _versions() -> dict[str, str]:
    found = {}
    for name, peer in peers.PEERS.items():
        if peer.module not in ("", "allogger") and peers.is_installed(name):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[peer.module] = peers.version_of(name)
    return found
