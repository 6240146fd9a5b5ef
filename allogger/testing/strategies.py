"""Strategies: which values, names and batches should Hypothesis try?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from allogger.errors import MissingDependency, UnknownName
from allogger.record import Batch, full_key
from allogger.testing.rows import ODD_NAMES, Row, batch_of

try:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as of_numpy
    from hypothesis.strategies import SearchStrategy
except ImportError as error:
    raise MissingDependency(
        "allogger.testing.strategies needs hypothesis; install it with: pip install hypothesis"
    ) from error

__all__ = ["batches", "keys", "rows", "scopes", "values"]

_KINDS = ("scalar", "text", "histogram", "array", "image")
_INT64 = st.integers(-(2**63), 2**63 - 1)
_SHAPES = of_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
_PIXELS = st.sampled_from([np.bool_, np.uint8, np.int64, np.float32])
_REAL = of_numpy.boolean_dtypes() | of_numpy.integer_dtypes() | of_numpy.floating_dtypes()
_PICTURES = st.sampled_from([(2, 3), (2, 3, 1), (3, 2, 2), (2, 2, 4)])

_VALUES: dict[str, Callable[[], SearchStrategy[Any]]] = {
    "scalar": lambda: st.floats() | _INT64 | st.booleans() | st.complex_numbers(),
    "text": lambda: st.text(st.characters()),
    "histogram": lambda: of_numpy.arrays(_REAL, st.integers(0, 20)),
    "array": lambda: of_numpy.arrays(_REAL | of_numpy.complex_number_dtypes(), _SHAPES),
    "image": lambda: of_numpy.arrays(_PIXELS, _PICTURES),
}


def keys() -> SearchStrategy[str]:
    """Return a strategy for keys: any text, often with characters that have a meaning somewhere."""
    return st.text(max_size=8) | st.sampled_from(ODD_NAMES) | st.text("ab/.%@_", max_size=5)


def scopes() -> SearchStrategy[str]:
    """Return a strategy for names of scopes, the root and nested ones included."""
    return st.just("root") | st.lists(keys(), min_size=1, max_size=3).map(".".join)


def values(kind: str = "scalar") -> SearchStrategy[Any]:
    """Return a strategy for values of one of allogger's kinds; raises `UnknownName`."""
    if kind not in _VALUES:
        raise UnknownName.of("kind", kind, _VALUES)
    return _VALUES[kind]()


@st.composite
def rows(draw: st.DrawFn, kinds: Sequence[str] = _KINDS, max_size: int = 20) -> list[Row]:
    """Return a strategy for lists of rows in the order logged, several of them under the same key.

    Each key has values of one kind of *kinds*. Steps are any int64, times go from 1970 to 2100.
    """
    name = st.tuples(scopes(), keys())
    names = draw(st.lists(name, min_size=1, max_size=5, unique_by=_full_key))
    of_key = [(scope, key, draw(st.sampled_from(kinds))) for scope, key in names]
    found = []
    for scope, key, kind in draw(st.lists(st.sampled_from(of_key), max_size=max_size)):
        step = draw(st.integers(0, 3) | _INT64)
        found.append(Row(scope, key, step, draw(values(kind)), kind, draw(st.floats(0, 4.1e9))))
    return found


def batches(kinds: Sequence[str] = _KINDS, max_size: int = 20) -> SearchStrategy[Batch]:
    """Return a strategy for batches of `rows`."""
    return rows(kinds, max_size).map(batch_of)


def _full_key(name: tuple[str, str]) -> str:
    return full_key(*name)
