"""Store: how do the shards of a run become series, one per full key?"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np
from numpy.typing import NDArray

from allogger.errors import ConfigError, DamagedFile, NoSuchKey, NotARun, UnknownName
from allogger.reader import Columns, Reader, SeriesId, uniform
from allogger.record import MAIN_PROCESS, full_key
from allogger.rundir import EVENTS, RUN_FILE, load_json, shard_of
from allogger.shards import list_shards, open_shard

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Attempts", "Part", "Run", "Runs", "Series", "open_run", "open_runs", "parts_of"]

Attempts = Literal["last", "all"]


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


@dataclass(frozen=True)
class _Shard:
    """An open shard: its reader and what it says about itself."""

    name: str
    reader: Reader
    process: str
    attempt: str
    start: float


class Run:
    """Everything under one logdir, as it was on disk when it was opened; `refresh` looks again."""

    def __init__(self, logdir: str | os.PathLike[str], attempts: Attempts = "last") -> None:
        self.logdir = Path(logdir)
        self.attempts = _checked(attempts)
        self.damage: list[str] = []
        events = self.logdir / EVENTS
        if not (events.is_dir() or (self.logdir / RUN_FILE).is_file()):
            raise NotARun(f"{str(self.logdir)!r} is no run: it has neither {EVENTS}/ nor {RUN_FILE}")
        self.refresh()

    def refresh(self) -> None:
        """Take up what was written since."""
        self.__dict__.pop("_by_key", None)
        self._shards = open_shards(self.logdir / EVENTS, self.damage)

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """What ``run.json`` says; empty if there is none."""
        return load_json(self.logdir / RUN_FILE)

    @cached_property
    def _by_key(self) -> dict[str, list[tuple[_Shard, SeriesId]]]:
        found: dict[str, list[tuple[_Shard, SeriesId]]] = {}
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
        """Return all values of a full key; raises `NoSuchKey`."""
        return self.series(key)

    def series(self, key: str, attempts: Attempts | None = None) -> Series:
        """Return all values of a full key, of the last or of all attempts; raises `NoSuchKey`."""
        if key not in self._by_key:
            raise NoSuchKey(str(UnknownName.of(f"key in {str(self.logdir)!r}:", key, self._by_key)))
        parts = parts_of(self._by_key[key], _checked(attempts or self.attempts), self._ends)
        return _merged(key, parts)

    @cached_property
    def _ends(self) -> dict[str, float]:
        return _ends_of(self._shards)

    def frame(self, pattern: str | None = None, attempts: Attempts | None = None) -> pd.DataFrame:
        """Return a DataFrame with one row per value: ``key``, ``step``, ``time``, ``process``, ``value``."""
        from allogger.frames import long_frame

        return long_frame([self.series(key, attempts) for key in self.keys(pattern)])

    def wide(self, pattern: str | None = None, attempts: Attempts | None = None) -> pd.DataFrame:
        """Return a DataFrame with one column per full key and the steps as its index.

        Where a key has several values at a step, the last of them is shown.
        """
        from allogger.frames import wide_frame

        return wide_frame([self.series(key, attempts) for key in self.keys(pattern)])

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


def open_shards(events: Path, damage: list[str]) -> list[_Shard]:
    """Open every shard in *events*; what cannot be read is told in *damage* and by a warning, and left out."""
    shards = []
    for file in list_shards(events):
        try:
            reader = open_shard(events, file.name)
        except FileNotFoundError:
            continue  # cleared while we looked
        except (OSError, DamagedFile) as error:
            damage.append(str(error))
            warnings.warn(f"{file.path} cannot be read: {error}", RuntimeWarning, stacklevel=4)
            continue
        damage += [f"{file.path}: {what}" for what in reader.damage]
        start = _number(reader.about.get("start"), shard_of(file.name)[0])
        process = str(reader.about.get("process") or MAIN_PROCESS)
        shards.append(_Shard(file.name, reader, process, str(reader.about.get("attempt") or file.name), start))
    return shards


def _number(value: Any, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else otherwise


def _ends_of(shards: Sequence[_Shard]) -> dict[str, float]:
    """Return for each attempt the time of its last value."""
    ends: dict[str, float] = {}
    for shard in shards:
        ends[shard.attempt] = max(ends.get(shard.attempt, shard.start), shard.reader.last_time())
    return ends


def parts_of(found: Sequence[tuple[_Shard, SeriesId]], attempts: Attempts, ends: Mapping[str, float]) -> list[Part]:
    """Return what the shards hold of one key, in the order of their start.

    With ``"last"``: from the step on at which a later attempt of the same process began the key, earlier ones are left
    out. Attempts that ran at the same time are no attempts of each other.
    """
    starts: dict[str, float] = {}
    for shard, _ in found:
        starts[shard.attempt] = min(starts.get(shard.attempt, shard.start), _attempt_start(shard))
    parts = []
    for shard, series in found:
        columns = shard.reader.read(series)
        started, ended = starts[shard.attempt], ends.get(shard.attempt, shard.start)
        parts.append(Part(series.kind, columns, shard.process, shard.attempt, started, ended, shard.start))
    return parts if attempts == "all" else [_shortened(part, parts) for part in parts]


def _attempt_start(shard: _Shard) -> float:
    try:
        return shard_of(shard.attempt)[0]
    except ValueError:
        return shard.start


def _shortened(part: Part, parts: Sequence[Part]) -> Part:
    """Return *part* without what later attempts have replaced."""
    firsts = [
        (float(later.columns.time[0]), int(later.columns.step[0]), later.attempt)
        for later in parts
        if later.process == part.process and later.started > part.ended and len(later.columns)
    ]
    # Of the shards of one attempt, the one that began the key first says where.
    cut = min((min(f for f in firsts if f[2] == attempt)[1] for attempt in {f[2] for f in firsts}), default=None)
    if cut is None:
        return part
    kept = part.columns.take(part.columns.step < cut)
    return Part(part.kind, kept, part.process, part.attempt, part.started, part.ended, part.shard_start)


def _merged(key: str, parts: Sequence[Part]) -> Series:
    parts = [part for part in parts if len(part.columns)] or list(parts[:1])
    step = np.concatenate([part.columns.step for part in parts])
    time = np.concatenate([part.columns.time for part in parts])
    value = joined([part.columns.value for part in parts])
    process = np.repeat([part.process for part in parts], [len(part.columns) for part in parts])
    kinds = {part.kind for part in parts}
    order = merge_order(parts, step, time)
    metas = [dict(part.columns.attrs.get(row, {})) for part in parts for row in range(len(part.columns))]
    meta = metas[0] if metas and all(m == metas[0] for m in metas) else {}
    kind = kinds.pop() if len(kinds) == 1 else "mixed"
    return Series(key, kind, step[order], time[order], value[order], process[order], meta)


def merge_order(parts: Sequence[Part], step: NDArray[Any], time: NDArray[Any]) -> NDArray[np.intp]:
    """Return the order of the values of several parts: as logged for one process, else by step and time."""
    if len(parts) > 1 and (len({p.process for p in parts}) > 1 or _side_by_side(parts)):
        return np.lexsort((time, step))
    return np.arange(len(step))


def _side_by_side(parts: Sequence[Part]) -> bool:
    return any(a.started <= b.ended and b.started <= a.ended for a in parts for b in parts if a is not b)


def joined(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays of values in one: numbers in a common dtype if it holds them exactly, else objects."""
    if len(values) == 1:
        return values[0]
    shapes = {v.shape[1:] for v in values}
    dtypes = {v.dtype for v in values}
    if len(shapes) == 1 and len(dtypes) == 1:
        return np.concatenate(values)
    if shapes == {()} and all(d.kind in "bif" for d in dtypes):
        # The same rule as within one shard: integers become float64 only if they stay what they are.
        common = np.result_type(*dtypes)
        if all(np.array_equal(v.astype(common).astype(v.dtype), v, equal_nan=v.dtype.kind == "f") for v in values):
            return np.concatenate([v.astype(common) for v in values])
    return uniform([np.asarray(item) if not isinstance(item, str) else item for v in values for item in v])


def _checked(attempts: str) -> Attempts:
    if attempts not in ("last", "all"):
        raise UnknownName.of("choice of attempts", attempts, ["last", "all"])
    return cast(Attempts, attempts)


def _compiled(pattern: str | None) -> re.Pattern[str]:
    try:
        return re.compile(pattern or "")
    except re.error as error:
        raise ConfigError(f"{pattern!r} is no regular expression: {error}") from None
