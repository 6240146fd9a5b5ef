"""HdfExporter: how do runs become one HDF5 file that reads like that of a run?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from allogger.exporter import Exporter, Source, by_process, runs_of_kind
from allogger.formats.hdf import ImageBuilder, SeriesPlan, converters
from allogger.names import MAIN_PROCESS, full_key, split_full_key
from allogger.reader import Columns, SeriesId

__all__ = ["HdfExporter"]


class HdfExporter(Exporter):
    """Writes the layout of a finished file of one process, which `allogger.open_run` and any HDF5 tool read.

    The values of other processes stand under scopes of their own, ``<scope>@<process>``, those of several runs under
    ``<scope>@<run>`` and ``<scope>@<run>:<process>``.
    """

    passes = 2

    def export(self, sources: Sequence[Source], path: Path) -> None:
        """Count all values first, then store them."""
        plan: dict[SeriesId, _Plan] = {}
        for source in sources:
            for series, columns in _columns(source):
                plan.setdefault(series, _Plan()).add(columns)
        about = {"process": MAIN_PROCESS, "start": min((source.start for source in sources), default=0.0)}
        plans = {series: SeriesPlan(its.count, len(its.layouts)) for series, its in plan.items()}
        with converters(), ImageBuilder(path, about, plans) as builder:
            for source in sources:
                for series, columns in _columns(source):
                    builder.append(series, columns)
            index = builder.finish()
        for entry in index["series"]:
            if entry["left_out"]:
                self.reject(full_key(entry["scope"], entry["key"]), entry["count"], entry["left_out"])


class _Plan:
    def __init__(self) -> None:
        self.count = 0
        self.layouts: set[Any] = set()

    def add(self, columns: Columns) -> None:
        self.count += len(columns)
        value = columns.value
        if value.dtype != object:
            self.layouts.add((repr(value.dtype), value.shape[1:]))
            return
        for item in value:
            self.layouts.add("" if isinstance(item, str) else (repr(np.asarray(item).dtype), np.shape(item)))


def _columns(source: Source) -> Iterator[tuple[SeriesId, Columns]]:
    """Yield all values, in pieces of one kind and process each."""
    for key in source.keys:
        scope, name = split_full_key(key)
        for portion in source.portions(key):
            for kind, rows in runs_of_kind(portion):
                for label, mine in by_process(portion, rows):
                    where = ":".join([source.name] * bool(source.name) + [label] * (label != MAIN_PROCESS))
                    value = portion.value[mine]
                    attrs = dict.fromkeys(range(len(value)), portion.meta) if portion.meta else {}
                    series = SeriesId(kind, f"{scope}@{where}" if where else scope, name)
                    yield series, Columns(portion.step[mine], portion.time[mine], value, attrs)
