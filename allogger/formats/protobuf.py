"""Protocol buffers: which fields does a message hold? For reading messages of which only a few fields matter."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "Field", "double", "fields", "integer", "signed", "text", "varints"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


class Field(NamedTuple):
    """A field: its *number*, how it is written, and where in the data its content is."""

    number: int
    wire: int
    start: int
    stop: int


def fields(data: bytes, start: int = 0, stop: int | None = None) -> Iterator[Field]:
    """Yield the fields of the message in ``data[start:stop]``; raises `ValueError` if it is none."""
    at, stop = start, len(data) if stop is None else stop
    while at < stop:
        tag, at = _varint(data, at, stop)
        wire = tag & 7
        if wire == BYTES:
            size, at = _varint(data, at, stop)
            end = at + size
        elif wire == VARINT:
            _, end = _varint(data, at, stop)
        elif wire in (FIXED64, FIXED32):
            end = at + (8 if wire == FIXED64 else 4)
        else:
            raise ValueError(f"a field of the unknown type {wire}")
        if end > stop:
            raise ValueError("a field that goes beyond its message")
        yield Field(tag >> 3, wire, at, end)
        at = end


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """Return the number at a place, and the place behind it."""
    number = shift = 0
    for place in range(at, min(at + _LONGEST_VARINT, stop)):
        byte = data[place]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place + 1
        shift += 7
    raise ValueError("a number without an end")


def integer(data: bytes, field: Field) -> int:
    """Return the content of an unsigned integer, bool or enum; raises `ValueError` for a field of another type."""
    if field.wire != VARINT:
        raise ValueError("a field that should be an integer")
    return _varint(data, field.start, field.stop)[0] & (2**64 - 1)


def signed(data: bytes, field: Field) -> int:
    """Return the content of an int32 or int64; raises `ValueError` for a field of another type."""
    number = integer(data, field)
    return number - 2**64 if number >= 2**63 else number


def double(data: bytes, field: Field) -> float:
    """Return the content of a float or double; raises `ValueError` for a field of another type."""
    if field.wire not in (FIXED32, FIXED64):
        raise ValueError("a field that should be a number")
    found: float = struct.unpack_from("<d" if field.wire == FIXED64 else "<f", data, field.start)[0]
    return found


def text(data: bytes, field: Field) -> str:
    """Return the content of a text; raises `ValueError` for a field of another type. What is no UTF-8 is escaped."""
    if field.wire != BYTES:
        raise ValueError("a field that should be a text")
    return data[field.start : field.stop].decode("utf-8", "backslashreplace")


def varints(data: bytes, field: Field) -> NDArray[np.int64]:
    """Return the content of a packed field of integers; raises `ValueError` if it ends inside of one."""
    raw = np.frombuffer(data, np.uint8, field.stop - field.start, field.start)
    ends = np.flatnonzero(raw < 0x80)
    if len(raw) and (not len(ends) or ends[-1] != len(raw) - 1):
        raise ValueError("a number without an end")
    starts = np.concatenate(([0], ends[:-1] + 1)).astype(np.int64)[: len(ends)]
    sizes = ends - starts + 1
    if sizes.max(initial=0) > _LONGEST_VARINT:
        raise ValueError("a number without an end")
    numbers = np.zeros(len(ends), np.uint64)
    for place in range(int(sizes.max(initial=0))):
        rows = np.flatnonzero(sizes > place)
        numbers[rows] |= (raw[starts[rows] + place] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * place)
    return numbers.view(np.int64)
