"""Folding: how do many numbers become a mean, a sum or a moving average, a part at a time and without being kept?

The state of an aggregate is a small tuple of numbers. `of` makes one from some numbers, and `merge` makes one of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import numpy as np

__all__ = ["DEFAULT_DECAY", "Aggregate", "How", "State", "aggregate"]

State = tuple[Any, ...]
#: The name of an aggregate; a moving average is told from others by its decay.
How = str | tuple[str, float]

DEFAULT_DECAY: Final = 0.99


class Aggregate(NamedTuple):
    """A way to make one value of many. *suffix* is put behind the key; with *is_weighted* each number has a weight."""

    suffix: str
    of: Callable[[Sequence[Any]], State]
    merge: Callable[[State, State], State]
    result: Callable[[State], Any]
    is_weighted: bool = False
    #: Whether the next window goes on from this one.
    goes_on: bool = False
    data_type: str | None = None
    #: How states of different ranks become one, where that is another matter than one part after the other.
    across: Callable[[State, State], State] | None = None


def _moments(entries: Sequence[Any]) -> State:
    """Return (sum of weights, mean, sum of weighted squares of the distances from it) of value, weight, value, ..."""
    pairs = np.array(entries, np.float64).reshape(-1, 2)
    # What has no weight counts for nothing, not even a NaN.
    values, weights = pairs[pairs[:, 1] > 0].T
    if not len(values):
        return 0.0, math.nan, math.nan
    with np.errstate(all="ignore"):
        total = weights.sum()
        # From the first value on, so that the mean of equal values is that value; the second line corrects the first.
        mean = values[0] + (weights * (values - values[0])).sum() / total
        mean += (weights * (values - mean)).sum() / total
        if not np.isfinite(mean):
            mean = (values * (weights / total)).sum()
        squares = (weights * (values - mean) ** 2).sum()
    return float(total), float(mean), float(squares)


def _merge_moments(one: State, other: State) -> State:
    """Return the moments of both: T. F. Chan, G. H. Golub, R. J. LeVeque, The American Statistician 37 (1983) 242."""
    if not (one[0] and other[0]):
        return one if one[0] else other
    total = one[0] + other[0]
    share = other[0] / total
    distance = other[1] - one[1]
    if math.isfinite(distance):
        return total, one[1] + distance * share, one[2] + other[2] + distance * distance * one[0] * share
    mean = one[1] * (one[0] / total) + other[1] * share
    return total, mean, math.inf if math.isfinite(mean) else math.nan


def _deviation(moments: State) -> float:
    return math.sqrt(max(moments[2], 0.0) / moments[0]) if moments[0] else math.nan


def _sum(numbers: Sequence[Any]) -> State:
    if float not in set(map(type, numbers)):
        return sum(numbers), 0
    try:
        return math.fsum(numbers), 0.0
    except (OverflowError, ValueError):
        with np.errstate(all="ignore"):
            return float(np.array(numbers, np.float64).sum()), 0.0


def _merge_sums(one: State, other: State) -> State:
    """Return the sum and what it has been rounded by: D. E. Knuth, The Art of Computer Programming 2, 4.2.2."""
    total = one[0] + other[0]
    if type(total) is not float:
        return total, 0
    if not math.isfinite(total):
        return total, 0.0
    part = total - one[0]
    return total, one[1] + other[1] + ((one[0] - (total - part)) + (other[0] - part))


def _extreme(pick: Callable[[Sequence[Any]], Any], numbers: Sequence[Any]) -> State:
    return (math.nan if any(map(math.isnan, numbers)) else pick(numbers),)


def _merge_extremes(pick: Callable[[Sequence[Any]], Any], one: State, other: State) -> State:
    return _extreme(pick, (*one, *other))


def _average(decay: float, numbers: Sequence[Any]) -> State:
    """Return (decay to the power of how many there are, sum of weights, weighted sum); the latest weighs 1."""
    weights = decay ** np.arange(len(numbers) - 1, -1, -1)
    with np.errstate(all="ignore"):
        return decay ** len(numbers), float(weights.sum()), float((weights * np.array(numbers, np.float64)).sum())


def _merge_averages(one: State, other: State) -> State:
    return one[0] * other[0], one[1] * other[0] + other[1], one[2] * other[0] + other[2]


def _averages_across(one: State, other: State) -> State:
    return max(one[0], other[0]), one[1] + other[1], one[2] + other[2]


def _array(values: State) -> Any:
    found = np.array(values)
    return found if found.dtype.kind in "iub" else found.astype(np.float64)


def _only(state: State) -> Any:
    return state[0]


_AGGREGATES: Final = {
    "mean": Aggregate("", _moments, _merge_moments, lambda state: state[1], is_weighted=True),
    "std": Aggregate("/std", _moments, _merge_moments, _deviation, is_weighted=True),
    "sum": Aggregate("/sum", _sum, _merge_sums, sum),
    "min": Aggregate("/min", partial(_extreme, min), partial(_merge_extremes, min), _only),
    "max": Aggregate("/max", partial(_extreme, max), partial(_merge_extremes, max), _only),
    "last": Aggregate(
        "/last", lambda numbers: (numbers[-1],), lambda _, other: other, _only, across=lambda one, _: one
    ),
    "histogram": Aggregate("/histogram", tuple, lambda one, other: one + other, _array, data_type="histogram"),
}


@lru_cache(256)
def aggregate(how: How) -> Aggregate:
    """Return the aggregate of that name."""
    if isinstance(how, str):
        return _AGGREGATES[how]
    # Divided by the sum of the weights, like `ewm(adjust=True)` of pandas: what is true of the first values already.
    return Aggregate(
        f"/ema{how[1]!r}",
        partial(_average, how[1]),
        _merge_averages,
        lambda state: state[2] / state[1],
        goes_on=True,
        across=_averages_across,
    )
