"""HdfWriter: the journal while the run is live, the HDF5 file when it is finished."""

from __future__ import annotations

from collections.abc import Sequence

from allogger.formats import journal
from allogger.formats.append import AppendFile
from allogger.record import Batch, Series
from allogger.rundir import JOURNAL, Shard, sync_folder
from allogger.writer import Writer

__all__ = ["HdfWriter"]

# A lost table of names costs at most the values since the one before.
_TABLE_EVERY_BYTES = 4 << 20


class HdfWriter(Writer):
    """Appends every batch to the shard's journal with one write, and makes the HDF5 file of it at close.

    HDF5 never sees a live file: the finished one is built under another name, forced onto the disk and renamed; only
    then is the journal removed. Takes values of every kind.
    """

    lane = "disk"

    def __init__(self, shard: Shard) -> None:
        super().__init__(shard)
        self._salt = journal.salt_of(shard.name)
        self._path = shard.path(JOURNAL)
        self._file = AppendFile(self._path, preamble=self._preamble)
        self._names: Sequence[Series] = ()
        self._number = 0
        self._named = 0
        self._table_at = 0
        self._table_bytes = 0

    def write(self, batch: Batch) -> None:
        """Append the batch: one call of the operating system, all or nothing."""
        frames, count = journal.encode_batch(batch, self._number, self._salt)
        end = self._file.size
        whole_table = end < self._table_at or end - self._table_at > max(_TABLE_EVERY_BYTES, 16 * self._table_bytes)
        self._names = batch.names
        known = len(batch.names)
        if end and (whole_table or known > self._named):
            frames.insert(0, self._table(0 if whole_table else self._named, known))
        self._file.write(frames)
        self._number += count
        self._named = known
        if whole_table:
            self._table_at, self._table_bytes = self._file.size, len(frames[0])

    def _preamble(self) -> bytes:
        """Return how a file begins, also one that replaces a journal that was removed while we wrote it."""
        return journal.encode_head(self.shard.about()) + self._table(0, len(self._names))

    def _table(self, first: int, end: int) -> bytes:
        return journal.encode_names(((s.index, s.scope, s.key) for s in self._names[first:end]), self._salt)

    def sync(self) -> None:
        """Force the journal onto the disk."""
        self._file.sync()

    def close(self) -> None:
        """Build the HDF5 file of the journal and remove the journal.

        Raises `OSError` or `DamagedFile` when that fails: the journal stays, complete and readable as before.
        """
        if not self._number:
            return
        self._file.write(journal.encode_end({"values": self._number}, self._salt))
        self._file.sync()
        self._file.close()
        # HDF5 is imported here and not with the first value, because a run needs it only at its end.
        from allogger.formats.image import build_image

        build_image(self._path)
        self._path.unlink(missing_ok=True)
        sync_folder(self._path.parent)
        self._number = 0

    def abandon(self) -> None:
        """Release the inherited descriptor; the journal is the parent's."""
        self._file.abandon()
        self._number = 0
