"""CsvWriter: how do numbers and texts get into a CSV file while the run goes on?"""

from __future__ import annotations

import contextlib
from typing import ClassVar

from allogger.formats.append import AppendFile
from allogger.formats.csv import HEADER, Encoder, mend
from allogger.record import MAIN_PROCESS, Batch
from allogger.rundir import Shard, is_live, shard_names
from allogger.writer import Writer

__all__ = ["CsvWriter"]

_CSV = ".csv"


class CsvWriter(Writer):
    """Appends the rows of each batch to ``events/<shard>.csv`` with one write; see `allogger.formats.csv`."""

    lane: ClassVar[str] = "disk"

    def __init__(self, shard: Shard) -> None:
        super().__init__(shard)
        self._encoder = Encoder(shard.process)
        self._file = AppendFile(shard.path(_CSV), preamble=lambda: HEADER)
        self._has_mended = shard.process != MAIN_PROCESS

    def accepts(self, kind: str) -> bool:
        """Take what fits into one cell: single numbers, texts, parameters and what is known of files as JSON."""
        return kind in ("scalar", "text", "params", "artifact", "model", "checkpoint")

    def write(self, batch: Batch) -> None:
        """Append the batch, or raise `OSError` and leave the file as it was."""
        if not self._has_mended:
            self._has_mended = True
            self._mend_dead_shards()
        data, broken = self._encoder.encode(batch)
        self._file.write(data)
        for record, why in broken:
            self.reject(record.series, 1, why)

    def _mend_dead_shards(self) -> None:
        """Cut the torn last row of a process that was killed: pandas refuses a file that ends inside quotes."""
        for name in shard_names(self.shard.events, _CSV):
            with contextlib.suppress(OSError):
                if name != self.shard.name and not is_live(self.shard.events, name):
                    mend(self.shard.events / (name + _CSV))

    def sync(self) -> None:
        """Force the rows onto the disk."""
        self._file.sync()

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def abandon(self) -> None:
        """Close the inherited descriptor, writing nothing."""
        self._file.abandon()
