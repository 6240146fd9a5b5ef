"""Summary: what does the index say about the real numbers of a series, so that nobody has to read all of them?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.formats.hdf.tables import BLOCKS, SIDE_TABLES

__all__ = ["BLOCK_ROWS", "Summary", "json_number"]

BLOCK_ROWS = 1024

_BLOCK = SIDE_TABLES[BLOCKS]


class Summary:
    """Smallest, largest and mean of a series of real numbers, as a whole and for each 1,024 values, NaN left out."""

    def __init__(self, number: int, keeps_blocks: bool) -> None:
        self._number = number
        self._keeps_blocks = keeps_blocks
        self._open = self._whole = np.empty(0, _BLOCK)

    def add(self, row: int, step: NDArray[Any], time: NDArray[Any], value: NDArray[np.float64]) -> NDArray[Any]:
        """Take the values from *row* on; return the blocks that are complete with them."""
        blocks = self._blocks(row, step, time, value)
        if row % BLOCK_ROWS:
            blocks[:1] = _merged(self._open, blocks[:1])
        # A block counts in the whole once it is complete.
        full = len(blocks) - bool((row + len(value)) % BLOCK_ROWS)
        self._open = blocks[full:].copy()
        if full:
            self._whole = _merged(self._whole, blocks[:full])
        return blocks[:full] if self._keeps_blocks else blocks[:0]

    def rest(self) -> NDArray[Any]:
        """Return the last block if it is not full."""
        return self._open if self._keeps_blocks else self._open[:0]

    def _blocks(self, row: int, step: NDArray[Any], time: NDArray[Any], value: NDArray[np.float64]) -> NDArray[Any]:
        if len(value) == 1:
            # The way below takes ten times as long, which thousands of short series feel.
            one = float(value[0])
            return np.array([(self._number, row, step[0], time[0], one, one, one, one == one)], _BLOCK)
        starts = np.arange(-(row % BLOCK_ROWS), len(value), BLOCK_ROWS)
        starts[0] = 0
        is_number = ~np.isnan(value)
        blocks = np.empty(len(starts), _BLOCK)
        blocks["series"] = self._number
        blocks["row"] = row + starts
        blocks["step"] = step[starts]
        blocks["time"] = time[starts]
        with np.errstate(all="ignore"):
            blocks["min"] = np.fmin.reduceat(value, starts)
            blocks["max"] = np.fmax.reduceat(value, starts)
            blocks["count"] = np.add.reduceat(is_number, starts, dtype=np.int64)
            # Divided by a power of two, which is exact, the sum of the largest numbers does not overflow.
            sums = np.add.reduceat(np.where(is_number, value, 0.0) / BLOCK_ROWS, starts)
            blocks["mean"] = sums * (BLOCK_ROWS / blocks["count"])
        return blocks

    def as_json(self) -> dict[str, Any]:
        """Return ``min``, ``max`` and ``mean``; null if every value is NaN."""
        whole = _merged(self._whole, self._open)
        return {name: json_number(whole[name].item()) for name in ("min", "max", "mean")}


def _merged(first: NDArray[Any], then: NDArray[Any]) -> NDArray[Any]:
    """Return one block that stands for all of the blocks *first* and *then*."""
    blocks = np.concatenate([first, then]) if len(first) and len(then) else first if len(first) else then
    if len(blocks) == 1:
        return blocks
    out = blocks[:1].copy()
    total = blocks["count"].sum()
    some = blocks[blocks["count"] > 0]
    with np.errstate(all="ignore"):
        out["count"] = total
        out["min"] = np.fmin.reduce(blocks["min"])
        out["max"] = np.fmax.reduce(blocks["max"])
        out["mean"] = (some["mean"] * (some["count"] / total)).sum() if total else np.nan
    return out


def json_number(value: Any) -> float | int | str | None:
    """Return a number as JSON can hold it: null for NaN, ``"inf"`` and ``"-inf"``."""
    if not isinstance(value, float) and np.asarray(value).dtype.kind in "biu":
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None if math.isnan(number) else str(number)
