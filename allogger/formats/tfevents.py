"""TensorBoard event files: which bytes is an event on disk, and which events do the bytes hold?

A file is a row of frames: the length of the event (8 bytes), a checksum of the length, the event, a checksum of the
event. An event is a protocol buffer, of which TensorBoard needs so few fields that they are put together here.
Everything is little-endian.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache, reduce
from operator import xor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from allogger.formats.crc32c import columns_register, crc32c, masked, masked_crc, register, shift_by

__all__ = [
    "FRAME_BYTES",
    "bytes_field",
    "crc32c",
    "double_field",
    "file_version_event",
    "float_field",
    "frame",
    "int_field",
    "masked_crc",
    "next_header",
    "read_events",
    "replace_events",
    "scalar_events",
    "summary_event",
    "tags",
]

_LENGTH = struct.Struct("<Q")
_CHECK = struct.Struct("<I")
_HEADER = _LENGTH.size + _CHECK.size
#: What a frame has besides the event.
FRAME_BYTES = _HEADER + _CHECK.size

# -------------------------------------------------------------------------------------------------------------- writing


def _frame_header(length: int) -> bytes:
    packed = _LENGTH.pack(length)
    return packed + _CHECK.pack(masked_crc(packed))


def frame(event: bytes) -> bytes:
    """Return an encoded event as it stands in a file."""
    return _frame_header(len(event)) + event + _CHECK.pack(masked_crc(event))


def int_field(number: int, value: int) -> bytes:
    """Return a field of a protocol buffer, of type int32, int64 or enum."""
    return _varint(number << 3) + _varint(value % 2**64)


def double_field(number: int, value: float) -> bytes:
    """Return a field of a protocol buffer, of type double."""
    return _varint(number << 3 | 1) + struct.pack("<d", value)


def float_field(number: int, value: float) -> bytes:
    """Return a field of a protocol buffer, of type float."""
    return _varint(number << 3 | 5) + struct.pack("<f", value)


def bytes_field(number: int, value: bytes) -> bytes:
    """Return a field of a protocol buffer: bytes, UTF-8 text, another message or packed numbers."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def file_version_event(time: float, version: int = 2) -> bytes:
    """Return the framed event with which a file begins."""
    return frame(double_field(1, time) + bytes_field(3, f"brain.Event:{version}".encode()))


def summary_event(tag: bytes, step: int, time: float, value: bytes) -> bytes:
    """Return the framed event of one value; *value* is a field of TensorBoard's ``Summary.Value``."""
    return _summary_event(bytes_field(1, bytes_field(1, tag) + value), step, time)


def _summary_event(summary: bytes, step: int, time: float) -> bytes:
    return frame(double_field(1, time) + int_field(2, step) + bytes_field(5, summary))


def replace_events(first_steps: Mapping[bytes, int], time: float) -> bytes:
    """Return framed events that make TensorBoard forget of each tag what it has from that step on.

    A ``SessionLog.START``, which is meant for that, has one step for all tags. TensorBoard goes by tag in files of
    version 1, see ``_MaybePurgeOrphanedData`` in its ``plugin_event_accumulator.py``: there it drops what a tag has
    from the step of an event on if that step is lower than the one of the event before, whatever its tag.
    """
    by_step: dict[int, bytes] = {}
    for tag, step in first_steps.items():
        by_step[step] = by_step.get(step, b"") + bytes_field(1, bytes_field(1, tag))
    events = [_summary_event(by_step[step], step, time) for step in sorted(by_step, reverse=True)]
    before = _summary_event(b"", 2**63 - 1, time)
    return b"".join([file_version_event(time, 1), before, *events, file_version_event(time)])


# The order of fields inside a protocol buffer is free. With the tag in front and all that varies behind it, the front
# of a scalar event is the same for all values of a series, and the rest has the same length for all series:
#     summary { value { tag, simple_value } }, wall_time, step
_SUMMARY, _VALUE, _TAG, _SIMPLE_VALUE, _WALL_TIME, _STEP_FIELD = 0x2A, 0x0A, 0x0A, 0x15, 0x09, 0x10
_SIMPLE_VALUE_SIZE, _TAIL_WITHOUT_STEP = 5, 5 + 9 + 1
_VARINT_LIMITS = 1 << np.arange(7, 64, 7, dtype=np.uint64)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


@lru_cache(maxsize=2**14)
def _scalar_head(tag: bytes, tail_size: int) -> tuple[bytes, int]:
    """Return the bytes before the tail, frame header included, and their register shifted by *tail_size* bytes."""
    named = bytes([_TAG]) + _varint(len(tag)) + tag
    value = bytes([_VALUE]) + _varint(len(named) + _SIMPLE_VALUE_SIZE) + named
    head = bytes([_SUMMARY]) + _varint(len(value) + _SIMPLE_VALUE_SIZE) + value
    left = register(head).to_bytes(4, "little")
    moved = (int(table[byte]) for table, byte in zip(shift_by(tail_size), left, strict=True))
    return _frame_header(len(head) + tail_size) + head, reduce(xor, moved)


def _bytes_of(column: NDArray[np.uint32] | NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the little-endian bytes of the items, one row per place."""
    little = np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(len(column), -1).T


def _scalar_tails(
    step: NDArray[np.uint64],
    time: NDArray[np.float64],
    value: NDArray[np.float32],
    step_size: int,
    head_registers: NDArray[np.uint32],
) -> NDArray[np.void]:
    """Return the ends of the frames: value, time and step, whose varints have *step_size* bytes, and the checksum."""
    size = _TAIL_WITHOUT_STEP + step_size
    columns = np.empty((size + _CHECK.size, len(step)), np.uint8)
    columns[0] = _SIMPLE_VALUE
    columns[1:5] = _bytes_of(value)
    columns[5] = _WALL_TIME
    columns[6:14] = _bytes_of(time)
    columns[14] = _STEP_FIELD
    for place in range(step_size):
        columns[15 + place] = step >> np.uint64(7 * place) & np.uint64(0x7F)
    columns[15 : size - 1] |= 0x80
    columns[size:] = _bytes_of(masked(head_registers ^ columns_register(columns[:size], size, len(step))))
    return np.ascontiguousarray(columns.T).view(f"V{size + _CHECK.size}")[:, 0]


def scalar_events(
    tags: Mapping[int, bytes],
    series: NDArray[np.uint32],
    step: NDArray[np.int64],
    time: NDArray[np.float64],
    value: NDArray[np.float32],
) -> bytes:
    """Return the framed events of many scalars, one per row, in the order of the rows.

    The columns have equal length; *time* is in Unix seconds, *tags* gives the UTF-8 tag of each number in *series*.
    Raises `KeyError` for a series without a tag.
    """
    steps = step.view(np.uint64)
    step_sizes = np.searchsorted(_VARINT_LIMITS, steps, side="right") + 1
    top = int(series.max(initial=0)) + 1
    pieces = np.empty((len(series), 2), object)
    for step_size in np.unique(step_sizes).tolist():
        rows = np.flatnonzero(step_sizes == step_size)
        heads, registers = np.empty(top, object), np.empty(top, np.uint32)
        for index in np.unique(series[rows]).tolist():
            heads[index], registers[index] = _scalar_head(tags[index], _TAIL_WITHOUT_STEP + step_size)
        owners = series[rows]
        pieces[rows, 0] = heads[owners]
        pieces[rows, 1] = _scalar_tails(steps[rows], time[rows], value[rows], step_size, registers[owners])
    return b"".join(pieces.ravel().tolist())


# -------------------------------------------------------------------------------------------------------------- reading

_SEARCH_BYTES = 2**20


def read_events(path: Path, damage: list[str]) -> Iterator[bytes]:
    """Yield the events of a file, which may be growing, in their order.

    A torn event at the end is not there yet and is passed over. What does not agree with its checksum is left out, and
    *damage* gets a sentence about it. Raises `OSError` if the file cannot be read.
    """
    with open(path, "rb") as file:
        start: int | None = 0
        while start is not None:
            file.seek(start)
            header = file.read(_HEADER)
            if len(header) < _HEADER:
                return
            if not _is_header(header):
                damage.append(f"{path}: no event begins at byte {start}")
                start = next_header(file, start + 1)
                continue
            (length,) = _LENGTH.unpack_from(header)
            end = start + _HEADER + length + _CHECK.size
            # Asked first, so that a length out of a hostile file does not claim memory.
            if end > os.fstat(file.fileno()).st_size:
                return
            event = file.read(length)
            if file.read(_CHECK.size) == _CHECK.pack(masked_crc(event)):
                yield event
            else:
                damage.append(f"{path}: the event at byte {start} does not agree with its checksum")
            start = end


def tags(event: bytes) -> list[bytes]:
    """Return the tag of each value in an event, as far as the event can be understood."""
    summaries = _messages(event, _SUMMARY >> 3)
    return [tag for summary in summaries for value in _messages(summary, 1) for tag in _messages(value, 1)]


def _messages(message: bytes, wanted: int) -> Iterator[bytes]:
    """Yield the content of the fields with that number which are texts or messages themselves."""
    at = 0
    while at < len(message):
        field, at = _read_varint(message, at)
        kind = field & 7
        if kind == 0:
            _, at = _read_varint(message, at)
            continue
        length, at = _read_varint(message, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, len(message)), at)
        if kind == 2 and field >> 3 == wanted:
            yield message[at : at + length]
        at += length


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place behind it."""
    number = 0
    for shift in range(0, 64, 7):
        byte = message[at] if at < len(message) else 0
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            break
    return number, at


def _is_header(header: bytes) -> bool:
    return header[_LENGTH.size :] == _CHECK.pack(masked_crc(header[: _LENGTH.size]))


def next_header(file: BinaryIO, start: int) -> int | None:
    """Return the first place from *start* on where a length agrees with its checksum, or None."""
    while True:
        file.seek(start)
        data = np.frombuffer(file.read(_SEARCH_BYTES), np.uint8)
        places = len(data) - _HEADER + 1
        if places < 1:
            return None
        columns = [data[at : at + places] for at in range(_HEADER)]
        inverted = [~column for column in columns[:4]] + columns[4 : _LENGTH.size]
        checks = masked(columns_register(inverted, _LENGTH.size, places))
        found = np.ones(places, np.bool_)
        for place, column in enumerate(columns[_LENGTH.size :]):
            found &= column == (checks >> (8 * place) & 0xFF)
        if found.any():
            return start + int(found.argmax())
        start += places
