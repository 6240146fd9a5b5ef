"""Dtypes: how is a numpy dtype written as JSON, and read back without trusting it?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.format import descr_to_dtype, dtype_to_descr

__all__ = ["dtype_from_json", "dtype_to_json"]


def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """Return *dtype* as JSON values, in the description that ``.npy`` files use; raises `ValueError` for objects."""
    if dtype.hasobject:
        raise ValueError(f"a dtype with Python objects ({dtype}) cannot be stored")
    return dtype.str if dtype.names is None and dtype.subdtype is None else dtype_to_descr(dtype)


def dtype_from_json(descr: Any) -> np.dtype[Any]:
    """Return the dtype that `dtype_to_json` wrote; raises `ValueError` for anything else, objects included."""
    try:
        dtype: np.dtype[Any] = descr_to_dtype(_with_tuples(descr))
    except (TypeError, ValueError, IndexError, KeyError, SyntaxError, RecursionError, OverflowError) as error:
        raise ValueError(f"{descr!r:.80} is no dtype ({error})") from None
    if dtype.hasobject:
        raise ValueError("a dtype with Python objects is refused")
    return dtype


def _with_tuples(descr: Any) -> Any:
    """JSON has no tuples: ``[[name, type], ...]`` are fields, ``[type, shape]`` is a subarray."""
    if isinstance(descr, str):
        return descr
    if not isinstance(descr, list):
        raise ValueError(f"{descr!r:.80} is no dtype")
    if len(descr) == 2 and isinstance(descr[1], list) and all(isinstance(n, int) for n in descr[1]):
        return _with_tuples(descr[0]), tuple(descr[1])
    return [_field(part) for part in descr]


def _field(part: Any) -> tuple[Any, ...]:
    name, kind, *shape = part
    name = tuple(name) if isinstance(name, list) else name
    return (name, _with_tuples(kind), *(tuple(s) if isinstance(s, list) else s for s in shape))
