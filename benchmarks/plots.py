"""Plots: how do the subjects of a work compare at a glance?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from benchmarks.catalog import WORKS
from benchmarks.report import medians

__all__ = ["plot"]


def plot(name: str, results: Mapping[str, Any], path: Path) -> None:
    """Draw the first column of a work's medians as bars, the smallest on top, with the range of the rounds."""
    rows = medians(results["rounds"])
    column = next(iter(next(iter(rows.values()))))
    ordered = sorted(rows, key=lambda row: rows[row][column], reverse=True)
    each = {row: [rows[row][column] for rows in results["rounds"] if row in rows] for row in ordered}
    middle = [rows[row][column] for row in ordered]
    spread = [[m - min(each[row]) for row, m in zip(ordered, middle, strict=True)]]
    spread += [[max(each[row]) - m for row, m in zip(ordered, middle, strict=True)]]
    figure, axes = plt.subplots(figsize=(8, 1 + 0.3 * len(ordered)), layout="constrained")
    colors = ["tab:orange" if row.startswith("allogger") else "tab:blue" for row in ordered]
    axes.barh(ordered, middle, xerr=spread, color=colors)
    if min(middle) > 0 and max(middle) > 20 * min(middle):
        axes.set_xscale("log")
    what, _, unit = column.replace("-", " ").rpartition("_")
    axes.set_xlabel(f"{what} [{unit.replace('us', 'µs')}]")
    axes.set_title(WORKS[name].question, fontsize="medium")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
