"""Listing: which runs are there, and what do their small files tell about them?

Only the standard library is needed: ``run.json``, the indices of finished shards and the names, times and sizes of
files. What a journal holds is not known here; `RunInfo.is_complete` says whether that matters.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from allogger.errors import NotARun
from allogger.names import full_key
from allogger.rundir import (
    ARTIFACTS,
    EVENTS,
    IMAGE,
    INDEX,
    JOURNAL,
    RUN_FILE,
    event_shard_of,
    is_live,
    load_json,
    shard_name_of,
    shard_of,
    stored_files,
)

__all__ = [
    "FORMAT",
    "KeyInfo",
    "RunInfo",
    "State",
    "find_runs",
    "format_problem",
    "is_run",
    "list_runs",
    "run_info",
    "sizes",
]

State = Literal["live", "killed", "finished"]

_KINDS = {IMAGE: "hdf", JOURNAL: "journal", ".csv": "csv", ".log": "text"}

#: The ``allogger_format`` of ``run.json`` that this version knows.
FORMAT = 1


@dataclass
class KeyInfo:
    """What the indices tell about one full key; *last*, *min* and *max* are None unless its values are real numbers.

    *shards* counts the processes and attempts that logged it; *count* is the sum over them. Times in Unix seconds.
    """

    key: str
    kind: str
    count: int
    first_step: int
    last_step: int
    first_time: float
    last_time: float
    last: float | None = None
    min: float | None = None
    max: float | None = None
    shards: int = 1

    def take(self, other: KeyInfo) -> None:
        """Add what another shard holds of the key."""
        if other.last_time >= self.last_time:
            self.last, self.last_time = other.last, other.last_time
        self.kind = self.kind if self.kind == other.kind else "mixed"
        self.count += other.count
        self.first_step = min(self.first_step, other.first_step)
        self.last_step = max(self.last_step, other.last_step)
        self.first_time = min(self.first_time, other.first_time)
        self.min = _extreme(min, self.min, other.min)
        self.max = _extreme(max, self.max, other.max)
        self.shards += other.shards


@dataclass
class RunInfo:
    """A run as its small files show it; *start* and *active* (its last sign of life) in Unix seconds, *size* in bytes.

    *is_complete*: whether *keys* has everything, which a journal or a file without an index prevents; the journals have
    *journal_bytes*. *problems* has a sentence for each thing that is not as it should be.
    """

    path: Path
    state: State
    start: float | None
    active: float | None
    size: int
    attempts: int
    shards: int
    keys: dict[str, KeyInfo] = field(default_factory=dict)
    is_complete: bool = True
    journal_bytes: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def last_step(self) -> int | None:
        """The highest step that any key has reached, None without a value."""
        return max((key.last_step for key in self.keys.values()), default=None)


def list_runs(paths: Sequence[str | os.PathLike[str]]) -> Iterator[RunInfo]:
    """Yield what is known of every run at or below *paths*, in their order; a path without one gives none."""
    for path in paths:
        for logdir in find_runs(Path(path)):
            yield run_info(logdir)


def is_run(path: Path) -> bool:
    """Whether *path* is the logdir of a run, as `allogger.open_run` takes it."""
    return (path / EVENTS).is_dir() or (path / RUN_FILE).is_file()


def find_runs(path: Path) -> Iterator[Path]:
    """Yield the logdirs at or below *path*, in alphabetical order; links and hidden folders are not entered."""
    folders = [path]
    while folders:
        folder = folders.pop()
        entries = sorted(_entries(folder), key=lambda entry: entry.name, reverse=True)
        is_one = not {EVENTS, RUN_FILE}.isdisjoint(entry.name for entry in entries) and is_run(folder)
        if is_one:
            yield folder
        own = (EVENTS, ARTIFACTS) if is_one else (EVENTS,)
        for entry in entries:
            if entry.name not in own and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))


def run_info(logdir: Path) -> RunInfo:
    """Return what is known of one run; raises `NotARun`."""
    if not is_run(logdir):
        raise NotARun(f"{str(logdir)!r} is no run: it has neither {EVENTS}/ nor {RUN_FILE}")
    about = load_json(logdir / RUN_FILE)
    files = list(_files(logdir))
    shards = _Shards.among([entry.name for entry in files])
    started = _attempts(about)
    stats = {entry.path: info for entry in files if (info := _stat(entry)) is not None}
    run = RunInfo(
        path=logdir,
        state=_state(logdir / EVENTS, shards, started),
        start=_number(about.get("created")) or min((shard_of(name)[0] for name in shards.all), default=None),
        active=max((info.st_mtime for info in stats.values()), default=None),
        size=sum(info.st_size for info in stats.values()) + sum(info.st_size for info in _stored(logdir)),
        attempts=max(len(started), 1 if shards.all else 0),
        shards=len(shards.all),
        is_complete=not shards.journals and shards.images <= shards.indices and not shards.has_strangers,
        journal_bytes=sum(info.st_size for path, info in stats.items() if path.endswith(JOURNAL)),
    )
    _take_about(run, about)
    for name in sorted((shards.indices & shards.images) - shards.journals):
        _take_index(run, logdir / EVENTS / (name + INDEX))
    return run


def sizes(logdir: Path) -> dict[str, int]:
    """Return how many bytes the files of a run have, by what they are: an output, ``journal``, ``text``, ``files`` that
    were logged, ``other``."""
    found = {"files": sum(info.st_size for info in _stored(logdir))}
    for entry in _files(logdir):
        info = _stat(entry)
        kind = "tensorboard" if event_shard_of(entry.name) else _KINDS.get(os.path.splitext(entry.name)[1], "other")
        found[kind] = found.get(kind, 0) + (info.st_size if info else 0)
    return found


@dataclass(frozen=True)
class _Shards:
    """The names of the shards of a run, by the files that they have, and whether there are files of other programs."""

    journals: set[str]
    images: set[str]
    indices: set[str]
    others: set[str]
    has_strangers: bool

    @classmethod
    def among(cls, files: Sequence[str]) -> _Shards:
        found: dict[str, set[str]] = {suffix: set() for suffix in (JOURNAL, IMAGE, INDEX, ".csv", ".log")}
        has_strangers = False
        for file in files:
            suffix = INDEX if file.endswith(INDEX) else os.path.splitext(file)[1]
            name = event_shard_of(file) or shard_name_of(file, suffix)
            if name is not None:
                found.get(suffix, found[".csv"]).add(name)
            elif suffix == IMAGE or ".tfevents." in file:
                has_strangers = True
        return cls(found[JOURNAL], found[IMAGE], found[INDEX], found[".csv"], has_strangers)

    @property
    def all(self) -> set[str]:
        return self.journals | self.images | self.others


def _files(logdir: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the files of a run; in its logdir may be others, which are not counted."""
    for entry in _entries(logdir):
        if entry.name == RUN_FILE or shard_name_of(entry.name, ".log") is not None:
            yield entry
    for entry in _entries(logdir / EVENTS):
        # For TensorBoard each process has a folder.
        yield from _entries(entry) if entry.is_dir(follow_symlinks=False) else (entry,)


def _stored(logdir: Path) -> Iterable[os.stat_result]:
    """Return what is known of each file that was logged; one with several names counts once."""
    infos = [info for entry in stored_files(logdir) if (info := _stat(entry)) is not None]
    return {(info.st_dev, info.st_ino): info for info in infos}.values()


def _entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []  # it was removed meanwhile, or is not ours to read


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None  # it was removed meanwhile


def _attempts(about: Mapping[str, Any]) -> list[str]:
    """Return the names of the shards that began the attempts, in the order of their start."""
    told = about.get("attempts")
    names = [entry.get("name") for entry in told if isinstance(entry, dict)] if isinstance(told, list) else []
    return sorted(name for name in names if isinstance(name, str) and shard_name_of(name + IMAGE, IMAGE) is not None)


def _state(events: Path, shards: _Shards, started: Sequence[str]) -> State:
    """Return the state of the run: live if any process may write, else that of the last attempt."""
    # A process that has closed its run may well go on.
    open_ones = {*shards.journals, *shards.others, *started} - (shards.images - shards.journals)
    if any(is_live(events, name) for name in open_ones):
        return "live"
    # Names begin with the time.
    last = started[-1] if started else ""
    return "killed" if any(name >= last for name in shards.journals) else "finished"


def _take_about(run: RunInfo, about: Mapping[str, Any]) -> None:
    path = run.path / RUN_FILE
    if not about and path.exists():
        run.problems.append(f"{path} is damaged: it holds no JSON object")
    other_format = format_problem(run.path, about)
    if other_format:
        run.problems.append(other_format)


def format_problem(path: Path, about: Mapping[str, Any]) -> str | None:
    """Return a sentence if a run whose ``run.json`` says *about* was written by a version that we do not know."""
    told = about.get("allogger_format", FORMAT)
    if told == FORMAT:
        return None
    return f"{path} was written in format {told!r:.40}, this version of allogger knows format {FORMAT}"


def _take_index(run: RunInfo, path: Path) -> None:
    try:
        found = [_key_info(entry) for entry in load_json(path)["series"]]
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError):
        run.is_complete = False
        run.problems.append(f"{path} is damaged: it is no index")
        return
    for key in found:
        if key.key in run.keys:
            run.keys[key.key].take(key)
        else:
            run.keys[key.key] = key


def _key_info(entry: Mapping[str, Any]) -> KeyInfo:
    return KeyInfo(
        key=full_key(str(entry["scope"]), str(entry["key"])),
        kind=str(entry["kind"]),
        count=int(entry["count"]),
        first_step=int(entry["first_step"]),
        last_step=int(entry["last_step"]),
        first_time=float(entry["first_time"]),
        last_time=float(entry["last_time"]),
        last=_number(entry["last"]),
        min=_number(entry["min"]),
        max=_number(entry["max"]),
    )


def _number(told: Any) -> float | None:
    # An integer may be beyond all that floats hold.
    return told if isinstance(told, float) or (isinstance(told, int) and abs(told) < 2**64) else None


def _extreme(choose: Any, one: float | None, other: float | None) -> float | None:
    numbers = [number for number in (one, other) if number is not None and not math.isnan(number)]
    return choose(numbers) if numbers else None
