"""States: how is a nested state, such as that of a model and its optimizer, taken apart into arrays and put together?

What is no array becomes a *skeleton*: JSON that says where each array was. Of a state dict of torch the arrays have the
names that they have there, so that other tools find them. No object is ever pickled.
"""

from __future__ import annotations

import importlib
import json
import math
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from allogger.dtypes import check_items, dtype_from_json, dtype_to_json
from allogger.errors import DamagedFile, MissingDependency, UnknownName
from allogger.plain import Unstorable, description
from allogger.tensorfile import DTYPES, Sink, Tensor, TensorFile, write_tensors

__all__ = ["As", "read_state", "taken_apart", "write_state"]

As = Literal["numpy", "torch"]

# Deeper than any state, and far from what Python's own recursion allows.
_MAX_DEPTH = 200
_SKELETON = "allogger"
# numpy's own dtypes that the format has; all others are stored as bytes, beside their name.
_NAMES = {np.dtype(numpy): name for name, numpy in DTYPES.items() if name[:2] not in ("BF", "F8")}
# What numpy lacks: the name that torch and ml_dtypes have for it, and that of the format.
_SHORT_FLOATS = {"bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}


# ------------------------------------------------------------------------------------------------------ take apart


def write_state(sink: Sink, state: Any) -> None:
    """Write a nested state as one file; raises `Unstorable`, naming the place of what cannot be part of one."""
    tensors, skeleton = taken_apart(state)
    try:
        write_tensors(sink, tensors, {_SKELETON: json.dumps(skeleton, separators=(",", ":"))})
    except ValueError as error:
        raise Unstorable(f"the state is no file: {error}") from error


def taken_apart(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Return the arrays of a nested state by name, and a skeleton in JSON values; raises `Unstorable`."""
    parts = _Parts()
    return parts.tensors, parts.node(state, ())


class _Parts:
    """The arrays that were found so far."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def node(self, value: Any, path: tuple[str, ...]) -> Any:
        """Return the skeleton of *value*, which is at *path* of the state."""
        if len(path) > _MAX_DEPTH:
            raise Unstorable("the state is nested too deep, or holds itself")
        try:
            return self._node(value, path)
        except Unstorable:
            raise
        except Exception as error:
            raise _refusal(value, path, f"{type(error).__name__}: {error}"[:200]) from error

    def _node(self, value: Any, path: tuple[str, ...]) -> Any:
        number = _scalar(value)
        if number is not _NO_SCALAR:
            return number
        if isinstance(value, Mapping):
            return {"dict": [[_key(key, path), self.node(item, (*path, str(key)))] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            items = [self.node(item, (*path, str(place))) for place, item in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
        if type(value) in (bytes, bytearray):
            return {"bytes": self._add(Tensor("U8", np.frombuffer(bytes(value), np.uint8)), path)}
        if _is_tensor(value):
            return self._tensor(value, path)
        # A model, an optimizer, a schedule, a logger: they know best what their state is.
        for method in ("get_weights", "state_dict") if _is_of_keras(type(value)) else ("state_dict", "get_weights"):
            if callable(getattr(type(value), method, None)):
                return self.node(getattr(value, method)(), path)
        if isinstance(value, np.ndarray | np.generic) or _is_array(type(value)):
            tag = "number" if isinstance(value, np.generic) else "array"
            return self._array(tag, np.asarray(value), value, path)
        raise _refusal(value, path, "a state has arrays, tensors, numbers, texts, None, dicts, lists and tuples")

    def _tensor(self, value: Any, path: tuple[str, ...]) -> Any:
        if value.is_quantized or str(value.layout) != "torch.strided":
            raise _refusal(value, path, "only dense tensors that are not quantized can be stored")
        value = value.detach().cpu().resolve_conj().resolve_neg()
        short = _SHORT_FLOATS.get(str(value.dtype).removeprefix("torch."))
        if short is None:
            return self._array("tensor", value.numpy(), value, path)
        # Not reshape: of an empty one it keeps strides that cannot be viewed as bytes.
        flat = value.contiguous().as_strided((value.numel(),), (1,))
        bits = flat.view(sys.modules["torch"].uint8).numpy()
        return {"tensor": self._add(_short(short, bits, tuple(value.shape)), path)}

    def _array(self, tag: str, array: NDArray[Any], value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, np.ma.MaskedArray):
            raise _refusal(value, path, "a masked array has two parts, its data and its mask; put both into a dict")
        if array.dtype in _NAMES:
            return {tag: self._add(Tensor(_NAMES[array.dtype], array), path)}
        if array.dtype.name in _SHORT_FLOATS:
            bits = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            return {tag: self._add(_short(_SHORT_FLOATS[array.dtype.name], bits, array.shape), path)}
        dtype = dtype_to_json(array.dtype)
        bits = np.frombuffer(array.tobytes(), np.uint8)
        return {tag: self._add(Tensor("U8", bits), path), "dtype": dtype, "shape": list(array.shape)}

    def _add(self, tensor: Tensor, path: tuple[str, ...]) -> str:
        # UTF-8 has no lone surrogates; and 1 and "1" are different keys.
        plain = "/".join(path).encode("utf-8", "backslashreplace").decode() or "value"
        name, number = plain, 1
        while name in self.tensors or name == "__metadata__":
            name, number = f"{plain}~{number}", number + 1
        self.tensors[name] = tensor
        return name


def _short(dtype: str, bits: NDArray[np.uint8], shape: tuple[int, ...]) -> Tensor:
    return Tensor(dtype, bits.view(DTYPES[dtype]).reshape(shape))


_NO_SCALAR = object()


def _scalar(value: Any) -> Any:
    """Return a number, text or None as JSON has it, and what JSON lacks as an object with one name."""
    cls = type(value)
    if value is None or cls in (bool, str):
        return value
    if cls is int:
        return value if -(2**63) <= value < 2**63 else {"int": hex(value)}
    if cls is float:
        return value if math.isfinite(value) else {"float": _bits(value)}
    if cls is complex:
        return {"complex": [_bits(value.real), _bits(value.imag)]}
    return _NO_SCALAR


def _bits(value: float) -> str:
    return struct.pack(">d", value).hex()


def _key(key: Any, path: tuple[str, ...]) -> Any:
    if type(key) is tuple:
        return {"tuple": [_key(part, path) for part in key]}
    found = _scalar(key)
    if found is _NO_SCALAR:
        raise _refusal(key, path, "the keys of a state are texts, numbers and None, or tuples of these")
    return found


def _is_tensor(value: Any) -> bool:
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(value, tensor)


def _is_of_keras(cls: type) -> bool:
    """Return whether `set_weights` takes what `get_weights` gives; a module of torch may mean anything else by that."""
    return any(one.__module__.partition(".")[0] == "keras" for one in cls.__mro__)


def _is_array(cls: type) -> bool:
    """Return whether objects of *cls* are arrays of another library; tables with names are more than that."""
    return hasattr(cls, "__array__") and hasattr(cls, "dtype") and hasattr(cls, "shape") and not hasattr(cls, "iloc")


def _refusal(value: Any, path: tuple[str, ...], why: str) -> Unstorable:
    where = repr("/".join(path)) if path else "the state"
    return Unstorable(f"{where} is {description(value)}, which cannot be stored: {why}")


# ---------------------------------------------------------------------------------------------------- put together


def read_state(path: Path, as_: As = "numpy") -> Any:
    """Return the state in a file that `write_state` made, or the arrays of one that others made.

    Mappings come back as dicts, objects as their state. With ``"numpy"`` all arrays are numpy's, bfloat16 and float8 as
    float32; with ``"torch"`` what was a tensor is one again, in the memory of the CPU. Raises `DamagedFile`.
    """
    if as_ not in ("numpy", "torch"):
        raise UnknownName.of("library of arrays", as_, ["numpy", "torch"])
    tensor = _widened if as_ == "numpy" else _torch_tensor()
    with TensorFile(path) as file:
        found = _Whole(file, tensor)
        try:
            if _SKELETON in file.metadata:
                return found.node(json.loads(file.metadata[_SKELETON]))
            return {name: tensor(_checked(file.read(name))) for name in file.names()}
        except (ValueError, TypeError, LookupError, RecursionError, struct.error) as error:
            if isinstance(error, DamagedFile):
                raise
            raise DamagedFile(f"{path} holds no state: {error!r:.200}") from None


class _Whole:
    """Puts a state together; *tensor* makes what is shown of a tensor."""

    def __init__(self, file: TensorFile, tensor: Callable[[Tensor], Any]) -> None:
        self._file, self._tensor = file, tensor
        # Each array once, or a hostile skeleton could ask for a large one a million times.
        self._left = set(file.names())

    def node(self, told: Any) -> Any:
        """Return what a skeleton stands for; raises `ValueError`, `LookupError` and others for what is none."""
        if told is None or isinstance(told, bool | int | float | str):
            return told
        if isinstance(told, list):
            return [self.node(item) for item in told]
        tag = next(iter(told), "")
        of = told[tag]
        if tag == "dict":
            return {self.node(key): self.node(item) for key, item in of}
        if tag == "tuple":
            return tuple(self.node(item) for item in of)
        if tag == "int":
            return int(of, 16)
        if tag == "float":
            return _float(of)
        if tag == "complex":
            return complex(*map(_float, of))
        return self._leaf(tag, of, told)

    def _leaf(self, tag: str, name: str, told: Mapping[str, Any]) -> Any:
        self._left.remove(name)
        found = _checked(self._file.read(name))
        if "dtype" in told:
            found = _checked(_typed(found, told["dtype"], told["shape"]))
        if tag == "tensor":
            return self._tensor(found)
        if tag == "bytes":
            return found.data.tobytes()
        if tag == "number":
            return _widened(found)[()]
        if tag != "array":
            raise ValueError(f"nothing is called {tag!r:.80}")
        return _widened(found)


def _float(bits: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    return float(value)


def _typed(found: Tensor, dtype: Any, shape: Any) -> Tensor:
    """Return bytes as an array of a dtype that the format lacks."""
    array = np.ndarray(tuple(shape), dtype_from_json(dtype), found.data.tobytes())
    if array.nbytes != found.data.nbytes:
        raise ValueError("the bytes of an array are more than its shape says")
    return Tensor("", array.copy())


def _checked(found: Tensor) -> Tensor:
    check_items(found.data)
    return found


def _widened(found: Tensor) -> NDArray[Any]:
    """Return an array that numpy has; each bfloat16 and float8 is a float32."""
    bits = found.data
    if found.dtype == "BF16":  # the upper half of a float32
        bits = np.left_shift(bits, 16, dtype=np.uint32).view(np.float32)
    elif found.dtype == "F8_E5M2":  # the upper half of a float16
        bits = np.left_shift(bits, 8, dtype=np.uint16).view(np.float16).astype(np.float32)
    elif found.dtype == "F8_E4M3":
        bits = np.asarray(_E4M3[bits])
    return bits


def _e4m3() -> NDArray[np.float32]:
    """Return what each of the 256 bytes means: sign, 4 bits of exponent, 3 of mantissa, no infinity."""
    codes = np.arange(128)
    exponent, mantissa = codes >> 3, codes & 7
    values = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    values[127] = np.nan
    return np.concatenate([values, -values]).astype(np.float32)


_E4M3 = _e4m3()


def _torch_tensor() -> Callable[[Tensor], Any]:
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise MissingDependency("as_='torch' needs torch; install it with: pip install torch") from error
    dtypes = {"BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}

    def tensor(found: Tensor) -> Any:
        if found.dtype not in dtypes:
            return torch.from_numpy(found.data)
        # Signed, because older versions of torch have no other numbers of 16 bits.
        signed = found.data.view(f"i{found.data.itemsize}")
        return torch.from_numpy(signed).view(dtypes[found.dtype])

    return tensor
