"""Arrow: a series as a table of pyarrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from allogger.errors import ConfigError

if TYPE_CHECKING:
    from allogger.series import Series

__all__ = ["table_of"]


def table_of(series: Series) -> pa.Table:
    """Return one row per value: ``step``, ``time``, ``process``, ``value``; arrays of one shape as fixed-size lists.

    Raises `ConfigError` for values that Arrow cannot hold, such as complex numbers.
    """
    try:
        column = _column(series.value)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"Arrow cannot hold the values of {series.key!r}: {error}; use to_numpy()") from error
    # A dictionary, because all values of a process share one label.
    process = pa.array(series.process, pa.string()).dictionary_encode()
    columns = {"step": pa.array(series.step), "time": pa.array(series.time), "process": process, "value": column}
    meta = {"key": series.key, "kind": series.kind}
    return pa.table(columns).replace_schema_metadata({name: _utf8(text) for name, text in meta.items()})


def _column(value: NDArray[Any]) -> Any:
    value = value.astype(value.dtype.newbyteorder("="), copy=False)
    if value.dtype == object and any(isinstance(item, np.ndarray) and item.ndim > 1 for item in value):
        raise ValueError("they are arrays of different shapes")
    flat = pa.array(value.reshape(-1) if value.ndim > 1 else value)
    for size in reversed(value.shape[1:]):
        flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
