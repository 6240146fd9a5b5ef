"""Summary: what is a series like, in a few numbers?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.curves import blocks_of, numbers_of
from allogger.errors import ConfigError

__all__ = ["BLOCK_ROWS", "Summary", "plain", "statistics", "summary_of_values"]

#: So many values have a row of statistics in a finished file.
BLOCK_ROWS = 1024


@dataclass(frozen=True)
class Summary:
    """A series in a few numbers, those of the ends in the order in which `Run.series` gives the values.

    ``min``, ``max`` and ``mean`` are floats, of all values that are not NaN; None unless the values are real numbers.
    ``first``, ``last``, ``mean`` and the steps of the smallest and largest value are looked up when they are asked for.
    """

    count: int
    min: float | None = None
    max: float | None = None
    first_step: int | None = None
    last_step: int | None = None
    first_time: float | None = None
    last_time: float | None = None
    _found: Mapping[str, Callable[[], Any]] = field(default_factory=dict, repr=False)

    @cached_property
    def first(self) -> Any:
        """The first value, None if there is none."""
        return self._look_up("first")

    @cached_property
    def last(self) -> Any:
        """The last value, None if there is none."""
        return self._look_up("last")

    @cached_property
    def mean(self) -> float | None:
        """The mean of all values that are not NaN."""
        mean: float | None = self._look_up("mean")
        return mean

    @cached_property
    def min_step(self) -> int | None:
        """The step of the smallest value, of several the first."""
        step: int | None = self._look_up("min_step")
        return step

    @cached_property
    def max_step(self) -> int | None:
        """The step of the largest value, of several the first."""
        step: int | None = self._look_up("max_step")
        return step

    def _look_up(self, name: str) -> Any:
        return self._found[name]() if name in self._found else None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, in the order in which one would show it."""
        return {name: getattr(self, name) for name in _SHOWN}


_SHOWN = (
    *("count", "first", "last", "min", "max", "mean", "min_step", "max_step"),
    *("first_step", "last_step", "first_time", "last_time"),
)


def summary_of_values(step: NDArray[np.int64], time: NDArray[np.float64], value: NDArray[Any]) -> Summary:
    """Return the summary of values that have been read."""
    if not len(step):
        return Summary(0)
    ends = int(step[0]), int(step[-1]), float(time[0]), float(time[-1])
    found: dict[str, Callable[[], Any]] = {"first": lambda: plain(value[0]), "last": lambda: plain(value[-1])}
    try:
        numbers = numbers_of("", value)
    except ConfigError:
        return Summary(len(step), None, None, *ends, found)
    low, high, mean = statistics(numbers)
    found["mean"] = lambda: mean
    if not math.isnan(low):
        found["min_step"] = lambda: int(step[np.nanargmin(numbers)])
        found["max_step"] = lambda: int(step[np.nanargmax(numbers)])
    return Summary(len(step), low, high, *ends, found)


def plain(value: Any) -> Any:
    """Return a number as Python has it."""
    is_number = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)
    return value.item() if is_number and value.dtype.kind in "biufc" and value.dtype.itemsize <= 16 else value


def statistics(numbers: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the smallest, the largest and the mean of what is not NaN."""
    points = blocks_of(numbers, numbers, BLOCK_ROWS)
    whole = points.joined(np.zeros(1, np.intp))
    return float(whole.low[0]), float(whole.high[0]), float(whole.mean[0])
