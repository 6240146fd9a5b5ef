"""ScalarKind: how is a single number stored?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from allogger.kind import Kind
from allogger.plain import Unstorable, plain
from allogger.record import Payload

__all__ = ["ScalarKind"]


class ScalarKind(Kind):
    """One number, as a 0-d array of bool, int64, float64 or complex128.

    Only a longdouble that float64 cannot hold keeps its dtype.
    """

    name = "scalar"

    def accepts(self, value: Any) -> bool:
        """Return whether *value* is a Python number or a numeric 0-d array."""
        if isinstance(value, np.ndarray):
            return value.ndim == 0 and value.dtype.kind in "biufc"
        return isinstance(value, bool | int | float | complex)

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return the number as a 0-d array; raises `Unstorable` for anything but one number."""
        number = plain(value)
        if not self.accepts(number):
            raise Unstorable("a scalar is a single number, which this value is not")
        return np.array(number), {}
