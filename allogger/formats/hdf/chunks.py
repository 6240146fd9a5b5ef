"""Chunks: which bytes does a chunk of a dataset consist of, and is it worth while to compress it?"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["GZIP_LEVEL", "Packer"]

# Higher levels take longer and save 3 % at most.
GZIP_LEVEL = 1
# What compression makes no smaller than this part is stored as it is: floats of which every bit counts, images.
_WORTHWHILE = 0.8
# After so many chunks that were not worth while, the next one is tried again.
_MOST_UNTRIED = 63
# The bits of the filters that are left out of a chunk: shuffle is the first one, deflate the second.
_ALL_FILTERS, _NO_FILTERS = 0, 0b11


class Packer:
    """Packs the chunks of one dataset with the filters shuffle and deflate, as HDF5 would, or leaves these out.

    HDF5 itself compresses every chunk whatever comes of it, and is called once for many of them.
    """

    def __init__(self, chunk_rows: int) -> None:
        self._chunk_rows = chunk_rows
        self._untried = self._pause = 0

    def pack(self, rows: NDArray[Any]) -> tuple[bytes, int]:
        """Return *rows*, padded to a whole chunk, as they are stored, and the mask of the filters that are left out."""
        raw = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), rows.itemsize)
        if len(rows) < self._chunk_rows:
            padded = np.zeros((self._chunk_rows, rows.itemsize), np.uint8)
            padded[: len(rows)] = raw
            raw = padded
        if self._untried:
            self._untried -= 1
            return raw.tobytes(), _NO_FILTERS
        packed = zlib.compress(raw.T.tobytes(), GZIP_LEVEL)
        if len(packed) <= raw.nbytes * _WORTHWHILE:
            self._pause = 0
            return packed, _ALL_FILTERS
        self._pause = self._untried = min(2 * self._pause + 1, _MOST_UNTRIED)
        return raw.tobytes(), _NO_FILTERS
