"""Digest: do two files hold the same values of a series?"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.reader import Columns

__all__ = ["Digest"]

# Integers beyond are not exact as float64.
_EXACT = 2**53
_BLOCK_BYTES = 2**22
_NUMBER = np.dtype([("how", "u1"), ("bits", "<i8")])
_FLOAT, _LARGE_INT, _IMAGINARY = 0, 1, 2


class Digest:
    """Sums up the values of one series, which come in portions: two digests are equal if all values are.

    ``values`` are the same for an integer and the float of the same value, because a series of integers becomes one of
    floats when the first float comes; ``layouts`` tell them apart. *mark* is a number of values after which ``at_mark``
    takes down what ``values`` are by then.
    """

    def __init__(self, mark: int = -1) -> None:
        self.count = 0
        self.at_mark: bytes | None = None
        self._mark = mark
        self._parts = {name: hashlib.blake2b(digest_size=16) for name in ("step", "time", "value", "attrs")}
        self._layouts = hashlib.blake2b(digest_size=16)
        self._layout: object = None
        self._shown: object = None

    @property
    def values(self) -> bytes:
        """What stands for the steps, times, values and attributes so far."""
        return b"".join(part.digest() for part in self._parts.values())

    @property
    def layouts(self) -> bytes:
        """What stands for the dtypes and shapes so far."""
        return self._layouts.digest()

    def update(self, columns: Columns) -> None:
        """Take the next values of the series."""
        before = self._mark - self.count
        if not 0 <= before <= len(columns):
            self._take(columns)
            return
        self._take(columns.take(np.arange(before)))
        self.at_mark = self.values
        self._take(columns.take(np.arange(before, len(columns))))

    def _take(self, columns: Columns) -> None:
        self._parts["step"].update(_bytes_of(columns.step))
        self._parts["time"].update(_bytes_of(columns.time))
        for row in sorted(columns.attrs):
            if columns.attrs[row]:
                attrs = json.dumps([self.count + row, columns.attrs[row]], sort_keys=True)
                self._parts["attrs"].update(f"{attrs}\n".encode())
        self._take_values(columns.value)

    def _take_values(self, value: NDArray[Any]) -> None:
        if value.dtype != object:
            self._take_alike(value, value.shape[1:], len(value))
            return
        for item in value:
            if isinstance(item, str):
                text = item.encode("utf-8", "surrogatepass")
                self._begin("text", "text", 1)
                self._parts["value"].update(struct.pack("<Q", len(text)) + text)
            else:
                array = np.asarray(item)
                self._take_alike(array, array.shape, 1)

    def _take_alike(self, values: NDArray[Any], shape: tuple[int, ...], count: int) -> None:
        """Take *count* values of one dtype and *shape*."""
        if not count:
            return
        flat, dtype = values.reshape(-1), values.dtype
        layout: object = (_described(dtype), shape)
        if not shape and dtype.isnative and dtype in (np.float64, np.int64, np.bool_, np.complex128):
            self._begin("number", layout, count)
            self._parts["value"].update(_bytes_of(_as_numbers(flat)))
            return
        self._begin(layout, layout, count)
        for part in _portions(flat):
            self._parts["value"].update(part)

    def _begin(self, layout: object, shown: object, count: int) -> None:
        if layout != self._layout:
            self._layout = layout
            self._parts["value"].update(f"{self.count} {layout}\n".encode())
        if shown != self._shown:
            self._shown = shown
            self._layouts.update(f"{self.count} {shown}\n".encode())
        self.count += count


def _described(dtype: np.dtype[Any]) -> object:
    # The repr of equal dtypes can differ.
    if dtype.subdtype is not None:
        return _described(dtype.base), dtype.shape
    if dtype.names is None:
        return dtype.str
    fields = [(name, _described(dtype[name]), dtype.fields[name][1:]) for name in dtype.names] if dtype.fields else []
    return fields, dtype.itemsize


def _as_numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers in one form for all of their types."""
    if values.dtype.kind == "c":
        pairs = np.empty((len(values), 2), _NUMBER)
        pairs["how"] = _FLOAT, _IMAGINARY
        pairs["bits"] = np.ascontiguousarray(values).view(np.int64).reshape(-1, 2)
        has_part = np.ones(pairs.shape, bool)
        has_part[:, 1] = pairs["bits"][:, 1] != 0
        found: NDArray[Any] = pairs[has_part]
        return found
    found = np.empty(len(values), _NUMBER)
    found["how"] = _FLOAT
    found["bits"] = values.astype(np.float64).view(np.int64)
    if values.dtype.kind == "i":
        is_large = (values > _EXACT) | (values < -_EXACT)
        found["how"][is_large] = _LARGE_INT
        found["bits"][is_large] = values[is_large]
    return found


def _portions(flat: NDArray[Any]) -> Iterator[bytes | memoryview]:
    """Yield bytes that are the same if the elements are, some megabytes at a time."""
    if _has_padding(flat.dtype):
        yield from (_without_padding(flat[row, ...]) for row in range(len(flat)))
        return
    rows = max(1, _BLOCK_BYTES // max(flat.itemsize, 1))
    yield from (_bytes_of(flat[start : start + rows]) for start in range(0, len(flat), rows))


def _has_padding(dtype: np.dtype[Any]) -> bool:
    # The unused bytes of a struct, and of a long double, may be anything.
    return dtype.names is not None or (dtype.kind in "fc" and dtype.itemsize > {"f": 8, "c": 16}[dtype.kind])


def _without_padding(value: NDArray[Any]) -> bytes:
    if value.dtype.names is not None:
        return b"".join(_without_padding(np.asarray(value[name])) for name in value.dtype.names)
    if _has_padding(value.dtype):
        return "\0".join(map(repr, value.ravel().tolist())).encode()
    return bytes(_bytes_of(value))


def _bytes_of(values: NDArray[Any]) -> memoryview | bytes:
    if not values.nbytes:
        return b""
    return memoryview(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
