"""Mutations: how is a file changed at random?"""

from __future__ import annotations

import json
import random
from typing import Any

__all__ = ["mutated", "mutated_json"]

# Where integers end, in any width and byte order, and what has a meaning in many formats.
_INTERESTING = [
    *(n.to_bytes(size, "little") for size in (1, 2, 4, 8) for n in (0, 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)),
    (2**32).to_bytes(8, "little"), (2**62).to_bytes(8, "little"), b"\0" * 16, b"\xff" * 16, b"[" * 2000, b'"', b"\\",
]  # fmt: skip

_NONSENSE: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**32 - 1, 2**53 + 1, 2**63, -(2**63), 2**64, 10**30, 0.5, 1e308, float("inf"),
    float("nan"), "", "x", "\0", "\ud800", "../x", "/", "%", "O", "|V0", "<U1", ">f8", [], {}, [[]], [0], [-1],
    [2**62, 4], [[["a", "<f8"]]], {"a": []}, ["a"] * 100,
]  # fmt: skip


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """Return *raw* with a few random changes."""
    data = bytearray(raw)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 30])):
        at = rng.randrange(len(data) + 1)
        other = rng.randrange(len(data) + 1)
        size = min(rng.choice([1, 2, 8, 40, 1000]), len(data))
        match rng.randrange(8):
            case 0 | 1 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                piece = rng.choice(_INTERESTING)
                data[at : at + len(piece)] = piece
            case 3:
                data[at : at + size] = rng.randbytes(min(size, len(data) - at))
            case 4:
                del data[at : at + size]
            case 5:
                data[at:at] = data[other : other + size]
            case 6:
                data[at:at] = rng.choice(_INTERESTING)
            case 7 if rng.random() < 0.2:
                del data[at:]
    return bytes(data)


def mutated_json(raw: bytes, rng: random.Random) -> bytes:
    """Return JSON with other values in it, or, now and then, something that is no JSON any more."""
    if rng.random() < 0.2:
        return mutated(raw, rng)
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return mutated(raw, rng)
    for _ in range(rng.randrange(1, 4)):
        content = _changed(content, rng, rng.randrange(6))
    return json.dumps(content).encode()


def _changed(content: Any, rng: random.Random, depth: int) -> Any:
    """Return *content* with one value changed, at most *depth* levels down."""
    if not depth or not content or not isinstance(content, dict | list):
        return rng.choice(_NONSENSE)
    where = rng.choice(list(content)) if isinstance(content, dict) else rng.randrange(len(content))
    copy: Any = dict(content) if isinstance(content, dict) else list(content)
    match rng.randrange(6):
        case 0:
            del copy[where]
        case 1 if isinstance(copy, dict):
            copy[rng.choice(["", "x", "name", "series"])] = rng.choice(_NONSENSE)
        case 1:
            copy.insert(where, rng.choice(_NONSENSE))
        case _:
            copy[where] = _changed(content[where], rng, depth - 1)
    return copy
