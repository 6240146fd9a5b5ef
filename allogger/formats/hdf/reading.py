"""ImageFile, ImageDataset: how is a file read that nobody vouches for?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t, h5z
from numpy.typing import NDArray

from allogger.errors import DamagedFile
from allogger.formats.hdf.files import H5PY_ERRORS, Source, as_damage
from allogger.formats.hdf.tables import OWN_GROUP

__all__ = ["ImageDataset", "ImageFile"]

# A dataset may say that its rows take this many times the bytes that store them; deflate reaches 1032.
_MAX_EXPANSION = 1100
# So many rows of variable length are read at once; each may, in a hostile file, be as long as the whole file.
_RAGGED_ROWS = 64
_FILTERS = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
_MAX_GROUPS_DEEP = 200


class ImageFile:
    """An HDF5 file that nobody vouches for, open for reading; it takes no lock.

    Whatever leads out of the file is refused: links but hard ones, external storage, virtual datasets. So are filters
    other than deflate, shuffle and fletcher32, and datasets that claim to be more than 1,100 times as large as what
    stores them. Raises the `OSError` of opening, and `DamagedFile` for everything that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._source = Source(path)
        self._hard: set[bytes] = set()
        try:
            with as_damage(str(path), self._source):
                self._file = h5py.File(self._source, "r")
        except DamagedFile:
            self._source.close()
            raise

    def close(self) -> None:
        """Close the file."""
        try:
            with as_damage(str(self.path), self._source):
                self._file.close()
        finally:
            self._source.close()

    def has(self, path: str) -> bool:
        """Return whether there is something at *path*."""
        try:
            self._check_links(path)
        except H5PY_ERRORS:
            return False
        return True

    def dataset(self, path: str) -> ImageDataset:
        """Return the dataset at *path*."""
        what = f"{self.path}: the dataset {path!r}"
        with as_damage(what, self._source):
            self._check_links(path)
            return ImageDataset(h5d.open(self._file.id, path.encode()), self._source, what)

    def attributes(self) -> dict[str, Any]:
        """Return those attributes of the file that are one text or one number."""
        with as_damage(f"{self.path}: its attributes", self._source):
            root = h5g.open(self._file.id, b"/")
            names: list[bytes] = []
            h5a.iterate(root, names.append)
            found = {name.decode(): _attribute(root, name, self._source) for name in names}
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
            elif path.count("/") < _MAX_GROUPS_DEEP:
                stack.extend(reversed([name for name in inner if name != OWN_GROUP]))

    def _children(self, path: str, seen: set[int]) -> list[str] | None:
        """Return the paths in a group that is not in *seen*; None for a dataset."""
        with as_damage(f"{self.path}: the group {path!r}", self._source):
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

    def __init__(self, dataset: Any, source: Source, what: str) -> None:
        self._dataset = dataset
        self._source = source
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
        if stored > source.size or claimed > stored * (_MAX_EXPANSION if filters else 1):
            raise ValueError(f"it claims {claimed} bytes, stored in {stored} of a file of {source.size}")

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self._count

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields of a row."""
        return self._dtype.names or ()

    def attribute(self, name: str) -> Any:
        """Return an attribute that is one text or one number; None if there is no such."""
        with as_damage(f"{self._what}: its attribute {name!r}", self._source):
            if not h5a.exists(self._dataset, name.encode()):
                return None
            return _attribute(self._dataset, name.encode(), self._source)

    def rows(
        self, damage: list[str] | None = None, within: slice = slice(None), fields: Iterable[str] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the rows and their numbers. Unreadable rows are left out and told in *damage*, if that is given.

        *within*: only these rows; *fields*: only these fields of each.
        """
        first, end, _ = within.indices(self._count)
        count = max(end - first, 0)
        dtype = self._dtype if fields is None else np.dtype([(name, self._dtype[name]) for name in fields])
        with as_damage(self._what, self._source):
            if not dtype.hasobject:
                rows = np.empty(count, dtype)
                try:
                    self._read(rows, first)
                    return rows, np.arange(first, first + count)
                except H5PY_ERRORS:
                    if damage is None:
                        raise
            else:
                self._source.check_heaps()
            return self._in_portions(damage, first, np.empty(count, dtype))

    def _in_portions(
        self, damage: list[str] | None, first: int, out: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        is_read = np.zeros(len(out), bool)
        portion = _RAGGED_ROWS if out.dtype.hasobject else self._portion
        budget = self._source.size
        for start in range(0, len(out), portion):
            rows = out[start : start + portion]
            try:
                self._read(rows, first + start)
                budget -= _object_bytes(rows)
            except H5PY_ERRORS as error:
                if damage is None:
                    raise
                lost = f"the rows {first + start} to {first + start + len(rows) - 1}"
                damage.append(f"{self._what}: {lost} are lost: {error}")
                continue
            if budget < 0:
                raise ValueError("its values are larger than the file")
            is_read[start : start + portion] = True
        numbers = np.flatnonzero(is_read)
        return out if len(numbers) == len(out) else out[numbers], numbers + first

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


def _attribute(owner: Any, name: bytes, source: Source) -> Any:
    attribute = h5a.open(owner, name)
    dtype = attribute.dtype
    is_text = h5py.check_string_dtype(dtype) is not None or dtype.kind in "SV"
    is_single = math.prod(attribute.shape) == 1 and dtype.names is None and dtype.itemsize <= source.size
    if not is_single or not (is_text or dtype.kind in "biuf"):
        return None
    if dtype.hasobject:
        source.check_heaps()
    cell = np.empty(attribute.shape, dtype)
    attribute.read(cell)
    value = cell.reshape(-1)[0]
    if not is_text:
        return value.item()
    if isinstance(value, str):
        return value
    return bytes(value).decode("utf-8", "surrogatepass" if dtype.kind == "V" else "replace")
