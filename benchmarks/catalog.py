"""Catalog: which kinds of work are there?"""

from __future__ import annotations

from benchmarks import (
    arrays,
    calls,
    closing,
    crowd,
    dropped,
    many_keys,
    memory,
    reading,
    scalars,
    startup,
    steps,
    value_types,
)
from benchmarks.work import Work

__all__ = ["OPTIONAL", "WORKS"]

_ALL = (
    calls.WORK,
    steps.WORK,
    dropped.WORK,
    value_types.WORK,
    scalars.WORK,
    many_keys.WORK,
    arrays.WORK,
    startup.WORK,
    closing.WORK,
    reading.WORK,
    crowd.WORK,
    memory.WORK,
    memory.ARRAYS,
)
#: All by name, in the order in which they are measured and shown.
WORKS: dict[str, Work] = {work.name: work for work in _ALL}
#: What is only done when it is asked for by name: it writes 20 GB.
OPTIONAL = frozenset({memory.ARRAYS.name})
