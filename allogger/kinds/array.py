"""ArrayKind: how is an array of any shape and dtype stored?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from allogger.kind import Kind
from allogger.plain import copied
from allogger.record import Payload

__all__ = ["ArrayKind"]


class ArrayKind(Kind):
    """An array of any shape and dtype, zero-size and 0-d ones included, bit for bit."""

    name = "array"

    def accepts(self, value: Any) -> bool:
        """Return whether *value* is an array; the kinds that want a special one have been asked before."""
        return isinstance(value, np.ndarray)

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return a C-contiguous copy of the same shape and dtype; a number or text becomes a 0-d array."""
        return copied(value), {}
