"""Shown: what do single values look like: to a person, in a table for programs, and in JSON?"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from allogger.names import printable

__all__ = ["Moment", "age", "cell", "clock", "count", "dumped", "iso", "jsonable", "number", "plain", "size"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
# Largest first: the name of a unit and its seconds.
_SPANS = (("y", 31_557_600), ("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
# An array with more values is told by its dtype and shape.
_MOST_VALUES = 16
# So much is shown of other objects than texts, such as figures.
_MOST_CHARACTERS = 2000


class Moment(float):
    """A point in time (Unix seconds) that programs see as ISO 8601."""


def plain(value: Any) -> str:
    """Return *value* as a person reads it, numbers in full.

    >>> plain(None), plain(0.1), plain(["a", "b"])
    ('', '0.1', 'a, b')
    """
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    if hasattr(value, "dtype"):
        return _array(value)
    if isinstance(value, Mapping) and any(hasattr(item, "dtype") for item in value.values()):
        return ", ".join(f"{printable(str(name))}: {plain(item)}" for name, item in value.items())
    text = printable(str(value))
    return text if isinstance(value, str) or len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


def _array(value: Any) -> str:
    if value.ndim == 0:
        return printable(str(value.item()))
    if value.size <= _MOST_VALUES:
        return json.dumps(jsonable(value))
    return f"<{value.dtype} {' x '.join(map(str, value.shape))}>"


def number(value: Any) -> str:
    """Return a number with as many digits as help a person.

    >>> number(0.123456789), number(1234567), number(1.5e-12), number(None), number(2.0)
    ('0.123457', '1,234,567', '1.5e-12', '', '2')
    """
    if hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return plain(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def count(value: int | None) -> str:
    """Return an integer with commas.

    >>> count(1234567), count(None)
    ('1,234,567', '')
    """
    return "" if value is None else f"{value:,}"


def size(value: int | None) -> str:
    """Return bytes in the unit that suits them.

    >>> size(0), size(999), size(12_345), size(123_456_789)
    ('0 B', '999 B', '12.3 kB', '123 MB')
    """
    if value is None:
        return ""
    amount, power = float(value), 0
    while amount >= 999.5 and power < len(_UNITS) - 1:
        amount, power = amount / 1000, power + 1
    return f"{amount:.0f} {_UNITS[power]}" if power == 0 or amount >= 99.95 else f"{amount:.1f} {_UNITS[power]}"


def age(since: float | None, now: float | None = None) -> str:
    """Return how long ago a time (Unix seconds) is.

    >>> age(0.0, 59.0), age(0.0, 7200.0), age(0.0, 86_400 * 800.0), age(None)
    ('59 s', '2 h', '2 y', '')
    """
    if since is None:
        return ""
    span = max((time.time() if now is None else now) - since, 0.0)
    name, seconds = next((unit for unit in _SPANS if span >= unit[1]), _SPANS[-1])
    return f"{span / seconds:.0f} {name}"


def iso(at: float | None) -> str | None:
    """Return a time (Unix seconds) as programs read it.

    >>> iso(0.5), iso(None)
    ('1970-01-01T00:00:00.500000+00:00', None)
    """
    found = _datetime(at)
    return found.isoformat(timespec="microseconds") if found else None


def clock(at: float | None) -> str:
    """Return a time (Unix seconds) as the clock on the wall showed it."""
    found = _datetime(at)
    return found.astimezone().strftime("%Y-%m-%d %H:%M:%S") if found else ""


def _datetime(at: float | None) -> datetime | None:
    try:
        return None if at is None else datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # no time at all: files may say anything


def cell(value: Any) -> str:
    r"""Return *value* for a column of tab-separated values: exact, on one line.

    >>> cell(None), cell(0.1), cell("a\tb"), cell([1, 2]), cell(True)
    ('', '0.1', 'a\\tb', '[1, 2]', 'true')
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return printable(value)
    value = jsonable(value)
    return printable(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def dumped(value: Any, indent: int | None) -> str:
    """Return *value* as JSON that every parser takes; see `jsonable`."""
    return json.dumps(jsonable(value), indent=indent, ensure_ascii=False, allow_nan=False)


def jsonable(value: Any) -> Any:
    """Return *value* made of what JSON knows; numbers that it lacks become the texts ``NaN``, ``Infinity``, ``1+2j``.

    >>> jsonable({"a": (1, float("nan")), "b": {2}})
    {'a': [1, 'NaN'], 'b': [2]}
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Moment):
        return iso(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _not_finite(value)
    if isinstance(value, str):
        # JSON is UTF-8, which has no lone surrogates.
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {jsonable(str(name)): jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if hasattr(value, "tolist"):
        items = value.tolist()
        # Numbers that Python does not have, such as long doubles, stay numpy's.
        return str(items) if hasattr(items, "dtype") else jsonable(items)
    return jsonable(str(value))


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
