"""Tables: how do columns with names and dtypes become a DataFrame of pandas?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["frame_of"]

Cells = NDArray[Any] | list[Any]


def frame_of(columns: Sequence[tuple[dict[str, Any], Cells]], index: int, rows: int) -> pd.DataFrame:
    """Return a DataFrame of so many *rows*; the first *index* of the columns are its index.

    What is said about a column is what `allogger.kinds.table.Column` says.
    """
    series = [_series(about, cells) for about, cells in columns]
    names = [about["name"] for about, _ in columns]
    frame = pd.DataFrame(dict(enumerate(series[index:])), index=pd.RangeIndex(rows))
    frame.columns = _texts(pd.Index, names[index:]) if names[index:] else pd.RangeIndex(0)
    if index == 1:
        frame.index = pd.Index(series[0], name=names[0])
    elif index:
        frame.index = pd.MultiIndex.from_arrays(series[:index], names=names[:index])
    return frame


def _series(about: dict[str, Any], cells: Cells) -> pd.Series[Any]:
    dtype = about.get("dtype")
    if dtype == "category":
        categories = pd.Index(_series(about["of"], about["categories"]))
        return pd.Series(pd.Categorical.from_codes(cells, categories, about["is_ordered"]))
    if dtype is None:
        array = np.asarray(cells)
        return pd.Series(array if array.dtype.kind != "S" else array.tolist())
    if dtype.startswith("datetime64["):
        zone = dtype.partition(", ")[2].removesuffix("]")
        return pd.Series(pd.DatetimeIndex(cells, tz="UTC").tz_convert(zone))
    items = cells.tolist() if isinstance(cells, np.ndarray) else cells
    if dtype == "text" and items:
        made: pd.Series[Any] = _texts(pd.Series, items)
        return made
    return pd.Series(items, dtype="object" if dtype == "text" else dtype)


def _texts(make: Any, items: list[Any]) -> Any:
    """Return a Series or an Index of the dtype that pandas chooses; the one for texts has no lone surrogates."""
    try:
        return make(items)
    except UnicodeEncodeError:
        return make(items, dtype=object)
