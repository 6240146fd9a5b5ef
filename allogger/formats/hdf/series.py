"""SeriesBuilder: how do the values of one series come into datasets, and what does the index say about them?"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from h5py import h5g
from numpy.typing import NDArray

from allogger.dtypes import dtype_to_json
from allogger.formats.hdf.cells import Cells, Layout, by_layout, cells_of, layout_of, put_values, shown
from allogger.formats.hdf.paths import Paths
from allogger.formats.hdf.pieces import part
from allogger.formats.hdf.summary import BLOCK_ROWS, Summary, json_number
from allogger.formats.hdf.tables import SideTable, Table, set_bytes
from allogger.reader import Columns, SeriesId, in_order, objects
from allogger.record import full_key

__all__ = ["Image", "SeriesBuilder", "SeriesPlan"]

_MAX_FIXED_DATASETS = 8


@dataclass(frozen=True)
class SeriesPlan:
    """What will be appended to a series: the number of values, and how many (dtype, shape) there are among them."""

    count: int
    layouts: int = 1


@dataclass(frozen=True)
class Image:
    """The file that all series of a shard come into: *file* as `h5py.h5` knows it, *start* in Unix seconds."""

    file: Any
    process: str
    start: float
    paths: Paths
    chunk_bytes: int
    blocks: SideTable
    attrs: SideTable
    texts: SideTable


class SeriesBuilder:
    """Stores the values of one series, in their order. *number* is its place in the index.

    What HDF5 cannot hold costs only this series: it is left out of the file, and the index says why.
    """

    def __init__(self, image: Image, series: SeriesId, number: int, plan: SeriesPlan) -> None:
        self.series = series
        self.plan = plan
        self.stored = 0
        #: The most rows that a chunk of a dataset that is still to be made may have.
        self.max_chunk_rows: int | None = None
        self._image = image
        self._number = number
        self._datasets: dict[Layout, tuple[Table, Cells]] = {}
        self._summary: Summary | None = Summary(number, plan.count > BLOCK_ROWS)
        self._last: Any = None
        self._ends: dict[str, Any] = {}
        # As JSON, of the last value.
        self._attrs = "{}"
        self._attrs_differ = False
        self._left_out: str | None = None

    def store(self, columns: Columns, everything: bool) -> int:
        """Store the first of *columns* and return how many: all of them, or as many as fill whole chunks."""
        count = len(columns)
        if self._left_out is None:
            try:
                count = count if everything else self._whole_chunks(columns)
                if count:
                    self._store(part(columns, 0, count))
            except Exception as error:
                # If it is the disk's fault in the end, the sink knows, and the builder asks it.
                self._leave_out(f"{type(error).__name__}: {error}")
                count = len(columns)
        if count:
            self._note_ends(columns, count - 1)
        self.stored += count
        return count

    def finish(self) -> dict[str, Any]:
        """Write what is known only at the end; return the entry of the series in the index."""
        shared = self._attrs if not self._attrs_differ and self._attrs != "{}" else ""
        numbers: dict[str, Any] = {"min": None, "max": None, "mean": None, "last": None}
        if self._summary:
            if len(rest := self._summary.rest()):
                self._image.blocks.add(rest)
            numbers |= self._summary.as_json() | {"last": self._last}
        if shared:
            self._share_attrs(shared)
        kind, scope, key = self.series
        return {
            "kind": kind,
            "scope": scope,
            "key": key,
            "count": self.stored,
            **self._ends,
            "paths": [table.path for table, _ in self._datasets.values()],
            "layouts": [_layout_json(layout) for layout in self._datasets],
            "attrs": json.loads(shared) if shared else None,
            **numbers,
            "left_out": self._left_out,
        }

    # -- values

    def _whole_chunks(self, columns: Columns) -> int:
        if self.plan.layouts > 1:
            return len(columns)
        value = columns.value
        layout = layout_of(value[0]) if value.dtype == object else Layout(value.dtype, value.shape[1:])
        return self._dataset(layout, None)[0].whole_chunks(len(columns))

    def _store(self, columns: Columns) -> None:
        self._note_attrs(columns)
        count = len(columns)
        floats = np.empty(count if self._summary else 0)
        for rows, layout, values in by_layout(columns.value):
            # The values of a small series come here all at once, so each of its datasets has a known size.
            size = len(values) if count == self.plan.count else None
            table, cells = self._dataset(layout, size)
            order = self.stored + np.arange(count)[rows]
            if layout.dtype is None:
                values = self._readable(order, values)
            self._write_rows(table, cells, columns.step[rows], columns.time[rows], order, values)
            if not layout.is_real_number:
                self._summary = None
            elif self._summary:
                floats[rows] = values
        if self._summary:
            self._last = json_number(columns.value[-1])
            blocks = self._summary.add(self.stored, columns.step, columns.time, floats)
            if len(blocks):
                self._image.blocks.add(blocks)

    def _dataset(self, layout: Layout, size: int | None) -> tuple[Table, Cells]:
        """Return the dataset for values of *layout*, of which *size* are to come if that is known."""
        found = self._datasets
        if layout in found:
            return found[layout]
        has_order = self.plan.layouts > 1
        fixed = sum(not known.is_ragged for known in found)
        if has_order and layout.dtype is not None and (layout.is_ragged or fixed >= _MAX_FIXED_DATASETS):
            layout = Layout(layout.dtype, None)
            size = None
        if layout not in found:
            if found and not has_order:
                raise ValueError("it has more dtypes or shapes than planned")
            found[layout] = self._new_dataset(layout, size if has_order else self.plan.count)
        return found[layout]

    def _new_dataset(self, layout: Layout, rows: int | None) -> tuple[Table, Cells]:
        image = self._image
        cells = cells_of(layout, self.plan.layouts > 1)
        path = image.paths.take(self.series, len(self._datasets))
        kind, scope, key = self.series
        texts = {"key": full_key(scope, key), "kind": kind, "process": image.process}
        table = Table(image.file, path, cells.row, rows, image.chunk_bytes, texts, cells.descr)
        table.chunk_rows = min(table.chunk_rows, self.max_chunk_rows or table.chunk_rows)
        return table, cells

    def _write_rows(
        self, table: Table, cells: Cells, step: NDArray[Any], time: NDArray[Any], order: NDArray[Any], values: Any
    ) -> None:
        for portion in table.portions(len(step)):
            rows = np.empty(portion.stop - portion.start, table.row)
            rows["step"] = step[portion]
            rows["time"] = time[portion]
            rows["walltime"] = time[portion] - self._image.start
            if self.plan.layouts > 1:
                rows["order"] = order[portion]
            put_values(rows, values[portion], cells)
            table.write(rows)

    def _readable(self, order: NDArray[Any], texts: Sequence[str]) -> NDArray[Any]:
        """Return texts as HDF5 strings can hold them; what that changes is stored beside them as it is."""
        out = objects(texts)
        for row, text in enumerate(texts):
            readable = shown(text)
            if readable is not None:
                out[row] = readable
                exact = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
                self._image.texts.add((self._number, order[row], exact))
        return out

    def _leave_out(self, why: str) -> None:
        self._left_out = why
        root = h5g.open(self._image.file, b"/")
        for table, _ in self._datasets.values():
            with contextlib.suppress(KeyError):  # it is not there yet
                root.unlink(table.path.encode())
        self._datasets.clear()
        self._summary = None
        self._attrs, self._attrs_differ = "{}", False

    # -- what is said about them

    def _note_ends(self, columns: Columns, last: int) -> None:
        step, time = columns.step[: last + 1], columns.time[: last + 1]
        begin, end = (int(step[0]), float(time[0])), (int(step[last]), float(time[last]))
        ends = self._ends or dict(zip(("first_step", "first_time", "last_step", "last_time"), begin * 2, strict=True))
        goes_on = ends.get("is_sorted", True) and (ends["last_step"], ends["last_time"]) <= begin
        is_sorted = bool(goes_on and in_order(step, time))
        self._ends = ends | {"last_step": end[0], "last_time": end[1], "is_sorted": is_sorted}

    def _note_attrs(self, columns: Columns) -> None:
        if not columns.attrs and self._attrs == "{}":
            return
        for row in range(len(columns)):
            attrs = json.dumps(dict(columns.attrs.get(row, {})))
            if attrs == self._attrs:
                continue
            order = self.stored + row
            if order and not self._attrs_differ:
                self._attrs_differ = True
                self._image.attrs.add((self._number, 0, self._attrs))
            self._attrs = attrs
            if order:
                self._image.attrs.add((self._number, order, attrs))

    def _share_attrs(self, attrs: str) -> None:
        """Write the attributes that all values share."""
        tables = [table for table, _ in self._datasets.values()]
        if not all(set_bytes(table.open(), "attrs", np.array(attrs.encode())) for table in tables):
            self._image.attrs.add((self._number, 0, attrs))


@lru_cache(256)
def _layout_json(layout: Layout) -> list[Any]:
    """Return ``[dtype, shape]``, the dtype null for texts, the shape null where every value has its own.

    The list belongs to all series with that layout.
    """
    dtype = None if layout.dtype is None else dtype_to_json(layout.dtype)
    # Fields come as tuples, which the reader of the index would see as lists.
    return [json.loads(json.dumps(dtype)), None if layout.shape is None else list(layout.shape)]
