"""Curve: what is drawn of a series, as exact numbers or as a picture of very many?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.errors import ConfigError
from allogger.extras import load

__all__ = ["Curve", "Points", "aligned", "blocks_of", "check_points", "numbers_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """Points to draw: ``x`` and ``y``, float64; NaN in ``y`` is a gap.

    ``count`` is the number of values behind the points. Where there are fewer points than values ``is_reduced`` is
    true, and ``low`` and ``high`` are the smallest and the largest of the values that each point stands for: what
    happened once in a million values is still there. ``x_name`` is ``"step"``, ``"time"`` (Unix seconds),
    ``"relative"`` (seconds) or a key.
    """

    key: str
    x_name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    count: int = 0
    is_reduced: bool = False

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        of = f" of {self.count} values" if self.is_reduced else ""
        return f"<Curve {self.key!r} over {self.x_name}: {len(self)} points{of}>"

    def binned(self, n: int) -> Curve:
        """Return at most *n* points, each with the mean of as many neighbours, and their smallest and largest value."""
        check_points(n)
        if len(self) <= n:
            return self
        starts = np.arange(n) * len(self) // n
        low, high = (self.y if edge is None else edge for edge in (self.low, self.high))
        points = Points(self.x, self.y, low, high, np.isfinite(self.y).astype(np.float64)).joined(starts)
        return replace(self, x=points.x, y=points.mean, low=points.low, high=points.high, is_reduced=True)

    def resample(self, n: int) -> Curve:
        """Return about *n* of the points, chosen by min-max-LTTB so that the picture stays the same; for pictures only.

        ``low`` and ``high`` tell what lies between each point and the next. Gaps stay. Needs the extra ``plot``.
        """
        check_points(n)
        if len(self) <= n:
            return self
        shown = np.flatnonzero(np.isfinite(self.y) & np.isfinite(self.x))
        if len(shown) > n:
            chosen = load("allogger.downsampling", "plot").chosen_rows(self.x[shown], self.y[shown], n)
            shown = shown[np.unique(chosen)]
        gaps = np.flatnonzero(~np.isfinite(self.y))
        # Of the gaps between two points that are shown, the first.
        _, first = np.unique(np.searchsorted(shown, gaps), return_index=True)
        rows = np.sort(np.concatenate([shown, gaps[first]]))
        low = np.fmin.reduceat(self.y if self.low is None else self.low, rows)
        high = np.fmax.reduceat(self.y if self.high is None else self.high, rows)
        return replace(self, x=self.x[rows], y=self.y[rows], low=low, high=high, is_reduced=True)

    def smooth(self, ema: float | None = None, window: int | None = None) -> Curve:
        """Return the curve smoothed over its points, without ``low`` and ``high``; gaps stay and count for nothing.

        *ema*: exponential moving average that keeps this share of the past (0 to 1), corrected for its beginning, so
        that the first points are not drawn to 0. *window*: mean of each point and those before it, so many in all.
        """
        if (ema is None) == (window is None):
            raise ConfigError("smooth takes either ema=0.9 (0 to 1) or window=10 (a number of points)")
        if ema is not None and not 0 <= ema < 1:
            raise ConfigError(f"ema must be at least 0 and less than 1, not {ema!r}")
        if window is not None and window < 1:
            raise ConfigError(f"window must be a number of points above 0, not {window!r}")
        from allogger.frames import exponential_mean, window_mean

        is_gap = ~np.isfinite(self.y)
        y = np.where(is_gap, np.nan, self.y)
        smooth = exponential_mean(y, ema) if ema is not None else window_mean(y, int(window or 1))
        return replace(self, y=np.where(is_gap, self.y, smooth), low=None, high=None)


def check_points(n: int) -> None:
    """Raise `ConfigError` unless *n* points are enough for a curve."""
    if n < 3:
        raise ConfigError(f"a curve needs at least 3 points, not {n!r}")


# -------------------------------------------------------------------------------------------------- many values in one


@dataclass(frozen=True)
class Points:
    """Points that stand for several values each, *count* of which are numbers."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats
    count: Floats

    @classmethod
    def of(cls, parts: Sequence[Points]) -> Points:
        """Return the points of all *parts*, one behind the other."""
        names = [one.name for one in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def take(self, rows: NDArray[np.intp]) -> Points:
        """Return some of the points."""
        return Points(self.x[rows], self.mean[rows], self.low[rows], self.high[rows], self.count[rows])

    def joined(self, starts: NDArray[Any]) -> Points:
        """Return one point for all from each of the *starts* to the next, at the place of the first."""
        with np.errstate(all="ignore"):
            count = np.add.reduceat(self.count, starts)
            share = self.count / np.repeat(count, np.diff(starts, append=len(self.x)))
            # A point of no numbers has the mean NaN and must not make one of the others'.
            mean = np.add.reduceat(np.where(self.count > 0, self.mean * share, 0.0), starts)
        return Points(
            self.x[starts],
            np.where(count > 0, mean, np.nan),
            np.fmin.reduceat(self.low, starts),
            np.fmax.reduceat(self.high, starts),
            count,
        )


def blocks_of(x: Floats, y: Floats, size: int) -> Points:
    """Return a point for each *size* values."""
    points = Points(x, y, y, y, (~np.isnan(y)).astype(np.float64))
    return points.joined(np.arange(0, len(x), size)) if len(x) else points


def numbers_of(key: str, value: NDArray[Any]) -> Floats:
    """Return values as float64; raises `ConfigError` if they are no real numbers."""
    if value.ndim == 1:
        if value.dtype.kind in "biuf":
            return value.astype(np.float64)
        if value.dtype == object and all(np.ndim(v) == 0 and np.asarray(v).dtype.kind in "biuf" for v in value):
            return np.array([float(v) for v in value], np.float64)
    raise ConfigError(f"the values of {key!r} are no real numbers, so there is no curve of them")


def aligned(
    steps: NDArray[np.int64],
    processes: NDArray[Any],
    other_steps: NDArray[np.int64],
    other_processes: NDArray[Any],
    other: Floats,
) -> Floats:
    """Return for each value what *other* has at the same step, NaN where it has nothing.

    Of several at one step the last counts; those of the same process, if that has any at all.
    """
    out = np.full(len(steps), np.nan)
    known = set(other_processes.tolist())
    for process in set(processes.tolist()):
        mine = processes == process
        theirs = np.flatnonzero(other_processes == process) if process in known else np.arange(len(other))
        order = theirs[np.argsort(other_steps[theirs], kind="stable")]
        if not len(order):
            continue
        at = np.searchsorted(other_steps[order], steps[mine], side="right") - 1
        found = (at >= 0) & (other_steps[order][at] == steps[mine])
        out[mine] = np.where(found, other[order][at], np.nan)
    return out
