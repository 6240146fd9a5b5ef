"""Event files in large portions: where are the events that agree with their checksums?"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from allogger.errors import DamagedFile
from allogger.formats.crc32c import masked_crc, masked_crcs
from allogger.formats.regular import open_regular
from allogger.formats.tfevents import FRAME_BYTES, next_header

__all__ = ["HEADER_BYTES", "FrameFile", "Frames"]

_PORTION_BYTES = 2**23
#: No protocol buffer is larger.
_LARGEST_EVENT = 2**31
# A file whose lengths are all wrong would be searched again from each of its bytes on.
_MOST_DAMAGE = 200
_LENGTH = struct.Struct("<Q")
#: What comes before an event: its length and the checksum of that.
HEADER_BYTES = 12


class Frames(NamedTuple):
    """Some events of a file: *start* and *length* say where in *data* they are; *offset* is the place of the data."""

    data: bytes
    offset: int
    start: NDArray[np.int64]
    length: NDArray[np.int64]

    def event(self, row: int) -> bytes:
        """Return an event."""
        return self.data[self.start[row] : self.start[row] + self.length[row]]


class FrameFile:
    """An event file, which may grow.

    What does not agree with its checksum is left out, and *damage* gets a sentence about it. Raises `OSError` if the
    file cannot be read, `DamagedFile` if it is no regular file.
    """

    def __init__(self, path: Path, damage: list[str]) -> None:
        self.path = path
        self.offset = 0
        self._damage = damage

    def open(self) -> BinaryIO:
        """Open the file for reading."""
        return open_regular(self.path)

    def portions(self) -> Iterator[Frames]:
        """Yield what was not there at the last call; a torn event at the end is not there yet."""
        with self.open() as file:
            while (data := self._read(file)) is not None:
                frames = self._frames(data)
                self.offset += int(frames.start[-1] + frames.length[-1]) + 4 if len(frames.start) else 0
                if len(frames.start):
                    yield self._checked(frames)
                elif not self._pass_over(file):
                    return

    def event(self, file: BinaryIO, offset: int, length: int) -> bytes:
        """Return the event at a place; raises `DamagedFile` if it has changed."""
        file.seek(offset)
        event = file.read(length)
        if file.read(4) != masked_crc(event).to_bytes(4, "little"):
            raise DamagedFile(
                f"{self.path}: the event at byte {offset - HEADER_BYTES} does not agree with its checksum"
            )
        return event

    def _read(self, file: BinaryIO) -> bytes | None:
        """Return a portion that begins with a whole event, None at the end."""
        left = os.fstat(file.fileno()).st_size - self.offset
        if left < FRAME_BYTES:
            return None
        file.seek(self.offset)
        data = file.read(min(_PORTION_BYTES, left))
        if not _is_header(data):
            return data
        size = _LENGTH.unpack_from(data)[0] + FRAME_BYTES
        if size > left:
            return None
        if size > _LARGEST_EVENT:
            self._note(f"the event at byte {self.offset} has {size:,} bytes, which no reader takes")
            self.offset += size
            return self._read(file)
        return data + file.read(size - len(data)) if size > len(data) else data

    def _frames(self, data: bytes) -> Frames:
        starts = []
        at, last, length_at = 0, len(data) - FRAME_BYTES, _LENGTH.unpack_from
        while at <= last:
            starts.append(at)
            at += length_at(data, at)[0] + FRAME_BYTES
        if at > len(data):
            starts.pop()
        start = np.array(starts, np.int64)
        raw = np.frombuffer(data, np.uint8)
        length = _numbers(raw, start, "<u8").astype(np.int64)
        sizes, which = np.unique(length, return_inverse=True)
        checks = np.array([_length_crc(size) for size in sizes.tolist()], np.uint32)[which]
        # Behind a wrong length nothing is where it seems to be.
        wrong = np.flatnonzero(_numbers(raw, start + 8, "<u4") != checks)
        count = int(wrong[0]) if len(wrong) else len(start)
        return Frames(data, self.offset, start[:count] + HEADER_BYTES, length[:count])

    def _checked(self, frames: Frames) -> Frames:
        raw = np.frombuffer(frames.data, np.uint8)
        told = _numbers(raw, frames.start + frames.length, "<u4")
        good = told == masked_crcs(raw, frames.start, frames.length)
        if good.all():
            return frames
        wrong = np.flatnonzero(~good)
        more = f", nor do {len(wrong) - 1} behind it" if len(wrong) > 1 else ""
        at = frames.offset + int(frames.start[wrong[0]]) - HEADER_BYTES
        self._note(f"the event at byte {at} does not agree with its checksum{more}")
        return frames._replace(start=frames.start[good], length=frames.length[good])

    def _pass_over(self, file: BinaryIO) -> bool:
        """Go on to the next place that looks like an event; return whether there is one."""
        if len(self._damage) >= _MOST_DAMAGE:
            self._note(f"nothing is read from byte {self.offset} on: there is too much damage before it")
            self.offset = 2**63 - 1
            return False
        self._note(f"no event begins at byte {self.offset}")
        found = next_header(file, self.offset + 1)
        # The rest of a header may be on its way.
        end = file.seek(0, os.SEEK_END)
        self.offset = max(self.offset + 1, end - HEADER_BYTES + 1) if found is None else found
        return found is not None

    def _note(self, what: str) -> None:
        self._damage.append(f"{self.path}: {what}")


@lru_cache(2**12)
def _length_crc(length: int) -> int:
    return masked_crc(_LENGTH.pack(length & (2**64 - 1)))


def _is_header(data: bytes) -> bool:
    return int.from_bytes(data[8:HEADER_BYTES], "little") == masked_crc(data[:8])


def _numbers(raw: NDArray[np.uint8], at: NDArray[np.int64], dtype: str) -> NDArray[Any]:
    """Return the little-endian numbers at some places."""
    numbers: NDArray[Any] = raw[at[:, None] + np.arange(np.dtype(dtype).itemsize)].view(dtype)
    return numbers[:, 0]
