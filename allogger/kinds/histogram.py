"""HistogramKind: how are numbers stored whose distribution matters?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from allogger.kind import Kind
from allogger.plain import Unstorable, copied
from allogger.record import Payload

__all__ = ["HistogramKind"]


class HistogramKind(Kind):
    """Numbers whose distribution matters. The numbers themselves are stored; a writer that wants bins makes them."""

    name = "histogram"

    def accepts(self, value: Any) -> bool:
        """Return whether *value* is a numeric 1-d array; an empty one is, one of a single element is a scalar."""
        return isinstance(value, np.ndarray) and value.ndim == 1 and value.size != 1 and value.dtype.kind in "biufc"

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return a copy of the same shape and dtype, a single number as shape (1,).

        Raises `Unstorable` for anything but numbers.
        """
        found = copied(value)
        if found.dtype.kind not in "biufc":
            raise Unstorable(f"a histogram is made of numbers, not of {found.dtype}")
        return (found.reshape(1) if found.ndim == 0 else found), {}
