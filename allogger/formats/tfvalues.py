"""Values of event files: what stands in an event, and what are its tensors, histograms and pictures as arrays?

The numbers of the fields are those of TensorBoard's event.proto, summary.proto, tensor.proto and of the messages of its
plug-ins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from allogger.formats.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Field,
    double,
    fields,
    integer,
    signed,
    text,
    varints,
)

__all__ = [
    "HISTOGRAMS",
    "HPARAMS",
    "IMAGES",
    "SCALARS",
    "STRING",
    "TEXTS",
    "EventValues",
    "Tensor",
    "Value",
    "encoded_bytes",
    "event_values",
    "histogram",
    "hparams",
    "is_number",
    "plugin_of",
    "simple_value",
    "tensor",
    "tensor_shape",
]

# Plug-ins of TensorBoard: they say what a tensor means.
SCALARS, TEXTS, IMAGES, HISTOGRAMS, HPARAMS = "scalars", "text", "images", "histograms", "hparams"

_MOST_ITEMS = 2**26
# A few bytes may say "and so on": a small file must not become a large array.
_MOST_REPEATED = 2**12
_MOST_AXES = 32


class Value(NamedTuple):
    """One value of an event: *what* it is (the name of its field), and where; *plugin* is "" if it is not said."""

    tag: bytes
    plugin: str
    what: str
    content: Field
    metadata: Field | None = None


class EventValues(NamedTuple):
    """The values of an event, and their step and time (Unix seconds)."""

    step: int
    time: float
    values: list[Value]


_WHAT = {2: "simple_value", 3: "old histogram", 4: "image", 5: "histogram", 6: "audio", 8: "tensor"}


def event_values(event: bytes) -> EventValues:
    """Return what is in an event; raises `ValueError` if it is none."""
    step, time = 0, 0.0
    values: list[Value] = []
    for field in fields(event):
        if field.number == 1:
            time = double(event, field)
        elif field.number == 2:
            step = signed(event, field)
        elif field.number == 5 and field.wire == BYTES:
            values += [
                found
                for value in fields(event, field.start, field.stop)
                if value.number == 1 and value.wire == BYTES and (found := _value(event, value)) is not None
            ]
    return EventValues(step, time, values)


def _value(event: bytes, value: Field) -> Value | None:
    tag, content, metadata = b"", None, None
    for field in fields(event, value.start, value.stop):
        if field.number == 1 and field.wire == BYTES:
            tag = event[field.start : field.stop]
        elif field.number == 9 and field.wire == BYTES:
            metadata = field
        elif field.number in _WHAT:
            content = field
    # Hyperparameters have metadata only.
    found = content or metadata
    if found is None:
        return None
    plugin = plugin_of(event, metadata) if metadata else ""
    return Value(tag, plugin, _WHAT[content.number] if content else "metadata", found, metadata)


def plugin_of(event: bytes, metadata: Field) -> str:
    """Return the name of the plug-in that a value is meant for; "" if there is none."""
    return text(event, name) if (name := _plugin_field(event, metadata, 1)) is not None else ""


def _plugin_field(event: bytes, metadata: Field, number: int) -> Field | None:
    for plugin in _of(event, metadata, 1):
        for field in _of(event, plugin, number):
            return field
    return None


def _of(event: bytes, message: Field, number: int) -> list[Field]:
    return [f for f in fields(event, message.start, message.stop) if f.number == number and f.wire == BYTES]


def simple_value(event: bytes, value: Value) -> float:
    """Return a number."""
    return double(event, value.content)


# -------------------------------------------------------------------------------------------------------------- tensors

_DTYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    8: "<c8",
    9: "<i8",
    10: "?",
    17: "<u2",
    18: "<c16",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}
#: The dtype of texts.
STRING = 7
# The fields in which the items of a tensor may be: those that are written as integers, and as floats of which dtype.
_AS_INTEGERS = frozenset({7, 10, 11, 13, 16, 17})
_AS_FLOATS = {5: "<f4", 6: "<f8", 9: "<f4", 12: "<f8"}
_CONTENT, _TEXT_ITEMS, _HALF = 4, 8, 13

#: The items of a tensor: an array, or bytes for those of texts.
Tensor = NDArray[Any] | list[bytes]


def tensor_shape(event: bytes, content: Field) -> tuple[int, tuple[int, ...]]:
    """Return the number of a tensor's dtype and its shape; raises `ValueError` for what can have none."""
    kind, shape = 0, []
    for field in fields(event, content.start, content.stop):
        if field.number == 1:
            kind = integer(event, field)
        elif field.number == 2 and field.wire == BYTES:
            for axis in _of(event, field, 2):
                sizes = [signed(event, f) for f in fields(event, axis.start, axis.stop) if f.number == 1]
                shape.append(sizes[-1] if sizes else 0)
    if len(shape) > _MOST_AXES or min(shape, default=0) < 0 or math.prod(shape) > _MOST_ITEMS:
        raise ValueError(f"a tensor of shape {shape}")
    return kind, tuple(shape)


def is_number(event: bytes, content: Field) -> bool:
    """Return whether a tensor is a single real number without axes; raises `ValueError` like `tensor_shape`."""
    kind, shape = tensor_shape(event, content)
    return shape == () and kind in _DTYPES and np.dtype(_DTYPES[kind]).kind in "biuf"


def tensor(event: bytes, content: Field) -> Tensor:
    """Return the items of a tensor; raises `ValueError` for one that contradicts itself or is of an unknown type."""
    kind, shape = tensor_shape(event, content)
    if kind == STRING:
        return [event[item.start : item.stop] for item in _of(event, content, _TEXT_ITEMS)]
    if kind not in _DTYPES:
        raise ValueError(f"a tensor of the unknown type {kind}")
    dtype = np.dtype(_DTYPES[kind])
    pieces = [_items(event, f, dtype) for f in fields(event, content.start, content.stop) if f.number >= _CONTENT]
    items = np.concatenate([np.empty(0, dtype), *pieces])
    count = math.prod(shape)
    repeated = count - len(items)
    if not 0 <= repeated <= _MOST_REPEATED or (count and not len(items)):
        raise ValueError(f"a tensor of shape {list(shape)} with {len(items)} items")
    # The last item stands for all that follow.
    return np.concatenate([items, np.repeat(items[-1:], repeated)]).reshape(shape)


def _items(event: bytes, field: Field, dtype: np.dtype[Any]) -> NDArray[Any]:
    raw = event[field.start : field.stop]
    if field.number == _CONTENT and field.wire == BYTES:
        return np.frombuffer(raw, dtype)
    if field.number in _AS_FLOATS and field.wire in (BYTES, FIXED32, FIXED64):
        found = np.frombuffer(raw, _AS_FLOATS[field.number])
        return found.view(dtype) if dtype.kind == "c" else found.astype(dtype)
    if field.number in _AS_INTEGERS and field.wire in (BYTES, VARINT):
        numbers = varints(event, field)
        return numbers.astype("<u2").view(dtype) if field.number == _HALF else numbers.astype(dtype)
    return np.empty(0, dtype)


# ------------------------------------------------------------------------------------------------ histograms, pictures


def histogram(event: bytes, content: Field) -> NDArray[np.float64]:
    """Return a row for each bin: its left edge, its right edge and the count; as TensorBoard shows it.

    The outermost edges are the smallest and the largest value.
    """
    ends = [0.0, 0.0]
    columns: dict[int, list[NDArray[np.float64]]] = {6: [], 7: []}
    for field in fields(event, content.start, content.stop):
        if field.number in (1, 2):
            ends[field.number - 1] = double(event, field)
        elif field.number in columns and field.wire in (BYTES, FIXED64):
            columns[field.number].append(np.frombuffer(event[field.start : field.stop], "<f8"))
    limits, counts = (np.concatenate([np.empty(0), *pieces]) for pieces in columns.values())
    if len(limits) != len(counts):
        raise ValueError(f"a histogram of {len(counts)} bins with {len(limits)} edges")
    inner = limits[:-1]
    edges = (ends[:1], inner, ends[1:]) if len(limits) else ((), (), ())
    left, right = np.concatenate(edges[:2]), np.concatenate(edges[1:])
    return np.stack([left, right, counts], axis=1)


def encoded_bytes(event: bytes, content: Field) -> bytes:
    """Return an encoded picture or sound, such as the content of a PNG or WAV file."""
    for field in _of(event, content, 4):
        return event[field.start : field.stop]
    raise ValueError("a picture or sound without content")


# ------------------------------------------------------------------------------------------------------ hyperparameters


def _null(event: bytes, field: Field) -> None:
    del event, field


_PARAMETER: dict[int, Callable[[bytes, Field], Any]] = {
    1: _null,
    2: double,
    3: text,
    4: lambda event, field: bool(integer(event, field)),
}


def hparams(event: bytes, metadata: Field) -> dict[str, Any]:
    """Return the hyperparameters that a value's metadata hold, as those of a session's start do; else none."""
    found: dict[str, Any] = {}
    content = _plugin_field(event, metadata, 2)
    for start in _of(event, content, 3) if content is not None else ():
        for entry in _of(event, start, 1):
            parts = {field.number: field for field in fields(event, entry.start, entry.stop)}
            if 1 in parts and 2 in parts:
                for field in fields(event, parts[2].start, parts[2].stop):
                    if field.number in _PARAMETER:
                        found[text(event, parts[1])] = _PARAMETER[field.number](event, field)
    return found
