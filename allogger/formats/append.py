"""AppendFile: how do bytes get to the end of a file so that all of them are there or none?"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from allogger.rundir import sync_folder

__all__ = ["AppendFile"]

Buffer = bytes | bytearray | memoryview

# A link in the place of our file would lead us to one that is not ours.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
# IOV_MAX of Linux and macOS.
_MAX_BUFFERS = 1024
# macOS has no fdatasync.
_sync = getattr(os, "fdatasync", os.fsync)


class AppendFile:
    """A file of one process that grows by whole writes. Used by one thread at a time.

    Nothing is opened before the first `write`. A file that was unlinked, moved away or replaced, alone or with its
    folder, is made again by the next write; what was in it is gone with it. *preamble* gives the first bytes of every
    file that begins; they are part of the write that follows them, so it may be asked again when that write fails.
    """

    def __init__(self, path: Path, preamble: Callable[[], bytes] | None = None) -> None:
        self.path = path
        self._preamble = preamble
        self._fd = -1
        self._identity = (-1, -1)
        self._size = 0
        # Bytes of a failed write are behind the end, because the file could not be truncated either.
        self._is_torn = False
        self._is_dirty = False
        self._is_new = False

    @property
    def size(self) -> int:
        """Where the last complete write ended, in bytes; 0 before the first."""
        return self._size

    def write(self, data: Buffer | Sequence[Buffer]) -> None:
        """Append *data*, one buffer or several, or raise `OSError` and leave the file as it was.

        Where the file system refuses even to truncate, that is done before the next write.
        """
        parts = [data] if isinstance(data, Buffer) else list(data)
        if not any(map(len, parts)):
            return
        self._ready()
        if not self._size and self._preamble:
            parts.insert(0, self._preamble())
        try:
            written = _write_all(self._fd, parts)
        except BaseException:
            self._roll_back()
            raise
        self._size += written
        self._is_dirty = True

    def sync(self) -> None:
        """Force everything written so far, and the file's name, onto the disk."""
        if self._fd < 0 or not self._is_dirty:
            return
        _sync(self._fd)
        if self._is_new:
            sync_folder(self.path.parent)
        self._is_dirty = self._is_new = False

    def close(self) -> None:
        """Close the file; may be called twice. A later write opens it again."""
        with contextlib.suppress(OSError):
            # Not through `_ready`, which would make a file that has vanished again.
            if self._is_torn and self._is_ours(found := os.stat(self.path)) and found.st_size > self._size:
                os.truncate(self.path, self._size)
                self._is_torn = False
        self._release()

    def abandon(self) -> None:
        """Close the descriptor in a forked child and touch nothing else: the file is the parent's."""
        self._is_torn = False
        with contextlib.suppress(OSError):
            self._release()

    def _is_ours(self, found: os.stat_result) -> bool:
        return self._identity == (found.st_dev, found.st_ino)

    def _ready(self) -> None:
        """Have the file under our path open, whole, and its size known."""
        try:
            found = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            found = None
        if found is None or self._fd < 0 or not self._is_ours(found):
            with contextlib.suppress(OSError):
                self._release()
            found = self._open()
        if self._is_torn and found.st_size > self._size:
            os.ftruncate(self._fd, self._size)
        else:
            # Normally the same. If somebody else appended or cut something, ours goes behind what is there now.
            self._size = found.st_size
        self._is_torn = False

    def _open(self) -> os.stat_result:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, _FLAGS, 0o666)
        found = os.fstat(self._fd)
        if not self._is_ours(found):
            self._identity = found.st_dev, found.st_ino
            self._is_torn = False
            self._is_new = True
        return found

    def _roll_back(self) -> None:
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._is_torn = True
            # A descriptor that went stale on a network file system would never work again.
            with contextlib.suppress(OSError):
                self._release()

    def _release(self) -> None:
        # Closing can report an earlier write's failure; the descriptor is gone even then.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _write_all(fd: int, parts: Sequence[Buffer]) -> int:
    """Write *parts*, with as few calls as the system allows; return the number of bytes."""
    return sum(_write_some(fd, parts[i : i + _MAX_BUFFERS]) for i in range(0, len(parts), _MAX_BUFFERS))


def _write_some(fd: int, parts: Sequence[Buffer]) -> int:
    total = sum(memoryview(part).nbytes for part in parts)
    written = os.writev(fd, parts)
    if written == total:
        return total
    rest = memoryview(b"".join(parts))[written:]
    # A full disk takes a part; the next call says why it does not take the rest.
    while rest:
        more = os.write(fd, rest)
        if not more:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest = rest[more:]
    return total
