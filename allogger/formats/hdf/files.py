"""Files: what does libhdf5 write to and read from, so that an error of the disk is only an error?"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from allogger.errors import DamagedFile

__all__ = ["H5PY_ERRORS", "Sink", "Source", "as_damage"]

# What h5py raises for a damaged file, depending on whether libhdf5, h5py or numpy finds out.
H5PY_ERRORS = (OSError, LookupError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError, SystemError)
_HEAP_MAGIC = b"GCOL\x01\0\0\0"


class _File:
    """A file for `h5py.File` that never fails, but remembers: an exception must not go through libhdf5."""

    def __init__(self, path: Path, flags: int) -> None:
        self._fd = -1
        self._fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
        self._position = 0
        self.size = 0
        self.error: BaseException | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (self.size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def read(self, size: int) -> bytes:
        data = bytearray(size)
        self.readinto(data)
        return bytes(data)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        offset = self._position
        self._position += len(view)
        # What is missing stays as it is, which libhdf5 has to expect anyway.
        rest = view
        try:
            while rest and (got := os.preadv(self._fd, [rest], offset)):
                rest, offset = rest[got:], offset + got
        except OverflowError:
            pass  # an address that no file reaches
        except BaseException as error:
            self.error = self.error or error
        return len(view)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class Sink(_File):
    """A new file to write to.

    libhdf5 answers an error of the disk in the middle of its work with worse than an exception. So from the first error
    on everything stays in memory, where libhdf5 finds what it wrote, and the builder asks for `error` after each step.
    A forked child, which inherits the descriptor, writes nothing.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self._pid = os.getpid()
        self._unwritten: list[tuple[int, bytes]] = []

    def write(self, data: Any) -> int:
        """Write at the position; from the first error on, into memory."""
        start, view = self._position, memoryview(data).cast("B")
        self._position = start + len(view)
        self.size = max(self.size, self._position)
        try:
            if self._may_write():
                self._write(view, start)
                return len(view)
        except BaseException as error:  # Ctrl-C, too
            self.error = error
        self._unwritten.append((start, bytes(view)))
        return len(view)

    def _may_write(self) -> bool:
        return self.error is None and os.getpid() == self._pid

    def _write(self, view: memoryview, offset: int) -> None:
        while view:
            done = os.pwrite(self._fd, view, offset)
            view, offset = view[done:], offset + done

    def readinto(self, buffer: Any) -> int:
        """Read at the position, what is only in memory included."""
        start, view = self._position, memoryview(buffer).cast("B")
        super().readinto(view)
        for offset, data in self._unwritten:
            low, high = max(offset, start), min(offset + len(data), start + len(view))
            if low < high:
                view[low - start : high - start] = data[low - offset : high - offset]
        return len(view)

    def truncate(self, size: int) -> int:
        """Set the size of the file."""
        self.size = size
        try:
            if self._may_write():
                os.ftruncate(self._fd, size)
        except BaseException as error:
            self.error = error
        return size

    def check(self) -> None:
        """Raise the first error that was met."""
        if self.error is not None:
            raise self.error

    def sync(self) -> None:
        """Force the file onto the disk; raises the first error that was met."""
        self.check()
        os.fsync(self._fd)


class Source(_File):
    """A file to read from.

    A file that libhdf5 opens itself cannot be opened by the user's own h5py at the same time unless both lock it in the
    same way.
    """

    def __init__(self, path: Path) -> None:
        # Without O_NONBLOCK a pipe would keep us waiting for its other end.
        super().__init__(path, os.O_RDONLY | os.O_NONBLOCK)
        info = os.fstat(self._fd)
        if not stat.S_ISREG(info.st_mode):
            raise DamagedFile(f"{path} is no regular file")
        self.size = info.st_size
        self._are_heaps_good = False

    def check(self) -> None:
        """Raise what went wrong since the last time; it may have passed."""
        error, self.error = self.error, None
        if error is not None:
            raise error

    def check_heaps(self) -> None:
        """Raise `ValueError` if a heap, where libhdf5 keeps what has a variable length, would keep it busy for ever."""
        if self._are_heaps_good:
            return
        block = 16 * 2**20
        for start in range(0, self.size, block):
            # A magic number may lie across the end of the block.
            data = os.pread(self._fd, block + len(_HEAP_MAGIC) - 1, start)
            found = data.find(_HEAP_MAGIC)
            while found >= 0:
                self._check_heap(start + found)
                found = data.find(_HEAP_MAGIC, found + 1)
        self._are_heaps_good = True

    def _check_heap(self, at: int) -> None:
        (size,) = struct.unpack("<8xQ", os.pread(self._fd, 16, at).ljust(16))
        heap = os.pread(self._fd, min(size, self.size), at)
        place = 16
        while place + 16 <= size:
            if place + 16 > len(heap):
                raise ValueError(f"the heap at byte {at} is cut off")
            index, length = struct.unpack_from("<H6xQ", heap, place)
            # Free space, which has no index, counts its own header.
            length += 16 if index else 0
            if not 16 <= length <= size - place:
                raise ValueError(f"the heap at byte {at} is damaged")
            place += (length + 7) // 8 * 8


@contextmanager
def as_damage(what: str, source: Source) -> Iterator[None]:
    """Turn what h5py raises into `DamagedFile`, unless the disk, or Ctrl-C, was the reason."""
    try:
        yield
    except H5PY_ERRORS as error:
        source.check()
        if isinstance(error, DamagedFile):
            raise
        raise DamagedFile(f"{what} cannot be read: {error}") from error
    source.check()
