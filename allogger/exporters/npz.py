"""NpzExporter: how do runs become one NPZ file of arrays, without a pickle in it?"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from allogger.dtypes import dtype_from_json, dtype_to_json
from allogger.exporter import Exporter, Source
from allogger.names import file_name, hdf_path, split_full_key
from allogger.reader import objects

if TYPE_CHECKING:
    from allogger.series import Series

__all__ = ["NpzExporter"]

# Texts in one array take the space of the longest each; beyond this they are laid out one behind the other.
_MAX_TEXT_BYTES = 2**26


class NpzExporter(Exporter):
    """Writes the arrays ``<name>/step``, ``time``, ``process`` and ``value`` of each key, which `numpy.load` reads.

    *name* is the path that its dataset has in an HDF5 file, such as ``scalar/main/loss``, of several runs behind the
    name of the run. Values that no array can hold (of different shapes or dtypes, long texts) have, instead of
    ``value``, the arrays ``data`` (their bytes, one behind the other), ``offset`` (where each begins, and the end) and
    ``layout`` (JSON: ``[dtype, shape]``, or ``"text"`` for UTF-8, in which lone surrogates are passed).
    """

    passes = 5

    def export(self, sources: Sequence[Source], path: Path) -> None:
        """Write all arrays; each is compressed as it is made."""
        with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for source in sources:
                front = f"{file_name(source.name)}/" if source.name else ""
                for key in source.keys:
                    self._write_key(archive, front, _Portions(source, key))

    def _write_key(self, archive: zipfile.ZipFile, front: str, portions: _Portions) -> None:
        found = _Found()
        try:
            for portion in portions:
                found.add(portion)
        except (TypeError, ValueError) as error:
            self.reject(portions.key, sum(map(len, portions)), str(error))
            return
        if not found.count:
            return  # all of them are lost, which has been told
        name = front + hdf_path(found.kind, *split_full_key(portions.key))
        for what, member in _members(found, portions).items():
            with archive.open(f"{name}/{what}.npy", "w", force_zip64=True) as file:
                _write_array(file, member)


class _Portions:
    """The portions of a key, as often as they are wanted; if there is only one, it is read once."""

    def __init__(self, source: Source, key: str) -> None:
        self._source, self.key = source, key
        self._only: list[Series] | None = None

    def __iter__(self) -> Iterator[Series]:
        if self._only is not None:
            yield from self._only
            return
        first: list[Series] = []
        number = 0
        for number, portion in enumerate(self._source.portions(self.key)):
            first = [portion] if not number else []
            yield portion
        if number == 0:
            self._only = first


@dataclass
class _Found:
    """What the values of a key have in common, and how much room they take."""

    kind: str = ""
    count: int = 0
    labels: set[str] = field(default_factory=set)
    #: dtype and shape of the values; more than one where they differ.
    layouts: set[tuple[np.dtype[Any], tuple[int, ...]]] = field(default_factory=set)
    texts: int = 0
    longest_text: int = 0
    ends_with_nul: bool = False
    longest_layout: int = 0

    def add(self, portion: Series) -> None:
        """Take in one portion; raises `ValueError` for a value that is neither an array nor a text."""
        # A portion of a mixed series may be of one kind.
        self.kind = portion.kind if self.kind in ("", portion.kind) else "mixed"
        self.count += len(portion)
        self.labels.update(portion.process[:1] if _is_one_label(portion) else portion.process.tolist())
        value = portion.value
        if value.dtype != object:
            self.layouts.add((value.dtype, value.shape[1:]))
            dtype_to_json(value.dtype)
            self.longest_layout = max(self.longest_layout, len(_layout(value[:1].reshape(value.shape[1:]))))
            return
        for item in value:
            self.longest_layout = max(self.longest_layout, len(_layout(item)))
            if isinstance(item, str):
                self.texts += 1
                self.longest_text = max(self.longest_text, len(item))
                # numpy takes these for padding.
                self.ends_with_nul |= item.endswith("\0")
            else:
                self.layouts.add((np.asarray(item).dtype, np.shape(item)))


class _Member(NamedTuple):
    """An array of the archive, given by parts of it."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    parts: Iterable[NDArray[Any]]


def _members(found: _Found, portions: _Portions) -> dict[str, _Member]:
    count = found.count
    members = {
        "step": _Member(np.dtype(np.int64), (count,), (portion.step for portion in portions)),
        "time": _Member(np.dtype(np.float64), (count,), (portion.time for portion in portions)),
        "process": _process(found, portions),
    }
    if found.texts == count and not found.ends_with_nul and 4 * count * found.longest_text <= _MAX_TEXT_BYTES:
        dtype = np.dtype(f"U{max(found.longest_text, 1)}")
        return members | {"value": _Member(dtype, (count,), (portion.value.astype(dtype) for portion in portions))}
    if not found.texts and len(found.layouts) == 1:
        ((dtype, shape),) = found.layouts
        stacked = (np.array(list(p.value), dtype) if p.value.dtype == object else p.value for p in portions)
        if dtype.itemsize:
            return members | {"value": _Member(dtype, (count, *shape), stacked)}
    size = sum(len(_bytes(item)) for portion in portions for item in objects(portion.value))
    layout = np.dtype(f"U{max(found.longest_layout, 1)}")
    layouts = (np.array([_layout(item) for item in objects(p.value)], layout) for p in portions)
    return members | {
        "data": _Member(np.dtype(np.uint8), (size,), _data(portions)),
        "offset": _Member(np.dtype(np.int64), (count + 1,), _offsets(portions)),
        "layout": _Member(layout, (count,), layouts),
    }


def _process(found: _Found, portions: _Portions) -> _Member:
    dtype = np.dtype(f"U{max(map(len, found.labels), default=1) or 1}")
    if len(found.labels) == 1:
        return _Member(dtype, (), [np.array(next(iter(found.labels)), dtype)])
    return _Member(dtype, (found.count,), (portion.process.astype(dtype) for portion in portions))


def _is_one_label(portion: Series) -> bool:
    return len(portion) > 0 and portion.process.strides == (0,)


def _layout(item: Any) -> str:
    if isinstance(item, str):
        return '"text"'
    array = np.asarray(item)
    return json.dumps([dtype_to_json(array.dtype), list(array.shape)])


def _bytes(item: Any) -> bytes:
    return item.encode("utf-8", "surrogatepass") if isinstance(item, str) else np.asarray(item).tobytes()


def _data(portions: _Portions) -> Iterator[NDArray[np.uint8]]:
    for portion in portions:
        for item in objects(portion.value):
            yield np.frombuffer(_bytes(item), np.uint8)


def _offsets(portions: _Portions) -> Iterator[NDArray[np.int64]]:
    end = 0
    yield np.zeros(1, np.int64)
    for portion in portions:
        ends = end + np.cumsum([len(_bytes(item)) for item in objects(portion.value)], dtype=np.int64)
        end = int(ends[-1])
        yield ends


def _write_array(file: IO[bytes], member: _Member) -> None:
    # Without what h5py notes on a dtype, which numpy warns of.
    dtype = dtype_from_json(dtype_to_json(member.dtype))
    header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": member.shape}
    try:
        npy.write_array_header_1_0(file, header)
    except ValueError:  # too long for the older version
        npy.write_array_header_2_0(file, header)
    for part in member.parts:
        file.write(np.ascontiguousarray(part, dtype).tobytes())
