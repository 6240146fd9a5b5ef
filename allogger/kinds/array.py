"""ArrayKind: how is an array of any shape and dtype stored?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from allogger.kind import Kind
from allogger.plain import Unstorable, copied
from allogger.record import Payload

__all__ = ["ArrayKind"]


class ArrayKind(Kind):
    """An array of any shape and dtype, zero-size and 0-d ones included, bit for bit.

    ``{"array": ..., "meta": {...}}`` is an array with attributes, which are in `Series.meta` where all values
    share them.
    """

    name = "array"

    def accepts(self, value: Any) -> bool:
        """Return whether *value* is an array; the kinds that want a special one have been asked before."""
        return isinstance(value, np.ndarray)

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return a C-contiguous copy of the same shape and dtype; a number or text becomes a 0-d array."""
        if isinstance(value, Mapping) and value.keys() == {"array", "meta"}:
            return copied(value["array"]), _attributes(value["meta"])
        return copied(value), {}


def _attributes(meta: Any) -> dict[str, Any]:
    try:
        found: Any = json.loads(json.dumps(meta))
    except Exception as error:
        raise Unstorable(f"the meta-data of an array are a dict that JSON can hold: {error}") from error
    if not isinstance(found, dict):
        raise Unstorable("the meta-data of an array are a dict")
    return found
