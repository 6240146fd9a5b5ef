"""ConfusionKind: how is a table of which class was taken for which stored?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from allogger.kind import Kind
from allogger.plain import Unstorable, copied, plain
from allogger.record import Payload

__all__ = ["ConfusionKind"]


class ConfusionKind(Kind):
    """A confusion matrix: a square array with a row for each true class and a column for each predicted one.

    It may be given with the names of the classes: ``{"matrix": matrix, "names": ["cat", "dog"]}``. They are the
    attribute ``names``.
    """

    name = "confusion"

    def accepts(self, value: Any) -> bool:
        """Return False: a square array of which nobody says more is an array."""
        return False

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return the matrix and the names; raises `Unstorable` for what is none, or names that are not its own."""
        names = None
        if isinstance(value, Mapping):
            if "matrix" not in value or not value.keys() <= {"matrix", "names"}:
                raise Unstorable("of a confusion matrix there are a 'matrix' and 'names'")
            value, names = value["matrix"], value.get("names")
        matrix = copied(value)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.dtype.kind not in "biuf":
            raise Unstorable(
                f"a confusion matrix is a square array of numbers, not of {matrix.dtype} and shape {matrix.shape}"
            )
        if names is None:
            return matrix, {}
        found = [str(name) for name in np.atleast_1d(np.asarray(plain(names, as_array=True))).tolist()]
        if len(found) != len(matrix):
            raise Unstorable(f"a confusion matrix of {len(matrix)} classes with {len(found)} names")
        return matrix, {"names": found}
