"""Frames: what do series look like as pandas tables? The one module that imports pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from allogger.store import Series

__all__ = ["long_frame", "series_of", "stacked_frames", "wide_frame"]

_COLUMNS = ("key", "step", "time", "process", "value")


def _flat(value: NDArray[Any]) -> NDArray[Any]:
    """Return values as a 1-d array: those with more axes as an object array of arrays."""
    if value.ndim == 1 and value.dtype.names is None:
        return value
    flat = np.empty(len(value), dtype=object)
    for row, item in enumerate(value):
        flat[row] = item
    return flat


def series_of(series: Series) -> pd.Series[Any]:
    """Return the values with the steps as index and the full key as name."""
    return pd.Series(_flat(series.value), index=pd.Index(series.step, name="step"), name=series.key)


def long_frame(many: Sequence[Series]) -> pd.DataFrame:
    """Return one row per value; the column ``value`` has the dtype of the values where they share one."""
    frames = [
        pd.DataFrame({"key": s.key, "step": s.step, "time": s.time, "process": s.process, "value": _flat(s.value)})
        for s in many
        if len(s)
    ]
    if not frames:
        return pd.DataFrame({name: [] for name in _COLUMNS})
    if len({frame["value"].dtype for frame in frames}) > 1:
        # Otherwise pandas would turn the integers of one key into floats because another key has floats.
        frames = [frame.astype({"value": object}) for frame in frames]
    return pd.concat(frames, ignore_index=True)


def wide_frame(many: Sequence[Series]) -> pd.DataFrame:
    """Return one column per key, indexed by step; of several values at a step the last one."""
    columns = {}
    for series in many:
        column = series_of(series)
        columns[series.key] = column[~column.index.duplicated(keep="last")]
    frame = pd.DataFrame(columns).sort_index()
    frame.index.name = "step"
    return frame


def stacked_frames(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return frames one below the other, with their names in a first column ``run``."""
    named = [frame.assign(run=name) for name, frame in frames.items() if len(frame)]
    if not named:
        return pd.DataFrame({name: [] for name in ("run", *_COLUMNS)})
    return pd.concat(named, ignore_index=True)[["run", *_COLUMNS]]
