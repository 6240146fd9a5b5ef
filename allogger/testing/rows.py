"""Rows: which values does a test give to a writer, and how do they become a batch?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from allogger.record import BOOL, FLOAT, INT, Batch, Record, Series, normal_scope
from allogger.registry import kinds

__all__ = ["ODD_NAMES", "ODD_VALUES", "PLAIN_ROWS", "Row", "batch_of", "same"]


class Row(NamedTuple):
    """One value of a batch, as it would be logged: *kind* encodes *value*; *time* is in Unix seconds.

    Of a kind that is not known, *value* is the payload itself.
    """

    scope: str
    key: str
    step: int
    value: Any
    kind: str = "scalar"
    time: float = 1.7e9


def batch_of(rows: Iterable[Row], names: list[Series] | None = None) -> Batch:
    """Return the batch that a writer would get for *rows*.

    The batches of one process share a table of *names*, which grows: to make several, give each the same list.

    >>> batch = batch_of([Row("main", "loss", 1, 0.5), Row("main", "note", 1, "halved", "text")])
    >>> [(record.full_key, record.step, record.kind, record.payload) for record in batch]
    [('main/loss', 1, 'scalar', 0.5), ('main/note', 1, 'text', 'halved')]
    """
    table = [] if names is None else names
    known = {(series.scope, series.key): series for series in table}
    columns: list[tuple[int, int, int, float, int]] = []
    objects: list[Record] = []
    at: list[int] = []
    for row in rows:
        name = normal_scope(row.scope), row.key
        if name not in known:
            known[name] = Series(len(table), *name)
            table.append(known[name])
        code = {float: FLOAT, int: INT, bool: BOOL}.get(type(row.value)) if row.kind == "scalar" else None
        if code is None:
            payload, attrs = kinds[row.kind]().encode(row.value) if row.kind in kinds else (row.value, {})
            objects.append(Record(known[name], row.kind, row.step, row.time, payload, attrs))
            at.append(len(columns))
        else:
            bits = int(np.float64(row.value).view(np.int64)) if code == FLOAT else int(row.value)
            columns.append((known[name].index, code, row.step, row.time, bits))
    series, codes, steps, times, bits_of = zip(*columns, strict=True) if columns else ((),) * 5
    return Batch(
        table,
        np.array(series, np.uint32),
        np.array(codes, np.uint8),
        np.array(steps, np.int64),
        np.array(times, np.float64),
        np.array(bits_of, np.int64),
        tuple(objects),
        tuple(at),
    )


# One for each kind; what a run logs every day, and what it logs on a bad one.
PLAIN_ROWS = (
    Row("main", "loss", 1, 0.1),
    Row("main", "count", 1, 7),
    Row("main", "done", 1, True),
    Row("main", "note", 1, "the learning rate was halved", "text"),
    Row("main", "weights", 1, np.linspace(-1, 1, 5), "histogram"),
    Row("main", "matrix", 1, np.arange(6.0).reshape(2, 3), "array"),
    Row("main", "picture", 1, np.arange(48, dtype=np.uint8).reshape(4, 4, 3), "image"),
)
ODD_VALUES: tuple[tuple[str, Any], ...] = (
    *(("scalar", value) for value in (np.nan, np.inf, -np.inf, -0.0, 5e-324, 1e308, 2**63 - 1, -(2**63), False)),
    *(("scalar", value) for value in (1 + 2j, complex("nan+infj"), np.longdouble("1.1"))),
    *(("text", text) for text in ("", " ", "\0", "\ud800", "a\r\nb", ',"\t;', "\x1b[31m", "\\x00", "é漢😀", "x" * 999)),
    *(("histogram", np.array(values)) for values in ([], [np.nan, np.inf], [True, False], [1j, 2], [2**63, 0])),
    *(("array", array) for array in (
        np.zeros((0, 3)), np.float32(1), np.array("text"), np.array([b"a", b"bc"]), np.array(["NaT"], "M8[s]"),
        np.array([(1, 2.5)], [("a", "i4"), ("b", ">f8")]), np.ones((1,) * 20), np.array([[1]], ">i2"),
    )),
    *(("image", image) for image in (
        np.full((2, 2), np.nan), np.full((3, 2, 2), -1e300), np.ones((2, 2, 4), bool), np.ones((1, 1, 1), np.float16),
    )),
)  # fmt: skip
ODD_NAMES = (
    "", " ", "/", "a", "a/b", "a//b", "/a", "a/", ".", "..", "../a", "a.b", "%", "%2F", "%_", "@", "a@b", "\0", "\n",
    "\r", ",", '"', "'", "\\", "\ud800", "é漢😀", "A", "CON", "x" * 300, "root",
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal; NaN is equal to NaN, and arrays have one shape."""
    if isinstance(one, str) or isinstance(other, str):
        return bool(one == other)
    try:
        a, b = np.asarray(one), np.asarray(other)
    except ValueError:
        return bool(one == other)
    if a.dtype == object or b.dtype == object:
        return bool(one == other)
    if a.shape != b.shape:
        return False
    if a.dtype == b.dtype and a.tobytes() == b.tobytes():
        return True
    if a.dtype.kind not in "biufc" or b.dtype.kind not in "biufc":
        return bool(np.array_equal(a, b))
    # Python compares integers with floats exactly, numpy does not.
    return all(x == y or (x != x and y != y) for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
