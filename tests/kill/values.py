"""Values: what do the programs log, so that every value found tells whose it is?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "KEYS",
    "KINDS",
    "KIND_AND_NUMBER",
    "NUMBERS",
    "SCOPE",
    "Origin",
    "key_of",
    "name_of",
    "origin_of",
    "step_of",
    "value",
]

SCOPE = "kill.w"
KINDS = ("scalar", "array", "histogram", "text")
KEYS = {"scalar": 50, "array": 4, "histogram": 4, "text": 4}
#: How many numbers a process has in one attempt. A value is exact as a float32, which is all that TensorBoard keeps.
NUMBERS = 1 << 17
_PROCESSES = 8


class Origin(NamedTuple):
    """Where a value comes from: its process, the attempt, and its number in them."""

    process: int
    attempt: int
    number: int


def name_of(process: int) -> str:
    """Return what a process is called."""
    return "MainProcess" if process == 0 else f"w{process}"


def key_of(kind: int, key: int) -> str:
    """Return the name of a key; some of them are nested."""
    return f"{KINDS[kind]}/group{key % 3}/k{key}" if key % 2 else f"{KINDS[kind]}-{key}"


#: The kind and the number of each key, by its name.
KIND_AND_NUMBER = {key_of(kind, key): (kind, key) for kind, name in enumerate(KINDS) for key in range(KEYS[name])}


def step_of(kind: int, key: int, count: int) -> int | None:
    """Return the step to log the *count*-th value of a key with: none for most, so that allogger counts."""
    return 3 * (count // 2) if (kind + key) % 5 == 3 else None


def value(kind: int, key: int, origin: Origin) -> Any:
    """Return the value of that number."""
    code = origin.number + NUMBERS * (origin.attempt + 2 * origin.process)
    match KINDS[kind]:
        case "scalar":
            return code if key % 5 == 0 else float(code)
        case "array":
            return np.full((2, 1 + origin.number % 3), code, np.int32)
        case "histogram":
            return np.arange(2 + origin.number % 50) + np.float64(code)
        case _:
            return f'{code} says:\n"text", {key}' + " and more" * (origin.number % 100)


def origin_of(kind: int, key: int, found: Any) -> Origin | None:
    """Return where a value that was read back comes from, or None if it is none of ours."""
    try:
        code = int(str(found).partition(" ")[0] if KINDS[kind] == "text" else np.asarray(found).ravel()[0])
    except (ValueError, IndexError, OverflowError):
        return None
    rest, number = divmod(code, NUMBERS)
    process, attempt = divmod(rest, 2)
    if not 0 <= process < _PROCESSES:
        return None
    origin = Origin(process, attempt, number)
    return origin if _is_equal(found, value(kind, key, origin)) else None


def _is_equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, np.ndarray):
        return getattr(found, "dtype", None) == expected.dtype and np.array_equal(found, expected)
    return bool(found == expected)
