"""Frames: how do values become bytes of a journal, and frames values again, however hostile they are?"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from allogger.dtypes import check_items, dtype_from_json, dtype_to_json
from allogger.errors import DamagedFile
from allogger.record import BOOL, Batch, Record

__all__ = [
    "END",
    "HEAD",
    "HEADER_BYTES",
    "MAGIC",
    "NAMES",
    "OBJECT",
    "ROWS",
    "Frame",
    "Header",
    "Meta",
    "RowBuffer",
    "Rows",
    "decode_meta",
    "decode_object",
    "decode_rows",
    "encode_batch",
    "encode_end",
    "encode_head",
    "encode_names",
    "is_int",
    "parse_header",
    "read_object",
    "salt_of",
]

HEAD, NAMES, ROWS, OBJECT, END = 1, 2, 3, 4, 5
VERSION = 1
MAGIC = b"\xabALJ"
_HEADER = struct.Struct("<4sBBHIQI")
_CRC = _LENGTH = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size

# Series u32, code u8, step i64, time f64, bits i64.
_ROW_BYTES = 29
# More than ever come in one frame, and as many as a dtype of numpy can have.
_MAX_ROWS = 1 << 26
_CODES = bytes(range(BOOL + 1))

Buffer = bytes | memoryview


def salt_of(name: str) -> int:
    """Return the start value of the header checksums of the shard *name*."""
    return zlib.crc32(name.encode("utf-8", "surrogatepass"))


def _frame(type_: int, number: int, payload: bytes, more: Buffer, salt: int) -> list[Buffer]:
    """Return the buffers of a frame with the bytes *payload* and *more*, of which only the first are copied."""
    crc = zlib.crc32(more, zlib.crc32(payload))
    head = _HEADER.pack(MAGIC, type_, VERSION, 0, number & 0xFFFFFFFF, len(payload) + len(more), crc)
    front = head + _CRC.pack(zlib.crc32(head, salt)) + payload
    return [front, more] if len(more) else [front]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def encode_head(about: Mapping[str, Any]) -> bytes:
    """Return how the journal of the shard ``about["name"]`` begins."""
    # Nothing else says whose the values are, so one damaged byte must not take it away.
    return b"".join(_frame(HEAD, 0, _json(dict(about)), b"", salt_of(about["name"]))) * 2


def encode_names(names: Iterable[tuple[int, str, str]], salt: int) -> bytes:
    """Return a frame of ``(index, scope, key)`` triples."""
    return b"".join(_frame(NAMES, 0, _json(list(names)), b"", salt))


def encode_end(about: Mapping[str, Any], salt: int) -> bytes:
    """Return the last frame of a journal whose process closed it."""
    return b"".join(_frame(END, 0, _json(dict(about)), b"", salt))


def encode_batch(batch: Batch, number: int, salt: int) -> tuple[list[Buffer], int]:
    """Return the frames of a batch as buffers, and the number of frames; the first gets *number*.

    The buffers of arrays are the arrays' own memory: nothing is copied.
    """
    buffers: list[Buffer] = []
    rows_number = number
    if len(batch.series):
        columns = (batch.series, batch.code, batch.step, batch.time, batch.bits)
        payload = [struct.pack("<I", len(batch.series)), *(_bytes_of(column) for column in columns)]
        buffers += _frame(ROWS, number, b"".join(payload), b"", salt)
        number += 1
    for record, place in zip(batch.objects, batch.places, strict=True):
        buffers += _frame(OBJECT, number, *_object(record, rows_number, place), salt)
        number += 1
    return buffers, number - rows_number


def _bytes_of(values: NDArray[Any]) -> Buffer:
    if not values.nbytes:
        return b""
    return memoryview(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def _object(record: Record, rows_number: int, place: int) -> tuple[bytes, Buffer]:
    """Return what is said about a value, and its own bytes."""
    payload = record.payload
    raw: Buffer
    if isinstance(payload, str):
        raw = payload.encode("utf-8", "surrogatepass")
        what = _json({"kind": record.kind})
    else:
        values = np.asarray(payload)
        raw = _bytes_of(values)
        what = _described(record.kind, values.dtype, values.shape)
    # JSON by hand, in a third of the time.
    where = b'{"series":%d,"step":%d,"time":%a,"at":[%d,%d],' % (
        record.series.index,
        record.step,
        float(record.time),
        rows_number,
        place,
    )
    if record.attrs:
        where += b'"attrs":%b,' % _json(dict(record.attrs))
    text = where + what[1:]
    return _LENGTH.pack(len(text)) + text, raw


@lru_cache(256)
def _described(kind: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    return _json({"kind": kind, "dtype": dtype_to_json(dtype), "shape": shape})


# ------------------------------------------------------------------------------------------------------------- decoding


class Header(NamedTuple):
    """What the header of a frame says."""

    type: int
    number: int
    length: int
    crc: int


def parse_header(raw: bytes, salt: int) -> Header | None:
    """Return the sound header of a frame of the journal with that salt, None for anything else."""
    if len(raw) < HEADER_BYTES:
        return None
    magic, type_, version, _, number, length, crc = _HEADER.unpack_from(raw)
    if magic != MAGIC or version != VERSION:
        return None
    if _CRC.unpack_from(raw, _HEADER.size)[0] != zlib.crc32(raw[: _HEADER.size], salt):
        return None
    return Header(type_, number, length, crc)


class Frame(NamedTuple):
    """A frame whose checksums are right; *offset* is where it begins in the file, *payload* its bytes."""

    type: int
    number: int
    offset: int
    payload: bytes


class Rows(NamedTuple):
    """The columns of a ROWS frame, see `allogger.record.Batch`; *number* is the frame's."""

    number: int
    series: NDArray[np.uint32]
    code: NDArray[np.uint8]
    step: NDArray[np.int64]
    time: NDArray[np.float64]
    bits: NDArray[np.int64]

    def take(self, rows: NDArray[Any]) -> Rows:
        """Return some of the rows, by mask or by number."""
        return Rows(self.number, self.series[rows], self.code[rows], self.step[rows], self.time[rows], self.bits[rows])

    @classmethod
    def join(cls, parts: Sequence[Rows]) -> Rows:
        """Return the rows of all *parts*; `number` is meaningless there."""
        if len(parts) == 1:
            return parts[0]
        parts = parts or [_rows_of(bytes(4), 4)]
        return cls(-1, *(np.concatenate([part[n] for part in parts]) for n in range(1, len(cls._fields))))


class Meta(NamedTuple):
    """What an OBJECT frame says about its value.

    *dtype* is None for a text. *at* are the frame of the numbers that were logged before it, and how many of them were.
    *raw* is where the bytes of the value begin in the payload.
    """

    series: int
    kind: str
    step: int
    time: float
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]
    attrs: dict[str, Any]
    at: tuple[int, int]
    raw: int


def decode_rows(frame: Frame) -> Rows:
    """Return the columns of a ROWS frame as arrays over its bytes; raises `DamagedFile`."""
    _check_rows(frame)
    return _rows_of(frame.payload, len(frame.payload))._replace(number=frame.number)


def _check_rows(frame: Frame) -> int:
    """Return the number of rows in a ROWS frame; raises `DamagedFile`."""
    raw, size = frame.payload, len(frame.payload)
    n = int.from_bytes(raw[:4], "little")
    if size != 4 + _ROW_BYTES * n or n > _MAX_ROWS:
        raise DamagedFile(f"byte {frame.offset}: a frame of {n} rows has {size} bytes")
    if raw[4 + 4 * n : 4 + 5 * n].translate(None, _CODES):
        raise DamagedFile(f"byte {frame.offset}: a number of unknown type")
    return n


@lru_cache(256)
def _layout(size: int) -> np.dtype[Any]:
    n = (size - 4) // _ROW_BYTES
    columns = [("series", "<u4"), ("code", "u1"), ("step", "<i8"), ("time", "<f8"), ("bits", "<i8")]
    return np.dtype([("n", "<u4"), *((name, dtype, (n,)) for name, dtype in columns)])


def _rows_of(raw: bytes, size: int) -> Rows:
    """Return the rows of frames of *size* bytes that lie one behind the other."""
    frames = np.frombuffer(raw, _layout(size))
    return Rows(-1, *(frames[name].reshape(-1) for name in Rows._fields[1:]))


class RowBuffer:
    """Numbers of many frames, to be put together: a program that logs little writes frames of one row, for weeks."""

    def __init__(self) -> None:
        self.count = 0
        self._payloads: list[bytes] = []

    def add(self, frame: Frame) -> None:
        """Take a ROWS frame; raises `DamagedFile`."""
        self.count += _check_rows(frame)
        self._payloads.append(frame.payload)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._payloads)

    def take(self) -> Rows:
        """Return the rows of all frames in their order, and forget them; `number` is meaningless there."""
        parts = [_rows_of(b"".join(group), size) for size, group in groupby(self._payloads, len)]
        self.count, self._payloads = 0, []
        return Rows.join(parts)


def decode_meta(frame: Frame) -> Meta:
    """Return what an OBJECT frame says about its value, all of it checked; raises `DamagedFile`."""
    return _decode_meta(frame.payload, len(frame.payload), frame.offset)


def _decode_meta(front: bytes, size: int, offset: int) -> Meta:
    try:
        (length,) = struct.unpack_from("<I", front)
        return _meta(json.loads(front[4 : 4 + length]), 4 + length, size)
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError, struct.error) as error:
        raise DamagedFile(f"byte {offset}: an object that cannot be read ({error})") from None


def _meta(told: dict[str, Any], raw: int, size: int) -> Meta:
    series, kind, step, attrs, at = told["series"], told["kind"], told["step"], told.get("attrs", {}), told["at"]
    if not (is_int(series, 0, 2**32 - 1) and is_int(step) and isinstance(kind, str) and isinstance(attrs, dict)):
        raise ValueError("its series, kind, step or attrs are none")
    if len(at) != 2 or not all(map(is_int, at)):
        raise ValueError("its place is none")
    dtype = dtype_from_json(told["dtype"]) if "dtype" in told else None
    shape = tuple(told["shape"]) if dtype is not None else ()
    if not all(is_int(n, 0) for n in shape):
        raise ValueError("its shape is none")
    if raw > size or (dtype is not None and math.prod(shape) * dtype.itemsize != size - raw):
        raise ValueError(f"{size - raw} bytes are no array of this shape and dtype")
    if math.prod(shape) > max(size, 1 << 20):
        raise ValueError("so many elements of no size")
    return Meta(series, kind, step, float(told["time"]), dtype, shape, attrs, (at[0], at[1]), raw)


def is_int(value: Any, low: int = -(2**63), high: int = 2**63 - 1) -> bool:
    """Return whether *value* is an int in that range, and no bool."""
    return type(value) is int and low <= value <= high


def decode_object(frame: Frame, meta: Meta) -> NDArray[Any] | str:
    """Return the array or text of an OBJECT frame, sharing memory with the frame; raises `DamagedFile`."""
    return _value(memoryview(frame.payload)[meta.raw :], meta, frame.offset)


def _value(raw: memoryview, meta: Meta, offset: int) -> NDArray[Any] | str:
    try:
        if meta.dtype is None:
            return str(raw, "utf-8", "surrogatepass")
        # Unlike np.frombuffer this takes arrays of no bytes, and unlike np.empty it keeps the dtype U0.
        value: NDArray[Any] = np.ndarray(meta.shape, meta.dtype, raw if len(raw) else None)
        check_items(value)
    except (ValueError, TypeError, MemoryError) as error:
        raise DamagedFile(f"byte {offset}: a value that cannot be read ({error})") from None
    return value


def read_object(file: IO[bytes], offset: int) -> tuple[Meta, NDArray[Any] | str]:
    """Return the value of an OBJECT frame that was found before, in memory of its own; raises `DamagedFile`."""
    file.seek(offset)
    head = file.read(HEADER_BYTES)
    length, crc = _HEADER.unpack_from(head)[5:7] if len(head) == HEADER_BYTES else (0, -1)
    front = file.read(4)
    text = file.read(struct.unpack("<I", front)[0]) if len(front) == 4 else b""
    # Aligned, and writable like what other readers give.
    data = np.empty(max(length - 4 - len(text), 0), np.uint8)
    file.readinto(data)  # type: ignore[attr-defined]
    if zlib.crc32(data.data, zlib.crc32(text, zlib.crc32(front))) != crc:
        raise DamagedFile(f"byte {offset}: this frame was sound, and is not any more")
    meta = _decode_meta(front + text, length, offset)
    return meta, _value(data.data, meta, offset)
