"""Naming: what are the values of a test called, so that its name is the same in every process?"""

from __future__ import annotations

import re

__all__ = ["shown"]


def shown(value: object) -> str:
    """Return what *value* shows of itself, without its address, and sets in their order; for ``ids=``."""
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(repr, value))) + "}"
    return re.sub(r" at 0x[0-9a-f]+", "", value if isinstance(value, str) else repr(value))
