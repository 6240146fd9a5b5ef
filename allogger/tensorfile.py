"""TensorFile: how do named arrays become one file that other tools read, and how is a file read that may be hostile?

The format is safetensors (https://github.com/huggingface/safetensors): 8 bytes with the length of a header, the header
as JSON, then the bytes of the arrays. Nothing in it is ever executed. Both directions are short enough to need no
library: arrays are written one after the other, without a second copy of all of them in memory.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from allogger.errors import DamagedFile

__all__ = ["DTYPES", "MAX_HEADER_BYTES", "SUFFIX", "Sink", "Tensor", "TensorFile", "write_tensors"]

SUFFIX = ".safetensors"
#: What the library takes, too.
MAX_HEADER_BYTES = 100_000_000

#: The dtypes of the format, and what numpy has for them; for the last three, which it lacks, whole numbers as wide.
DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    **{f"{sign}{8 * size}": f"<{code}{size}" for sign, code in (("U", "u"), ("I", "i")) for size in (2, 4, 8)},
    **{f"F{8 * size}": f"<f{size}" for size in (2, 4, 8)},
    "BF16": "<u2",
    "F8_E4M3": "|u1",
    "F8_E5M2": "|u1",
}


@dataclass(frozen=True)
class Tensor:
    """An array and its dtype in the format. Of one that numpy lacks, *data* has the bits."""

    dtype: str
    data: NDArray[Any]


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, data: Any, /) -> object:
        """Take all of it, or raise `OSError`."""


def write_tensors(sink: Sink, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write arrays and texts; raises `ValueError` if their names and the texts are too long for a header."""
    # The widest first, so that each begins at a multiple of its width.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].data.itemsize)
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.data.nbytes
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.data.shape), "data_offsets": [begin, end]}
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    if len(raw) > MAX_HEADER_BYTES:
        raise ValueError(f"its names and plain values take {len(raw)} bytes; put many numbers into an array")
    sink.write(len(raw).to_bytes(8, "little"))
    sink.write(raw)
    for _, tensor in ordered:
        little = np.ascontiguousarray(tensor.data, np.dtype(DTYPES[tensor.dtype]))
        sink.write(_bytes(little))


class TensorFile:
    """A file of arrays, to be used in a ``with`` block. All that it claims is checked against its size.

    Raises `DamagedFile` for what makes no sense, `OSError` for what cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Without O_NONBLOCK a pipe would keep us waiting for its other end.
        self._file: Any = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        try:
            info = os.fstat(self._file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise DamagedFile(f"{path} is no regular file")
            self.metadata, self._places, self._start = self._header(info.st_size)
        except BaseException:
            self._file.close()
            raise

    def _header(self, size: int) -> tuple[dict[str, str], dict[str, tuple[str, list[int], int]], int]:
        length = int.from_bytes(self._file.read(8), "little")
        if size < 8 or not length <= min(size - 8, MAX_HEADER_BYTES):
            raise DamagedFile(f"{self.path} is no safetensors file: it has no header")
        try:
            header = json.loads(self._file.read(length))
            metadata = {str(name): str(text) for name, text in header.pop("__metadata__", {}).items()}
            places = {name: _place(told, size - 8 - length) for name, told in header.items()}
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise DamagedFile(f"the header of {self.path} makes no sense: {error!r:.200}") from None
        # Or a small file could claim that each of very many arrays is all of it.
        if sum(_nbytes(dtype, shape) for dtype, shape, _ in places.values()) > size - 8 - length:
            raise DamagedFile(f"the arrays of {self.path} overlap")
        return metadata, places, 8 + length

    def read(self, name: str) -> Tensor:
        """Return one array, in memory of its own; raises `KeyError`."""
        dtype, shape, begin = self._places[name]
        try:
            data = np.empty(shape, DTYPES[dtype])
        except ValueError as error:
            raise DamagedFile(f"{name!r:.80} in {self.path} has an impossible shape: {error}") from None
        self._file.seek(self._start + begin)
        if self._file.readinto(_bytes(data)) != data.nbytes:
            raise DamagedFile(f"{self.path} has become shorter")
        return Tensor(dtype, data)

    def names(self) -> list[str]:
        """Return the names of the arrays."""
        return list(self._places)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _bytes(array: NDArray[Any]) -> memoryview:
    """Return the memory of a contiguous array."""
    flat: Any = array.reshape(-1).view(np.uint8)
    return memoryview(flat)


def _place(told: Any, size: int) -> tuple[str, list[int], int]:
    """Return dtype, shape and beginning of an array; raises `ValueError` if they do not fit together."""
    dtype, shape, (begin, end) = told["dtype"], told["shape"], told["data_offsets"]
    numbers = [begin, end, *shape]
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers) or len(shape) > 64:
        raise ValueError("offsets and shapes are whole numbers")
    if not begin <= end <= size or end - begin != _nbytes(dtype, shape):
        raise ValueError("an array is not where the header says")
    return dtype, shape, begin


def _nbytes(dtype: str, shape: list[int]) -> int:
    return math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
