"""Series: what are the values of one full key, and what can be made of them?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from allogger.curves import Curve, numbers_of
from allogger.errors import UnknownName
from allogger.extras import load
from allogger.reader import objects
from allogger.summary import Summary, summary_of_values

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Series"]


@dataclass(frozen=True, eq=False)
class Series:
    """All values of one full key.

    ``step`` int64 and ``time`` float64 (Unix seconds) have one entry per value; so has ``process`` (labels). ``value``
    is an array whose first axis counts the values; values of different shapes or dtypes, and texts, are the elements of
    an object array. ``kind`` is ``"mixed"`` where a key has values of several kinds. ``meta`` has the attributes that
    all values share. ``began`` is when the run began (Unix seconds; NaN if nobody knows).

    ``series[10:20]`` are the values of some rows, as a series again.
    """

    key: str
    kind: str
    step: NDArray[np.int64]
    time: NDArray[np.float64]
    value: NDArray[Any]
    process: NDArray[Any]
    meta: Mapping[str, Any] = field(default_factory=dict)
    began: float = np.nan

    def __len__(self) -> int:
        return len(self.step)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.value.shape[1:]))
        steps = f", steps {self.step[0]} to {self.step[-1]}" if len(self) else ""
        return (
            f"<Series {self.key!r}: {len(self)} x {self.kind} {self.value.dtype}{' ' + shape if shape else ''}{steps}>"
        )

    # -- some of the values

    @overload
    def __getitem__(self, rows: int) -> Any: ...
    @overload
    def __getitem__(self, rows: slice | NDArray[Any]) -> Series: ...
    def __getitem__(self, rows: int | slice | NDArray[Any]) -> Any:
        """Return the values of some rows, by slice, mask or numbers, as a series; of one row the value itself."""
        if isinstance(rows, int | np.integer):
            return self.value[rows]
        return replace(
            self, step=self.step[rows], time=self.time[rows], value=self.value[rows], process=self.process[rows]
        )

    def steps(self, first: int | None = None, last: int | None = None) -> Series:
        """Return the values from step *first* to step *last*, both included; None is no limit."""
        return self[_within(self.step, first, last)]

    def between(self, start: float | None = None, end: float | None = None) -> Series:
        """Return the values logged from *start* to *end* (Unix seconds), both included; None is no limit."""
        return self[_within(self.time, start, end)]

    @property
    def last(self) -> Any:
        """The last value, None if there is none."""
        return self.value[-1] if len(self) else None

    def summary(self) -> Summary:
        """Return count, first, last, smallest, largest and mean value."""
        return summary_of_values(self.step, self.time, self.value)

    # -- pictures

    def curve(self, x: str = "step") -> Curve:
        """Return the values over ``"step"``, ``"time"`` (Unix seconds) or ``"relative"`` (seconds since the run began).

        Raises `ConfigError` if the values are no real numbers.
        """
        return Curve(self.key, x, self.places(x), numbers_of(self.key, self.value), count=len(self))

    def places(self, x: str) -> NDArray[np.float64]:
        """Return where the values lie on an x-axis that `curve` knows, as float64."""
        if x == "step":
            return self.step.astype(np.float64)
        if x == "time":
            return self.time
        if x == "relative":
            began = self.began if np.isfinite(self.began) else self.time.min(initial=np.inf)
            return self.time - began
        raise UnknownName.of("x-axis", x, ["relative", "step", "time"])

    def resample(self, n: int) -> Curve:
        """Return *n* of the values that make the same picture, see `Curve.resample`; the result says ``is_reduced``."""
        return self.curve().resample(n)

    def smooth(self, ema: float | None = None, window: int | None = None) -> Curve:
        """Return the values smoothed, see `Curve.smooth`."""
        return self.curve().smooth(ema, window)

    def _repr_html_(self) -> str:
        from allogger.html import series_html

        return series_html(self)

    def plot(self, x: str = "step", **options: Any) -> Any:
        """Draw the values; return matplotlib's axes, see `allogger.plotting.plot_series`."""
        return load("allogger.plotting", "plot").plot_series(self, x, **options)

    # -- other libraries

    def to_numpy(self) -> NDArray[Any]:
        """Return a structured array with the fields ``step``, ``time`` and ``value``."""
        front: list[Any] = [("step", "i8"), ("time", "f8")]
        value = self.value
        try:
            rows = np.empty(len(self), [*front, ("value", value.dtype, value.shape[1:])])
        except ValueError:  # too large, or too many axes, for a field
            value = objects(value)
            rows = np.empty(len(self), [*front, ("value", object)])
        rows["step"], rows["time"], rows["value"] = self.step, self.time, value
        return rows

    def to_pandas(self) -> pd.Series[Any]:
        """Return the values as a pandas Series with the steps as its index; arrays are elements of object dtype."""
        from allogger.frames import series_of

        return series_of(self)

    def to_polars(self) -> Any:
        """Return a polars DataFrame with ``step``, ``time``, ``process`` and ``value``; needs the extra ``polars``."""
        return load("allogger.conversions.polars", "polars").frame_of(self)

    def to_xarray(self) -> Any:
        """Return an xarray DataArray over the steps, without copying the values; needs the extra ``xarray``."""
        return load("allogger.conversions.xarray", "xarray").array_of(self)

    def to_arrow(self) -> Any:
        """Return a pyarrow Table with ``step``, ``time``, ``process`` and ``value``; needs the extra ``arrow``.

        Raises `ConfigError` for values that Arrow cannot hold, such as complex numbers.
        """
        return load("allogger.conversions.arrow", "arrow").table_of(self)


def _within(numbers: NDArray[Any], low: float | None, high: float | None) -> NDArray[np.bool_]:
    """Return which numbers lie between two limits."""
    inside = np.ones(len(numbers), bool)
    if low is not None:
        inside &= numbers >= low
    if high is not None:
        inside &= numbers <= high
    return inside
