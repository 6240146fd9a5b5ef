"""Plain: what is any library's number, array, text or dict in Python's and numpy's own terms?

`leaves` takes a dict apart, `plain` turns what any library calls a number or an array into Python's and numpy's own. No
library but numpy is imported: foreign values are known by their methods.
"""

from __future__ import annotations

import array
import math
import numbers
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from allogger.dtypes import dtype_to_json

__all__ = ["Approximate", "Plain", "Unstorable", "copied", "description", "is_config", "leaves", "plain"]


class Unstorable(Exception):
    """A value that a kind cannot store exactly; the message says why. The log call counts and reports it."""


class Approximate(float):
    """A float near a number that float64 does not hold; ``note`` says so in words that fit every such value."""

    __slots__ = ("note",)
    note: str

    def __new__(cls, value: float, note: str) -> Approximate:
        """Return the float *value* with its *note*."""
        made = super().__new__(cls, value)
        made.note = note
        return made


#: What `plain` makes of a value.
Plain: TypeAlias = float | int | bool | complex | str | NDArray[Any] | Mapping[Any, Any]


def leaves(mapping: Mapping[Any, Any], prefix: str = "", max_depth: int = 64) -> Iterator[tuple[str, Any]]:
    """Yield ``(key, value)`` for each leaf of nested mappings, the keys joined by ``/`` and put behind *prefix*.

    A branch that cannot be followed (it contains itself, is too deep, or raises) yields one `Unstorable` in its place.
    `plain` raises it.

    >>> list(leaves({"loss": 0.5, "norm": {0: 1.0, 1: 2.0}}, "train"))
    [('train/loss', 0.5), ('train/norm/0', 1.0), ('train/norm/1', 2.0)]
    """
    yield from _leaves(mapping, prefix, (), max_depth)


def _leaves(branch: Any, prefix: str, above: tuple[int, ...], max_depth: int) -> Iterator[tuple[str, Any]]:
    if id(branch) in above:
        yield prefix, Unstorable("a dict that contains itself")
        return
    if len(above) >= max_depth:
        yield prefix, Unstorable(f"a dict nested more than {max_depth} deep")
        return
    try:
        # A copy first, of a dict in one step of the interpreter: another thread may change it meanwhile.
        copied_items = list(branch.items())
        items = [(f"{prefix}/{name!s}" if prefix else str(name), value) for name, value in copied_items]
    except Exception as error:
        yield prefix, _refusal(branch, error)
        return
    for key, value in items:
        if _is_branch(value):
            yield from _leaves(value, key, (*above, id(branch)), max_depth)
        else:
            yield key, value


def _is_branch(value: Any) -> bool:
    try:
        return issubclass(type(value), Mapping) and not is_config(type(value))
    except Exception:
        return False


def is_config(cls: type) -> bool:
    """Return whether values of a type are configs of OmegaConf, which are parameters and no series for each leaf."""
    config = getattr(sys.modules.get("omegaconf"), "DictConfig", None)
    return isinstance(config, type) and issubclass(cls, config)


# --------------------------------------------------------------------------------------------------------- in our terms


def plain(value: Any, *, as_array: bool = False) -> Plain:
    """Return *value* as Python's or numpy's own: a view where that is possible, so copy it before you keep it.

    A number, or an array, tensor or list of one element, becomes a Python float, int, bool or complex; a text becomes a
    str; all other arrays, tensors, tables, buffers and lists become an array of the same shape and dtype. With
    *as_array*, for a value that its caller says is no scalar, arrays of one element and numpy's own numbers become
    arrays. A mapping is returned as it is.

    Nothing is rounded silently: a single number that int64 or float64 cannot hold (``2**70``, ``Decimal("0.1")``)
    becomes an `Approximate`, a longdouble that is no float64 a 0-d array. Everything else that would change (a ragged
    list, numbers among texts) raises `Unstorable`, as do ``None`` and a value whose conversion raises.

    bfloat16 and float8 become float32. A masked array becomes its data or, with masked elements, a structured array
    with the fields ``_data`` and ``_mask``. A naive datetime becomes a datetime64, an aware one its ISO text. Bytes are
    an array of uint8, and an Enum is its value.

    >>> plain(np.float32(0.5)), plain([[1]]), plain([1, 2])
    (0.5, 1, array([1, 2]))
    """
    # Any, because mypy does not take a type[Any] for hashable.
    cls: Any = type(value)
    try:
        if as_array:
            return _convert(value)
        quick = _QUICK.get(cls)
        if quick is not None:
            return quick(value)
        convert = _converter(cls)
        if convert is _of_tensor and value.numel() == 1 and not value.is_quantized:
            return plain(value.item())
        found = convert(value)
        return _only_element(found) if isinstance(found, np.ndarray) and found.size == 1 else found
    except Unstorable:
        raise
    except Exception as error:
        raise _refusal(value, error) from error


def copied(value: Any) -> NDArray[Any]:
    """Return *value* as a new C-contiguous array of the same shape and dtype, byte order included.

    Raises `Unstorable` if the value is no array, exact number or text, or if there is no memory for it.
    """
    found = _as_array(plain(value, as_array=True))
    try:
        return np.array(found, copy=True, order="C")
    except MemoryError as error:
        raise _refusal(value, error) from error


def description(value: Any) -> str:
    """Return what kind of thing *value* is, in words for a message; touches nothing but its type."""
    try:
        return f"a value of type {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
    except Exception:
        return "a value of a type without a name"


def _refusal(value: Any, error: Exception) -> Unstorable:
    try:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
    except Exception:
        reason = "it raises an error that cannot be shown"
    return Unstorable(f"{description(value)} cannot be stored: {reason}")


# -------------------------------------------------------------------------------------------------------------- numbers


def _same(value: Any) -> Any:
    return value


def _of_int(value: Any) -> int | float:
    number = int.__int__(value)
    return number if -(2**63) <= number < 2**63 else Approximate(number, "integers beyond int64 are stored as float64")


def _of_longdouble(value: Any) -> float | NDArray[Any]:
    number = float(value)
    return number if _equal(number, value) else np.asarray(value)


def _of_clongdouble(value: Any) -> complex | NDArray[Any]:
    number = complex(value)
    exact = _equal(number.real, value.real) and _equal(number.imag, value.imag)
    return number if exact else np.asarray(value)


def _of_number(value: Any) -> float | int | complex:
    """Return the float nearest to a number of any other library: Decimal, Fraction, ..."""
    if isinstance(value, numbers.Integral):
        return _of_int(int(value))
    if isinstance(value, numbers.Complex) and not isinstance(value, numbers.Real):
        return complex(value)
    number = float(value)
    if _equal(number, value):
        return number
    if math.isinf(number):
        raise Unstorable("a number too large for float64")
    return Approximate(number, f"numbers of type {type(value).__name__} are stored as float64")


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other or (one != one and other != other))


def _of_datetime(value: Any) -> str | NDArray[Any]:
    if value.tzinfo is not None:
        return str(value.isoformat())
    # pandas counts nanoseconds, which its parent class cannot show.
    return np.asarray(value.to_datetime64() if hasattr(value, "to_datetime64") else np.datetime64(value, "us"))


def _of_timedelta(value: Any) -> NDArray[Any]:
    if hasattr(value, "to_timedelta64"):
        return np.asarray(value.to_timedelta64())
    found = np.timedelta64(value, "us")
    # numpy lets the largest ones overflow.
    if found.item() != value:
        raise Unstorable("a timedelta beyond 292,000 years")
    return np.asarray(found)


# --------------------------------------------------------------------------------------------------------------- arrays


def _of_array(found: NDArray[Any]) -> NDArray[Any]:
    """Return an array with a dtype that every file can hold, or raise `Unstorable`."""
    kind = found.dtype.kind
    if kind in "biufcUSmM" and found.dtype.names is None:
        return found
    if kind in "OT":
        flat = _of_list(found.ravel().tolist())
        if flat.ndim != 1:
            raise Unstorable("an array of Python objects that are no numbers or texts")
        return flat.reshape(found.shape)
    if found.dtype.hasobject:
        raise Unstorable("an array of Python objects")
    if found.dtype.isbuiltin == 2:
        return found.astype(_wider(found.dtype))
    if found.dtype.names is not None:
        _check_fields(found.dtype)
    return found


@lru_cache(256)
def _check_fields(dtype: np.dtype[Any]) -> None:
    try:
        dtype_to_json(dtype)
    except ValueError as error:
        raise Unstorable(f"an array with fields that would not read back: {error}") from None


def _wider(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return numpy's own dtype that holds every value of one that another library registered, such as bfloat16."""
    for wide in (np.int8, np.uint8, np.float32, np.complex64):
        if np.can_cast(dtype, wide, "safe"):
            return np.dtype(wide)
    raise Unstorable(f"an array of dtype {dtype}, which numpy cannot convert exactly")


def _of_masked(found: Any) -> NDArray[Any]:
    # The mask of a structured array is structured too, and has no any(); its bytes are bools.
    masked = any(np.ma.getmaskarray(found).tobytes())
    return _of_array(np.asarray(found.toflex() if masked else found.data))


def _of_bytes(value: Any) -> NDArray[Any]:
    return np.frombuffer(value, np.uint8)


def _only_element(found: NDArray[Any]) -> Plain:
    if found.dtype.kind not in "biufcU":
        return found
    element = found.item()
    return _QUICK[type(element)](element)


def _as_array(part: Plain) -> NDArray[Any]:
    if isinstance(part, np.ndarray):
        return part
    if isinstance(part, Mapping):
        raise Unstorable("a dict is no array: log it without data_type to get one series for each of its values")
    if isinstance(part, Approximate):
        raise Unstorable("an array with a number that float64 does not hold")
    if isinstance(part, str) and part.endswith("\0"):
        raise Unstorable("a text with NUL at its end, which arrays drop")
    return np.asarray(part)


# ---------------------------------------------------------------------------------------------------------------- lists


def _of_list(values: Sequence[Any]) -> NDArray[Any]:
    types = set(map(type, values))
    if types <= _NUMBERS.keys():
        return _of_numbers(values, types)
    return _stacked([_convert(value) for value in values])


def _of_numbers(values: Sequence[Any], types: Iterable[type]) -> NDArray[Any]:
    found = np.asarray(values)
    if found.dtype.hasobject:
        raise Unstorable("a list with integers beyond 64 bits")
    integers = tuple(cls for cls in types if issubclass(cls, int | np.integer))
    if integers and found.dtype.kind in "fc":
        # numpy makes floats of [2**63, -1] and of [2**53 + 1, 0.5], and rounds.
        pairs = zip(values, found.tolist(), strict=True)
        if any(int(one) != other for one, other in pairs if isinstance(one, integers)):
            raise Unstorable("a list with integers that float64 does not hold")
    return found


def _stacked(parts: Sequence[Plain], axis: int = 0) -> NDArray[Any]:
    """Return *parts*, all of one shape, along a new *axis*; raises `Unstorable` if that would change any of them."""
    arrays = [_as_array(part) for part in parts]
    if len({one.shape for one in arrays}) > 1:
        raise Unstorable("a ragged list: its parts have different shapes")
    if len({_family(one.dtype) for one in arrays}) > 1:
        raise Unstorable("a list that mixes numbers, texts or other types")
    whole = np.stack(arrays, axis)
    for row, one in zip(np.moveaxis(whole, axis, 0), arrays, strict=True):
        if one.dtype.kind in "iu" and whole.dtype.kind in "fc" and row.tolist() != one.tolist():
            raise Unstorable("a list with integers that float64 does not hold")
    return whole


def _family(dtype: np.dtype[Any]) -> str:
    """Return a name that dtypes share when each array of one can become an array of the other, rounding apart."""
    return "number" if dtype.kind in "biufc" else dtype.kind if dtype.kind in "US" else repr(dtype)


# --------------------------------------------------------------------------------------------------- of other libraries


def _of_tensor(tensor: Any) -> NDArray[Any]:
    """Return a torch tensor of any device, layout or dtype as an array; exact."""
    if tensor.is_quantized:
        raise Unstorable("a quantized tensor: log its dequantize() or int_repr()")
    tensor = tensor.detach()
    if str(tensor.layout) != "torch.strided":
        tensor = tensor.to_dense()
    dtype = str(tensor.dtype)
    # These have no counterpart in numpy.
    if dtype == "torch.bfloat16" or dtype.startswith("torch.float8"):
        tensor = tensor.float()
    elif dtype == "torch.complex32":
        tensor = tensor.cfloat()
    return np.asarray(tensor.cpu().resolve_conj().resolve_neg().numpy())


def _of_frame(frame: Any) -> NDArray[Any]:
    """Return a table as a 2-d array, one column each; the library's own conversion rounds large integers."""
    columns = frame.get_columns() if hasattr(frame, "get_columns") else [column for _, column in frame.items()]
    if not columns:
        return _of_array(np.asarray(frame))
    return _stacked([_convert(column) for column in columns], axis=1)


def _of_foreign(value: Any) -> NDArray[Any]:
    if any(hasattr(value, name) for name in ("__array__", "__array_interface__", "__array_struct__")):
        found = _of_array(np.asarray(value))
        # pandas and polars make floats of integers as soon as one is missing.
        was_integer = found.dtype.kind == "f" and "int" in str(getattr(value, "dtype", "")).lower()
        if was_integer and (np.abs(found) >= 2**53).any():
            raise Unstorable("a column with missing values and integers that float64 does not hold")
        return found
    if hasattr(value, "__dlpack__"):
        return _of_array(np.from_dlpack(value))
    try:
        buffer = memoryview(value)
    except TypeError:
        raise Unstorable(
            f"{description(value)} is no number, array or text; data_type='text' stores its str()"
        ) from None
    return _of_array(np.asarray(buffer))


def _raise(value: Any) -> Any:
    raise value


# ------------------------------------------------------------------------------------------------------------- dispatch

#: Numbers of these types make a list that numpy takes as it is.
_NUMBERS: dict[type, Callable[[Any], Plain]] = {
    float: _same,
    int: _of_int,
    bool: _same,
    complex: _same,
    np.bool_: bool,
    **{np.dtype(code).type: float for code in "efd"},
    **{np.dtype(code).type: complex for code in "FD"},
    **{np.dtype(code).type: int for code in "bBhHiIlq"},
    **{np.dtype(code).type: lambda value: _of_int(int(value)) for code in "LQ"},
}

#: Exact types whose values need no further look.
_QUICK: dict[type, Callable[[Any], Plain]] = {
    **_NUMBERS,
    np.longdouble: _of_longdouble,
    np.clongdouble: _of_clongdouble,
    str: _same,
    np.str_: str.__str__,
    bytes: _of_bytes,
    bytearray: _of_bytes,
    np.bytes_: _of_bytes,
    dict: _same,
}

#: The first ancestor that fits decides, so the order matters: np.float64 is a float, bool an int, datetime a date.
_ANCESTORS: tuple[tuple[Any, Callable[[Any], Plain]], ...] = (
    (Unstorable, _raise),
    (Enum, lambda value: _convert(value.value)),
    (np.str_, str.__str__),
    ((bytes, bytearray), _of_bytes),
    (np.generic, lambda value: _of_array(np.asarray(value))),
    (np.ndarray, lambda value: _of_masked(value) if hasattr(value, "_mask") else _of_array(np.asarray(value))),
    ((bool, Approximate), _same),
    (int, _of_int),
    (float, float.__float__),
    (complex, complex.__complex__),
    (str, str.__str__),
    (datetime, _of_datetime),
    (date, lambda value: np.asarray(np.datetime64(value, "D"))),
    (timedelta, _of_timedelta),
    ((list, tuple), lambda value: _of_list(value)),
    (Mapping, _same),
    (numbers.Number, _of_number),
    ((memoryview, array.array), _of_foreign),
)


def _convert(value: Any) -> Plain:
    """Return *value* in plain terms; arrays of one element stay arrays."""
    cls: Any = type(value)
    return _converter(cls)(value)


# Bounded, because a program may make classes without end.
@lru_cache(maxsize=1024)
def _converter(cls: type) -> Callable[[Any], Plain]:
    """Return what `_convert` does with values of type *cls*."""
    for ancestors, convert in _ANCESTORS:
        if issubclass(cls, ancestors):
            return convert
    if hasattr(cls, "detach") and hasattr(cls, "is_quantized"):
        return _of_tensor
    if hasattr(cls, "columns") and hasattr(cls, "dtypes"):
        return _of_frame
    if not hasattr(cls, "__array__") and issubclass(cls, Sequence):
        return lambda value: _of_list(list(value))
    return _of_foreign
