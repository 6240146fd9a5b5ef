"""Media: how are the pictures, films, sounds and shapes of a key looked at one by one, and how do they become files?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from allogger.merging import are_interleaved
from allogger.names import file_name
from allogger.reader import Columns
from allogger.summaries import Piece

__all__ = ["Media"]


class Media(Sequence[Any]):
    """The images, figures, videos, sounds, meshes or point clouds of one key, each read when it is asked for.

    ``step`` (int64), ``time`` (Unix seconds) and ``process`` have one entry per value, in the order of `Run.series`.
    A slice is again such a sequence.
    """

    def __init__(self, key: str, pieces: Sequence[Piece], rows: NDArray[Any]) -> None:
        self.key = key
        self._pieces = pieces
        # Number, piece, row in it, step and time of each.
        self._rows = rows

    @classmethod
    def of(cls, key: str, pieces: Sequence[Piece]) -> Media:
        """Return the values of several shards."""
        each = [_rows(number, piece) for number, piece in enumerate(pieces)]
        rows = np.concatenate(each) if each else np.empty(0, _ROW)
        if are_interleaved(pieces):
            rows = rows[np.lexsort((rows["time"], rows["step"]))]
        rows["number"] = np.arange(len(rows))
        return cls(key, pieces, rows)

    @property
    def step(self) -> NDArray[np.int64]:
        """The step of each value."""
        return self._rows["step"]

    @property
    def time(self) -> NDArray[np.float64]:
        """When each value was logged (Unix seconds)."""
        return self._rows["time"]

    @property
    def process(self) -> NDArray[Any]:
        """The label of the process that logged each value."""
        labels: NDArray[Any] = np.array([piece.process for piece in self._pieces], object)
        return labels.take(self._rows["piece"])

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Media: ...
    def __getitem__(self, index: int | slice) -> Any:
        """Return one value, or a sequence of some; raises `DamagedFile` for one that cannot be read."""
        if isinstance(index, slice):
            return Media(self.key, self._pieces, self._rows[index])
        return self._read(index).value[0]

    def kind(self, index: int) -> str:
        """Return the kind of one value; most keys have values of one kind."""
        return self._pieces[int(self._rows["piece"][index])].series.kind

    def attrs(self, index: int) -> Mapping[str, Any]:
        """Return what else is known of one value, such as its ``layout``, ``fps`` or ``rate``."""
        return self._read(index).attrs.get(0, {})

    def save(self, folder: str | os.PathLike[str], format: str | None = None) -> list[Path]:
        """Write each value to a file under *folder*, see `save_one`; return their paths."""
        return [self.save_one(number, folder, format) for number in range(len(self))]

    def save_one(self, index: int, folder: str | os.PathLike[str], format: str | None = None) -> Path:
        """Write one value to ``<folder>/<full key>-<step>-<number>.<format>`` and return the path.

        The formats are those of `allogger.saving.FORMATS`. Raises `FileExistsError` instead of replacing a file, and
        what `allogger.saving.file_of` raises.
        """
        # Opening a run must not wait for it.
        from allogger.saving import file_of

        columns, row = self._read(index), self._rows[index]
        suffix, data = file_of(self.kind(index), columns.value[0], columns.attrs.get(0, {}), format)
        place = Path(folder, *map(file_name, self.key.split("/")))
        path = place.with_name(f"{place.name}-{row['step']}-{row['number']}.{suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(path, data)
        return path

    def _read(self, index: int) -> Columns:
        piece, row = int(self._rows["piece"][index]), int(self._rows["row"][index])
        return self._pieces[piece].part(slice(row, row + 1))

    def __repr__(self) -> str:
        return f"<Media {self.key!r}: {len(self)}>"


_ROW = np.dtype([("number", "i8"), ("piece", "i8"), ("row", "i8"), ("step", "i8"), ("time", "f8")])


def _rows(number: int, piece: Piece) -> NDArray[Any]:
    step, time = piece.steps()
    rows = np.empty(len(step), _ROW)
    rows["piece"], rows["row"], rows["step"], rows["time"] = number, np.arange(len(step)), step, time
    return rows


def _write_new(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        try:
            file.write(data)
            file.flush()
        except OSError:
            # Half a file would look like one.
            path.unlink()
            raise
