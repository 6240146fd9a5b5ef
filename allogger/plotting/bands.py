"""Bands: how are groups of runs drawn, each as a line and its spread?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.axes import Axes

from allogger.aggregation import aggregated
from allogger.comparing import By, grouped
from allogger.curves import Curve
from allogger.errors import UnknownName
from allogger.plotting.curves import smoothed
from allogger.plotting.figures import Options, Smooth, label_x, plain

if TYPE_CHECKING:
    from allogger.store import Run

__all__ = ["Band", "draw_bands"]

Band = Literal["std", "iqr", "minmax", "ci95"]

_BANDS: Mapping[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any], str]] = {
    "std": ("mean", lambda t: t["mean"] - t["std"], lambda t: t["mean"] + t["std"], "mean ± standard deviation"),
    "iqr": ("median", lambda t: t["q25"], lambda t: t["q75"], "median and quartiles"),
    "minmax": ("mean", lambda t: t["min"], lambda t: t["max"], "mean, smallest and largest"),
    "ci95": ("mean", lambda t: t["low95"], lambda t: t["high95"], "mean and its 95 % interval"),
}


def draw_bands(ax: Axes, runs: Sequence[Run], key: str, by: By, band: Band | None, grid: int, options: Options) -> str:
    """Draw each group of runs and return what the picture shows."""
    if band is not None and band not in _BANDS:
        raise UnknownName.of("band", band, _BANDS)
    groups = grouped(runs, by)
    tables = aggregated(groups, key, options.x, None if options.x == "step" else grid)
    for label, table in tables.items():
        center, low, high, _ = _BANDS[band or "std"]
        place = table.index.to_numpy(np.float64)
        edges = [np.asarray(edge(table), np.float64) for edge in (low, high)]
        curve = Curve(key, options.x, place, table[center].to_numpy(np.float64), edges[0], edges[1], len(place))
        curve = curve.binned(options.points)
        if options.smooth is not None:
            curve = _smoothed_band(curve, options.smooth)
        x = label_x(ax, options.x, curve.x)
        name = f"{label} (n={len(groups[label])})"
        (line,) = ax.plot(x, curve.y, label=plain(name), linewidth=1.5)
        if band is not None and curve.low is not None and curve.high is not None:
            ax.fill_between(x, curve.low, curve.high, color=line.get_color(), alpha=0.2, linewidth=0)
    return f"{key}: {_BANDS[band][3]}" if band is not None else f"{key}: mean"


def _smoothed_band(curve: Curve, smooth: Smooth) -> Curve:
    low, high = (
        smoothed(replace(curve, y=edge), smooth).y if edge is not None else None for edge in (curve.low, curve.high)
    )
    return replace(smoothed(curve, smooth), low=low, high=high)
