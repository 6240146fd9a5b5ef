"""Images: how are the pictures of a key looked at one by one, without all of them in memory?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from allogger.merging import are_interleaved
from allogger.reader import Columns
from allogger.summaries import Piece

__all__ = ["Images"]


class Images(Sequence[NDArray[Any]]):
    """The images of one key as a sequence of arrays, each read when it is asked for.

    ``step`` (int64), ``time`` (Unix seconds) and ``process`` have one entry per image, in the order of `Run.series`.
    A slice is again such a sequence.
    """

    def __init__(self, key: str, pieces: Sequence[Piece], rows: NDArray[Any]) -> None:
        self.key = key
        self._pieces = pieces
        # Piece, row in it, step and time of each.
        self._rows = rows

    @classmethod
    def of(cls, key: str, pieces: Sequence[Piece]) -> Images:
        """Return the images of several shards."""
        each = [_rows(number, piece) for number, piece in enumerate(pieces)]
        rows = np.concatenate(each) if each else np.empty(0, _ROW)
        if are_interleaved(pieces):
            rows = rows[np.lexsort((rows["time"], rows["step"]))]
        return cls(key, pieces, rows)

    @property
    def step(self) -> NDArray[np.int64]:
        """The step of each image."""
        return self._rows["step"]

    @property
    def time(self) -> NDArray[np.float64]:
        """When each image was logged (Unix seconds)."""
        return self._rows["time"]

    @property
    def process(self) -> NDArray[Any]:
        """The label of the process that logged each image."""
        labels: NDArray[Any] = np.array([piece.process for piece in self._pieces], object)
        return labels.take(self._rows["piece"])

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Images: ...
    def __getitem__(self, index: int | slice) -> NDArray[Any] | Images:
        """Return one image, or a sequence of some; raises `DamagedFile` for one that cannot be read."""
        if isinstance(index, slice):
            return Images(self.key, self._pieces, self._rows[index])
        image: NDArray[Any] = self._read(index).value[0]
        return image

    def attrs(self, index: int) -> Mapping[str, Any]:
        """Return what else is known of one image, such as its ``layout``: ``"HW"``, ``"HWC"`` or ``"CHW"``."""
        return self._read(index).attrs.get(0, {})

    def _read(self, index: int) -> Columns:
        piece, row = int(self._rows["piece"][index]), int(self._rows["row"][index])
        return self._pieces[piece].part(slice(row, row + 1))

    def __repr__(self) -> str:
        return f"<Images {self.key!r}: {len(self)}>"


_ROW = np.dtype([("piece", "i8"), ("row", "i8"), ("step", "i8"), ("time", "f8")])


def _rows(number: int, piece: Piece) -> NDArray[Any]:
    step, time = piece.steps()
    rows = np.empty(len(step), _ROW)
    rows["piece"], rows["row"], rows["step"], rows["time"] = number, np.arange(len(step)), step, time
    return rows
