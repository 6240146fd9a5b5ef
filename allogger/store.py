"""Store: how do the shards of a run become series, one per full key?"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import resource
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np
from numpy.typing import NDArray

from allogger.errors import ConfigError, DamagedFile, NoSuchKey, NotARun, UnknownName
from allogger.kind import Kind
from allogger.reader import Columns, Reader, SeriesId, objects, uniform
from allogger.record import MAIN_PROCESS, full_key
from allogger.registry import kinds
from allogger.rundir import EVENTS, RUN_FILE, is_here, is_live, load_json, shard_of
from allogger.shards import ShardFile, list_shards, open_shard

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Attempts", "Run", "Runs", "Series", "open_run", "open_runs"]

Attempts = Literal["last", "all"]

# Integers up to here are exact as float64.
_EXACT = 2**53


@dataclass(frozen=True, eq=False)
class Series:
    """All values of one full key.

    ``step`` int64 and ``time`` float64 (Unix seconds) have one entry per value; so has ``process`` (labels). ``value``
    is an array whose first axis counts the values; values of different shapes or dtypes, and texts, are the elements of
    an object array. ``kind`` is ``"mixed"`` where a key has values of several kinds. ``meta`` has the attributes that
    all values share.
    """

    key: str
    kind: str
    step: NDArray[np.int64]
    time: NDArray[np.float64]
    value: NDArray[Any]
    process: NDArray[Any]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.step)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.value.shape[1:]))
        steps = f", steps {self.step[0]} to {self.step[-1]}" if len(self) else ""
        return (
            f"<Series {self.key!r}: {len(self)} x {self.kind} {self.value.dtype}{' ' + shape if shape else ''}{steps}>"
        )

    def to_pandas(self) -> pd.Series[Any]:
        """Return the values as a pandas Series with the steps as its index; arrays are elements of object dtype."""
        from allogger.frames import series_of

        return series_of(self)


@dataclass(frozen=True)
class Part:
    """What one shard holds of one full key: *columns* of one kind, and whose they are."""

    kind: str
    columns: Columns
    process: str
    attempt: str
    started: float
    ended: float
    shard_start: float


@dataclass(eq=False)
class OpenShard:
    """A shard: its file, its reader, and what it says about itself; *start* and *end* in Unix seconds.

    *end* is when its process finished it; infinity while the process runs, minus infinity if nobody knows.
    """

    file: ShardFile
    reader: Reader
    process: str
    attempt: str
    start: float
    end: float
    stays_open: bool = True

    @classmethod
    def of(cls, file: ShardFile, reader: Reader) -> OpenShard:
        """Return the shard that *reader* reads; what it does not know about itself, the name of its file tells."""
        about = reader.about
        # An attempt that runs goes on, however long ago its last value is.
        runs = file.is_live and "end" not in about and is_here(file.name) and is_live(file.path.parent, file.name)
        return cls(
            file,
            reader,
            str(about.get("process") or MAIN_PROCESS),
            str(about.get("attempt") or file.name),
            _time_of(about.get("start"), _start_of(file.name, 0.0)),
            _time_of(about.get("end"), np.inf if runs else -np.inf),
        )

    def read(self, series: SeriesId) -> Columns:
        """Return all values of a series; raises `DamagedFile` if there is nothing left of them."""
        try:
            return self.reader.read(series)
        except FileNotFoundError:
            # Its process has finished it since, and removed the journal.
            self.reader = open_shard(self.file.path.parent, self.file.name)
            return self.reader.read(series)
        finally:
            if not self.stays_open:
                self.reader.close()

    @property
    def damage(self) -> list[str]:
        """One sentence for each damaged place, beginning with the path."""
        path = str(self.file.path)
        # What was lost of a journal before `repair` made this file of it.
        lost = self.reader.about.get("damage")
        found = [*self.reader.damage, *(map(str, lost) if isinstance(lost, list) else ())]
        return [what if what.startswith(path) else f"{path}: {what}" for what in found]


class Run:
    """Everything under one logdir, as it was on disk when it was opened; `refresh` looks again."""

    def __init__(self, logdir: str | os.PathLike[str], attempts: Attempts = "last") -> None:
        self.logdir = Path(logdir)
        self.attempts = checked_attempts(attempts)
        self._unreadable: list[str] = []
        self._told: set[str] = set()
        self._shards: list[OpenShard] = []
        events = self.logdir / EVENTS
        if not (events.is_dir() or (self.logdir / RUN_FILE).is_file()):
            raise NotARun(f"{str(self.logdir)!r} is no run: it has neither {EVENTS}/ nor {RUN_FILE}")
        self.refresh()

    def refresh(self) -> None:
        """Take up what was written since."""
        for name in ("about", "_by_key", "_ends"):
            self.__dict__.pop(name, None)
        self._shards, self._unreadable = open_shards(self.logdir / EVENTS)
        tell_damage(self.damage, self._told)

    @property
    def damage(self) -> list[str]:
        """One sentence for each damaged place that was found so far, and each file that cannot be read."""
        return [*self._unreadable, *(what for shard in self._shards for what in shard.damage)]

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """What ``run.json`` says; empty if there is none."""
        return load_json(self.logdir / RUN_FILE)

    @cached_property
    def _by_key(self) -> dict[str, list[tuple[OpenShard, SeriesId]]]:
        found: dict[str, list[tuple[OpenShard, SeriesId]]] = {}
        for shard in self._shards:
            for series in shard.reader.keys():  # noqa: SIM118  # no mapping
                found.setdefault(full_key(series.scope, series.key), []).append((shard, series))
        return found

    def keys(self, pattern: str | None = None) -> list[str]:
        """Return the full keys, in alphabetical order, in which the regular expression *pattern* is found."""
        regex = _compiled(pattern)
        return sorted(key for key in self._by_key if regex.search(key))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def __getitem__(self, key: str) -> Series:
        """Return all values of a full key; raises `NoSuchKey`, or `DamagedFile` if there is nothing left of them."""
        return self.series(key)

    def series(self, key: str, attempts: Attempts | None = None) -> Series:
        """Return all values of a full key, of the last or of all attempts, as ``run[key]`` does."""
        if key not in self._by_key:
            raise NoSuchKey(str(UnknownName.of(f"key in {str(self.logdir)!r}:", key, self._by_key)))
        try:
            parts = parts_of(self._by_key[key], checked_attempts(attempts or self.attempts), self._ends)
        finally:
            tell_damage(self.damage, self._told)
        return _merged(key, parts)

    def _readable(self, pattern: str | None, attempts: Attempts | None) -> Iterator[Series]:
        for key in self.keys(pattern):
            # One key that is lost must not cost the others; the loss has been told.
            with contextlib.suppress(DamagedFile):
                yield self.series(key, attempts)

    @cached_property
    def _ends(self) -> dict[str, float]:
        return ends_of(self._shards)

    def frame(self, pattern: str | None = None, attempts: Attempts | None = None) -> pd.DataFrame:
        """Return a DataFrame with one row per value: ``key``, ``step``, ``time``, ``process``, ``value``."""
        from allogger.frames import long_frame

        return long_frame(list(self._readable(pattern, attempts)))

    def wide(self, pattern: str | None = None, attempts: Attempts | None = None) -> pd.DataFrame:
        """Return a DataFrame with one column per full key and the steps as its index.

        Where a key has several values at a step, the last of them is shown.
        """
        from allogger.frames import wide_frame

        return wide_frame(list(self._readable(pattern, attempts)))

    def __repr__(self) -> str:
        return f"<Run {str(self.logdir)!r}: {len(self)} keys, {len(self._shards)} shards>"


class Runs(Sequence[Run]):
    """Several runs, in the order of their paths."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = list(runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def keys(self, pattern: str | None = None) -> list[str]:
        """Return the full keys of all runs."""
        return sorted({key for run in self for key in run.keys(pattern)})

    def frame(self, pattern: str | None = None) -> pd.DataFrame:
        """Return the frames of all runs one below the other, with a column ``run`` in front (the logdir)."""
        from allogger.frames import stacked_frames

        return stacked_frames({str(run.logdir): run.frame(pattern) for run in self})

    def __repr__(self) -> str:
        return f"<Runs: {len(self)}>"


def open_run(logdir: str | os.PathLike[str], *, attempts: Attempts = "last") -> Run:
    """Open a run for reading, be it finished, killed or still being written; raises `NotARun`.

    *attempts*: with ``"last"`` a later start of the program replaces the earlier ones from the step on at which it
    began a key; ``"all"`` gives every value.
    """
    return Run(logdir, attempts)


def open_runs(pattern: str | os.PathLike[str], *, attempts: Attempts = "last") -> Runs:
    """Open all runs whose logdir matches a pattern of paths such as ``"runs/**"``; none is no error."""
    import glob

    paths = sorted({p for p in glob.glob(os.fspath(pattern), recursive=True) if _is_run(p)})
    return Runs([Run(path, attempts) for path in paths])


def _is_run(path: str) -> bool:
    return os.path.isdir(os.path.join(path, EVENTS)) or os.path.isfile(os.path.join(path, RUN_FILE))


def open_shards(events: Path) -> tuple[list[OpenShard], list[str]]:
    """Open every shard in *events*; what cannot be read is left out and told in the second list."""
    # More would leave the program none of the files that it may have open.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limit = most // 4 if most != resource.RLIM_INFINITY else sys.maxsize
    shards: list[OpenShard] = []
    unreadable = []
    for file in list_shards(events):
        try:
            shard = OpenShard.of(file, open_shard(events, file.name))
        except FileNotFoundError:
            continue  # cleared while we looked
        except (OSError, DamagedFile) as error:
            unreadable.append(f"{file.path} cannot be read: {error}")
            continue
        if len(shards) > limit:
            shard.stays_open = False
            shard.reader.close()
        shards.append(shard)
    return shards, unreadable


def tell_damage(damage: Sequence[str], told: set[str]) -> None:
    """Say, in one message of the standard `logging`, what is not in *told* yet."""
    new = [what for what in damage if what not in told]
    told.update(new)
    if new:
        more = f"; and {len(new) - 1} more places" if len(new) > 1 else ""
        logging.getLogger("allogger").warning("damaged, only what is left is shown: %s%s", new[0], more)


def _time_of(told: Any, otherwise: float) -> float:
    return told if isinstance(told, float) and np.isfinite(told) else otherwise


def _start_of(name: str, otherwise: float) -> float:
    try:
        return shard_of(name)[0]
    except ValueError:
        return otherwise


def ends_of(shards: Sequence[OpenShard]) -> dict[str, float]:
    """Return for each attempt when it ended: when its last process did, or else the time of its last value."""
    ends: dict[str, float] = {}
    for shard in shards:
        ends[shard.attempt] = max(ends.get(shard.attempt, shard.start), shard.end, shard.reader.last_time())
    return ends


def parts_of(found: Sequence[tuple[OpenShard, SeriesId]], attempts: Attempts, ends: Mapping[str, float]) -> list[Part]:
    """Return what the shards hold of one key, in the order of their start.

    With ``"last"``: from the step on at which a later attempt of the same process began the key, earlier ones are left
    out. Attempts that ran at the same time are no attempts of each other. Raises `DamagedFile` if nothing can be read.
    """
    starts: dict[str, float] = {}
    for shard, _ in found:
        start = _start_of(shard.attempt, shard.start)
        starts[shard.attempt] = min(starts.get(shard.attempt, shard.start), start)
    parts = []
    damage: DamagedFile | None = None
    for shard, series in found:
        try:
            columns = _decoded(series.kind, shard.read(series))
        except DamagedFile as error:
            damage = error
            continue
        started, ended = starts[shard.attempt], ends.get(shard.attempt, shard.start)
        parts.append(Part(series.kind, columns, shard.process, shard.attempt, started, ended, shard.start))
    if damage is not None and not parts:
        raise damage
    return parts if attempts == "all" else _of_last_attempts(parts)


def _of_last_attempts(parts: Sequence[Part]) -> list[Part]:
    by_process: dict[str, list[Part]] = {}
    for part in parts:
        by_process.setdefault(part.process, []).append(part)
    return [_shortened(part, by_process[part.process]) for part in parts]


def _decoded(kind: str, columns: Columns) -> Columns:
    """Return the values as their kind shows them; those of a kind that is not installed, or that fails, as stored."""
    try:
        decode = kinds[kind].decode
        if decode is Kind.decode:
            return columns
        decoder = kinds[kind]()
        values = [
            decoder.decode(item if isinstance(item, str) else np.asarray(item), columns.attrs.get(row, {}))
            for row, item in enumerate(columns.value)
        ]
    except UnknownName:
        return columns
    except Exception as error:
        warnings.warn(f"kind {kind!r} cannot decode its values: {error}", RuntimeWarning, stacklevel=2)
        return columns
    return replace(columns, value=uniform(values))


def _shortened(part: Part, parts: Sequence[Part]) -> Part:
    """Return *part* without what later attempts of its process, which are among *parts*, have replaced."""
    # Of the shards of one attempt, the one that began the key first says where.
    first: dict[str, tuple[float, int]] = {}
    for later in parts:
        if later.started > part.ended and len(later.columns):
            began = float(later.columns.time[0]), int(later.columns.step[0])
            first[later.attempt] = min(first.get(later.attempt, began), began)
    if not first:
        return part
    cut = min(step for _, step in first.values())
    return replace(part, columns=part.columns.take(part.columns.step < cut))


def _merged(key: str, parts: Sequence[Part]) -> Series:
    parts = [part for part in parts if len(part.columns)] or list(parts[:1])
    step, time, value = columns_of(parts)
    counts = [len(part.columns) for part in parts]
    # A view of one label where there is only one: labels of a million values are 44 MB.
    # As objects, so that a long one, which a file may claim, is there once and not once for each value.
    label = np.array([part.process for part in parts], object)
    process = np.broadcast_to(label, len(step)) if len(parts) == 1 else np.repeat(label, counts)
    kinds = {part.kind for part in parts}
    kind = kinds.pop() if len(kinds) == 1 else "mixed"
    order = merge_order(parts, step, time)
    if order is not None:
        step, time, value, process = step[order], time[order], value[order], process[order]
    return Series(key, kind, step, time, value, process, _shared_attrs(parts))


def columns_of(parts: Sequence[Part]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[Any]]:
    """Return the steps, times and values of *parts*, one behind the other."""
    if len(parts) == 1:
        columns = parts[0].columns
        return columns.step, columns.time, columns.value
    step = np.concatenate([part.columns.step for part in parts])
    time = np.concatenate([part.columns.time for part in parts])
    return step, time, joined([part.columns.value for part in parts])


def _shared_attrs(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the attributes that all values have."""
    if not all(len(part.columns.attrs) == len(part.columns) for part in parts):
        return {}
    each = (attrs for part in parts for attrs in part.columns.attrs.values())
    first = next(each, {})
    return dict(first) if all(attrs is first or attrs == first for attrs in each) else {}


def merge_order(parts: Sequence[Part], step: NDArray[Any], time: NDArray[Any]) -> NDArray[np.intp] | None:
    """Return the order of the values of several parts: by step and time, or None for that in which they lie.

    The latter if one process has written them, one attempt after the other.
    """
    if len(parts) > 1 and (len({p.process for p in parts}) > 1 or _side_by_side(parts)):
        return np.lexsort((time, step))
    return None


def _side_by_side(parts: Sequence[Part]) -> bool:
    return any(a.started <= b.ended and b.started <= a.ended for a in parts for b in parts if a is not b)


def joined(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays of values in one: numbers in a common dtype if it holds them exactly, else objects."""
    values = [v for v in values if len(v)] or list(values[:1])
    if len({v.shape[1:] for v in values}) == 1:
        dtypes = {v.dtype for v in values}
        if len(dtypes) == 1 and dtypes != {np.dtype(object)}:
            out: NDArray[Any] = np.ndarray((sum(map(len, values)), *values[0].shape[1:]), values[0].dtype)
            return np.concatenate(values, out=out)
        common = _common_dtype(values) if values[0].ndim == 1 else None
        if common is not None:
            return np.concatenate([v.astype(common) for v in values])
    return uniform([item for v in values for item in objects(v)])


def _common_dtype(values: Sequence[NDArray[Any]]) -> np.dtype[Any] | None:
    """Return the dtype that holds all numbers exactly; None if there is none. The same rule as within one shard."""
    if not all(v.dtype.kind in "bifc" for v in values):
        return None
    common = np.result_type(*(v.dtype for v in values))
    if common.kind in "bi":
        return common
    if common not in (np.float64, np.complex128):
        return None
    integers = (v for v in values if v.dtype.kind == "i")
    return common if all(v.max() <= _EXACT and v.min() >= -_EXACT for v in integers) else None


def checked_attempts(attempts: str) -> Attempts:
    """Return *attempts*; raises `UnknownName` if it is none of the two."""
    if attempts not in ("last", "all"):
        raise UnknownName.of("choice of attempts", attempts, ["last", "all"])
    return cast(Attempts, attempts)


def _compiled(pattern: str | None) -> re.Pattern[str]:
    try:
        return re.compile(pattern or "")
    except re.error as error:
        raise ConfigError(f"{pattern!r} is no regular expression: {error}") from None
