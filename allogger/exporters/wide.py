"""WideExporter: how do runs become a CSV table with a row for each step and a column for each key?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from allogger.exporter import Exporter, Source
from allogger.exporters.csv import cell, quoted
from allogger.exporters.text import is_plain
from allogger.reader import objects

if TYPE_CHECKING:
    from allogger.series import Series

__all__ = ["WideExporter"]

_BLOCK_STEPS = 2**14
_PENDING_ROWS = 2**22


class WideExporter(Exporter):
    """Writes numbers and texts, a column for each key, as `allogger.store.Run.wide` shows them.

    Of several values at a step the last stands in the table; how many are left out thereby is said. A cell is empty
    where a key has no value. Of several runs, the columns ``run`` and ``step`` tell the rows apart. In memory are the
    steps, and of each key about as many values as there are steps in a block; all values of a key whose steps go back.
    """

    passes = 2

    def export(self, sources: Sequence[Source], path: Path) -> None:
        """Write one row for each step."""
        tables = [self._looked_at(source) for source in sources]
        keys = sorted({key for columns in tables for key in columns})
        several = any(source.name for source in sources)
        with open(path, "x", encoding="utf-8", newline="") as file:
            file.write(",".join(["run"] * several + ["step", *map(quoted, keys)]) + "\n")
            for source, columns in zip(sources, tables, strict=True):
                front = f"{quoted(source.name)}," * several
                file.writelines(f"{front}{row}\n" for row in _rows(columns, keys))

    def portion_rows(self, keys: int) -> int:
        """Return fewer than usual: a portion of every key is in memory."""
        return min(max(_PENDING_ROWS // keys, 64), 2**16)

    def _looked_at(self, source: Source) -> dict[str, _Column]:
        found = {}
        for key in source.keys:
            column = _Column(source, key)
            if column.has_arrays:
                self.reject(key, column.count, "a wide table has no place for arrays")
                continue
            if column.count > len(column.steps):
                lost = column.count - len(column.steps)
                self.reject(key, lost, "a wide table has room for the last value of a step only")
            found[key] = column
        return found


def _rows(columns: Mapping[str, _Column], keys: Sequence[str]) -> Iterator[str]:
    steps = np.empty(0, np.int64)
    for column in columns.values():
        steps = _union(steps, column.steps)
        column.steps = steps[:0]
    for start in range(0, len(steps), _BLOCK_STEPS):
        block = steps[start : start + _BLOCK_STEPS]
        cells = [columns[key].cells(block) if key in columns else [""] * len(block) for key in keys]
        for step, *row in zip(block.tolist(), *cells, strict=True):
            yield ",".join([str(step), *row])


def _union(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return all different steps of two ordered arrays; unlike numpy's, this copies the longer one only if it must."""
    short, long = sorted((one, other), key=len)
    if not len(short):
        return long
    places = np.minimum(np.searchsorted(long, short), len(long) - 1)
    new = short[long[places] != short]
    return np.sort(np.concatenate([long, new])) if len(new) else long


class _Column:
    """The values of one key, taken from the lowest step to the highest."""

    def __init__(self, source: Source, key: str) -> None:
        self.count = 0
        self.has_arrays = False
        self._is_sorted = True
        steps = [np.empty(0, np.int64)]
        for portion in source.portions(key):
            self.count += len(portion)
            self.has_arrays |= not _fits(portion.value)
            step = portion.step
            self._is_sorted &= bool((step[1:] >= step[:-1]).all()) and bool((step[:1] >= steps[-1][-1:]).all())
            steps.append(np.unique(step))
        #: The different steps of the key, in order.
        self.steps = np.concatenate(steps)
        # The portions are in order each, and mostly their ends are, too.
        if not (self.steps[1:] > self.steps[:-1]).all():
            self.steps = np.unique(self.steps)
        self._portions = source.portions(key)
        self._step, self._value = np.empty(0, np.int64), np.empty(0)

    def cells(self, block: NDArray[np.int64]) -> list[str]:
        """Return the cell of each step in *block*; the blocks are asked for in order."""
        self._read_to(int(block[-1]))
        out = [""] * len(block)
        done = int(np.searchsorted(self._step, block[-1], side="right"))
        places = np.searchsorted(block, self._step[:done]).tolist()
        for place, item in zip(places, _items(self._value[:done]), strict=True):
            out[place] = cell(item)
        self._step, self._value = self._step[done:], self._value[done:]
        return out

    def _read_to(self, step: int) -> None:
        if not self._is_sorted:
            self._take(list(self._portions))
            order = np.argsort(self._step, kind="stable")
            self._step, self._value = self._step[order], self._value[order]
            self._is_sorted = True
        # One further step has to be seen, or there may be more values of this one.
        while not len(self._step) or self._step[-1] <= step:
            portion = next(self._portions, None)
            if portion is None:
                return
            self._take([portion])

    def _take(self, portions: Sequence[Series]) -> None:
        values = [self._value] * bool(len(self._value)) + [portion.value for portion in portions]
        if len({value.dtype for value in values}) > 1:
            # numpy would round the integers beside floats.
            values = [objects(value) for value in values]
        self._step = np.concatenate([self._step, *(portion.step for portion in portions)])
        self._value = np.concatenate(values)


def _fits(value: NDArray[Any]) -> bool:
    if value.dtype != object:
        return value.ndim == 1 and value.dtype.kind in "biufc"
    return all(isinstance(item, str) or np.ndim(item) == 0 for item in value)


def _items(value: NDArray[Any]) -> Sequence[Any]:
    return value.tolist() if is_plain(value) else list(value)
