"""Scanning: where are the sound frames of a journal, and what is wrong with the rest?"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from allogger.formats.journal.frames import (
    END,
    HEAD,
    HEADER_BYTES,
    MAGIC,
    NAMES,
    OBJECT,
    ROWS,
    Frame,
    Header,
    is_int,
    parse_header,
    salt_of,
)

__all__ = ["Scan", "scan"]

# So many damaged places are told one by one.
_MAX_DAMAGE = 1000


@dataclass
class Scan:
    """What a pass over the journal of the shard *name* has found so far."""

    name: str
    offset: int = 0
    number: int = -1
    about: dict[str, Any] = field(default_factory=dict)
    names: dict[int, tuple[str, str]] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    closed: dict[str, Any] | None = None
    torn_bytes: int = 0
    # Bytes of frames with a wrong checksum, which were read and then searched for others.
    searched: int = 0

    def __post_init__(self) -> None:
        self.salt = salt_of(self.name)

    def tell(self, offset: int, what: str) -> None:
        """Note damage at a place."""
        if len(self.damage) < _MAX_DAMAGE:
            self.damage.append(f"byte {offset}: {what}")
        elif len(self.damage) == _MAX_DAMAGE:
            self.damage.append(f"byte {offset} and later: more damage, which is not listed")


def scan(file: IO[bytes], found: Scan, size: int | None = None) -> Iterator[Frame]:
    """Yield the sound ROWS and OBJECT frames of an open journal from ``found.offset`` on, in order; fill *found*.

    Stops before an incomplete frame at the end, which is no damage: it is being written, or its writer was killed.
    After a damaged place the next sound frame is looked for. A second pass with the same *found* goes on where the
    first ended. With *size* the file ends there.
    """
    # To seek the end drops what is buffered: the last bytes of a write that failed are replaced by others.
    end = file.seek(0, os.SEEK_END)
    end = end if size is None else min(end, size)
    found.torn_bytes = 0
    is_fresh = False
    while found.offset < end:
        frame = _frame_at(file, found, end)
        if frame is not None:
            found.offset += HEADER_BYTES + len(frame.payload)
            if frame.type not in (ROWS, OBJECT):
                _take(frame, found)
            elif _in_order(found, frame):
                yield frame
            continue
        if not is_fresh:
            # Perhaps only the buffer was old; once is enough, because only the last bytes are ever replaced.
            is_fresh = True
            file.seek(0, os.SEEK_END)
            continue
        after = _after_damage(file, found, end)
        if after is None:
            found.torn_bytes = end - found.offset
            return
        found.offset = after


def _frame_at(file: IO[bytes], found: Scan, end: int) -> Frame | None:
    """Return the frame at ``found.offset`` if it is whole and sound."""
    head = _header_at(file, found.offset, found)
    if head is None or found.offset + HEADER_BYTES + head.length > end:
        return None
    payload = file.read(head.length)
    if len(payload) < head.length or zlib.crc32(payload) != head.crc:
        return None
    return Frame(head.type, head.number, found.offset, payload)


def _header_at(file: IO[bytes], offset: int, found: Scan) -> Header | None:
    file.seek(offset)
    return parse_header(file.read(HEADER_BYTES), found.salt)


def _after_damage(file: IO[bytes], found: Scan, end: int) -> int | None:
    """Tell the damage at ``found.offset`` and return where to go on; None if a frame is only incomplete."""
    head = _header_at(file, found.offset, found)
    if head is None:
        after = _next_frame(file, found.offset + 1, end, found)
        if after is None and _is_torn(file, found.offset, end):
            return None
        what = "no readable frame" if found.offset else _what_begins(file, found)
    elif (behind := found.offset + HEADER_BYTES + head.length) > end:
        # Either the last frame is still being written, or a block was cut out of the file behind this header.
        after = _next_frame(file, found.offset + 1, end, found)
        if after is None:
            return None
        what = f"frame {head.number} is cut short"
    else:
        after = behind
        found.searched += head.length
        # Where it ends there should be another one. If not, a block may have been cut out. A hostile file could have
        # us read the same bytes again and again, so there is a limit.
        if behind < end and found.searched < 2 * end and _header_at(file, behind, found) is None:
            after = _next_frame(file, found.offset + 1, end, found) or behind
        what = f"frame {head.number} has a wrong checksum"
    after = end if after is None else after
    found.tell(found.offset, f"{what}; {after - found.offset} bytes are lost")
    return after


def _what_begins(file: IO[bytes], found: Scan) -> str:
    file.seek(HEADER_BYTES)
    raw = file.read(1 << 12)
    name = raw[len(b'{"name":"') : raw.find(b'",')].decode("ascii", "replace")
    if raw.startswith(b'{"name":"') and name != found.name:
        return f"this is the journal of {name!r:.300}, under another name"
    return "no readable frame"


def _next_frame(file: IO[bytes], offset: int, end: int, found: Scan) -> int | None:
    """Return where the next sound header begins, or None."""
    block, salt = 1 << 12, found.salt
    while offset < end:
        file.seek(offset)
        raw = file.read(block + HEADER_BYTES)
        at = raw.find(MAGIC)
        while at >= 0:
            head = parse_header(raw[at : at + HEADER_BYTES], salt)
            if head is not None and offset + at + HEADER_BYTES + head.length <= end:
                return offset + at
            at = raw.find(MAGIC, at + 1)
        if len(raw) <= HEADER_BYTES:
            return None
        offset += len(raw) - HEADER_BYTES
        block = min(2 * block, 1 << 20)
    return None


def _is_torn(file: IO[bytes], offset: int, end: int) -> bool:
    """Return whether the file ends in the first bytes of a frame's header."""
    file.seek(offset)
    rest = file.read(HEADER_BYTES)
    return end - offset < HEADER_BYTES and rest[:4] == MAGIC[: len(rest[:4])]


def _in_order(found: Scan, frame: Frame) -> bool:
    number = frame.number
    if number <= found.number:
        found.tell(frame.offset, f"frame {number} comes again after frame {found.number}; ignored")
        return False
    if number > found.number + 1:
        found.tell(frame.offset, f"the frames {found.number + 1} to {number - 1} are missing before this one")
    found.number = number
    return True


def _take(frame: Frame, found: Scan) -> None:
    """Take up what a frame without values says."""
    try:
        content = json.loads(frame.payload)
        if frame.type == HEAD:
            found.about = dict(content)
        elif frame.type == NAMES:
            _take_names(content, frame.offset, found)
        elif frame.type == END:
            _take_end(content, frame.offset, found)
        else:
            raise ValueError("it is of a later version")
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        found.tell(frame.offset, f"a frame of type {frame.type} cannot be read ({error})")


def _take_end(content: Any, offset: int, found: Scan) -> None:
    end = content["values"]
    if not (is_int(end, 0) and isinstance(content["time"], float)):
        raise ValueError("it does not say how the journal ended")
    found.closed = content
    if end > found.number + 1:
        found.tell(offset, f"the frames {found.number + 1} to {end - 1} are missing before this one")


def _take_names(content: Any, offset: int, found: Scan) -> None:
    for index, scope, key in content:
        if not (is_int(index, 0, 2**32 - 1) and isinstance(scope, str) and isinstance(key, str)):
            raise ValueError("it has something else than names")
        if found.names.setdefault(index, (scope, key)) != (scope, key):
            found.tell(offset, f"series {index} has two names; the first counts")
