"""HdfReader: what is in a finished HDF5 file, ours or another one with rows of steps and values?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from allogger.errors import DamagedFile
from allogger.formats.hdf import (
    ATTRS,
    BLOCKS,
    INDEX,
    OWN_GROUP,
    SIDE_TABLES,
    TEXTS,
    ImageDataset,
    ImageFile,
    values_of,
)
from allogger.reader import Columns, Entry, Reader, SeriesId, objects, uniform
from allogger.record import MAIN_PROCESS, full_key, split_full_key, split_hdf_path

__all__ = ["HdfReader"]


class _Part(NamedTuple):
    """The values of one dataset; *order* are their positions in the series, *attrs* what all of them share, as JSON."""

    order: NDArray[np.int64]
    step: NDArray[np.int64]
    time: NDArray[np.float64]
    value: NDArray[Any]
    attrs: str


class HdfReader(Reader):
    """Reads a finished HDF5 file. It trusts nothing in the file, takes no lock, and follows no link out of it.

    Without an index, as in the files of ALLogger 0.2, it takes every dataset of rows with the fields ``step`` and
    ``value``. Raises `OSError` if the file cannot be opened, `DamagedFile` if it is no HDF5 file.

    `close` may be called at any time; the next `read` opens the file again, or the one that has replaced it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self._file: ImageFile | None = None
        self._open()

    @property
    def about(self) -> Mapping[str, Any]:
        """What the file says about its shard."""
        return self._about

    @cached_property
    def index(self) -> Mapping[str, Any]:
        """What `allogger.formats.hdf.ImageBuilder.finish` returned, empty if the file has no index.

        Each of its ``series`` has ``kind``, ``scope``, ``key``, ``count``, ``first_step``, ``last_step``,
        ``first_time``, ``last_time``, ``is_sorted`` (by step and then time), ``paths``, ``layouts``, ``attrs`` (those
        that all its values share) and, if these are real numbers, ``min``, ``max``, ``mean`` and ``last``, else null.
        ``left_out`` says why the file does not hold the series; null if it does.
        """
        if not self._index:
            return {}
        columns = self._index["series"]
        rows = zip(*columns.values(), strict=True)
        return {**self._index, "series": [dict(zip(columns, row, strict=True)) for row in rows]}

    def keys(self) -> list[SeriesId]:
        """Return the series in the file."""
        return list(self._paths)

    def read(self, series: SeriesId) -> Columns:
        """Return all values of a series; raises `KeyError` if the file does not hold it.

        What is damaged is left out and told in `damage`; raises `DamagedFile` if a whole series is.
        """
        file = self._open()
        parts = []
        for path in self._paths[series]:
            try:
                parts.append(self._part(file, path))
            except DamagedFile as error:
                self._note(str(error))
        if not parts:
            raise DamagedFile(self.damage[-1])
        return self._columns(self._numbers.get(series, -1), parts)

    def part(self, series: SeriesId, rows: slice) -> Columns:
        """Return some of the values of a series, and read no others if all of them lie in one dataset."""
        file, paths = self._open(), self._paths[series]
        if len(paths) > 1 or rows.step not in (None, 1) or "order" in file.dataset(paths[0]).fields:
            return super().part(series, rows)
        return self._columns(self._numbers.get(series, -1), [self._part(file, paths[0], rows)])

    def portions(self, series: SeriesId, rows: int) -> Iterator[Columns]:
        """Yield all values of a series, about *rows* at once, and read no more if they lie in one dataset."""
        file, paths = self._open(), self._paths[series]
        dataset = file.dataset(paths[0])
        if len(paths) > 1 or "order" in dataset.fields:
            yield from super().portions(series, rows)
            return
        for start in range(0, dataset.count, rows):
            yield self.part(series, slice(start, start + rows))

    def steps(self, series: SeriesId) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the steps and times of all values of a series, without the values if they lie in one dataset."""
        file, paths = self._open(), self._paths[series]
        fields = file.dataset(paths[0]).fields
        if len(paths) > 1 or "order" in fields or "time" not in fields:
            return super().steps(series)
        rows, _ = file.dataset(paths[0]).rows([], fields=("step", "time"))
        return rows["step"].astype(np.int64), rows["time"].astype(np.float64)

    def entry(self, series: SeriesId) -> Entry | None:
        """Return what the index says about a series, None if it does not."""
        number = self._numbers.get(series)
        if number is None:
            return None
        try:
            return Entry.of({name: column[number] for name, column in self._index["series"].items()})
        except (LookupError, TypeError, AttributeError):
            return None

    def blocks(self, series: SeriesId) -> NDArray[Any]:
        """Return a row for each 1,024 real numbers of a series; none for a shorter series.

        Its fields are ``row``, ``step`` and ``time`` of the first of them, ``min``, ``max`` and ``mean`` of those that
        are not NaN, and the ``count`` of these.
        """
        return self._side_rows(BLOCKS, self._numbers.get(series, -1))

    def last_time(self) -> float:
        """Return the time of the last value in the file (Unix seconds), minus infinity if it has none."""
        if not self._index:
            return super().last_time()
        return float(max(self._index["series"].get("last_time", ()), default=-np.inf))

    def close(self) -> None:
        """Release the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- what there is

    def _open(self) -> ImageFile:
        if self._file is not None:
            return self._file
        self._file = file = ImageFile(self.path)
        self._about: Mapping[str, Any] = {}
        self._index: dict[str, Any] = {}
        self._paths: dict[SeriesId, list[str]] = {}
        self._numbers: dict[SeriesId, int] = {}
        self._sides: dict[str, NDArray[Any]] = {}
        self.__dict__.pop("index", None)
        try:
            if file.has(OWN_GROUP):
                self._take_index(file)
                return file
        except DamagedFile as error:
            self._note(f"{error}; its series are found without it")
        self._take_datasets(file)
        return file

    def _take_index(self, file: ImageFile) -> None:
        try:
            index = json.loads(file.dataset(INDEX).rows()[0].tobytes())
            columns = index["series"]
            names = [columns.get(name, []) for name in SeriesId._fields]
            series = [SeriesId(*map(str, its)) for its in zip(*names, strict=True)]
            paths = dict(zip(series, columns.get("paths", []), strict=True))
            about = dict(index["about"])
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise DamagedFile(f"{self.path}: the index is damaged ({error})") from error
        self._about, self._index = about, index
        self._numbers = {one: number for number, one in enumerate(series)}
        self._paths = {one: its for one, its in paths.items() if its}
        for one, why in zip(series, columns.get("left_out", ()), strict=False):
            if why:
                self._note(f"{self.path}: {full_key(one.scope, one.key)!r} is not in this file: {why}")

    def _take_datasets(self, file: ImageFile) -> None:
        try:
            self._about = file.attributes()
        except DamagedFile as error:
            self._note(str(error))
        found: list[tuple[SeriesId, str, str]] = []
        for path in file.datasets():
            try:
                dataset = file.dataset(path)
                if {"step", "value"}.issubset(dataset.fields):
                    found.append((*_names_of(path, dataset), path))
            except DamagedFile as error:
                self._note(str(error))
            except ValueError as error:
                self._note(f"{self.path}: {path!r} is no name of a series ({error})")
        # Our files are of one process each. Where a file has several, the others stay apart by their scope.
        if found and "process" not in self._about:
            self._about = {**self._about, "process": found[0][1]}
        for series, process, path in found:
            if process != self._about["process"]:
                series = series._replace(scope=f"{series.scope}@{process}")
            self._paths.setdefault(series, []).append(path)

    def _note(self, damage: str) -> None:
        if damage not in self.damage:
            self.damage.append(damage)

    # -- values

    def _part(self, file: ImageFile, path: str, within: slice = slice(None)) -> _Part:
        dataset = file.dataset(path)
        found: list[str] = []
        rows, order = dataset.rows(found, within)
        for damage in found:
            self._note(damage)
        try:
            step = rows["step"].astype(np.int64, casting="same_kind")
            time = rows["time"].astype(np.float64) if "time" in dataset.fields else np.full(len(rows), np.nan)
            if "order" in dataset.fields:
                order = rows["order"].astype(np.int64)
            value = values_of(rows, str(dataset.attribute("dtype") or ""))
            if not step.ndim == time.ndim == order.ndim == 1:
                raise ValueError("a row has several steps or times")
        except DamagedFile:
            raise
        except (ValueError, TypeError, LookupError, OverflowError, MemoryError, RecursionError) as error:
            raise DamagedFile(f"{self.path}: the dataset {path!r} is damaged: {error}") from error
        return _Part(order, step, time, value, str(dataset.attribute("attrs") or ""))

    def _columns(self, number: int, parts: list[_Part]) -> Columns:
        order, step, time = (np.concatenate([getattr(part, name) for part in parts]) for name in _Part._fields[:3])
        value = parts[0].value if len(parts) == 1 else np.concatenate([objects(part.value) for part in parts])
        shared = _json_object(parts[0].attrs)
        if np.any(order[1:] < order[:-1]):
            rows = np.argsort(order, kind="stable")
            order, step, time, value = order[rows], step[rows], time[rows], value[rows]
        if value.dtype == object:
            self._put_exact_texts(number, order, value)
            value = uniform(value)
        attrs = dict.fromkeys(range(len(order)), shared) if shared else self._own_attrs(number, order)
        return Columns(step, time, value, attrs)

    def _put_exact_texts(self, number: int, order: NDArray[np.int64], value: NDArray[Any]) -> None:
        for side in self._side_rows(TEXTS, number):
            row = int(np.searchsorted(order, side["row"]))
            if row < len(order) and order[row] == side["row"]:
                try:
                    value[row] = bytes(side["value"]).decode("utf-8", "surrogatepass")
                except (TypeError, ValueError) as error:
                    self._note(f"{self.path}: a text is damaged: {error}")

    def _own_attrs(self, number: int, order: NDArray[np.int64]) -> dict[int, Mapping[str, Any]]:
        sides = self._side_rows(ATTRS, number)
        if not len(sides):
            return {}
        each = [_json_object(text) for text in values_of(sides)]
        runs = np.searchsorted(sides["row"], order, side="right") - 1
        return {row: each[run] for row, run in enumerate(runs.tolist()) if run >= 0 and each[run]}

    def _side_rows(self, path: str, number: int) -> NDArray[Any]:
        """Return the rows of one of allogger's own tables that are about a series."""
        file = self._open()
        if path not in self._sides:
            self._sides[path] = np.empty(0, SIDE_TABLES[path])
            try:
                if file.has(path):
                    self._sides[path] = file.dataset(path).rows()[0][list(SIDE_TABLES[path].names or ())]
            except (DamagedFile, KeyError, IndexError) as error:
                self._note(f"{self.path}: {path!r} is damaged: {error}")
        rows = self._sides[path]
        mine: NDArray[Any] = rows[rows["series"] == number]
        return mine


def _names_of(path: str, dataset: ImageDataset) -> tuple[SeriesId, str]:
    """Return whose values a dataset holds, and the process: what it says itself, else what its path says."""
    kind, name, process = (dataset.attribute(what) for what in ("kind", "key", "process"))
    if isinstance(kind, str) and isinstance(name, str):
        return SeriesId(kind, *split_full_key(name)), str(process or MAIN_PROCESS)
    kind, scope, key, process = split_hdf_path(path)
    return SeriesId(kind, scope, key), process


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
