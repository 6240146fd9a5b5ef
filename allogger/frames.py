"""Frames: what do series look like as pandas tables? The one module that imports pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from allogger.series import Series

__all__ = ["exponential_mean", "frame_of", "long_frame", "series_of", "stacked_frames", "wide_frame", "window_mean"]

_COLUMNS = ("key", "step", "time", "process", "value")


def _column(values: NDArray[Any]) -> pd.Series[Any]:
    """Return values as they are: what pandas would change, or cannot take, as objects, one each."""
    if values.ndim == 1 and _is_pandas_own(values.dtype):
        # pandas refuses to work with numbers in the byte order of other machines.
        return pd.Series(values.astype(values.dtype.newbyteorder("="), copy=False))
    flat = np.empty(len(values), dtype=object)
    for row, item in enumerate(values):
        # Numbers in 0-d arrays keep their dtype, but nobody can sort or plot them.
        flat[row] = item[()] if isinstance(item, np.ndarray) and item.ndim == 0 else item
    # The dtype is said, or pandas guesses another: for texts one that cannot hold all of them.
    return pd.Series(flat, dtype=object)


def _is_pandas_own(dtype: np.dtype[Any]) -> bool:
    if dtype.kind in "mM":
        return np.datetime_data(dtype) in [(unit, 1) for unit in ("s", "ms", "us", "ns")]
    return dtype.kind in "biu" or (dtype.kind in "fc" and dtype not in (np.longdouble, np.clongdouble))


def series_of(series: Series) -> pd.Series[Any]:
    """Return the values with the steps as index and the full key as name."""
    column = _column(series.value).set_axis(pd.Index(series.step, name="step"))
    return column.rename(series.key)


def long_frame(many: Sequence[Series]) -> pd.DataFrame:
    """Return one row per value; the column ``value`` has the dtype of the values where they share one."""
    frames = [_rows(series) for series in many if len(series)]
    if not frames:
        return pd.DataFrame({name: [] for name in _COLUMNS})
    if len({frame["value"].dtype for frame in frames}) > 1:
        # Otherwise pandas would turn the integers of one key into floats because another key has floats.
        frames = [frame.astype({"value": object}) for frame in frames]
    return pd.concat(frames, ignore_index=True)


def _rows(series: Series) -> pd.DataFrame:
    key = pd.Series(np.full(len(series), series.key, dtype=object), dtype=object)
    process = pd.Series(series.process.astype(object), dtype=object)
    return pd.DataFrame(
        {"key": key, "step": series.step, "time": series.time, "process": process, "value": _column(series.value)}
    )


def wide_frame(many: Sequence[Series]) -> pd.DataFrame:
    """Return one column per key, indexed by step; of several values at a step the last one.

    Where a key has no value at a step there is NaN, for which pandas makes floats of integers; those that float64 does
    not hold exactly stay what they are, as objects.
    """
    columns = {}
    for series in many:
        column = series_of(series)
        columns[series.key] = column[~column.index.duplicated(keep="last")]
    steps = pd.Index(np.unique(np.concatenate([c.index for c in columns.values()])) if columns else [], dtype="int64")
    for key, column in columns.items():
        if column.dtype.kind in "iu" and len(column) < len(steps) and ((column > 2**53) | (column < -(2**53))).any():
            columns[key] = column.astype(object)
    return pd.DataFrame(columns, index=steps.rename("step"))


def stacked_frames(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return frames one below the other, with their names in a first column ``run``."""
    named = [frame.assign(run=name) for name, frame in frames.items() if len(frame)]
    if not named:
        return pd.DataFrame({name: [] for name in ("run", *_COLUMNS)})
    return pd.concat(named, ignore_index=True)[["run", *_COLUMNS]]


def frame_of(columns: Mapping[str, Any], index: NDArray[Any] | None = None, name: str = "") -> pd.DataFrame:
    """Return a table of columns, which the places *index*, called *name*, number."""
    return pd.DataFrame(dict(columns), index=None if index is None else pd.Index(index, name=name))


def exponential_mean(values: NDArray[np.float64], ema: float) -> NDArray[np.float64]:
    """Return the exponential moving average that keeps the share *ema* of the past; NaN counts for nothing."""
    # `adjust` divides by the sum of the weights: the correction for the beginning.
    return pd.Series(values).ewm(alpha=1 - ema, adjust=True, ignore_na=True).mean().to_numpy()


def window_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the mean of each value and those before it, *window* in all; NaN counts for nothing."""
    return pd.Series(values).rolling(window, min_periods=1).mean().to_numpy()
