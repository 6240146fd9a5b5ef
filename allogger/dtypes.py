"""Dtypes: how is a numpy dtype written as JSON, and read back without trusting it?"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_items", "dtype_from_json", "dtype_to_json"]

# numpy cannot print what is nested much deeper.
_MAX_DEPTH = 64
# numpy takes many other texts for a dtype, aliases and lists among them.
_SIMPLE = r"[<>|][biufcmMSUV]\d{0,10}(\[\w{1,20}\])?"


def dtype_to_json(dtype: np.dtype[Any]) -> Any:
    """Return *dtype* as JSON values, in the description that ``.npy`` files use; raises `ValueError` for objects.

    What these files have no words for, fields that overlap or lie in another order than in memory, becomes a dict.
    """
    if dtype.hasobject:
        raise ValueError(f"a dtype with Python objects ({dtype}) cannot be stored")
    if dtype.subdtype is not None:
        return [dtype_to_json(dtype.subdtype[0]), list(dtype.subdtype[1])]
    if dtype.names is None:
        # That of another library, such as bfloat16, has the name of bytes.
        if np.dtype(dtype.str) != dtype:
            raise ValueError(f"the dtype {dtype} is unknown to numpy itself")
        return dtype.str
    try:
        descr: Any = dtype.descr
        if dtype_from_json(descr) == dtype:
            return descr
    except ValueError:
        pass
    fields = [dtype.fields[name] for name in dtype.names] if dtype.fields else []
    described = {
        "names": list(dtype.names),
        "formats": [dtype_to_json(one[0]) for one in fields],
        "offsets": [one[1] for one in fields],
        "titles": [one[2] if len(one) > 2 else None for one in fields],
        "itemsize": dtype.itemsize,
    }
    if dtype_from_json(described) != dtype:
        raise ValueError(f"the dtype {dtype} cannot be stored")
    return described


def dtype_from_json(descr: Any) -> np.dtype[Any]:
    """Return the dtype that `dtype_to_json` wrote; raises `ValueError` for anything else, objects included."""
    try:
        dtype = _load(descr, _MAX_DEPTH)
    except (TypeError, ValueError, LookupError, SyntaxError, OverflowError, MemoryError) as error:
        raise ValueError(f"no dtype: {error}") from None
    if dtype.hasobject:
        raise ValueError("a dtype with Python objects is refused")
    return dtype


def _load(descr: Any, depth: int) -> np.dtype[Any]:
    if not depth:
        raise ValueError("types within types without end")
    if isinstance(descr, str):
        if not re.fullmatch(_SIMPLE, descr):
            raise ValueError(f"there is none called {descr!r:.80}")
        return np.dtype(descr)
    if isinstance(descr, dict):
        return _struct({**descr, "formats": [_load(one, depth - 1) for one in descr["formats"]]})
    if len(descr) == 2 and isinstance(descr[1], list) and all(isinstance(n, int) for n in descr[1]):
        return np.dtype((_load(descr[0], depth - 1), tuple(descr[1])))
    return _fields(descr, depth - 1)


def _fields(descr: list[Any], depth: int) -> np.dtype[Any]:
    """Return the dtype with the fields ``[name or [title, name], type, shape if any]``, one behind the other."""
    columns: list[tuple[Any, ...]] = []
    offset = 0
    for name, kind, *shape in descr:
        dtype = _load(kind, depth)
        if shape:
            (axes,) = shape
            dtype = np.dtype((dtype, tuple(axes)))
        # Bytes that no field uses.
        if not (name == "" and dtype.type is np.void and dtype.names is None):
            columns.append((*(("", name) if isinstance(name, str) else name), dtype, offset))
        offset += dtype.itemsize
    titles, names, formats, offsets = zip(*columns, strict=True) if columns else ((), (), (), ())
    titles = tuple(title or None for title in titles)
    return _struct({"names": names, "formats": formats, "offsets": offsets, "titles": titles, "itemsize": offset})


def _struct(described: dict[str, Any]) -> np.dtype[Any]:
    names = ("names", "formats", "offsets", "titles", "itemsize")
    dtype: np.dtype[Any] = np.dtype({name: described[name] for name in names})  # type: ignore[call-overload]
    return dtype


def check_items(value: NDArray[Any]) -> None:
    """Raise `ValueError` for an array with bytes that numpy cannot show as items of its dtype."""
    if not value.nbytes:
        return
    if value.dtype.kind == "b" and value.view(np.uint8).max() > 1:
        raise ValueError("a bool is neither true nor false")
    if value.dtype.kind == "U":
        points = np.ascontiguousarray(value).view(np.dtype(np.uint32).newbyteorder(value.dtype.byteorder))
        if points.max() > 0x10FFFF:
            raise ValueError("a text has a character that does not exist")
