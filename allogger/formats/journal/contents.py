"""Contents: which series does a journal hold, and how are their values put together from its frames?"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.formats.journal.frames import ROWS, Frame, Meta, RowBuffer, Rows, decode_meta, decode_object
from allogger.formats.journal.scanning import Scan
from allogger.reader import Columns, SeriesId, objects, uniform
from allogger.record import BOOL, FLOAT, INT, normal_scope

__all__ = ["Contents", "Mixed", "Which", "in_series", "numbers", "object_columns"]

# Integers up to here are exact as float64.
_EXACT = 2**53
# So many rows are counted together.
_ROWS_AT_ONCE = 1 << 16
_OF_CODE = {FLOAT: np.dtype(np.float64), INT: np.dtype(np.int64), BOOL: np.dtype(np.bool_)}
_COMPLEX: tuple[np.dtype[Any] | None, tuple[int, ...]] = (np.dtype(np.complex128), ())

#: The index of a series in the process, and a kind.
Which = tuple[int, str]


class Contents:
    """What a journal holds: for each series how many values, of which types, and where they are.

    Give it the frames with `add`; with ``keep=False`` it only counts. ``objects`` has the offsets of the OBJECT frames.
    """

    def __init__(self, keep: bool = True) -> None:
        self.keep = keep
        self.objects: dict[Which, array[int]] = {}
        self._buffer = RowBuffer()
        self._rows: list[Rows] = []
        self._last_time = -math.inf
        # By series * 3 + code. A dict, because a hostile file may have a series 4,294,967,295.
        self._numbers: Counter[int] = Counter()
        self._objects: Counter[Which] = Counter()
        # Series with integers that float64 does not hold exactly.
        self._large: set[int] = set()
        # At most two of each series: more say no more.
        self._layouts: dict[Which, set[tuple[np.dtype[Any] | None, tuple[int, ...]]]] = {}

    def add(self, frame: Frame) -> None:
        """Take a ROWS or OBJECT frame; raises `DamagedFile`."""
        if frame.type == ROWS:
            self._buffer.add(frame)
            if self._buffer.count + len(self._buffer) >= _ROWS_AT_ONCE:
                self._settle()
        else:
            meta = decode_meta(frame)
            decode_object(frame, meta)
            self._add_object(meta, frame.offset)

    def _add_object(self, meta: Meta, offset: int) -> None:
        which = (meta.series, meta.kind)
        self._objects[which] += 1
        layouts = self._layouts.setdefault(which, set())
        if len(layouts) < 2:
            layouts.add((meta.dtype, meta.shape))
        self._last_time = max(self._last_time, meta.time)
        if self.keep:
            self.objects.setdefault(which, array("q")).append(offset)

    def _settle(self) -> None:
        """Count the rows that wait."""
        if not self._buffer.count:
            return
        rows = self._buffer.take()
        pairs = rows.series.astype(np.int64) * 3 + rows.code
        if pairs.max() < 1 << 16:
            counts = np.bincount(pairs)
            present = np.flatnonzero(counts)
            counts = counts[present]
        else:
            present, counts = np.unique(pairs, return_counts=True)
        for pair, count in zip(present.tolist(), counts.tolist(), strict=True):
            self._numbers[pair] += count
        if rows.code.any():
            large = (rows.code == INT) & ((rows.bits > _EXACT) | (rows.bits < -_EXACT))
            self._large.update(rows.series[large].tolist())
        self._last_time = max(self._last_time, float(rows.time.max()))
        if self.keep:
            self._rows.append(rows)

    @property
    def rows(self) -> Rows:
        """All plain numbers, in the order logged."""
        self._settle()
        self._rows = [Rows.join(self._rows)]
        return self._rows[0]

    @property
    def last_time(self) -> float:
        """The latest time of a value (Unix seconds), minus infinity if there is none."""
        self._settle()
        return self._last_time

    def series(self) -> list[Which]:
        """Return the index and kind of every series that has values."""
        self._settle()
        numbers = sorted({pair // 3 for pair in self._numbers})
        return list(dict.fromkeys([*((index, "scalar") for index in numbers), *self._objects]))

    def named(self, found: Scan) -> tuple[dict[SeriesId, Which], list[str]]:
        """Return the series by name, and what is wrong with the names of others."""
        out: dict[SeriesId, Which] = {}
        nameless, double = set(), set()
        for which in self.series():
            index, kind = which
            if index not in found.names:
                nameless.add(index)
                continue
            scope, key = found.names[index]
            if out.setdefault(SeriesId(kind, normal_scope(scope), key), which) != which:
                double.add(index)
        trouble = {"the names of the series {} are lost": nameless, "the series {} have the names of others": double}
        return out, [
            f"{what.format(sorted(who))}, so their values cannot be shown" for what, who in trouble.items() if who
        ]

    def count(self, which: Which) -> int:
        """Return the number of values of a series."""
        return sum(self._codes(which)) + self._objects[which]

    def _codes(self, which: Which) -> list[int]:
        """Return how many values are plain floats, ints and bools."""
        self._settle()
        index, kind = which
        if kind != "scalar":
            return [0, 0, 0]
        return [self._numbers.get(3 * index + code, 0) for code in (FLOAT, INT, BOOL)]

    def is_mixed(self, which: Which) -> bool:
        """Return whether some values are plain numbers and others, such as complex ones, are not."""
        return bool(self._objects[which] and sum(self._codes(which)))

    def dtype(self, index: int) -> np.dtype[Any] | None:
        """Return the dtype that holds all scalars of a series exactly, or None if none does."""
        which = (index, "scalar")
        floats, ints, bools = self._codes(which)
        if self._objects[which]:
            is_complex = self._layouts[which] == {_COMPLEX} and index not in self._large
            return _COMPLEX[0] if is_complex else None
        if floats:
            return None if index in self._large else _OF_CODE[FLOAT]
        return _OF_CODE[INT] if ints else _OF_CODE[BOOL] if bools else None

    def layout_count(self, which: Which) -> int:
        """Return how many different dtypes and shapes the values of a series have; 2 may be more."""
        of_objects = len(self._layouts.get(which, ()))
        codes = self._codes(which)
        if not any(codes):
            return of_objects
        return 1 if self.dtype(which[0]) is not None else of_objects + sum(map(bool, codes))


def in_series(rows: Rows) -> Iterator[tuple[int, Rows]]:
    """Yield for each series in *rows* its index and its rows, in the order logged."""
    series = rows.series
    if not len(series):
        return
    if (series == series[0]).all():
        yield int(series[0]), rows
        return
    order = np.argsort(series, kind="stable")
    ordered = series[order]
    cuts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    for part in np.split(order, cuts):
        yield int(series[part[0]]), rows.take(part)


def numbers(rows: Rows, dtype: np.dtype[Any] | None) -> NDArray[Any]:
    """Return the values of *rows* as an array of *dtype*, or, if that is None, as an object array of numbers."""
    floats = rows.bits.view(np.float64)
    if dtype is not None and dtype.kind in "fc":
        real = np.where(rows.code == FLOAT, floats, rows.bits) if rows.code.any() else floats
        return real.astype(dtype, copy=False)
    if dtype is not None:
        return rows.bits.astype(dtype)
    values = np.empty(len(rows.bits), dtype=object)
    for row, code in enumerate(rows.code.tolist()):
        values[row] = np.asarray(floats[row] if code == FLOAT else rows.bits[row], _OF_CODE[code])
    return values


def object_columns(items: list[tuple[Meta, NDArray[Any] | str]]) -> Columns:
    """Return as columns the values of one series, given with what is said about them."""
    return Columns(
        np.array([meta.step for meta, _ in items], np.int64),
        np.array([meta.time for meta, _ in items], np.float64),
        uniform([value for _, value in items]),
        {row: meta.attrs for row, (meta, _) in enumerate(items) if meta.attrs},
    )


class Mixed:
    """The scalars of a series that has plain numbers and others (complex ones), which lie in different frames.

    Give it all of them, or all of some frames that follow each other, then ask for the `columns`.
    """

    def __init__(self, index: int, dtype: np.dtype[Any] | None) -> None:
        self._index, self._dtype = index, dtype
        self.clear()

    def clear(self) -> None:
        """Forget all values."""
        self._rows: list[Rows] = []
        self._places: list[NDArray[np.intp]] = []
        self._items: list[tuple[Meta, NDArray[Any] | str]] = []

    def add_rows(self, rows: Rows) -> int:
        """Take those rows of a frame that are of this series; return their number."""
        places = np.flatnonzero(rows.series == self._index)
        if len(places):
            self._rows.append(rows.take(places))
            self._places.append(places)
        return len(places)

    def add_object(self, meta: Meta, value: NDArray[Any] | str) -> None:
        """Take one of the others."""
        self._items.append((meta, value))

    def columns(self) -> Columns:
        """Return the values in the order logged."""
        rows, items = self._rows, self._items
        others = object_columns(items)
        frame = [np.full(len(r.step), r.number) for r in rows] + [np.array([meta.at[0] for meta, _ in items], int)]
        place = [*self._places, np.array([meta.at[1] - 0.5 for meta, _ in items])]
        step = np.concatenate([*(r.step for r in rows), others.step])
        time = np.concatenate([*(r.time for r in rows), others.time])
        values = [numbers(r, self._dtype) for r in rows]
        if items:
            values.append(others.value if self._dtype is not None else objects(others.value))
        attrs = {len(step) - len(items) + row: own for row, own in others.attrs.items()}
        order = np.lexsort((np.concatenate(place), np.concatenate(frame)))
        return Columns(step, time, np.concatenate(values), attrs).take(order)

    def __len__(self) -> int:
        return sum(map(len, self._places)) + len(self._items)
