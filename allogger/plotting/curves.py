"""Curves: how does a line show all that it stands for?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from numpy.typing import NDArray

from allogger.curves import Curve
from allogger.plotting.figures import Options, Smooth, finish, label_x, last_part, plain

if TYPE_CHECKING:
    from allogger.store import Run

__all__ = ["curve_of", "distinct", "draw_curve", "draw_curves", "set_colours", "smoothed"]


def draw_curves(ax: Axes, run: Run, keys: Sequence[str], options: Options) -> None:
    """Draw several keys of a run on the same axes."""
    keys = sorted(keys, key=_natural)
    labels = distinct(keys) if len(keys) > 1 else [None]
    set_colours(ax, len(keys))
    for key, label in zip(keys, labels, strict=True):
        draw_curve(ax, curve_of(run, key, options), options, label)
    names = {last_part(key) for key in keys}
    ylabel = names.pop() if len(names) == 1 else "value"
    finish(ax, keys[0] if len(keys) == 1 else ylabel, ylabel, options)


def curve_of(run: Run, key: str, options: Options) -> Curve:
    """Return what is drawn of a key."""
    return run.curve(key, x=options.x, points=options.points)


def draw_curve(ax: Axes, curve: Curve, options: Options, label: str | None) -> None:
    """Draw a curve; one that is smoothed has itself faintly behind it."""
    x = label_x(ax, options.x, curve.x)
    style: dict[str, Any] = {"linewidth": 1.2, "solid_joinstyle": "round"}
    if label is not None:
        # matplotlib leaves labels out that begin with an underscore.
        style["label"] = f" {plain(label)}" if label.startswith("_") else plain(label)
    # A curve of one value would be no line at all.
    if np.isfinite(curve.y).sum() <= 1:
        style |= {"marker": "o", "markersize": 4}
    if options.smooth is None:
        ax.plot(*_outline(x, curve), **style)
        return
    (line,) = ax.plot(x, smoothed(curve, options.smooth).y, **style, zorder=2.5)
    ax.plot(*_outline(x, curve), color=line.get_color(), alpha=0.25, linewidth=0.8, zorder=2.0)


def smoothed(curve: Curve, smooth: Smooth) -> Curve:
    """Return a curve smoothed as if over all of its values, as far as its points tell them."""
    each = curve.count / max(len(curve), 1) if curve.is_reduced else 1.0
    if isinstance(smooth, float) and smooth < 1:
        return curve.smooth(ema=smooth**each)
    return curve.smooth(window=max(round(smooth / each), 1))


def _outline(x: NDArray[Any], curve: Curve) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return a line that covers all values that the points stand for."""
    if curve.low is None or curve.high is None or not curve.is_reduced:
        return x, curve.y
    # From the lower end of a point to its upper one, and back at the next, so that it is as dense as the values.
    ends = np.stack([curve.low, curve.high], axis=1)
    ends[1::2] = ends[1::2, ::-1]
    return np.repeat(x, 2), ends.ravel()


def set_colours(ax: Axes, curves: int) -> None:
    """See to it that no two of many curves have the same colour."""
    if curves > 10 and not ax.lines:
        ax.set_prop_cycle(color=colormaps["turbo"](np.linspace(0.05, 0.95, curves)))


def _natural(text: str) -> list[tuple[int, str]]:
    """Return what sorts ``block2`` before ``block10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def distinct(keys: Sequence[str]) -> list[str]:
    """Return the keys without the parts at their beginning and end that all of them share."""
    parts = [key.split("/") for key in keys]
    shortest = min(map(len, parts)) - 1
    front = next((n for n in range(shortest) if len({its[n] for its in parts}) > 1), shortest)
    back = next((n for n in range(shortest - front) if len({its[-1 - n] for its in parts}) > 1), shortest - front)
    return ["/".join(its[front : len(its) - back]) for its in parts]
