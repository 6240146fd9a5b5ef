"""HdfWriter: the journal while the run is live, the HDF5 file when it is finished."""

from __future__ import annotations

import contextlib
import glob
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from allogger.errors import ConfigError
from allogger.formats import journal
from allogger.formats.append import AppendFile

# With it comes h5py, which must not be imported as late as at exit: its own exit handler would be left out, and HDF5
# would crash the interpreter.
from allogger.formats.image import build_image
from allogger.record import Batch, Series
from allogger.rundir import JOURNAL, Shard, sync_folder
from allogger.writer import Writer

__all__ = ["HdfWriter"]

# A lost table of names costs at most the values since the one before.
_TABLE_EVERY_BYTES = 4 << 20
_LONGEST_PAUSE = 3600.0


class HdfWriter(Writer):
    """Appends every batch to the shard's journal with one write, and makes the HDF5 file of it at close.

    During a long run, another process makes an HDF5 file of the journal from time to time: the first after
    *snapshot_seconds* (None: never), the next after twice that time, and so on, up to one an hour. HDF5 never sees a
    live file: the finished one is built under another name, forced onto the disk and renamed; only then is the journal
    removed. Takes values of every kind.
    """

    lane = "disk"

    def __init__(self, shard: Shard, *, snapshot_seconds: float | None = 60.0) -> None:
        super().__init__(shard)
        if snapshot_seconds is not None and not snapshot_seconds > 0:
            raise ConfigError(
                f"snapshot_seconds of hdf must be a number of seconds above 0, or None, not {snapshot_seconds!r}"
            )
        self._snapshot = Snapshot(shard.path(JOURNAL), snapshot_seconds)
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
        self._snapshot.refresh()

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

        Raises `OSError` or `DamagedFile` when that fails, if only for some series that HDF5 cannot hold: the journal
        stays, complete and readable as before.
        """
        self._snapshot.stop()
        if not self._number:
            return
        self._file.write(journal.encode_end({"values": self._number, "time": time.time()}, self._salt))
        self._file.sync()
        self._file.close()
        build_image(self._path)
        self._path.unlink(missing_ok=True)
        sync_folder(self._path.parent)
        self._number = 0

    def abandon(self) -> None:
        """Release the inherited descriptor; the journal is the parent's."""
        self._snapshot.forget()
        self._file.abandon()
        self._number = 0


class Snapshot:
    """The HDF5 files that are made of a journal while it grows, each by a process of its own.

    A process, because building one takes the interpreter, and HDF5's lock, away from the program for as long as it
    takes, and because whatever goes wrong in HDF5 then cannot touch the program. It is no child of ours, so that a
    program that waits for any of its children does not meet it.
    """

    def __init__(self, source: Path, first_seconds: float | None) -> None:
        self._source = source
        self._pause = first_seconds or 0.0
        self._due = time.monotonic() + self._pause if first_seconds and sys.executable else float("inf")
        # The process group of the builder, and the end of a pipe that closes with it.
        self._group, self._alive = 0, -1

    def refresh(self) -> None:
        """Begin a new file if it is time for one and none is being made."""
        now = time.monotonic()
        if now < self._due or self._is_building():
            return
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        self._due = now + self._pause
        with contextlib.suppress(OSError):  # no process to be had: the next time perhaps
            self._start()

    def _start(self) -> None:
        # The folder that holds the package, which the program may have found by means that a new interpreter lacks.
        path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        alive, end = os.pipe()
        try:
            shell = subprocess.Popen(
                ["/bin/sh", "-c", '"$@" &', "sh", sys.executable, "-m", "allogger.formats.image", str(self._source)],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(end,),
                start_new_session=True,
            )
            shell.wait()
        except BaseException:
            os.close(alive)
            raise
        finally:
            os.close(end)
        os.set_blocking(alive, False)
        self._group, self._alive = shell.pid, alive

    def _is_building(self) -> bool:
        if self._alive < 0:
            return False
        try:
            os.read(self._alive, 1)
        except BlockingIOError:
            return True
        self.forget()
        return False

    def stop(self) -> None:
        """End a builder that is still at work and remove what it leaves behind."""
        while self._is_building():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)
            select.select([self._alive], [], [], 0.1)
        for left in self._source.parent.glob(f".{glob.escape(self._source.stem)}*.tmp"):
            left.unlink(missing_ok=True)

    def forget(self) -> None:
        """Have nothing to do with the builder any more; in a forked child it is the parent's."""
        alive, self._alive = self._alive, -1
        if alive >= 0:
            os.close(alive)
