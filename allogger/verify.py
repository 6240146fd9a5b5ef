"""Verify: what is there of a run, and what of it is damaged?"""

from __future__ import annotations

import dataclasses
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allogger.artifacts import file_findings
from allogger.checker import Checker, FileCheck
from allogger.errors import AlloggerError, NotARun
from allogger.names import MAIN_PROCESS, printable
from allogger.registry import checkers
from allogger.rundir import (
    ARTIFACTS,
    EVENTS,
    IMAGE,
    INDEX,
    JOURNAL,
    RUN_FILE,
    is_live,
    load_json,
    shard_name_of,
    temporary_pid,
)

__all__ = ["ShardCheck", "Verification", "events_of", "files_by_shard", "leftovers", "verify"]

# What `repair` calls files that it keeps.
_SET_ASIDE = (".journal.damaged", ".h5.snapshot")
# How often to look again at a shard that its process finishes meanwhile.
_LOOKS = 5
# The file of a shard that counts is the first that it has.
_MAIN = ("journal", "hdf", "csv", "tensorboard")
_SHOWN = 20


@dataclass
class ShardCheck:
    """What one process wrote, and how it is.

    *state* is ``live`` while the process may still write, ``killed`` if it left a journal behind, else ``finished``.
    """

    name: str
    state: str
    files: list[FileCheck] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    @property
    def main(self) -> FileCheck | None:
        """The file that counts: the journal if there is one, else the HDF5 file, else one of the others."""
        return min(self.files, key=lambda file: _MAIN.index(file.kind) if file.kind in _MAIN else 9, default=None)

    @property
    def process(self) -> str:
        """The label of the process."""
        return self._told("process") or MAIN_PROCESS

    @property
    def attempt(self) -> str:
        """The start of the program that the process belongs to."""
        return self._told("attempt") or self.name

    def _told(self, what: str) -> str:
        told = self.main.about.get(what) if self.main else None
        return told if isinstance(told, str) else ""

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        files = [dataclasses.asdict(dataclasses.replace(file, about={})) for file in self.files]
        for file in files:
            del file["about"]
        return {
            "name": self.name,
            "process": self.process,
            "attempt": self.attempt,
            "state": self.state,
            "series": self.main.series if self.main else 0,
            "values": self.main.values if self.main else 0,
            "damage": self.damage,
            "files": files,
        }


@dataclass
class Verification:
    """What `verify` has found under *logdir*."""

    logdir: Path
    shards: list[ShardCheck] = field(default_factory=list)
    #: What is damaged besides the files of the shards.
    other_damage: list[str] = field(default_factory=list)
    #: What is no damage and perhaps not expected.
    other_notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged. What a killed process left behind is whole, and so is a live run."""
        return not self.damage

    @property
    def damage(self) -> list[str]:
        """One sentence for each damaged place, with the file that it is in."""
        of_files = [f"{file.name}: {what}" for shard in self.shards for file in shard.files for what in file.damage]
        return [*of_files, *(what for shard in self.shards for what in shard.damage), *self.other_damage]

    @property
    def notes(self) -> list[str]:
        """One sentence for everything else that is worth telling."""
        found = []
        for file in (file for shard in self.shards for file in shard.files):
            if file.torn_bytes:
                found.append(f"{file.name}: the last {file.torn_bytes} bytes are not complete")
            found += [f"{file.name}: {what}" for what in file.notes]
        return [*found, *self.other_notes]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "logdir": str(self.logdir),
            "ok": self.ok,
            "damage": self.damage,
            "notes": self.notes,
            "shards": [shard.as_dict() for shard in self.shards],
        }

    def __str__(self) -> str:
        damage = f"{len(self.damage)} damaged places" if self.damage else "nothing is damaged"
        lines = [f"{self.logdir}: {len(self.shards)} shards, {damage}"]
        for shard in self.shards:
            values = f"{shard.main.values:,} values of {shard.main.series:,} series" if shard.main else "nothing"
            kinds = ", ".join(dict.fromkeys(file.kind for file in shard.files))
            lines.append(f"  {shard.name}  {shard.process}  {shard.state}  {values}  ({kinds})")
        for title, sentences in (("damage", self.damage), ("notes", self.notes)):
            lines += [f"{title}:"] * bool(sentences) + [f"  {what}" for what in sentences[:_SHOWN]]
            if len(sentences) > _SHOWN:
                lines.append(f"  and {len(sentences) - _SHOWN} more")
        return "\n".join(map(printable, lines))


def verify(logdir: str | os.PathLike[str]) -> Verification:
    """Read everything that is under *logdir*, compare all checksums, and return what is there and what is damaged.

    Damage raises nothing, and what a killed process was just writing is no damage. May be called while the run goes on.
    Memory stays bounded: it holds one series of an HDF5 file at a time. Raises `NotARun` if there is no run.
    """
    run = Path(logdir)
    events = events_of(run)
    found = Verification(run)
    for name, files in files_by_shard(events).items():
        found.shards += _shard_check(events, name, files)
    damage, notes = file_findings(run)
    found.other_damage += damage
    found.other_notes += notes
    about = run / RUN_FILE
    if about.is_file() and not load_json(about):
        found.other_damage.append(f"{RUN_FILE} cannot be read")
    for name in sorted(path.name for path in _entries(events)):
        shard = shard_name_of(name, INDEX)
        if shard is not None and not any((events / (shard + other)).exists() for other in (IMAGE, JOURNAL)):
            found.other_damage.append(f"{name} is there, its HDF5 file is not")
        if name.endswith(_SET_ASIDE):
            found.other_notes.append(f"{name} was set aside by repair")
    found.other_notes += [f"{path.name} is the leftover of a write that was cut short" for path in leftovers(run)]
    return found


def events_of(run: Path) -> Path:
    """Return the folder of the shards of a run; raises `NotARun`."""
    events = run / EVENTS
    if not (events.is_dir() or (run / RUN_FILE).is_file()):
        raise NotARun(f"{str(run)!r} is no run: it has neither {EVENTS}/ nor {RUN_FILE}")
    return events


def files_by_shard(events: Path) -> dict[str, list[Checker]]:
    """Return by the name of the shard, in the order of their start, all files that somebody looks after."""
    found: dict[str, list[Checker]] = {}
    classes = list(_classes())
    for path in _files(events):
        for cls in classes:
            name = cls.shard_name(path)
            if name is not None:
                found.setdefault(name, []).append(cls(path))
    return dict(sorted(found.items()))


def leftovers(run: Path) -> list[Path]:
    """Return the temporary files of allogger's that are there now; one may be in use."""
    entries = [*_entries(run), *_entries(run / EVENTS)]
    found = [entry for entry in entries if entry.is_file(follow_symlinks=False)]
    # Here it may also be a link to a checkpoint; but what is behind a link belongs to somebody else.
    if not (run / ARTIFACTS).is_symlink():
        found += [entry for entry in _entries(run / ARTIFACTS) if not entry.is_dir(follow_symlinks=False)]
    return [Path(entry.path) for entry in found if temporary_pid(entry.name) is not None]


def _classes() -> Iterator[type[Checker]]:
    for name in checkers.names():
        try:
            yield checkers[name]
        except AlloggerError as error:
            warnings.warn(f"allogger skips the checker {name!r}: {error}", RuntimeWarning, stacklevel=4)


def _files(events: Path) -> Iterator[Path]:
    """Yield all that is in a folder and in the folders in it; links to folders are not followed."""
    for entry in _entries(events):
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from (Path(inner.path) for inner in _entries(Path(entry.path)))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []  # it was removed meanwhile, or is not ours to read


def _shard_check(events: Path, name: str, files: list[Checker]) -> list[ShardCheck]:
    """Return what is known of a shard; nothing if it was removed meanwhile."""
    for _ in range(_LOOKS):
        # Before its files are read, because a process that ends meanwhile finishes them.
        runs = is_live(events, name)
        kinds = {file.kind for file in files}
        try:
            return [ShardCheck(name, _state(kinds, runs), [_file_check(file) for file in files])] if files else []
        except FileNotFoundError:
            files = files_by_shard(events).get(name, [])
    return [ShardCheck(name, "live", damage=[f"{name} changes faster than it can be read"])]


def _state(kinds: set[str], runs: bool) -> str:
    if "journal" in kinds:
        return "live" if runs else "killed"
    # A process that has closed its run may well go on.
    return "live" if runs and "hdf" not in kinds else "finished"


def _file_check(checker: Checker) -> FileCheck:
    name = checker.path.name
    info = os.stat(checker.path)
    if not stat.S_ISREG(info.st_mode):
        return FileCheck(name, checker.kind, damage=["this is no regular file"])
    try:
        found = checker.check()
    except FileNotFoundError:
        raise
    except Exception as error:
        # A file that anybody may have written can fail in any way, and must not hide the others.
        return FileCheck(name, checker.kind, info.st_size, damage=[f"it cannot be read: {error!r}"])
    if checker.path.is_symlink():
        found.notes.append(f"a symbolic link to {os.readlink(checker.path)}")
    return found
