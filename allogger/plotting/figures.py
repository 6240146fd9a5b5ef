"""Figures: on which axes is something drawn, and what is written around it?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

__all__ = ["Options", "finish", "label_x", "last_part", "new_axes", "plain"]

Smooth = float | int

_MAX_COLUMNS, _MAX_LABELS = 3, 12
_TIME_UNITS = ((86400.0 * 2, 86400.0, "d"), (3600.0 * 2, 3600.0, "h"), (120.0, 60.0, "min"), (0.5, 1.0, "s"))


@dataclass(frozen=True)
class Options:
    """How curves are drawn.

    *x*: as for `Run.curve`. *smooth*: below 1 the share of the past that an exponential mean keeps, else the number of
    values of a window mean; the curve itself stays behind it, faintly. *points*: each curve is drawn with about so
    many; where there are more values, all that lies between the smallest and the largest of neighbours is covered, so
    that nothing that happened once is lost, and a smoothed curve is one of means. *logx*, *logy*: logarithmic axes.
    """

    x: str = "step"
    smooth: Smooth | None = None
    points: int = 2000
    logx: bool = False
    logy: bool = False


def new_axes(count: int) -> NDArray[Any]:
    """Return *count* axes in a new figure, which is pyplot's where pyplot is in use."""
    columns = min(count, _MAX_COLUMNS) if count != 4 else 2
    rows = -(-count // columns)
    size = (6.4, 3.8) if count == 1 else (4.6 * columns, 2.9 * rows)
    pyplot = sys.modules.get("matplotlib.pyplot")
    figure: Figure = (pyplot.figure if pyplot is not None else Figure)(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for unused in axes.flat[count:]:
        unused.remove()
    found: NDArray[Any] = axes.ravel()[:count]
    return found


def finish(ax: Axes, title: str, ylabel: str, options: Options) -> None:
    """Write what stands around the curves that have been drawn."""
    ax.set_title(plain(title), loc="left", fontsize="medium")
    ax.set_ylabel(plain(ylabel, 32))
    ax.grid(True, alpha=0.25, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.01)
    if options.logx:
        ax.set_xscale("log")
    if options.logy:
        ax.set_yscale("log")
    _legend(ax)


def _legend(ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    if not labels:
        return
    if len(labels) > _MAX_LABELS:
        kept = _MAX_LABELS - 1
        handles, labels = [*handles[:kept], Line2D([], [], alpha=0)], [*labels[:kept], f"and {len(labels) - kept} more"]
    # Above or beside the axes, where it hides nothing.
    room = 60 - len(ax.get_title(loc="left"))
    is_short = sum(len(label) + 6 for label in labels) < room
    if is_short:
        where: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.01), "ncols": len(labels)}
    else:
        where = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
    legend = ax.legend(handles, labels, **where, borderaxespad=0, frameon=False, fontsize="small", handlelength=1.4)
    for handle in legend.legend_handles:
        if isinstance(handle, Line2D):
            handle.set_linewidth(1.8)


def label_x(ax: Axes, x: str, values: NDArray[np.float64]) -> NDArray[Any]:
    """Name the x-axis and return the places on it in its unit."""
    if x == "time":
        ax.set_xlabel("time (UTC)")
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        return np.where(np.isfinite(values), values * 1e6, 0).astype("M8[us]")
    if x == "relative":
        # What is in the axes already has chosen the unit.
        scale, unit = getattr(ax, "_allogger_unit", None) or _time_unit(values)
        ax._allogger_unit = scale, unit  # type: ignore[attr-defined]
        ax.set_xlabel(f"time since the start ({unit})")
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6))
        return values / scale
    ax.set_xlabel(plain(x))
    if x == "step":
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], integer=True))
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    return values


def _time_unit(seconds: NDArray[np.float64]) -> tuple[float, str]:
    longest = np.nanmax(seconds, initial=0.0)
    return next(((scale, unit) for least, scale, unit in _TIME_UNITS if longest >= least), (1e-3, "ms"))


def last_part(key: str) -> str:
    """Return what a key says that its groups do not.

    >>> last_part("main/train/loss")
    'loss'
    """
    return key.rpartition("/")[2] or key


def plain(text: str, most: int = 60) -> str:
    """Return a text as it is: matplotlib takes what stands between dollars for mathematics."""
    shown = text if len(text) <= most else f"{text[: most // 2 - 2]}…{text[-(most // 2 - 2) :]}"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown).replace("$", r"\$")
