"""HDF5 image: how do the finished values of a shard lie in an HDF5 file, and how are they read without trusting it?

Every series is a dataset of compound rows ``step i8, time f8, walltime f8, value`` at `allogger.record.hdf_path`, which
any HDF5 tool can read. What such a tool need not know lies beside them in the group ``allogger``:

- ``index``: JSON as bytes, with what is known about all series in columns;
- ``blocks``: smallest, largest and mean value of each 1,024 values of the longer series of real numbers;
- ``attrs``: the attributes of single values, where the values of a series do not share them; what a row says holds from
  the value ``row`` of its series on, until the next row of that series;
- ``texts``: the exact UTF-8 (surrogates passed) of texts that HDF5 strings cannot hold; the dataset shows them escaped.

A series of several dtypes or shapes has one dataset for each, and the position of each value in a field ``order``.
What HDF5 has no type for lies there as opaque bytes, its dtype in the attribute ``dtype``, spelt as in a ``.npy`` file.
Values that do not fit into a field of fixed size (*ragged*) have a variable length, and their ``shape`` beside them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5p, h5s, h5t, h5z
from numpy.typing import NDArray

from allogger.errors import DamagedFile
from allogger.formats.dtypes import dtype_from_json, dtype_to_json
from allogger.reader import Columns, SeriesId
from allogger.record import MAIN_PROCESS, full_key, hdf_path
from allogger.rundir import sync_folder

__all__ = [
    "ATTRS",
    "BLOCKS",
    "FORMAT",
    "INDEX",
    "OWN_GROUP",
    "SIDE_TABLES",
    "TEXTS",
    "ImageBuilder",
    "ImageDataset",
    "ImageFile",
    "SeriesPlan",
    "objects",
    "values_of",
]

FORMAT = 1

OWN_GROUP = "allogger"
INDEX, BLOCKS, ATTRS, TEXTS = (f"{OWN_GROUP}/{name}" for name in ("index", "blocks", "attrs", "texts"))
BLOCK_ROWS = 1024

PENDING_BYTES = 32 * 2**20
CHUNK_BYTES, LEAST_CHUNK_BYTES, LEAST_CHUNK_ROWS = 256 * 2**10, 8 * 2**10, 64
# Up to here a dataset lies in its own header: a chunk and its index would take more than compression saves.
COMPACT_BYTES = 8 * 2**10
# A chunk is in memory several times while it is compressed; a larger value is written as it is.
CHUNKED_ROW_BYTES = 64 * 2**20
# The size of a row is a 32-bit integer in HDF5, a signed one in numpy.
FIXED_ROW_BYTES = 2**30
# Higher levels take longer and save 3 % at most.
GZIP_LEVEL = 1

MAX_FIXED_DATASETS = 8
MAX_PATH_BYTES, MAX_PATH_PARTS = 16_000, 64
MAX_ATTRIBUTE_CHARACTERS = 15_000

#: A dataset may say that its rows take this many times the bytes that store them; deflate reaches 1032.
MAX_EXPANSION = 1100
#: So many rows of variable length are read at once; each may, in a hostile file, be as long as the whole file.
RAGGED_ROWS = 64

_FRONT: list[tuple[Any, ...]] = [("step", "<i8"), ("time", "<f8"), ("walltime", "<f8")]
_TEXT = h5py.string_dtype()
_BLOCK = np.dtype(
    [
        ("series", "<u4"),
        ("row", "<i8"),
        ("step", "<i8"),
        ("time", "<f8"),
        ("min", "<f8"),
        ("max", "<f8"),
        ("mean", "<f8"),
        ("count", "<i8"),
    ]
)
#: The rows of allogger's own tables; ``series`` is the number of a series in the index, ``row`` that of a value in it.
SIDE_TABLES = {
    BLOCKS: _BLOCK,
    ATTRS: np.dtype([("series", "<u4"), ("row", "<i8"), ("value", _TEXT)]),
    TEXTS: np.dtype([("series", "<u4"), ("row", "<i8"), ("value", h5py.vlen_dtype(np.uint8))]),
}


@dataclass(frozen=True)
class SeriesPlan:
    """What will be appended to a series: the number of values, and how many (dtype, shape) there are among them."""

    count: int
    layouts: int = 1


# --------------------------------------------------------------------------------------------------- values by layout


@dataclass(frozen=True)
class Layout:
    """What the values of one dataset have in common; *dtype* is None for texts, *shape* is None where it differs."""

    dtype: np.dtype[Any] | None
    shape: tuple[int, ...] | None = ()

    @property
    def is_ragged(self) -> bool:
        """Whether a value cannot be a field of fixed size: no bytes, too many of them, or too many axes for HDF5."""
        if self.dtype is None:
            return False
        if self.shape is None or len(self.shape) > 32:
            return True
        return not 0 < math.prod(self.shape) * self.dtype.itemsize <= FIXED_ROW_BYTES

    @property
    def is_real_number(self) -> bool:
        """Whether a value is one real number or bool."""
        return self.dtype is not None and self.shape == () and self.dtype.kind in "biuf"


_PYTHON_NUMBERS = {kind: Layout(np.dtype(kind)) for kind in (float, int, bool, complex)}


def _layout_of(value: Any) -> Layout:
    found = _PYTHON_NUMBERS.get(type(value))
    if found is not None:
        return found
    if isinstance(value, str) and not isinstance(value, np.generic):
        return Layout(None)
    array = np.asarray(value)
    return Layout(array.dtype, array.shape)


def _by_layout(value: NDArray[Any]) -> Iterator[tuple[slice | NDArray[np.intp], Layout, Any]]:
    """Yield ``(rows, layout, values)`` for each layout in a column of values."""
    if value.dtype != object:
        yield slice(None), Layout(value.dtype, value.shape[1:]), value
        return
    groups: dict[Layout, list[int]] = {}
    for row, one in enumerate(value):
        groups.setdefault(_layout_of(one), []).append(row)
    for layout, rows in groups.items():
        values: Any = [value[row] for row in rows]
        if layout.dtype is not None and layout.shape is not None and not layout.is_ragged:
            # np.stack would turn big-endian values into native ones.
            stacked = np.empty((len(rows), *layout.shape), layout.dtype)
            for row, one in enumerate(values):
                stacked[row] = one
            values = stacked
        yield np.array(rows), layout, values


def objects(values: Iterable[Any]) -> NDArray[Any]:
    """Return *values* as the items of an object array, whatever they are."""
    items = list(values)
    out = np.empty(len(items), dtype=object)
    for row, value in enumerate(items):
        out[row] = value
    return out


def _join(pieces: list[Columns]) -> Columns:
    if len(pieces) == 1:
        return pieces[0]
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    first = pieces[0].value
    alike = all(piece.value.dtype == first.dtype and piece.value.shape[1:] == first.shape[1:] for piece in pieces)
    value = np.empty((ends[-1], *first.shape[1:]), first.dtype) if alike else np.empty(ends[-1], object)
    attrs: dict[int, Mapping[str, Any]] = {}
    for piece, end in zip(pieces, ends, strict=True):
        start = end - len(piece)
        value[start:end] = piece.value if alike else objects(piece.value)
        attrs.update((start + row, own) for row, own in piece.attrs.items())
    step, time = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("step", "time"))
    return Columns(step, time, value, attrs)


def _part(columns: Columns, start: int, stop: int) -> Columns:
    if (start, stop) == (0, len(columns)):
        return columns
    attrs = {row - start: own for row, own in columns.attrs.items() if start <= row < stop}
    return Columns(columns.step[start:stop], columns.time[start:stop], columns.value[start:stop], attrs)


def _owned(columns: Columns) -> Columns:
    """Return a copy: a few rows that wait must not keep the large array alive that they were cut out of."""
    value = columns.value.copy()
    if value.dtype == object:
        value = objects(v.copy() if isinstance(v, np.ndarray) else v for v in value)
    return Columns(columns.step.copy(), columns.time.copy(), value, dict(columns.attrs))


def _nbytes(columns: Columns) -> int:
    size = 16 * len(columns) + columns.value.nbytes + 200 * len(columns.attrs)
    if columns.value.dtype == object:
        size += sum(60 + 4 * len(v) if isinstance(v, str) else 120 + getattr(v, "nbytes", 0) for v in columns.value)
    return size


# ------------------------------------------------------------------------------------------------------ values in rows


@dataclass(frozen=True)
class Cells:
    """How values lie in rows: the dtype of a *row*, and *descr*, their own dtype as JSON where HDF5 has none for it."""

    row: np.dtype[Any]
    descr: str = ""
    is_ragged: bool = False


@lru_cache(1024)
def _is_native(dtype: np.dtype[Any]) -> bool:
    """Return whether HDF5 has a type that gives back exactly this dtype."""
    try:
        return bool(h5t.py_create(dtype).dtype == dtype)
    except (TypeError, ValueError, RuntimeError):
        return False


def _descr(dtype: np.dtype[Any]) -> str:
    """Return a dtype as JSON; raises `ValueError` if that would not give the same one back."""
    described = dtype_to_json(dtype)
    if dtype_from_json(json.loads(json.dumps(described))) != dtype:
        raise ValueError(f"values of dtype {dtype} cannot be stored")
    return json.dumps(described)


@lru_cache(1024)
def _cells(layout: Layout, ordered: bool) -> Cells:
    dtype, descr = layout.dtype, ""
    back: list[tuple[Any, ...]] = [("order", "<i8")] if ordered else []
    if dtype is None:
        return Cells(np.dtype([*_FRONT, ("value", _TEXT), *back]))
    if layout.is_ragged:
        is_plain = dtype.kind in "iuf" and dtype.isnative and _is_native(dtype)
        descr = "" if is_plain else _descr(dtype)
        value = h5py.vlen_dtype(dtype if is_plain else np.uint8)
        return Cells(np.dtype([*_FRONT, ("value", value), *back, ("shape", h5py.vlen_dtype("<i8"))]), descr, True)
    if not _is_native(dtype):
        descr = _descr(dtype)
        dtype = np.dtype((np.void, dtype.itemsize))
    return Cells(np.dtype([*_FRONT, ("value", dtype, layout.shape), *back]), descr)


def _put_values(rows: NDArray[Any], values: Sequence[Any] | NDArray[Any], cells: Cells) -> None:
    """Set the fields of *rows* that hold *values*."""
    if cells.is_ragged:
        arrays = [np.asarray(value) for value in values]
        rows["value"] = objects(
            np.frombuffer(a.tobytes(), np.uint8) if cells.descr else np.ascontiguousarray(a).reshape(-1) for a in arrays
        )
        rows["shape"] = objects(np.array(a.shape, "<i8") for a in arrays)
    elif cells.descr:
        rows["value"] = np.ascontiguousarray(values).view(rows.dtype["value"].base)
    else:
        rows["value"] = values


def values_of(rows: NDArray[Any], descr: str = "") -> NDArray[Any]:
    """Return the values in *rows* that were read from a dataset, *descr* being its attribute ``dtype``.

    The first axis counts the rows; texts and ragged values come as objects. Raises `ValueError` for damaged rows.
    """
    value = rows["value"]
    dtype = dtype_from_json(json.loads(descr)) if descr else None
    if "shape" in (rows.dtype.names or ()):
        pairs = zip(value, rows["shape"], strict=True)
        return objects(_reshaped(flat, flat.dtype if dtype is None else dtype, shape) for flat, shape in pairs)
    if value.dtype == object:
        return objects(v if isinstance(v, str) else bytes(v).decode("utf-8", "replace") for v in value)
    value = np.ascontiguousarray(value)
    if dtype is not None:
        if value.dtype.kind != "V" or value.dtype.names is not None or value.dtype.itemsize != dtype.itemsize:
            raise ValueError(f"the values are not of dtype {dtype}")
        value = value.view(dtype)
    if value.dtype == bool and value.size and value.view(np.uint8).max() > 1:
        raise ValueError("a bool is neither true nor false")
    if value.dtype.kind == "U" and value.size:
        # numpy shows such an array only as far as it comes.
        points = value.view(np.dtype(np.uint32).newbyteorder(value.dtype.byteorder))
        if points.max() > 0x10FFFF:
            raise ValueError("a text has a character that does not exist")
    return value


def _reshaped(flat: NDArray[Any], dtype: np.dtype[Any], shape: NDArray[Any]) -> NDArray[Any]:
    axes = tuple(shape.tolist())
    if min(axes, default=0) < 0 or math.prod(axes) * dtype.itemsize != flat.nbytes:
        raise ValueError(f"{flat.nbytes} bytes are no array of shape {axes} and dtype {dtype}")
    # Unlike np.empty this keeps a dtype of no bytes, such as U0.
    return np.ndarray(axes, dtype, bytearray(flat.tobytes()) if flat.nbytes else None)


def _shown(text: str) -> str | None:
    """Return what an HDF5 string shows of a text that it cannot hold exactly, or None if it can."""
    try:
        if "\0" not in text:
            text.encode()
            return None
    except UnicodeEncodeError:
        pass
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


# ---------------------------------------------------------------------------------------------- what libhdf5 writes to


class _Sink:
    """A file for `h5py.File` that never fails, but remembers.

    libhdf5 answers an error of the disk in the middle of its work with worse than an exception. So from the first error
    on everything stays in memory, where libhdf5 finds what it wrote, and the builder asks for `error` after each step.
    A forked child, which inherits the descriptor, writes nothing.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._pid = os.getpid()
        self._position = 0
        self._end = 0
        self._unwritten: list[tuple[int, bytes]] = []
        self.error: BaseException | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (self._end if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def write(self, data: Any) -> int:
        start = self._position
        # Ctrl-C must not go through libhdf5 either.
        try:
            if self.error is None and os.getpid() == self._pid:
                _write_all(self._fd, data, start)
            else:
                self._unwritten.append((start, bytes(data)))
        except BaseException as error:
            self.error = error
            self._unwritten.append((start, bytes(data)))
        self._position = start + len(data)
        self._end = max(self._end, self._position)
        return len(data)

    def read(self, size: int) -> bytes:
        data = bytearray(size)
        self.readinto(data)
        return bytes(data)

    def readinto(self, buffer: Any) -> int:
        start, view = self._position, memoryview(buffer).cast("B")
        self._position = start + len(view)
        try:
            _read_all(self._fd, view, start)
        except BaseException as error:
            self.error = self.error or error
        for offset, data in self._unwritten:
            low, high = max(offset, start), min(offset + len(data), start + len(view))
            if low < high:
                view[low - start : high - start] = data[low - offset : high - offset]
        return len(view)

    def truncate(self, size: int) -> int:
        try:
            if self.error is None and os.getpid() == self._pid:
                os.ftruncate(self._fd, size)
        except BaseException as error:
            self.error = error
        self._end = size
        return size

    def check(self) -> None:
        """Raise the first error that was met."""
        if self.error is not None:
            raise self.error

    def sync(self) -> None:
        self.check()
        os.fsync(self._fd)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _read_all(fd: int, view: memoryview, offset: int) -> None:
    """Fill *view* as far as the file goes."""
    while view and (got := os.preadv(fd, [view], offset)):
        view, offset = view[got:], offset + got


def _write_all(fd: int, data: Any, offset: int) -> None:
    view = memoryview(data).cast("B")
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


# ------------------------------------------------------------------------------------------------------------- datasets


def _link_plist() -> Any:
    plist = h5p.create(h5p.LINK_CREATE)
    plist.set_create_intermediate_group(True)
    plist.set_char_encoding(h5t.CSET_UTF8)
    return plist


def _access_plist() -> Any:
    # Whole chunks pass through; a cache in each dataset would only keep its last chunk in memory.
    plist = h5p.create(h5p.DATASET_ACCESS)
    plist.set_chunk_cache(1, 0, 1.0)
    return plist


_LINK, _ACCESS, _SCALAR = _link_plist(), _access_plist(), h5s.create(h5s.SCALAR)


def _types(row: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the HDF5 types of a row in the file and in memory, which differ for what has a variable length."""
    # Rows with objects compare equal whatever the objects are, so a cache would mix them up.
    if row.hasobject:
        return h5t.py_create(row, logical=True), h5t.py_create(row)
    return _fixed_type(row), _fixed_type(row)


@lru_cache(256)
def _fixed_type(row: np.dtype[Any]) -> Any:
    return h5t.py_create(row)


@lru_cache(256)
def _creation_plist(row_bytes: int, rows: int | None, chunk_rows: int, is_variable: bool) -> Any:
    """Return how a dataset is stored: in its header if it is small, else compressed in chunks."""
    plist = h5p.create(h5p.DATASET_CREATE)
    # Without times the same values always make the same file.
    plist.set_obj_track_times(False)
    if not is_variable:
        plist.set_fill_time(h5d.FILL_TIME_NEVER)
    if rows is not None and rows * row_bytes <= COMPACT_BYTES:
        plist.set_layout(h5d.COMPACT)
    elif rows is None or row_bytes <= CHUNKED_ROW_BYTES:
        plist.set_chunk((chunk_rows,))
        plist.set_shuffle()
        plist.set_deflate(GZIP_LEVEL)
    return plist


_TEXT_TYPE, _TEXT_IN_MEMORY = h5t.py_create(_TEXT, logical=True), h5t.py_create(_TEXT)


def _set_text(owner: Any, name: str, text: str) -> None:
    """Set an attribute, as opaque bytes if no string can hold it; one too large for a header is left to the index."""
    if len(text) > MAX_ATTRIBUTE_CHARACTERS:
        return
    if _shown(text) is None:
        h5a.create(owner, name.encode(), _TEXT_TYPE, _SCALAR).write(np.array(text, object), _TEXT_IN_MEMORY)
    else:
        cell = np.array(np.void(text.encode("utf-8", "surrogatepass")))
        h5a.create(owner, name.encode(), h5t.py_create(cell.dtype), _SCALAR).write(cell)


class _Table:
    """A dataset that is filled from its first row to its last; *rows* is their number, None if nobody knows it yet.

    It is open only while it is written to: ten thousand open datasets take more memory than the rows that wait.
    """

    def __init__(
        self, file: Any, path: str, row: np.dtype[Any], rows: int | None, chunk_bytes: int, texts: Mapping[str, str]
    ) -> None:
        self.path = path
        self.row = row
        self.written = 0
        self._file = file
        self._rows = rows
        self._texts = texts
        self._file_type, self._memory_type = _types(row)
        self._row_bytes: int = self._file_type.get_size()
        self.chunk_rows: int = max(1, min(chunk_bytes // self._row_bytes, rows or chunk_bytes))

    def write(self, rows: NDArray[Any]) -> None:
        """Add *rows* to the end."""
        dataset = self.open() if self.written else self._create()
        end = self.written + len(rows)
        if self._rows is None:
            dataset.set_extent((end,))
        if len(rows) == self._rows:
            dataset.write(h5s.ALL, h5s.ALL, rows, self._memory_type)
        else:
            space = dataset.get_space()
            space.select_hyperslab((self.written,), (len(rows),))
            dataset.write(h5s.create_simple((len(rows),)), space, rows, self._memory_type)
        self.written = end

    def _create(self) -> Any:
        rows = self._rows
        space = h5s.create_simple((rows or 0,), (h5s.UNLIMITED if rows is None else rows,))
        plist = _creation_plist(self._row_bytes, rows, self.chunk_rows, self.row.hasobject)
        dataset = h5d.create(self._file, self.path.encode(), self._file_type, space, plist, _LINK, _ACCESS)
        for name, text in self._texts.items():
            _set_text(dataset, name, text)
        return dataset

    def open(self) -> Any:
        """Return the dataset, which has rows."""
        return h5d.open(self._file, self.path.encode(), _ACCESS)

    def whole_chunks(self, count: int) -> int:
        """Return how many of *count* rows end with a whole chunk."""
        end = self.written + count
        return max(0, end - end % self.chunk_rows - self.written)

    def portions(self, count: int) -> Iterator[slice]:
        """Yield the parts of *count* rows to write, one by one: some megabytes, to the end of a chunk."""
        stride = self.chunk_rows * max(1, 8 * 2**20 // (self.chunk_rows * self._row_bytes))
        start = 0
        while start < count:
            stop = min(count, start + stride - self.written % stride)
            yield slice(start, stop)
            start = stop


class _SideTable:
    """Rows about the values of all series, which come a few at a time."""

    def __init__(self, file: Any, path: str) -> None:
        self._place = (file, path, SIDE_TABLES[path])
        self._table: _Table | None = None
        self._pending: list[NDArray[Any]] = []
        self._pending_bytes = 0

    def add(self, rows: NDArray[Any] | tuple[Any, ...]) -> None:
        """Add rows, or one row as a tuple."""
        more = rows if isinstance(rows, np.ndarray) else np.array([rows], self._place[2])
        self._pending.append(more)
        self._pending_bytes += more.nbytes + (0 if isinstance(rows, np.ndarray) else 100 + len(rows[-1]))
        if self._pending_bytes > 2**20:
            self._write(None)

    def finish(self) -> None:
        """Write what waits."""
        if self._pending:
            self._write(sum(map(len, self._pending)))

    def _write(self, rows: int | None) -> None:
        if self._table is None:
            self._table = _Table(*self._place, rows, CHUNK_BYTES // 4, {})
        # np.concatenate drops what a dtype says about the objects in it.
        joined = np.empty(sum(map(len, self._pending)), self._place[2])
        np.concatenate(self._pending, out=joined)
        self._table.write(joined)
        self._pending.clear()
        self._pending_bytes = 0


# ----------------------------------------------------------------------------------------------------------- summaries


class _Summary:
    """Smallest, largest and mean of a series of real numbers, as a whole and for each 1,024 values, NaN left out."""

    def __init__(self, number: int, keeps_blocks: bool) -> None:
        self._number = number
        self._keeps_blocks = keeps_blocks
        self._open = self._whole = np.empty(0, _BLOCK)

    def add(self, row: int, step: NDArray[Any], time: NDArray[Any], value: NDArray[np.float64]) -> NDArray[Any]:
        """Take the values from *row* on; return the blocks that are complete with them."""
        with np.errstate(all="ignore"):
            blocks = self._blocks(row, step, time, value)
            if row % BLOCK_ROWS:
                blocks[:1] = _merged(self._open, blocks[:1])
            # A block counts in the whole once it is complete.
            full = len(blocks) - bool((row + len(value)) % BLOCK_ROWS)
            self._open = blocks[full:].copy()
            if full:
                self._whole = _merged(self._whole, blocks[:full])
        return blocks[:full] if self._keeps_blocks else blocks[:0]

    def rest(self) -> NDArray[Any]:
        """Return the last block if it is not full."""
        return self._open if self._keeps_blocks else self._open[:0]

    def _blocks(self, row: int, step: NDArray[Any], time: NDArray[Any], value: NDArray[np.float64]) -> NDArray[Any]:
        if len(value) == 1:
            # The way below takes ten times as long, which thousands of short series feel.
            one = float(value[0])
            return np.array([(self._number, row, step[0], time[0], one, one, one, one == one)], _BLOCK)
        starts = np.arange(-(row % BLOCK_ROWS), len(value), BLOCK_ROWS)
        starts[0] = 0
        is_number = ~np.isnan(value)
        blocks = np.empty(len(starts), _BLOCK)
        blocks["series"] = self._number
        blocks["row"] = row + starts
        blocks["step"] = step[starts]
        blocks["time"] = time[starts]
        blocks["min"] = np.fmin.reduceat(value, starts)
        blocks["max"] = np.fmax.reduceat(value, starts)
        blocks["count"] = np.add.reduceat(is_number, starts, dtype=np.int64)
        # Divided by a power of two, which is exact, the sum of the largest numbers does not overflow.
        sums = np.add.reduceat(np.where(is_number, value, 0.0) / BLOCK_ROWS, starts)
        blocks["mean"] = sums * (BLOCK_ROWS / blocks["count"])
        return blocks

    def as_json(self) -> dict[str, Any]:
        """Return ``min``, ``max`` and ``mean``; null if every value is NaN."""
        with np.errstate(all="ignore"):
            whole = _merged(self._whole, self._open)
        return {name: _json_number(whole[name][0]) for name in ("min", "max", "mean")}


def _merged(first: NDArray[Any], then: NDArray[Any]) -> NDArray[Any]:
    """Return one block that stands for all of the blocks *first* and *then*."""
    blocks = np.concatenate([first, then]) if len(first) and len(then) else first if len(first) else then
    if len(blocks) == 1:
        return blocks
    out = blocks[:1].copy()
    total = blocks["count"].sum()
    some = blocks[blocks["count"] > 0]
    out["count"] = total
    out["min"] = np.fmin.reduce(blocks["min"])
    out["max"] = np.fmax.reduce(blocks["max"])
    out["mean"] = (some["mean"] * (some["count"] / total)).sum() if total else np.nan
    return out


def _json_number(value: Any) -> float | int | str | None:
    """Return a number as JSON can hold it: null for NaN, ``"inf"`` and ``"-inf"``."""
    if np.asarray(value).dtype.kind in "biu":
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None if math.isnan(number) else str(number)


# ------------------------------------------------------------------------------------------------------------- building


def _dataset_path(series: SeriesId, process: str, variant: int | None) -> str:
    """Return the path of a dataset; one that is too long for HDF5 is cut to its checksum, and the index knows whose."""
    path = hdf_path(*series, process, variant)
    if len(path.encode()) <= MAX_PATH_BYTES and path.count("/") < MAX_PATH_PARTS:
        return path
    digest = hashlib.sha256(hdf_path(*series, process).encode()).hexdigest()
    return f"{series.kind}/%h{digest}" + ("" if variant is None else f"%v{max(variant, 0) or ''}")


@dataclass
class _Building:
    """A series that is being built: what has come of it, what waits, and what its entry in the index says so far."""

    id: SeriesId
    number: int
    plan: SeriesPlan
    first_variant: int | None
    summary: _Summary | None
    targets: dict[Layout, tuple[_Table, Cells]] = field(default_factory=dict)
    received: int = 0
    stored: int = 0
    pending: list[Columns] = field(default_factory=list)
    pending_bytes: int = 0
    drain_at: int = 0
    chunk_rows: int | None = None
    attrs: str = "{}"
    attrs_differ: bool = False
    entry: dict[str, Any] = field(default_factory=dict)


def _buildings(plan: Mapping[SeriesId, SeriesPlan]) -> dict[SeriesId, _Building]:
    planned = {series: its for series, its in plan.items() if its.count}
    out = {}
    groups: set[SeriesId] = set()
    for series in planned:
        parts = series.key.split("/", MAX_PATH_PARTS)
        groups.update(SeriesId(series.kind, series.scope, "/".join(parts[:n])) for n in range(1, len(parts)))
    for number, (series, its) in enumerate(planned.items()):
        out[series] = _Building(
            series, number, its, -1 if series in groups else None, _Summary(number, its.count > BLOCK_ROWS)
        )
    return out


_counter = itertools.count()


class ImageBuilder:
    """Builds the image of a shard under a temporary name and installs it at *path*, whole or not at all.

    *about* holds the JSON values that the file says about its shard, with ``start`` (Unix seconds) and ``process``.
    *plan* says which series will come. Memory stays bounded: about 32 MB of values wait for others of their series.

    Every method may raise the `OSError` of the disk, or `ValueError` for values that cannot be stored or contradict the
    plan. Then the builder is good for `abort` only, which a ``with`` statement calls::

        with ImageBuilder(path, about, plan) as builder:
            builder.append(series, columns)
            index = builder.finish()
    """

    def __init__(self, path: Path, about: Mapping[str, Any], plan: Mapping[SeriesId, SeriesPlan]) -> None:
        self._path = path
        self._about = dict(about)
        self._start = float(about.get("start", 0.0))
        self._process = str(about.get("process", MAIN_PROCESS))
        self._buildings = _buildings(plan)
        large = sum(its.count * 32 > CHUNK_BYTES for its in plan.values())
        self._chunk_bytes = min(max(PENDING_BYTES // max(large, 1), LEAST_CHUNK_BYTES), CHUNK_BYTES)
        self._pending_bytes = 0
        self._pid = os.getpid()
        self._temporary = path.with_name(f".{path.name}.{self._pid}-{next(_counter)}.tmp")
        self._sink = _Sink(self._temporary)
        self._is_done = False
        self._file: Any = None
        try:
            self._file = h5py.File(self._sink, "w", libver=("v108", "v110"))
            self._blocks, self._attrs, self._texts = (_SideTable(self._file.id, path) for path in SIDE_TABLES)
            self._write_about()
            self._sink.check()
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abort()

    def append(self, series: SeriesId, columns: Columns) -> None:
        """Add *columns* to the end of *series*; their arrays are not kept."""
        self._check_open()
        if not len(columns):
            return
        building = self._buildings.get(series)
        if building is None or building.received + len(columns) > building.plan.count:
            raise ValueError(f"there are more values of {series} than planned")
        building.received += len(columns)
        building.pending.append(columns)
        self._count_pending(building, _nbytes(columns))
        if building.received == building.plan.count:
            self._drain(building, True)
        elif building.pending_bytes >= (building.drain_at or self._chunk_bytes):
            self._drain(building, False)
            building.drain_at = building.pending_bytes + self._chunk_bytes
        else:
            building.pending[-1] = _owned(columns)
        if self._pending_bytes > PENDING_BYTES:
            self._make_room()
        self._sink.check()

    def finish(self) -> dict[str, Any]:
        """Install the file, durably, and return its index: JSON values under ``format``, ``about`` and ``series``."""
        self._check_open()
        for building in self._buildings.values():
            if building.received != building.plan.count:
                raise ValueError(f"of {building.id} came {building.received} of {building.plan.count} values")
            self._finish_series(building)
        for table in (self._blocks, self._attrs, self._texts):
            table.finish()
        index = {"format": FORMAT, "about": self._about, "series": [b.entry for b in self._buildings.values()]}
        self._write_index(index)
        self._file.close()
        self._sink.sync()
        self._sink.close()
        os.replace(self._temporary, self._path)
        self._is_done = True
        sync_folder(self._path.parent)
        return index

    def abort(self) -> None:
        """Remove the temporary file, unless `finish` has installed it; may be called twice."""
        # A forked child has inherited the builder, not the file.
        if self._is_done or os.getpid() != self._pid:
            return
        self._is_done = True
        self._sink.error = self._sink.error or ValueError("the image was given up")
        try:
            if self._file is not None:
                self._file.close()
        finally:
            self._sink.close()
            self._temporary.unlink(missing_ok=True)

    def _check_open(self) -> None:
        if os.getpid() != self._pid:
            raise ValueError("this image is built by another process")
        if self._is_done:
            raise ValueError("this image is finished")
        self._sink.check()

    # -- values

    def _count_pending(self, building: _Building, nbytes: int) -> None:
        building.pending_bytes += nbytes
        self._pending_bytes += nbytes

    def _make_room(self) -> None:
        waiting = [building for building in self._buildings.values() if building.pending]
        for building in waiting:
            # When it comes round again, about as many values will wait: chunks of this size are written once.
            if building.chunk_rows is None:
                building.chunk_rows = max(sum(map(len, building.pending)), LEAST_CHUNK_ROWS)
            self._drain(building, not building.stored)
        if self._pending_bytes > PENDING_BYTES // 2:
            for building in waiting:
                self._drain(building, True)

    def _drain(self, building: _Building, everything: bool) -> None:
        """Store the values that wait: all of them, or as many as fill whole chunks."""
        if not building.pending:
            return
        columns = _join(building.pending)
        building.pending.clear()
        self._count_pending(building, -building.pending_bytes)
        count = len(columns) if everything else self._whole_chunks(building, columns)
        if count:
            self._store(building, _part(columns, 0, count))
        if count < len(columns):
            rest = _owned(_part(columns, count, len(columns)))
            building.pending.append(rest)
            self._count_pending(building, _nbytes(rest))

    def _whole_chunks(self, building: _Building, columns: Columns) -> int:
        if building.plan.layouts > 1:
            return len(columns)
        value = columns.value
        layout = _layout_of(value[0]) if value.dtype == object else Layout(value.dtype, value.shape[1:])
        return self._target(building, layout, None)[0].whole_chunks(len(columns))

    def _store(self, building: _Building, columns: Columns) -> None:
        count, first = len(columns), building.stored
        self._note_attrs(building, columns)
        floats = np.empty(count if building.summary else 0)
        for rows, layout, values in _by_layout(columns.value):
            # The values of a small series come here all at once, so each of its datasets has a known size.
            size = len(values) if count == building.plan.count else None
            table, cells = self._target(building, layout, size)
            order = first + np.arange(count)[rows]
            if layout.dtype is None:
                values = self._readable(building, order, values)
            self._write_rows(table, cells, columns.step[rows], columns.time[rows], order, values)
            if not layout.is_real_number:
                building.summary = None
            elif building.summary:
                floats[rows] = values
        self._note_summary(building, columns, floats)
        building.stored += count

    def _target(self, building: _Building, layout: Layout, size: int | None) -> tuple[_Table, Cells]:
        """Return the dataset for values of *layout*, of which *size* are to come if that is known."""
        targets = building.targets
        if layout in targets:
            return targets[layout]
        has_order = building.plan.layouts > 1
        fixed = sum(not known.is_ragged for known in targets)
        if has_order and layout.dtype is not None and (layout.is_ragged or fixed >= MAX_FIXED_DATASETS):
            layout = Layout(layout.dtype, None)
            size = None
        if layout not in targets:
            if targets and not has_order:
                raise ValueError(f"{building.id} has more dtypes or shapes than planned")
            targets[layout] = self._new_target(building, layout, size if has_order else building.plan.count)
        return targets[layout]

    def _new_target(self, building: _Building, layout: Layout, rows: int | None) -> tuple[_Table, Cells]:
        cells = _cells(layout, building.plan.layouts > 1)
        number = len(building.targets)
        path = _dataset_path(building.id, self._process, number + 1 if number else building.first_variant)
        kind, scope, key = building.id
        texts = {"key": full_key(scope, key), "kind": kind, "process": self._process, "scope": scope}
        if cells.descr:
            texts["dtype"] = cells.descr
        table = _Table(self._file.id, path, cells.row, rows, self._chunk_bytes, texts)
        table.chunk_rows = min(table.chunk_rows, building.chunk_rows or table.chunk_rows)
        return table, cells

    def _write_rows(
        self, table: _Table, cells: Cells, step: NDArray[Any], time: NDArray[Any], order: NDArray[Any], values: Any
    ) -> None:
        for part in table.portions(len(step)):
            rows = np.empty(part.stop - part.start, table.row)
            rows["step"] = step[part]
            rows["time"] = time[part]
            rows["walltime"] = time[part] - self._start
            if "order" in (table.row.names or ()):
                rows["order"] = order[part]
            _put_values(rows, values[part], cells)
            table.write(rows)

    def _readable(self, building: _Building, order: NDArray[Any], texts: list[str]) -> NDArray[Any]:
        """Return texts as HDF5 strings can hold them; what that changes is stored beside them as it is."""
        out = objects(texts)
        for row, text in enumerate(texts):
            shown = _shown(text)
            if shown is not None:
                out[row] = shown
                exact = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
                self._texts.add((building.number, order[row], exact))
        return out

    # -- what is said about them

    def _note_attrs(self, building: _Building, columns: Columns) -> None:
        if not columns.attrs and building.attrs == "{}":
            return
        for row in range(len(columns)):
            attrs = json.dumps(dict(columns.attrs.get(row, {})))
            if attrs == building.attrs:
                continue
            order = building.stored + row
            if order and not building.attrs_differ:
                building.attrs_differ = True
                self._attrs.add((building.number, 0, building.attrs))
            building.attrs = attrs
            if order:
                self._attrs.add((building.number, order, attrs))

    def _note_summary(self, building: _Building, columns: Columns, floats: NDArray[np.float64]) -> None:
        entry = building.entry
        if not building.stored:
            entry.update(first_step=int(columns.step[0]), first_time=float(columns.time[0]))
        entry.update(last_step=int(columns.step[-1]), last_time=float(columns.time[-1]))
        if building.summary:
            entry["last"] = _json_number(columns.value[-1])
            blocks = building.summary.add(building.stored, columns.step, columns.time, floats)
            if len(blocks):
                self._blocks.add(blocks)

    def _finish_series(self, building: _Building) -> None:
        kind, scope, key = building.id
        targets = list(building.targets.items())
        shared = building.attrs if not building.attrs_differ and building.attrs != "{}" else ""
        numbers: dict[str, Any] = {"min": None, "max": None, "mean": None, "last": None}
        if building.summary:
            if len(rest := building.summary.rest()):
                self._blocks.add(rest)
            numbers |= building.summary.as_json() | {"last": building.entry["last"]}
        if shared:
            for _, (table, _) in targets:
                _set_text(table.open(), "attrs", shared)
        ends = {name: building.entry[name] for name in ("first_step", "last_step", "first_time", "last_time")}
        building.entry = {
            "kind": kind,
            "scope": scope,
            "key": key,
            "count": building.stored,
            **ends,
            "paths": [table.path for _, (table, _) in targets],
            "layouts": [_layout_json(layout) for layout, _ in targets],
            "attrs": json.loads(shared) if shared else None,
            **numbers,
        }

    # -- about the whole

    def _write_about(self) -> None:
        root = h5g.open(self._file.id, b"/")
        self._file.attrs["allogger_format"] = FORMAT
        for name, value in self._about.items():
            if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63):
                self._file.attrs[name] = value
            else:
                _set_text(root, name, value if isinstance(value, str) else json.dumps(value))

    def _write_index(self, index: Mapping[str, Any]) -> None:
        # Columns are read twice as fast as ten thousand objects with the same names.
        entries = index["series"]
        names = list(entries[0]) if entries else []
        columns = {name: [entry[name] for entry in entries] for name in names}
        text = json.dumps({**index, "series": columns}, separators=(",", ":"))
        data = np.frombuffer(text.encode(), np.uint8)
        _Table(self._file.id, INDEX, data.dtype, len(data), 2**20, {}).write(data)


def _layout_json(layout: Layout) -> list[Any]:
    """Return ``[dtype, shape]``, the dtype null for texts, the shape null where every value has its own."""
    dtype = None if layout.dtype is None else dtype_to_json(layout.dtype)
    # Fields come as tuples, which the reader of the index would see as lists.
    return [json.loads(json.dumps(dtype)), None if layout.shape is None else list(layout.shape)]


# -------------------------------------------------------------------------------------------------------------- reading

_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
# What h5py raises for a damaged file, depending on whether libhdf5, h5py or numpy finds out.
_H5PY_ERRORS = (OSError, LookupError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError, SystemError)
MAX_GROUPS_DEEP = 200


@contextmanager
def _as_damage(what: str) -> Iterator[None]:
    try:
        yield
    except DamagedFile:
        raise
    except _H5PY_ERRORS as error:
        raise DamagedFile(f"{what} cannot be read: {error}") from error


class _Source:
    """A file for `h5py.File` to read from.

    A file that libhdf5 opens itself cannot be opened by the user's own h5py at the same time unless both lock it in the
    same way.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        info = os.fstat(self._fd)
        if not stat.S_ISREG(info.st_mode):
            os.close(self._fd)
            raise DamagedFile(f"{path} is no regular file")
        self.size = info.st_size
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (self.size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Do nothing."""

    def read(self, size: int) -> bytes:
        data = bytearray(size)
        self.readinto(data)
        return bytes(data)

    def readinto(self, buffer: Any) -> int:
        # What is missing stays zero, which libhdf5 finds out without an exception in its way.
        view = memoryview(buffer).cast("B")
        with suppress(OSError, OverflowError):
            _read_all(self._fd, view, self._position)
        self._position += len(view)
        return len(view)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class ImageFile:
    """An HDF5 file that nobody vouches for, open for reading; it takes no lock.

    Whatever leads out of the file is refused: links but hard ones, external storage, virtual datasets. So are filters
    other than deflate, shuffle and fletcher32, and datasets that claim to be more than 1,100 times as large as what
    stores them. Raises the `OSError` of opening, and `DamagedFile` for everything that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._source = _Source(path)
        self.size = self._source.size
        self._hard: set[bytes] = set()
        try:
            with _as_damage(str(path)):
                self._file = h5py.File(self._source, "r")
        except DamagedFile:
            self._source.close()
            raise

    def close(self) -> None:
        """Close the file."""
        try:
            with _as_damage(str(self.path)):
                self._file.close()
        finally:
            self._source.close()

    def has(self, path: str) -> bool:
        """Return whether there is something at *path*."""
        try:
            self._check_links(path)
        except _H5PY_ERRORS:
            return False
        return True

    def dataset(self, path: str) -> ImageDataset:
        """Return the dataset at *path*."""
        what = f"{self.path}: the dataset {path!r}"
        with _as_damage(what):
            self._check_links(path)
            return ImageDataset(h5d.open(self._file.id, path.encode()), self.size, what)

    def attributes(self) -> dict[str, Any]:
        """Return those attributes of the file that are one text or one number."""
        with _as_damage(f"{self.path}: its attributes"):
            root = h5g.open(self._file.id, b"/")
            names: list[bytes] = []
            h5a.iterate(root, names.append)
            found = {name.decode(): _attribute(root, name, self.size) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def datasets(self) -> Iterator[str]:
        """Yield the paths of all datasets but allogger's own, as far as hard links lead and groups can be read."""
        seen: set[int] = set()
        stack = [""]
        while stack:
            path = stack.pop()
            try:
                inner = self._children(path, seen)
            except DamagedFile:
                continue
            if inner is None:
                yield path
            elif path.count("/") < MAX_GROUPS_DEEP:
                stack.extend(reversed([name for name in inner if name != OWN_GROUP]))

    def _children(self, path: str, seen: set[int]) -> list[str] | None:
        """Return the paths in a group that is not in *seen*; None for a dataset."""
        with _as_damage(f"{self.path}: the group {path!r}"):
            self._check_links(path)
            found = h5o.open(self._file.id, path.encode() or b"/")
            if isinstance(found, h5d.DatasetID):
                return None
            # Hard links can lead in a circle.
            address = h5o.get_info(found).addr
            if address in seen or not isinstance(found, h5g.GroupID):
                return []
            seen.add(address)
            names: list[bytes] = []
            found.links.iterate(names.append)
            return [f"{path}/{name.decode()}".removeprefix("/") for name in names]

    def _check_links(self, path: str) -> None:
        """Raise unless only hard links lead to *path*."""
        parts = [part for part in path.encode().split(b"/") if part]
        for n in range(1, len(parts) + 1):
            place = b"/".join(parts[:n])
            if place in self._hard:
                continue
            if self._file.id.links.get_info(place).type != h5l.TYPE_HARD:
                raise ValueError(f"{place!r} is a link that may lead out of the file")
            # A dataset is asked for once, a group is on the way to many.
            if n < len(parts):
                self._hard.add(place)


class ImageDataset:
    """A dataset of an `ImageFile`, checked before anything in it is read."""

    def __init__(self, dataset: Any, file_size: int, what: str) -> None:
        self._dataset = dataset
        self._file_size = file_size
        self._what = what
        plist = dataset.get_create_plist()
        # This comes before anything else: to know its own size, libhdf5 opens the files of a virtual dataset.
        if plist.get_layout() == h5d.VIRTUAL or plist.get_external_count():
            raise ValueError("its values lie in another file")
        filters = [plist.get_filter(n)[0] for n in range(plist.get_nfilters())]
        if not _FILTERS.issuperset(filters) or filters.count(h5z.FILTER_DEFLATE) > 1:
            raise ValueError(f"it has the unknown filters {filters}")
        self._dtype: np.dtype[Any] = dataset.dtype
        _check_objects(self._dtype)
        axes = dataset.shape
        if len(axes) != 1:
            raise ValueError(f"it has {len(axes)} axes instead of one")
        self._count: int = axes[0]
        self._portion: int = plist.get_chunk()[0] if plist.get_layout() == h5d.CHUNKED else max(self._count, 1)
        stored = dataset.get_storage_size()
        claimed = self._count * dataset.get_type().get_size()
        if stored > file_size or claimed > stored * (MAX_EXPANSION if filters else 1):
            raise ValueError(f"it claims {claimed} bytes, stored in {stored} of a file of {file_size}")

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields of a row."""
        return self._dtype.names or ()

    def attribute(self, name: str) -> Any:
        """Return an attribute that is one text or one number; None if there is no such."""
        with _as_damage(f"{self._what}: its attribute {name!r}"):
            if not h5a.exists(self._dataset, name.encode()):
                return None
            return _attribute(self._dataset, name.encode(), self._file_size)

    def rows(self, damage: list[str] | None = None) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the rows and their numbers. Unreadable rows are left out and told in *damage*, if that is given."""
        with _as_damage(self._what):
            if not self._dtype.hasobject:
                rows = np.empty(self._count, self._dtype)
                try:
                    self._read(rows, 0)
                    return rows, np.arange(self._count)
                except _H5PY_ERRORS:
                    if damage is None:
                        raise
            return self._in_portions(damage)

    def _in_portions(self, damage: list[str] | None) -> tuple[NDArray[Any], NDArray[np.int64]]:
        out, is_read = np.empty(self._count, self._dtype), np.zeros(self._count, bool)
        portion = RAGGED_ROWS if self._dtype.hasobject else self._portion
        budget = self._file_size
        for start in range(0, self._count, portion):
            rows = out[start : start + portion]
            try:
                self._read(rows, start)
                budget -= _object_bytes(rows)
            except _H5PY_ERRORS as error:
                if damage is None:
                    raise
                damage.append(f"{self._what}: the rows {start} to {start + len(rows) - 1} are lost: {error}")
                continue
            if budget < 0:
                raise ValueError("its values are larger than the file")
            is_read[start : start + portion] = True
        numbers = np.flatnonzero(is_read)
        return out if len(numbers) == self._count else out[numbers], numbers

    def _read(self, rows: NDArray[Any], start: int) -> None:
        space = self._dataset.get_space()
        space.select_hyperslab((start,), (len(rows),))
        self._dataset.read(h5s.create_simple((len(rows),)), space, rows, h5t.py_create(rows.dtype))


def _check_objects(dtype: np.dtype[Any]) -> None:
    """Raise unless all objects in rows of *dtype* are texts or arrays of numbers."""
    for name in dtype.names or ():
        one = dtype[name]
        inner = h5py.check_vlen_dtype(one)
        is_known = h5py.check_string_dtype(one) is not None or (isinstance(inner, np.dtype) and inner.kind in "iuf")
        if one.hasobject and not is_known:
            raise ValueError(f"its field {name!r} refers to other objects")
    if dtype.hasobject and not dtype.names:
        raise ValueError("it refers to other objects")


def _object_bytes(rows: NDArray[Any]) -> int:
    names = [name for name in rows.dtype.names or () if rows.dtype[name].hasobject]
    return sum(memoryview(value).nbytes for name in names for value in rows[name])


def _attribute(owner: Any, name: bytes, limit: int) -> Any:
    attribute = h5a.open(owner, name)
    dtype = attribute.dtype
    is_text = h5py.check_string_dtype(dtype) is not None or dtype.kind in "SV"
    is_single = math.prod(attribute.shape) == 1 and dtype.names is None and dtype.itemsize <= limit
    if not is_single or not (is_text or dtype.kind in "biuf"):
        return None
    cell = np.empty(attribute.shape, dtype)
    attribute.read(cell)
    value = cell.reshape(-1)[0]
    if not is_text:
        return value.item()
    if isinstance(value, str):
        return value
    return bytes(value).decode("utf-8", "surrogatepass" if dtype.kind == "V" else "replace")


@contextmanager
def converters() -> Iterator[None]:
    """Have h5py convert texts within the block, also at the end of the interpreter, when it no longer does.

    h5py takes its conversions away in an exit handler; those that HDF5 still has when the interpreter is gone crash it.
    """
    if h5t.find(h5t.py_create(_TEXT), h5t.py_create(_TEXT, logical=True)) is not None:
        yield
        return
    h5py._register_converters()
    try:
        yield
    finally:
        h5py._unregister_converters()
