"""Downsampling: which of many points make the same picture? The one module that imports tsdownsample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tsdownsample import MinMaxLTTBDownsampler

__all__ = ["chosen_rows"]


def chosen_rows(x: NDArray[np.float64], y: NDArray[np.float64], n: int) -> NDArray[Any]:
    """Return the rows of *n* finite points, at least 3, that keep the shape of the curve: min-max-LTTB."""
    # It takes x for sorted; where steps go back the points are as far apart as they were logged.
    is_sorted = bool(np.all(x[1:] >= x[:-1]))
    downsampler: Any = MinMaxLTTBDownsampler
    return np.asarray(downsampler().downsample(*([x] if is_sorted else []), y, n_out=n), np.intp)
