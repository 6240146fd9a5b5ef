"""Checkpoints: which of the states that a program has stored are kept, and when are the others removed?

The record of a checkpoint names those that it makes obsolete. They are removed when it is in the journal: a program
that is killed at any moment leaves its last complete checkpoint, and readers know what was removed on purpose.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from allogger.errors import ConfigError, DamagedFile, UnknownName, words_of
from allogger.files import CHECKPOINTS, Request, temporary_name
from allogger.lane import Outlet
from allogger.manager import manager
from allogger.opening import open_others, open_shards
from allogger.plain import plain
from allogger.reader import SeriesId
from allogger.record import file_name, full_key
from allogger.rundir import ARTIFACTS, EVENTS, is_here, is_stored_path, shard_of
from allogger.tensorfile import SUFFIX

if TYPE_CHECKING:
    from allogger.logger import Logger

__all__ = ["Checkpoints", "Rule"]

# A disk that hangs must not keep the program: what is obsolete is removed another time.
_FLUSH_SECONDS = 10.0


class Rule(NamedTuple):
    """Which checkpoints are kept: the last so many (None: all), and so many with the best metric."""

    mode: str
    keep_last: int | None
    keep_best: int

    @classmethod
    def of(cls, mode: object, keep_last: object, keep_best: object) -> Rule:
        """Return the rule; raises `ConfigError` for one that is impossible."""
        if mode not in ("min", "max"):
            raise UnknownName.of("mode of a metric", mode, ["min", "max"])
        if keep_last is not None and (type(keep_last) is not int or keep_last < 1):
            raise ConfigError(f"keep_last is a whole number from 1, or None to keep all, not {keep_last!r}")
        if type(keep_best) is not int or keep_best < 0:
            raise ConfigError(f"keep_best is a whole number from 0, not {keep_best!r}")
        return cls(str(mode), keep_last, keep_best)

    def obsolete(self, kept: Sequence[Kept], metric: float | None) -> list[Kept]:
        """Return those of *kept*, oldest first, that are not kept when a new one with that *metric* is there."""
        if self.keep_last is None:
            return []
        everything = [*kept, Kept("", metric)]
        best = ranked(everything, self.mode)[: self.keep_best]
        return [one for one in everything[: -self.keep_last] if one not in best]


class Kept(NamedTuple):
    """A checkpoint that is there: its path below the logdir, and its metric."""

    path: str
    metric: float | None


def ranked(kept: Sequence[Kept], mode: str) -> list[Kept]:
    """Return those that have a metric, the best first; of equal ones the earlier."""
    sign = 1 if mode == "min" else -1
    return sorted((one for one in kept if one.metric is not None), key=lambda one: sign * (one.metric or 0.0))


class Checkpoints:
    """The checkpoints of one logger in this process. Several threads may save at once."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._shelves: dict[tuple[Path, str], _Shelf] = {}

    def save(self, state: Any, key: Any, step: int | None, metric: Any, rule: Rule) -> None:
        """Store *state* and remove what it makes obsolete. Never raises."""
        scope, name = self._logger.scope, "?"
        try:
            name = key if type(key) is str else self._logger._name_of(key)
            logdir = manager.logdir(scope)
            if logdir is None or not self._logger.isEnabledFor(name):
                # To be counted, or not, like any other value.
                self._logger.log(state, name, step, data_type="checkpoint")
                return
            step = self._logger._step(name, step)
            self._save(self._shelf(logdir, name), state, name, step, self._metric(name, metric), rule)
        except Exception as error:
            manager.accounts.not_stored(scope, name, f"{type(error).__name__}: {words_of(error)}")

    def _save(self, shelf: _Shelf, state: Any, key: str, step: int | None, metric: float | None, rule: Rule) -> None:
        if shelf.condemned and self._is_journalled(shelf, key):
            shelf.remove()
        obsolete = rule.obsolete(tuple(shelf.kept), metric)
        about: dict[str, Any] = {"metric": metric, "mode": rule.mode} if metric is not None else {}
        request = Request(state, {**about, **({"replaces": [one.path for one in obsolete]} if obsolete else {})})
        self._logger.log(request, key, step, data_type="checkpoint")
        if not request.stored:
            return  # counted and told
        shelf.add(Kept(request.stored, metric), obsolete)
        is_journalled = self._is_journalled(shelf, key)
        run = manager.runs.get(shelf.logdir)
        if run is not None and shelf.attempt != run.attempt:
            shelf.begin(run.attempt, self._last_step(key) if step is None else step)
        if is_journalled:
            shelf.point(rule.mode)
            shelf.remove()

    def _shelf(self, logdir: Path, key: str) -> _Shelf:
        which = logdir, key
        if which not in self._shelves:
            label = manager.process_label(self._logger.settings)
            shelf = _Shelf.found(logdir, self._logger.scope, key, label)
            shelf.lost = self._lost(self._outlets(logdir), key)
            return self._shelves.setdefault(which, shelf)  # another thread may have been faster
        return self._shelves[which]

    def _last_step(self, key: str) -> int:
        """Return the step that was counted last, as far as records have been handed on."""
        counted = self._logger.state_dict()["step_per_key"].items()
        steps = [of[key] - 1 for who, of in counted if who.rpartition("-")[0] == self._logger.scope and key in of]
        return max(steps, default=0)

    def _metric(self, key: str, metric: Any) -> float | None:
        if metric is None:
            return None
        try:
            number = plain(metric)
            if isinstance(number, bool | int | float):
                return None if math.isnan(number) else float(number)
        except Exception:
            pass  # told below, like anything else that is no number
        manager.accounts.note(self._logger.scope, key, "a metric is a number; stored without it")
        return None

    def _is_journalled(self, shelf: _Shelf, key: str) -> bool:
        """Return whether all records of *key* are on disk, after waiting for it."""
        disk = manager.dispatch.lanes.get("disk")
        if self._logger._held or disk is None or not disk.call(disk.flush, _FLUSH_SECONDS):
            return False
        outlets = self._outlets(shelf.logdir)
        if self._lost(outlets, key) > shelf.lost:
            # What counts now is what the records say, which are looked at again.
            self._shelves.pop((shelf.logdir, key), None)
            return False
        return bool(outlets) and not any(outlet.is_failing for outlet in outlets)

    def _outlets(self, logdir: Path) -> list[Outlet]:
        """Return the outlets that readers look at: those with a journal, or, without one, all that write files."""
        run = manager.runs.get(logdir)
        found = list(run.outlets.values()) if run else []
        with_journal = [outlet for outlet in found if outlet.name == "hdf"]
        return with_journal or [outlet for outlet in found if outlet.writer.lane == "disk"]

    def _lost(self, outlets: Sequence[Outlet], key: str) -> int:
        return sum(outlet.lost.get(full_key(self._logger.scope, key), 0) for outlet in outlets)


@dataclass
class _Shelf:
    """The checkpoints of one series: *kept*, oldest first, and the *condemned* paths that are to be removed."""

    logdir: Path
    folder: str
    kept: list[Kept] = field(default_factory=list)
    condemned: list[str] = field(default_factory=list)
    #: The attempt of the last record, and the steps of those before it.
    attempt: str = ""
    earlier: dict[str, int] = field(default_factory=dict)
    #: How many records had been lost when we looked.
    lost: int = 0

    @classmethod
    def found(cls, logdir: Path, scope: str, key: str, process: str) -> _Shelf:
        """Return what earlier attempts of *process* have left."""
        shelf = cls(logdir, f"{CHECKPOINTS}/{file_name(full_key(scope, key))}")
        folder = logdir / shelf.folder
        # What a link leads to belongs to somebody else.
        if not folder.is_dir() or any(one.is_symlink() for one in (folder, *folder.parents[:2])):
            return shelf
        found = _records(logdir / EVENTS, SeriesId("checkpoint", scope, key), process)
        for record in sorted(found, key=lambda record: record.time):
            told = record.told
            path, metric, replaces = str(told.get("path")), told.get("metric"), told.get("replaces")
            if record.attempt != shelf.attempt:
                shelf.begin(record.attempt, record.step)
            if shelf._holds(path):
                shelf.kept.append(Kept(path, metric if isinstance(metric, float | int) else None))
                shelf.earlier[path] = record.step
            shelf.condemned += filter(shelf._holds, replaces if isinstance(replaces, list) else [])
        shelf.kept = [one for one in shelf.kept if one.path not in shelf.condemned]
        return shelf

    def _holds(self, path: Any) -> bool:
        """Return whether *path* is one of this series that is there: a record may say anything."""
        is_ours = isinstance(path, str) and is_stored_path(path) and path.rpartition("/")[0] == self.folder
        return is_ours and (self.logdir / path).is_file() and not (self.logdir / path).is_symlink()

    def begin(self, attempt: str, first_step: int) -> None:
        """Take up the first record of an attempt. It replaces earlier ones, which then are nobody's best any more."""
        self.attempt = attempt
        replaced = {path for path, step in self.earlier.items() if step >= first_step}
        self.kept[:] = [Kept(one.path, None) if one.path in replaced else one for one in self.kept]

    def add(self, new: Kept, obsolete: Sequence[Kept]) -> None:
        self.kept.append(new)
        for one in obsolete:
            with contextlib.suppress(ValueError):  # another thread has
                self.kept.remove(one)
            self.condemned.append(one.path)

    def remove(self) -> None:
        """Remove what is condemned; what the disk refuses to remove stays so."""
        for path in tuple(self.condemned):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.logdir / path)
            with contextlib.suppress(ValueError):
                self.condemned.remove(path)

    def point(self, mode: str) -> None:
        """Leave links for people and other tools; allogger itself does not follow them."""
        best = ranked(self.kept, mode)[:1]
        for name, kept in (("latest", self.kept[-1:]), ("best", best)):
            link = self.logdir / self.folder / f"{name}{SUFFIX}"
            with contextlib.suppress(OSError):
                for one in kept:
                    temporary = self.logdir / ARTIFACTS / temporary_name()
                    os.symlink(one.path.rpartition("/")[2], temporary)
                    os.replace(temporary, link)
                if not kept and f"{self.folder}/{os.readlink(link)}" in self.condemned:
                    link.unlink()


class _Record(NamedTuple):
    time: float
    step: int
    attempt: str
    told: Mapping[str, Any]


def _records(events: Path, series: SeriesId, process: str) -> Iterator[_Record]:
    """Yield all records of a series of *process*; what is damaged is left out.

    So is what another program of that name may still be writing, who counts on its own last checkpoint.
    """
    shards, _ = open_shards(events)
    shards += open_others(events, shards)
    for shard in shards:
        with contextlib.suppress(OSError, DamagedFile), contextlib.closing(shard.reader):
            is_wanted = shard.process == process and (not shard.is_running or _is_ours(shard.file.name))
            if is_wanted and series in shard.reader.keys():  # noqa: SIM118
                columns = shard.read(series)
                for time, step, text in zip(columns.time.tolist(), columns.step.tolist(), columns.value, strict=True):
                    with contextlib.suppress(ValueError, RecursionError):
                        told = json.loads(str(text))
                        if isinstance(told, dict):
                            yield _Record(time, step, shard.attempt, told)


def _is_ours(shard: str) -> bool:
    return is_here(shard) and shard_of(shard)[2] == os.getpid()
