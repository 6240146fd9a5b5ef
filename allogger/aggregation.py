"""Aggregation: what do several runs have in common at each step, and how far are they apart?"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from allogger.comparing import By, grouped
from allogger.errors import ConfigError, NoSuchKey

if TYPE_CHECKING:
    import pandas as pd

    from allogger.store import Run

__all__ = ["aggregate", "aggregated", "t975"]

Grid = int | Sequence[float] | NDArray[Any]
Floats = NDArray[np.float64]

# So many steps are looked at together, of all runs.
_BLOCK_STEPS = 2**16


def aggregate(
    runs: Sequence[Run],
    key: str,
    by: By | None = None,
    x: str = "step",
    grid: Grid | None = None,
) -> pd.DataFrame | dict[Any, pd.DataFrame]:
    """Return the statistics of *key* over runs at each step.

    A row for each step at which any run has a value; of several values of a run at a step the last counts. Nothing is
    made up: ``count`` says how many runs have a number there, and the others count for nothing; nor does NaN. The
    columns are ``mean``, ``std`` (n - 1 in the denominator), ``min``, ``q25``, ``median``, ``q75``, ``max``, ``iqr``
    (q75 - q25), ``low95`` and ``high95``: the 95 % confidence interval of the mean, mean -+ t(0.975, n - 1) std /
    sqrt(n), with Student's t, for values that are about normally distributed over the runs; NaN for a single run.

    *by*: the parameter that makes the runs of a group differ, such as ``"seed"``, or several: runs that differ in
    nothing else are one group. Or a function that gives the group of a run. The result is a dict then, with a table for
    each group; its label names the parameters in which the groups differ. *x* as for `Run.curve`.

    *grid*: places on *x*, or how many of them; there each run is interpolated linearly between its neighbouring values,
    and counts only within its own first and last. It is needed for any other *x* than ``"step"``, at which runs seldom
    meet. Raises `NoSuchKey` if no run has the key.
    """
    tables = aggregated(grouped(runs, by), key, x, grid)
    return tables if by is not None else tables[None]


def aggregated(
    groups: Mapping[Any, Sequence[Run]], key: str, x: str = "step", grid: Grid | None = None
) -> dict[Any, pd.DataFrame]:
    """Return what `aggregate` does for each of the *groups* in which a run has the key."""
    tables = {}
    for label, group in groups.items():
        curves = [curve for run in group if (curve := _curve(run, key, x)) is not None]
        if curves:
            tables[label] = _statistics_of(curves, x, grid)
    if not tables:
        raise NoSuchKey(f"none of {sum(map(len, groups.values()))} runs has values of {key!r}")
    return tables


def _curve(run: Run, key: str, x: str) -> tuple[Floats, Floats] | None:
    """Return places and values of a run in the order of the places, the last of several at one; None without any."""
    if key not in run:
        return None
    curve = run.curve(key, x=x)
    order = np.argsort(curve.x, kind="stable")
    places, values = curve.x[order], curve.y[order]
    is_last = np.append(places[1:] != places[:-1], True)[: len(places)]
    keep = is_last & ~np.isnan(places)
    return (places[keep], values[keep]) if keep.any() else None


def _statistics_of(curves: Sequence[tuple[Floats, Floats]], x: str, grid: Grid | None) -> pd.DataFrame:
    from allogger.frames import frame_of

    if grid is None and x != "step":
        raise ConfigError(f"runs seldom have values at the same {x}: give grid=, the number of places or the places")
    places = _places(curves, grid)
    blocks = []
    for start in range(0, len(places), _BLOCK_STEPS):
        block = places[start : start + _BLOCK_STEPS]
        values = np.stack([_at(block, *curve) if grid is None else _between(block, *curve) for curve in curves])
        blocks.append(_statistics(values))
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    index = places.astype(np.int64) if x == "step" and grid is None else places
    return frame_of(columns, index, x)


def _places(curves: Sequence[tuple[Floats, Floats]], grid: Grid | None) -> Floats:
    if grid is None:
        return functools.reduce(np.union1d, [places for places, _ in curves])
    if not isinstance(grid, int):
        return np.unique(np.asarray(grid, np.float64))
    if grid < 2:
        raise ConfigError(f"a grid needs at least 2 places, not {grid}")
    return np.linspace(min(places[0] for places, _ in curves), max(places[-1] for places, _ in curves), grid)


def _at(block: Floats, places: Floats, values: Floats) -> Floats:
    """Return the value at each place of *block*, NaN where there is none."""
    rows = np.minimum(np.searchsorted(places, block), len(places) - 1)
    return np.where(places[rows] == block, values[rows], np.nan)


def _between(block: Floats, places: Floats, values: Floats) -> Floats:
    return np.interp(block, places, values, left=np.nan, right=np.nan)


def _statistics(values: Floats) -> dict[str, NDArray[Any]]:
    """Return the statistics of each column of *values*, where NaN counts for nothing."""
    count = (~np.isnan(values)).sum(axis=0)
    # NaN goes to the end, so the numbers of a column are its first ones.
    ordered = np.sort(values, axis=0)
    with np.errstate(all="ignore"):
        mean = np.nansum(values, axis=0) / count
        spread = np.nansum((values - mean) ** 2, axis=0) / (count - 1)
        std = np.where(count > 1, np.sqrt(spread), np.nan)
        half = _t975(count) * std / np.sqrt(count)
        q25, median, q75 = (_quantile(ordered, count, share) for share in (0.25, 0.5, 0.75))
        return {
            "count": count,
            "mean": np.where(count > 0, mean, np.nan),
            "std": std,
            "min": _quantile(ordered, count, 0.0),
            "q25": q25,
            "median": median,
            "q75": q75,
            "max": _quantile(ordered, count, 1.0),
            "iqr": q75 - q25,
            "low95": mean - half,
            "high95": mean + half,
        }


def _quantile(ordered: Floats, count: NDArray[Any], share: float) -> Floats:
    """Return a quantile of the first *count* numbers of each column, between neighbours linearly, as numpy does."""
    columns = np.arange(ordered.shape[1])
    place = np.maximum(count - 1, 0) * share
    low, high = np.floor(place).astype(int), np.ceil(place).astype(int)
    below, above = ordered[low, columns], ordered[high, columns]
    found: Floats = np.where(below == above, below, below + (above - below) * (place - low))
    return found


def _t975(count: NDArray[Any]) -> Floats:
    """Return Student's t for a two-sided 95 % interval of *count* values each, NaN for less than two."""
    distinct, where = np.unique(count, return_inverse=True)
    found: Floats = np.array([t975(int(n) - 1) for n in distinct])[where]
    return found


@functools.lru_cache(1024)
def t975(freedom: int) -> float:
    """Return the 0.975 quantile of Student's t distribution; NaN for less than one degree of *freedom*.

    >>> round(t975(4), 4)
    2.7764
    """
    if freedom < 1:
        return math.nan
    low, high = statistics.NormalDist().inv_cdf(0.975), 12.7062047361747
    if freedom > 10_000:
        return low + (low**3 + low) / (4 * freedom)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, freedom) < 0.95 else (low, middle)
    return high


def _t_within(t: float, freedom: int) -> float:
    """Return the probability that Student's t lies between -*t* and *t* (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cos, sin = math.cos(angle), math.sin(angle)
    is_odd = freedom % 2
    term = total = cos if is_odd else 1.0
    for n in range(2 + is_odd, freedom - 1, 2):
        term *= cos * cos * (n - 1) / n
        total += term
    if is_odd:
        return 2 / math.pi * (angle + (sin * total if freedom > 1 else 0.0))
    return sin * total
