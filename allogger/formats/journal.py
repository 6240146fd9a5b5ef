"""Journal: how do values lie in the live file of one process, and how are they found again after anything?

A journal is a sequence of frames, appended and never changed::

    header, 28 bytes little-endian: magic "\\xabALJ", type u8, version u8, 0 u16, number u32, length u64,
                                    CRC-32 of the payload u32, CRC-32 of the 24 bytes before u32
    payload, *length* bytes:
      HEAD    JSON: the shard's name, process, attempt, start, host, pid
      NAMES   JSON: [[index, scope, key], ...]; the whole table comes again every few megabytes
      ROWS    u32 n, then columns: series u32[n], code u8[n], step i64[n], time f64[n], bits i64[n]
      OBJECT  u32 m, JSON of m bytes {"series", "kind", "step", "time", "dtype", "shape", "attrs", "at"}, raw bytes
      END     JSON: how the process closed the file

Frames with values are numbered, so a deleted, repeated or foreign block is noticed; the checksum of a header is salted
with the name of the shard, so a frame of another journal, or one that somebody logged as an array, is not taken for one
of this. A row names its series by an index that NAMES frames spell out as explicit pairs: damage can cost values, never
move them to another key.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from allogger.errors import DamagedFile
from allogger.formats.dtypes import dtype_from_json, dtype_to_json
from allogger.reader import Columns, uniform
from allogger.record import BOOL, FLOAT, INT, Batch, Record

__all__ = ["Contents", "Frame", "Rows", "Scan", "encode_batch", "encode_end", "encode_head", "encode_names", "scan"]

HEAD, NAMES, ROWS, OBJECT, END = 1, 2, 3, 4, 5
VERSION = 1
MAGIC = b"\xabALJ"
_HEADER = struct.Struct("<4sBBHIQI")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size

Buffer = bytes | memoryview


def salt_of(name: str) -> int:
    """Return the start value of the header checksums of the shard *name*."""
    return zlib.crc32(name.encode("utf-8", "surrogatepass"))


def _frame(type_: int, number: int, payload: Iterable[Buffer], salt: int) -> list[Buffer]:
    parts = list(payload)
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    head = _HEADER.pack(MAGIC, type_, VERSION, 0, number & 0xFFFFFFFF, sum(len(p) for p in parts), crc)
    return [head + _CRC.pack(zlib.crc32(head, salt)), *parts]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def encode_head(about: Mapping[str, Any]) -> bytes:
    """Return the first frame; its checksum is not salted, because it tells the salt."""
    return b"".join(_frame(HEAD, 0, [_json(dict(about))], 0))


def encode_names(names: Iterable[tuple[int, str, str]], salt: int) -> bytes:
    """Return a frame of ``(index, scope, key)`` triples."""
    return b"".join(_frame(NAMES, 0, [_json(list(names))], salt))


def encode_end(about: Mapping[str, Any], salt: int) -> bytes:
    """Return the last frame of a journal whose process closed it."""
    return b"".join(_frame(END, 0, [_json(dict(about))], salt))


def encode_batch(batch: Batch, number: int, salt: int) -> tuple[list[Buffer], int]:
    """Return the frames of a batch as buffers, and the number of frames; the first gets *number*.

    The buffers of arrays are the arrays' own memory: nothing is copied.
    """
    buffers: list[Buffer] = []
    rows_number = number
    if len(batch.series):
        columns = (batch.series, batch.code, batch.step, batch.time, batch.bits)
        payload = [struct.pack("<I", len(batch.series)), *(_bytes_of(column) for column in columns)]
        buffers += _frame(ROWS, number, [b"".join(payload)], salt)
        number += 1
    for record, place in zip(batch.objects, batch.places, strict=True):
        buffers += _frame(OBJECT, number, _object(record, rows_number, place), salt)
        number += 1
    return buffers, number - rows_number


def _bytes_of(array: NDArray[Any]) -> Buffer:
    if not array.size:
        return b""
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _object(record: Record, rows_number: int, place: int) -> list[Buffer]:
    payload = record.payload
    meta: dict[str, Any] = {
        "series": record.series.index,
        "kind": record.kind,
        "step": record.step,
        "time": record.time,
        "at": [rows_number, place],
    }
    raw: Buffer
    if isinstance(payload, str):
        raw = payload.encode("utf-8", "surrogatepass")
    else:
        array = np.asarray(payload)
        meta["dtype"] = dtype_to_json(array.dtype)
        meta["shape"] = array.shape
        raw = _bytes_of(array)
    if record.attrs:
        meta["attrs"] = dict(record.attrs)
    text = _json(meta)
    return [struct.pack("<I", len(text)), text, raw]


# ------------------------------------------------------------------------------------------------------------- reading


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


@dataclass
class Scan:
    """What a pass over a journal has found so far."""

    name: str
    offset: int = 0
    number: int = -1
    about: dict[str, Any] = field(default_factory=dict)
    names: dict[int, tuple[str, str]] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    closed: dict[str, Any] | None = None
    torn_bytes: int = 0

    @property
    def salt(self) -> int:
        """The start value of the header checksums."""
        return salt_of(str(self.about.get("name", self.name)))


def scan(file: IO[bytes], found: Scan, size: int | None = None) -> Iterator[Frame]:
    """Yield the sound ROWS and OBJECT frames of an open journal from ``found.offset`` on, in order; fill *found*.

    Stops before an incomplete frame at the end, which is no damage: it is being written, or its writer was killed.
    After a damaged place the next sound frame is looked for. A second pass with the same *found* goes on where the
    first ended.
    """
    end = os.fstat(file.fileno()).st_size if size is None else size
    while found.offset < end:
        head = _header_at(file, found.offset, found.salt)
        if head is None:
            after = _next_frame(file, found.offset + 1, end, found)
            if after is None:
                if _is_torn(file, found.offset, end):
                    found.torn_bytes = end - found.offset
                    return
                after = end
            found.damage.append(f"bytes {found.offset} to {after}: no readable frame")
            found.offset = after
            continue
        type_, number, length, crc = head
        start = found.offset + HEADER_BYTES
        if start + length > end:
            # Either the last frame is still being written, or a block was cut out of the file behind this header.
            after = _next_frame(file, found.offset + 1, end, found)
            if after is None:
                found.torn_bytes = end - found.offset
                return
            found.damage.append(f"bytes {found.offset} to {after}: frame {number} is cut short")
            found.offset = after
            continue
        file.seek(start)
        payload = file.read(length)
        if len(payload) < length:
            return
        if zlib.crc32(payload) != crc:
            after = _next_frame(file, found.offset + 1, end, found) or start + length
            found.damage.append(f"bytes {found.offset} to {after}: frame {number} has a wrong checksum")
            found.offset = after
            continue
        offset, found.offset = found.offset, start + length
        if type_ not in (ROWS, OBJECT) or _in_order(found, number, offset):
            yield from _take(Frame(type_, number, offset, payload), found)


def _header_at(file: IO[bytes], offset: int, salt: int) -> tuple[int, int, int, int] | None:
    file.seek(offset)
    return _parse_header(file.read(HEADER_BYTES), salt)


def _parse_header(raw: bytes, salt: int) -> tuple[int, int, int, int] | None:
    if len(raw) < HEADER_BYTES:
        return None
    magic, type_, version, _, number, length, crc = _HEADER.unpack_from(raw)
    if magic != MAGIC or version != VERSION:
        return None
    expected = zlib.crc32(raw[: _HEADER.size], 0 if type_ == HEAD else salt)
    if _CRC.unpack_from(raw, _HEADER.size)[0] != expected:
        return None
    return type_, number, length, crc


def _next_frame(file: IO[bytes], offset: int, end: int, found: Scan, block: int = 1 << 20) -> int | None:
    """Return where the next sound header begins, or None."""
    while offset < end:
        file.seek(offset)
        raw = file.read(block + HEADER_BYTES)
        at = raw.find(MAGIC)
        while at >= 0:
            head = _parse_header(raw[at : at + HEADER_BYTES], found.salt)
            if head is not None and offset + at + HEADER_BYTES + head[2] <= end:
                return offset + at
            at = raw.find(MAGIC, at + 1)
        if len(raw) <= HEADER_BYTES:
            return None
        offset += len(raw) - HEADER_BYTES
    return None


def _is_torn(file: IO[bytes], offset: int, end: int) -> bool:
    """Return whether the file ends in the first bytes of a frame's header."""
    file.seek(offset)
    rest = file.read(HEADER_BYTES)
    return end - offset < HEADER_BYTES and rest[:4] == MAGIC[: len(rest[:4])]


def _in_order(found: Scan, number: int, offset: int) -> bool:
    if number <= found.number:
        found.damage.append(f"byte {offset}: frame {number} comes again after frame {found.number}; ignored")
        return False
    if number > found.number + 1:
        found.damage.append(f"byte {offset}: frames {found.number + 1} to {number - 1} are missing")
    found.number = number
    return True


def _take(frame: Frame, found: Scan) -> Iterator[Frame]:
    if frame.type in (ROWS, OBJECT):
        yield frame
        return
    try:
        content = json.loads(frame.payload)
        if frame.type == NAMES:
            for index, scope, key in content:
                known = found.names.setdefault(int(index), (str(scope), str(key)))
                if known != (scope, key):
                    found.damage.append(f"byte {frame.offset}: series {index} has two names")
        elif frame.type == HEAD:
            found.about = dict(content)
        elif frame.type == END:
            found.closed = dict(content)
    except (ValueError, TypeError, RecursionError) as error:
        found.damage.append(f"byte {frame.offset}: a frame that cannot be read ({error})")


def decode_rows(frame: Frame) -> Rows:
    """Return the columns of a ROWS frame as arrays over its bytes; raises `DamagedFile`."""
    (n,) = struct.unpack_from("<I", frame.payload)
    if len(frame.payload) != 4 + 29 * n:
        raise DamagedFile(f"byte {frame.offset}: a frame of {n} rows has {len(frame.payload)} bytes")
    at = 4
    columns = []
    for dtype in ("<u4", "u1", "<i8", "<f8", "<i8"):
        column = np.frombuffer(frame.payload, dtype, n, at)
        columns.append(column)
        at += column.nbytes
    return Rows(frame.number, *columns)


def object_meta(frame: Frame) -> dict[str, Any]:
    """Return the JSON part of an OBJECT frame; raises `DamagedFile`."""
    try:
        (length,) = struct.unpack_from("<I", frame.payload)
        meta = json.loads(frame.payload[4 : 4 + length])
        return {**meta, "raw": 4 + length, "series": int(meta["series"]), "step": int(meta["step"])}
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise DamagedFile(f"byte {frame.offset}: an object that cannot be read ({error})") from None


def object_payload(frame: Frame, meta: Mapping[str, Any]) -> NDArray[Any] | str:
    """Return the array or text of an OBJECT frame, sharing memory with the frame; raises `DamagedFile`."""
    raw = frame.payload[meta["raw"] :] if "dtype" not in meta else frame.payload
    if "dtype" not in meta:
        return raw.decode("utf-8", "surrogatepass")
    try:
        dtype = dtype_from_json(meta["dtype"])
        shape = tuple(int(n) for n in meta["shape"])
        count = int(np.prod(shape, dtype=object)) if shape else 1
        if min(shape, default=0) < 0 or count * dtype.itemsize != len(raw) - meta["raw"]:
            raise ValueError(f"shape {shape} of {dtype} does not fit {len(raw) - meta['raw']} bytes")
        if not count or not dtype.itemsize:
            return np.empty(shape, dtype)
        return np.frombuffer(raw, dtype, count, meta["raw"]).reshape(shape)
    except (ValueError, TypeError) as error:
        raise DamagedFile(f"byte {frame.offset}: an array that cannot be read ({error})") from None


def head_of(path: Path) -> dict[str, Any]:
    """Return what a journal says about its shard; empty if its first frame is damaged or missing."""
    with open(path, "rb") as file:
        found = Scan(path.stem)
        end = min(os.fstat(file.fileno()).st_size, 1 << 20)
        for _ in scan(file, found, end):
            break
    return found.about


# Integers up to here are exact as float64.
_EXACT = 2**53


class Place(NamedTuple):
    """Where an OBJECT frame is, and what it says."""

    offset: int
    meta: dict[str, Any]


class Contents:
    """What a journal holds: for each series the values, put together from all frames.

    Give it the frames with `add`; with ``keep=False`` it only counts, which is enough for `plan`.
    """

    def __init__(self, keep: bool = True) -> None:
        self.keep = keep
        self.rows: list[Rows] = []
        self.objects: dict[tuple[int, str], list[Place]] = {}
        self.counts = np.zeros((0, 3), np.int64)
        self.large: set[int] = set()
        self.layouts: dict[tuple[int, str], dict[str, None]] = {}

    def add(self, frame: Frame) -> None:
        """Take a ROWS or OBJECT frame; raises `DamagedFile`."""
        if frame.type == ROWS:
            self._add_rows(decode_rows(frame))
        else:
            meta = object_meta(frame)
            which = (meta["series"], str(meta.get("kind")))
            self.objects.setdefault(which, []).append(Place(frame.offset, meta))
            layout = json.dumps([meta.get("dtype"), meta.get("shape")])
            self.layouts.setdefault(which, {})[layout] = None

    def _add_rows(self, rows: Rows) -> None:
        if not len(rows.series):
            return
        highest = int(rows.series.max()) + 1
        if highest > len(self.counts):
            self.counts = np.vstack([self.counts, np.zeros((max(highest - len(self.counts), 64), 3), np.int64)])
        width = len(self.counts)
        if rows.code.max() > BOOL:
            raise DamagedFile(f"frame {rows.number}: an unknown type of number")
        if rows.code.any():
            for code in (FLOAT, INT, BOOL):
                self.counts[:, code] += np.bincount(rows.series[rows.code == code], minlength=width)
            large = (rows.code == INT) & ((rows.bits > _EXACT) | (rows.bits < -_EXACT))
            self.large.update(rows.series[large].tolist())
        else:
            self.counts[:, FLOAT] += np.bincount(rows.series, minlength=width)
        if self.keep:
            self.rows.append(rows)

    def series(self) -> list[tuple[int, str]]:
        """Return the index and kind of every series that has values."""
        numbers = [(index, "scalar") for index in np.flatnonzero(self.counts.any(axis=1)).tolist()]
        return list(dict.fromkeys([*numbers, *self.objects]))

    def count(self, which: tuple[int, str]) -> int:
        """Return the number of values of a series."""
        index, kind = which
        numbers = int(self.counts[index].sum()) if kind == "scalar" and index < len(self.counts) else 0
        return numbers + len(self.objects.get(which, ()))

    def dtype(self, index: int) -> np.dtype[Any] | None:
        """Return the dtype that holds all numbers of a series exactly, or None if none does."""
        floats, ints, bools = self.counts[index].tolist() if index < len(self.counts) else (0, 0, 0)
        if (index, "scalar") in self.objects:
            return None
        if floats:
            return None if index in self.large else np.dtype(np.float64)
        return np.dtype(np.int64) if ints else np.dtype(np.bool_) if bools else None

    def layout_count(self, which: tuple[int, str]) -> int:
        """Return how many different dtypes and shapes the values of a series have."""
        index, kind = which
        of_objects = len(self.layouts.get(which, ()))
        if kind != "scalar" or index >= len(self.counts):
            return of_objects
        if self.dtype(index) is not None:
            return 1
        return of_objects + int((self.counts[index] > 0).sum())


def in_series(rows: list[Rows]) -> Iterator[tuple[int, Rows]]:
    """Yield for each series in *rows* its index and its rows, in the order logged; `number` is meaningless there."""
    if not rows:
        return
    series, code, step, time, bits = (
        np.concatenate([getattr(r, name) for r in rows]) for name in ("series", "code", "step", "time", "bits")
    )
    order = np.argsort(series, kind="stable")
    ordered = series[order]
    cuts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    for part in np.split(order, cuts):
        yield int(series[part[0]]), Rows(0, series[part], code[part], step[part], time[part], bits[part])


def numbers(rows: Rows, dtype: np.dtype[Any] | None) -> NDArray[Any]:
    """Return the values of *rows* as an array of *dtype*, or, if that is None, as an object array of numbers."""
    if dtype == np.float64:
        if not rows.code.any():
            return rows.bits.view(np.float64)
        return np.where(rows.code == FLOAT, rows.bits.view(np.float64), rows.bits)
    if dtype is not None:
        return rows.bits.astype(dtype)
    values = np.empty(len(rows.bits), dtype=object)
    floats = rows.bits.view(np.float64)
    for row, code in enumerate(rows.code.tolist()):
        dtype = _OF_CODE[code]
        values[row] = np.asarray(floats[row] if code == FLOAT else rows.bits[row], dtype)
    return values


_OF_CODE = {FLOAT: np.dtype(np.float64), INT: np.dtype(np.int64), BOOL: np.dtype(np.bool_)}


def read_object(file: IO[bytes], place: Place) -> NDArray[Any] | str:
    """Return the array or text of an OBJECT frame that was found before; raises `DamagedFile`."""
    file.seek(place.offset)
    head = file.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        raise DamagedFile(f"byte {place.offset}: the file has become shorter")
    length, crc = _HEADER.unpack_from(head)[5:7]
    payload = file.read(length)
    if zlib.crc32(payload) != crc:
        raise DamagedFile(f"byte {place.offset}: wrong checksum")
    return object_payload(Frame(OBJECT, 0, place.offset, payload), place.meta)


def object_columns(items: list[tuple[dict[str, Any], NDArray[Any] | str]]) -> Columns:
    """Return as columns the values of one series, given as pairs of `object_meta` and `object_payload`."""
    return Columns(
        np.array([meta["step"] for meta, _ in items], np.int64),
        np.array([meta["time"] for meta, _ in items], np.float64),
        uniform([payload for _, payload in items]),
        {row: meta["attrs"] for row, (meta, _) in enumerate(items) if meta.get("attrs")},
    )


def mixed_columns(file: IO[bytes], contents: Contents, index: int, damage: list[str]) -> Columns:
    """Return the scalars of a series that has both plain numbers and others (complex ones), in the order logged."""
    where: list[tuple[int, float]] = []
    items: list[tuple[dict[str, Any], NDArray[Any] | str]] = []
    for rows in contents.rows:
        mine = np.flatnonzero(rows.series == index)
        part = rows.take(mine)
        for row, step, time, value in zip(
            mine.tolist(), part.step.tolist(), part.time.tolist(), numbers(part, None), strict=True
        ):
            where.append((rows.number, row))
            items.append(({"step": step, "time": time}, value))
    for place in contents.objects.get((index, "scalar"), ()):
        try:
            items.append((place.meta, read_object(file, place)))
        except DamagedFile as error:
            damage.append(str(error))
            continue
        rows_number, before = place.meta.get("at", (0, 0))
        where.append((rows_number, before - 0.5))
    order = sorted(range(len(items)), key=where.__getitem__)
    return object_columns([items[i] for i in order])
