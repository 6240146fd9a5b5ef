"""Text: how is a value of any kind written in a file of text, so that it can be read back exactly?"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.dtypes import dtype_to_json

__all__ = ["is_plain", "json_array", "json_number", "numbers", "packed", "texts"]

# What JSON has no word for, spelt as in the JSON of protocol buffers; Python's `float` reads all three.
_NOT_FINITE = {"inf": '"Infinity"', "-inf": '"-Infinity"', "nan": '"NaN"'}


def is_plain(value: NDArray[Any]) -> bool:
    """Return whether a column holds numbers that Python has too."""
    return value.ndim == 1 and value.dtype.kind in "biuf" and value.dtype.itemsize <= 8


def numbers(value: NDArray[Any]) -> list[Any]:
    """Return a column of numbers as Python has them; those that it does not have as they are."""
    if value.dtype != object:
        return list(value.tolist())
    return [item.item() if isinstance(item, np.ndarray | np.generic) else item for item in value]


def json_number(number: Any) -> str:
    """Return a number as JSON: exact; NaN, the infinities and complex numbers as texts.

    >>> [json_number(x) for x in (0.1, 2**63, True, float("nan"), 1 + 2j)]
    ['0.1', '9223372036854775808', 'true', '"NaN"', '"(1+2j)"']
    """
    if isinstance(number, bool):
        return "true" if number else "false"
    if isinstance(number, int):
        return repr(number)
    if isinstance(number, float):
        return repr(number) if math.isfinite(number) else _NOT_FINITE[repr(number)]
    return json.dumps(str(number))


def json_array(array: NDArray[Any]) -> str:
    """Return the items of an array of real numbers as nested JSON lists, of any other array what `packed` gives."""
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        return packed(array)
    return _nested(array.tolist())


def packed(array: NDArray[Any]) -> str:
    """Return a JSON object with ``dtype`` (as in ``.npy`` files), ``shape`` and the bytes of an array in base64."""
    data = base64.b64encode(array.tobytes()).decode()
    return json.dumps({"dtype": dtype_to_json(array.dtype), "shape": list(array.shape), "base64": data})


def _nested(items: Any) -> str:
    if isinstance(items, list):
        return f"[{','.join(map(_nested, items))}]"
    return json_number(items)


def texts(labels: Iterable[str], encode: Callable[[str], str]) -> Iterator[str]:
    """Yield what *encode* makes of each label, asked once for each different one."""
    known: dict[str, str] = {}
    for label in labels:
        found = known.get(label)
        if found is None:
            found = known[label] = encode(label)
        yield found
