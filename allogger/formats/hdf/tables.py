"""Tables: how does a dataset come into being and grow, and which ones are allogger's own?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5p, h5s, h5t
from numpy.typing import NDArray

from allogger.formats.hdf.cells import TEXT, shown
from allogger.formats.hdf.chunks import GZIP_LEVEL, Packer

__all__ = [
    "ATTRS",
    "BLOCKS",
    "FORMAT",
    "INDEX",
    "OWN_GROUP",
    "SIDE_TABLES",
    "TEXTS",
    "SideTable",
    "Table",
    "set_bytes",
    "set_text",
]

FORMAT = 1

OWN_GROUP = "allogger"
INDEX, BLOCKS, ATTRS, TEXTS = (f"{OWN_GROUP}/{name}" for name in ("index", "blocks", "attrs", "texts"))

# Up to here a dataset lies in its own header: a chunk and its index would take more than compression saves.
_COMPACT_BYTES = 8 * 2**10
# A chunk is in memory several times while it is compressed; a larger value is written as it is.
_CHUNKED_ROW_BYTES = 64 * 2**20
_SIDE_CHUNK_BYTES = 64 * 2**10
# A larger attribute does not fit into the header of its owner.
_MAX_ATTRIBUTE_BYTES = 60_000

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
    ATTRS: np.dtype([("series", "<u4"), ("row", "<i8"), ("value", TEXT)]),
    TEXTS: np.dtype([("series", "<u4"), ("row", "<i8"), ("value", h5py.vlen_dtype(np.uint8))]),
}


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


def _is_chunked(row_bytes: int, rows: int | None) -> bool:
    return rows is None or (rows * row_bytes > _COMPACT_BYTES and row_bytes <= _CHUNKED_ROW_BYTES)


@lru_cache(256)
def _creation_plist(row_bytes: int, rows: int | None, chunk_rows: int, is_variable: bool) -> Any:
    """Return how a dataset is stored: in its header if it is small, else in chunks."""
    plist = h5p.create(h5p.DATASET_CREATE)
    # Without times the same values always make the same file.
    plist.set_obj_track_times(False)
    if not is_variable:
        plist.set_fill_time(h5d.FILL_TIME_NEVER)
    if rows is not None and rows * row_bytes <= _COMPACT_BYTES:
        plist.set_layout(h5d.COMPACT)
    elif _is_chunked(row_bytes, rows):
        plist.set_chunk((chunk_rows,))
        plist.set_shuffle()
        plist.set_deflate(GZIP_LEVEL)
    return plist


@lru_cache(256)
def _space(rows: int | None) -> Any:
    return h5s.create_simple((rows or 0,), (h5s.UNLIMITED if rows is None else rows,))


_TEXT_TYPE, _TEXT_IN_MEMORY = h5t.py_create(TEXT, logical=True), h5t.py_create(TEXT)


def set_text(owner: Any, name: str, text: str) -> None:
    """Set an attribute that h5py shows as str, or as opaque bytes if no HDF5 string can hold it; none if too long."""
    exact = text.encode("utf-8", "surrogatepass")
    if len(exact) > _MAX_ATTRIBUTE_BYTES:
        return
    if shown(text) is None:
        h5a.create(owner, name.encode(), _TEXT_TYPE, _SCALAR).write(np.array(text, object), _TEXT_IN_MEMORY)
    else:
        set_bytes(owner, name, np.array(np.void(exact)))


def set_bytes(owner: Any, name: str, cell: NDArray[Any]) -> bool:
    """Set an attribute of fixed size, which the reader need not check; return False if it is too long."""
    if cell.nbytes > _MAX_ATTRIBUTE_BYTES:
        return False
    kind = _fixed_type(cell.dtype)
    h5a.create(owner, name.encode(), kind, _SCALAR).write(cell, kind)
    return True


class Table:
    """A dataset that is filled from its first row to its last; *rows* is their number, None if nobody knows it yet.

    It is open only while it is written to: ten thousand open datasets take more memory than the rows that wait.
    """

    def __init__(
        self,
        file: Any,
        path: str,
        row: np.dtype[Any],
        rows: int | None,
        chunk_bytes: int,
        texts: Mapping[str, str],
        descr: str = "",
    ) -> None:
        self.path = path
        self.row = row
        self.written = 0
        self._file = file
        self._rows = rows
        self._texts = texts
        self._descr = descr
        self._file_type, self._memory_type = _types(row)
        self._row_bytes: int = self._file_type.get_size()
        self.chunk_rows: int = max(1, min(chunk_bytes // self._row_bytes, rows or chunk_bytes))
        self._packer: Packer | None = None

    def write(self, rows: NDArray[Any]) -> None:
        """Add *rows* to the end."""
        dataset = self.open() if self.written else self._create()
        if self._rows is None:
            dataset.set_extent((self.written + len(rows),))
        packed = self._write_chunks(dataset, rows)
        rest = rows[packed:]
        if len(rest) == self._rows:
            dataset.write(h5s.ALL, h5s.ALL, rest, self._memory_type)
        elif len(rest):
            space = dataset.get_space()
            space.select_hyperslab((self.written,), (len(rest),))
            dataset.write(h5s.create_simple((len(rest),)), space, rest, self._memory_type)
        self.written += len(rest)

    def _write_chunks(self, dataset: Any, rows: NDArray[Any]) -> int:
        """Write the first of *rows* by whole chunks, packed here, and return how many rows that were."""
        if self._packer is None or self.written % self.chunk_rows:
            return 0
        # The last chunk of all may be a part of one.
        is_end = self.written + len(rows) == self._rows
        count = len(rows) if is_end else len(rows) - len(rows) % self.chunk_rows
        for start in range(0, count, self.chunk_rows):
            chunk = rows[start : min(start + self.chunk_rows, count)]
            packed, without = self._packer.pack(chunk)
            dataset.write_direct_chunk((self.written,), packed, without)
            self.written += len(chunk)
        return count

    def _create(self) -> Any:
        rows = self._rows
        # Rows of a variable length are references into the file, which only HDF5 can make.
        if _is_chunked(self._row_bytes, rows) and not self.row.hasobject:
            self._packer = Packer(self.chunk_rows)
        space = _space(rows)
        plist = _creation_plist(self._row_bytes, rows, self.chunk_rows, self.row.hasobject)
        dataset = h5d.create(self._file, self.path.encode(), self._file_type, space, plist, _LINK, _ACCESS)
        for name, text in self._texts.items():
            set_text(dataset, name, text)
        if self._descr and not set_bytes(dataset, "dtype", np.array(self._descr.encode())):
            raise ValueError("the description of its dtype is too long for an attribute")
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


class SideTable:
    """Rows about the values of all series, which come a few at a time."""

    def __init__(self, file: Any, path: str) -> None:
        self._place = (file, path, SIDE_TABLES[path])
        self._table: Table | None = None
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
            self._table = Table(*self._place, rows, _SIDE_CHUNK_BYTES, {})
        # np.concatenate drops what a dtype says about the objects in it.
        joined = np.empty(sum(map(len, self._pending)), self._place[2])
        np.concatenate(self._pending, out=joined)
        self._table.write(joined)
        self._pending.clear()
        self._pending_bytes = 0
