"""TensorboardReader: which series are in an event file for TensorBoard, whoever wrote it?"""

from __future__ import annotations

import io
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from allogger.errors import DamagedFile
from allogger.formats import tfvalues
from allogger.formats.picture import pixels_of
from allogger.formats.tfframes import HEADER_BYTES, FrameFile, Frames
from allogger.formats.tfscalars import ROW, ScalarTable
from allogger.formats.tfvalues import HPARAMS, IMAGES, SCALARS, TEXTS, Value
from allogger.inputs import MOST_BYTES
from allogger.reader import Columns, Reader, SeriesId, uniform
from allogger.readers.params import params_beside
from allogger.record import MAIN_PROCESS, full_key, normal_scope, split_full_key
from allogger.rundir import event_shard_of, shard_of
from allogger.sounds import read_wav

__all__ = ["TensorboardReader"]

#: The columns of a histogram, of which event files hold nothing but the bins.
BINS = ("left", "right", "count")
_BUILT_AT = re.compile(r"\.tfevents\.(\d{10})\b")
# So much is said about one file; hostile ones could fill the memory.
_MOST_NOTES = 100


class _Place(NamedTuple):
    """Where a value is that stays in the file: in which event, in which value of it, and which item of that."""

    step: int
    time: float
    offset: int
    length: int
    number: int
    item: int


class TensorboardReader(Reader):
    """Reads an event file, also while it grows: what is there at the first look, and at each `refresh`.

    A tag is the key, and *scope* its scope; in a file that allogger wrote tags are full keys, and in one of ALLogger
    0.2 they begin with ``root.``. Numbers are kept in memory (28 bytes each), everything else stays in the file until
    it is asked for. Of histograms there are only bins, so these come as arrays with the columns `BINS`. *attempt* is
    the one that the process belongs to, ``""`` one of its own.

    Raises `OSError` if there is no such file, `DamagedFile` if it is no regular file.
    """

    def __init__(self, path: Path, scope: str = "root", process: str = MAIN_PROCESS, attempt: str = "") -> None:
        self.path = path
        self.damage: list[str] = []
        self._scope, self._process = normal_scope(scope), process
        self._shard = event_shard_of(path.name)
        self._attempt = attempt or self._shard or path.name
        if not stat.S_ISREG(path.stat().st_mode):
            raise DamagedFile(f"{path} is no regular file")
        self._file = FrameFile(path, self.damage)
        self._table = ScalarTable()
        self._rows: list[NDArray[np.void]] = []
        self._places: dict[tuple[int, str], list[_Place]] = {}
        self._plugins: dict[int, str] = {}
        self._params: dict[str, Any] = {}
        self._left_out: dict[tuple[bytes, str], int] = {}
        self._series: dict[SeriesId, tuple[int, str]] | None = None
        self._last_time = -np.inf

    @property
    def about(self) -> Mapping[str, Any]:
        """What the name of the file says."""
        found = _BUILT_AT.search(self.path.name)
        start = shard_of(self._shard)[0] if self._shard else float(found[1]) if found else 0.0
        about = {"name": self._shard or self.path.name, "process": self._process, "attempt": self._attempt}
        return {**about, "start": start, "system": "tensorboard"}

    @property
    def params(self) -> Mapping[str, Any]:
        """The hyperparameters beside the file and in it."""
        self._look()
        return {**self._beside, **self._params}

    @cached_property
    def _beside(self) -> Mapping[str, Any]:
        return params_beside(self.path, self._note)

    # -- looking

    def refresh(self) -> None:
        """Take up what was written since."""
        for frames in self._file.portions():
            rows, taken = self._table.take(frames)
            more = list(self._others(frames, np.flatnonzero(~taken)))
            where = np.flatnonzero(taken)
            rows = rows[taken]
            if more:
                where = np.concatenate([where, [row for row, _ in more]])
                order = np.argsort(where, kind="stable")
                rows = np.concatenate([rows, np.array([one for _, one in more], ROW)])[order]
            if len(rows):
                self._rows.append(rows)
                self._last_time = max(self._last_time, float(rows["time"].max()))
        self._name_series()
        for (tag, what), count in self._left_out.items():
            self._note(f"{count} x {what} under {tag.decode('utf-8', 'backslashreplace')!r} cannot be shown")
        self._left_out.clear()

    def _look(self) -> dict[SeriesId, tuple[int, str]]:
        if self._series is None:
            self.refresh()
        return self._series or {}

    def _others(self, frames: Frames, rows: NDArray[np.intp]) -> Iterator[tuple[int, tuple[int, int, float, float]]]:
        """Yield the numbers that stand in other events than those of one scalar each; note the places of the rest."""
        for row in rows.tolist():
            event = frames.event(row)
            place = frames.offset + int(frames.start[row])
            try:
                found = tfvalues.event_values(event)
                for nth, value in enumerate(found.values):
                    tag = self._table.number(value.tag)
                    number = self._number(event, tag, value)
                    if number is not None:
                        yield row, (tag, found.step, found.time, number)
                    elif (kind := self._kind(event, tag, value)) is not None:
                        places = self._places.setdefault((tag, kind), [])
                        count = _count(event, value) - (2 if kind == "image" and value.what == "tensor" else 0)
                        places += (_Place(found.step, found.time, place, len(event), nth, n) for n in range(count))
                        self._last_time = max(self._last_time, found.time)
            except ValueError as error:
                self._note(f"the event at byte {place} cannot be understood: {error}")

    def _number(self, event: bytes, tag: int, value: Value) -> float | None:
        if value.what == "simple_value":
            return tfvalues.simple_value(event, value)
        if value.plugin:
            self._plugins[tag] = value.plugin
        if value.what != "tensor" or self._plugins.get(tag, "") not in ("", SCALARS):
            return None
        if not tfvalues.is_number(event, value.content):
            return None
        exact = np.asarray(tfvalues.tensor(event, value.content)).item()
        number = float(exact)
        if number != exact and exact == exact:
            self._note(f"integers under {value.tag.decode('utf-8', 'backslashreplace')!r} are rounded to float64")
        return number

    def _kind(self, event: bytes, tag: int, value: Value) -> str | None:
        """Return the kind of a value that stays in the file, None if it is none or cannot be shown."""
        plugin = self._plugins.get(tag, "")
        if plugin == HPARAMS:
            if value.metadata is not None:
                self._params.update(tfvalues.hparams(event, value.metadata))
            return None
        if value.what == "tensor" and plugin != "audio":
            is_text = tfvalues.tensor_shape(event, value.content)[0] == tfvalues.STRING
            return {TEXTS: "text", IMAGES: "image"}.get(plugin, "text" if is_text else "array")
        if value.what in ("image", "audio", "histogram"):
            return "array" if value.what == "histogram" else value.what
        if value.what == "metadata":
            return None
        what = (value.tag, "audio" if plugin == "audio" else value.what)
        self._left_out[what] = self._left_out.get(what, 0) + 1
        return None

    def _name_series(self) -> None:
        self._series = {}
        with_rows = np.unique(np.concatenate([np.unique(rows["tag"]) for rows in self._rows])) if self._rows else ()
        for which in [*((int(tag), "scalar") for tag in with_rows), *self._places]:
            tag = self._table.tags[which[0]].decode("utf-8", "backslashreplace")
            series = SeriesId(which[1], *self._names(tag))
            if self._series.setdefault(series, which) != which:
                self._note(f"two tags are both called {full_key(series.scope, series.key)!r}")

    def _names(self, tag: str) -> tuple[str, str]:
        if "/" in tag and (self._shard is not None or tag.startswith("root.")):
            return split_full_key(tag)
        return self._scope, tag

    # -- values

    def keys(self) -> list[SeriesId]:
        """Return the series in the file."""
        return list(self._look())

    def read(self, series: SeriesId) -> Columns:
        """Return all values of a series; raises `KeyError` if the file does not hold it.

        What cannot be read is left out and told in `damage`; raises `DamagedFile` if a whole series is.
        """
        return self.part(series, slice(None))

    def part(self, series: SeriesId, rows: slice) -> Columns:
        """Return some of the values of a series; like `read` otherwise."""
        tag, kind = self._look()[series]
        if kind == "scalar":
            its = self._rows_of(tag)[rows]
            return Columns(its["step"].copy(), its["time"].copy(), its["value"].copy())
        places = self._places[tag, kind][rows]
        columns = self._objects(places)
        if places and not len(columns):
            raise DamagedFile(self.damage[-1])
        return columns

    def steps(self, series: SeriesId) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the steps and times of all values of a series."""
        tag, kind = self._look()[series]
        if kind == "scalar":
            rows = self._rows_of(tag)
            return rows["step"].copy(), rows["time"].copy()
        return _axes(self._places[tag, kind])

    def portions(self, series: SeriesId, rows: int) -> Iterator[Columns]:
        """Yield all values of a series, about *rows* at once; raises like `read`, at the end if nothing is left."""
        tag, kind = self._look()[series]
        if kind == "scalar":
            yield from super().portions(series, rows)
            return
        places = self._places[tag, kind]
        has_some = not places
        for start in range(0, len(places), rows):
            columns = self._objects(places[start : start + rows])
            if len(columns):
                has_some = True
                yield columns
        if not has_some:
            raise DamagedFile(self.damage[-1])

    def last_step(self, series: SeriesId) -> int | None:
        """Return the step of the last value of a series."""
        tag, kind = self._look()[series]
        return int(self._rows_of(tag)["step"][-1]) if kind == "scalar" else self._places[tag, kind][-1].step

    def last_time(self) -> float:
        """Return the latest time of a value in the file (Unix seconds), minus infinity if it has none."""
        self._look()
        return self._last_time

    def _rows_of(self, tag: int) -> NDArray[np.void]:
        if len(self._rows) > 1 or not _is_sorted(self._rows[0]["tag"]):
            rows = np.concatenate(self._rows)
            self._rows = [rows[np.argsort(rows["tag"], kind="stable")]]
        first, last = np.searchsorted(self._rows[0]["tag"], [tag, tag + 1])
        return self._rows[0][first:last]

    def _objects(self, places: Sequence[_Place]) -> Columns:
        good: list[_Place] = []
        values: list[Any] = []
        attrs: dict[int, Mapping[str, Any]] = {}
        with self._file.open() as file:
            for place in places:
                try:
                    event = self._file.event(file, place.offset, place.length)
                    value = tfvalues.event_values(event).values[place.number]
                    plugin = self._plugins.get(self._table.number(value.tag), "")
                    found, its = _decoded(event, value, plugin, place.item)
                except (ValueError, LookupError) as error:
                    self._note(f"the value in the event at byte {place.offset - HEADER_BYTES} cannot be read: {error}")
                    continue
                if its:
                    attrs[len(values)] = its
                good.append(place)
                values.append(found)
        return Columns(*_axes(good), uniform(values), attrs)

    def _note(self, what: str) -> None:
        sentence = f"{self.path}: {what}"
        if len(self.damage) < _MOST_NOTES and sentence not in self.damage:
            self.damage.append(sentence)


def _is_sorted(column: NDArray[Any]) -> bool:
    return bool((column[1:] >= column[:-1]).all())


_LAYOUT: Mapping[str, Any] = {"layout": "HWC"}
_COLUMNS: Mapping[str, Any] = {"columns": list(BINS)}


def _axes(places: Sequence[_Place]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    step, time = [place.step for place in places], [place.time for place in places]
    return np.array(step, np.int64), np.array(time, np.float64)


def _count(event: bytes, value: Value) -> int:
    """Return how many pictures or texts stand in a value, two more for pictures; of anything else there is one."""
    if value.what != "tensor" or tfvalues.tensor_shape(event, value.content)[0] != tfvalues.STRING:
        return 1
    return len(tfvalues.tensor(event, value.content))


def _decoded(event: bytes, value: Value, plugin: str, item: int) -> tuple[Any, Mapping[str, Any]]:
    """Return an item of a value, and its attributes."""
    if value.what == "histogram":
        return tfvalues.histogram(event, value.content), _COLUMNS
    if value.what == "image":
        return pixels_of(tfvalues.encoded_bytes(event, value.content)), _LAYOUT
    if value.what == "audio":
        samples, rate = read_wav(io.BytesIO(tfvalues.encoded_bytes(event, value.content)), MOST_BYTES)
        return samples, {"layout": "T" if samples.ndim == 1 else "TC", "rate": rate}
    items = tfvalues.tensor(event, value.content)
    if isinstance(items, np.ndarray):
        return items, _COLUMNS if plugin == tfvalues.HISTOGRAMS else {}
    if plugin == IMAGES:
        # Width and height come first.
        return pixels_of(items[2 + item]), _LAYOUT
    return items[item].decode("utf-8", "backslashreplace"), {}
