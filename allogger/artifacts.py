"""Artifacts: which files does a run hold, are they as they were logged, and what is in them?

A record may be written by anybody, so what it says is checked: of paths only those count that allogger itself chooses,
and what a list of a folder names stays in the folder that it is copied to.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from allogger.errors import ConfigError, DamagedFile
from allogger.files import FOLDER, digest_of
from allogger.kind import STATES, FileKind
from allogger.merging import Attempts, Part, parts_of
from allogger.opening import OpenShard, ends_of, open_others, open_shards
from allogger.reader import SeriesId
from allogger.record import full_key
from allogger.registry import kinds
from allogger.rundir import EVENTS, is_stored_path, stored_files
from allogger.states import As, read_state

__all__ = ["Artifact", "artifacts_of", "file_findings", "is_file_kind"]

_MAX_LISTING_BYTES = 256 * 2**20
_Found = Sequence[tuple[OpenShard, SeriesId]]


@dataclass(frozen=True)
class Artifact:
    """A file, folder or state that was logged under a full key; *time* and *mtime* of its original in Unix seconds.

    *path* is where it lies; of a folder, where a list of its contents does. *files* counts these. *aliases* of a
    checkpoint are ``"latest"`` and ``"best"``, the best by *metric*. ``is_removed`` says that the program itself has
    removed a checkpoint, because newer or better ones took its place.
    """

    key: str
    step: int
    time: float
    process: str
    kind: str
    name: str
    size: int
    sha256: str
    media_type: str
    path: Path
    mtime: float | None = None
    files: int | None = None
    metric: float | None = None
    aliases: tuple[str, ...] = ()
    is_removed: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, not a file."""
        return self.media_type == FOLDER

    def verify(self) -> list[str]:
        """Read all of it again; return a sentence for each thing that is not as it was logged."""
        if self.is_removed:
            return []
        found = _damage(self.path, None if self.is_folder else self.size, self.sha256)
        if not found and self.is_folder:
            try:
                listing = self._listing()
            except DamagedFile as error:
                return [str(error)]
            found = [what for one in listing.files.values() for what in _damage(one.path, one.size, one.sha256)]
        return found

    def members(self) -> list[Path]:
        """Return where the files of a folder lie; nothing for a file, and for a list that is damaged."""
        with contextlib.suppress(DamagedFile):
            return [one.path for one in self._listing().files.values()] if self.is_folder else []
        return []

    def load(self, as_: As = "numpy") -> Any:
        """Return the state of a model or checkpoint, see `allogger.states.read_state`.

        Raises `DamagedFile` if the file is gone or not as it was logged, `ConfigError` if it is no state.
        """
        if self.kind not in STATES:
            raise ConfigError(f"{self.key!r} holds files of the kind {self.kind!r}; copy_to() copies them")
        self._check()
        return read_state(self.path, as_)

    def copy_to(self, folder: str | os.PathLike[str]) -> Path:
        """Copy it into *folder* under its own name, and return the path; raises `FileExistsError`, `DamagedFile`."""
        self._check()
        target = Path(folder) / _own_name(self.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.is_folder:
            self._copy_folder(target)
        else:
            _copy(self.path, target)
            if self.mtime is not None:
                with contextlib.suppress(OverflowError, ValueError):  # a record may say anything
                    os.utime(target, (self.mtime, self.mtime))
        return target

    def _check(self) -> None:
        if self.is_removed:
            raise DamagedFile(f"{self.path} was removed by the program, because newer or better ones took its place")
        for what in self.verify():
            raise DamagedFile(what)

    def _copy_folder(self, target: Path) -> None:
        listing = self._listing()
        target.mkdir()
        try:
            for place in listing.folders:
                (target / place).mkdir(parents=True, exist_ok=True)
            for place, stored in listing.files.items():
                (target / place).parent.mkdir(parents=True, exist_ok=True)
                _copy(stored.path, target / place)
            # Last, so that nothing is ever written through one of them; and what one leads to depends on the others.
            for place, to in listing.links.items():
                (target / place).symlink_to(to)
            for place in listing.links:
                if not Path(os.path.realpath(target / place)).is_relative_to(os.path.realpath(target)):
                    raise DamagedFile(f"the link {place!r} in {self.path} leads out of its folder")
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise

    def _listing(self) -> _Listing:
        logdir = self.path.parents[3]
        try:
            with _opened(self.path) as file:
                raw = file.read(_MAX_LISTING_BYTES + 1)
            if len(raw) > _MAX_LISTING_BYTES:
                raise ValueError("it is too long")
            told = json.loads(raw)
            return _Listing(
                {_inside(place): _listed(logdir, one) for place, one in told["files"].items()},
                [_inside(place) for place in told["folders"]],
                {_inside(place): _path(to) for place, to in told["links"].items()},
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedFile(f"{self.path} is no list of a folder: {error!r:.200}") from None


class _File(NamedTuple):
    path: Path
    size: int
    sha256: str


class _Listing(NamedTuple):
    """What is in a folder, by its place there."""

    files: Mapping[str, _File]
    folders: Sequence[str]
    links: Mapping[str, str]


def _inside(place: str) -> str:
    """Return *place*; raises `ValueError` if it is not below the folder."""
    if any(part in ("", ".", "..") for part in _path(place).split("/")):
        raise ValueError(f"{place!r:.80} is no place in a folder")
    return place


def _path(text: str) -> str:
    """Return *text*; raises `ValueError` or `TypeError` if it is no path."""
    if b"\0" in os.fsencode(text) or not text:
        raise ValueError(f"{text!r:.80} is no path")
    return text


def _listed(logdir: Path, told: Mapping[str, Any]) -> _File:
    path, size, sha256 = told["path"], told["size"], told["sha256"]
    if not (is_stored_path(path) and type(size) is int and isinstance(sha256, str)):
        raise ValueError(f"{told!r:.80} is no file of a run")
    return _File(logdir / path, size, sha256)


def _own_name(name: str) -> str:
    """Return the name of the original, unless it would lead elsewhere or no file can have it."""
    plain = name.replace("/", "_").replace("\0", "_")
    try:
        return plain if plain not in ("", ".", "..") and len(os.fsencode(plain)) <= 255 else "artifact"
    except UnicodeEncodeError:
        return "artifact"


def _opened(path: Path) -> Any:
    """Open a stored file; raises `OSError` or `DamagedFile` for a link, a pipe and the like."""
    if any(folder.is_symlink() for folder in path.parents[:3]):
        raise DamagedFile(f"{path} lies behind a symbolic link, which is not followed")
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise DamagedFile(f"{path} is no ordinary file")
    return os.fdopen(fd, "rb")


def _copy(path: Path, target: Path) -> None:
    try:
        source = _opened(path)
    except OSError as error:
        raise DamagedFile(f"{path} cannot be read: {error}") from error
    with source, open(target, "xb") as file:
        try:
            shutil.copyfileobj(source, file, 2**20)
        except BaseException:
            target.unlink()
            raise


def _damage(path: Path, size: int | None, sha256: str) -> list[str]:
    """Return a sentence if a file does not hold what it did."""
    try:
        with _opened(path) as file:
            found, digest = digest_of(file)
    except FileNotFoundError:
        return [f"{path} is gone"]
    except (OSError, DamagedFile) as error:
        return [f"{path} cannot be read: {error}"]
    if size is not None and found != size:
        return [f"{path} has {found} bytes, not {size}"]
    return [] if digest == sha256 else [f"{path} holds something else than was logged"]


# -------------------------------------------------------------------------------------------------------------- records


def is_file_kind(kind: str) -> bool:
    """Return whether values of a kind are files of the run."""
    try:
        return issubclass(kinds[kind], FileKind)
    except Exception:
        return False  # it is not installed, or broken


class _Row(NamedTuple):
    """What a record *told*: of which *file*, None if it makes no sense, and which others it replaces."""

    file: Artifact | None
    told: Mapping[str, Any]

    @property
    def replaces(self) -> list[str]:
        """The paths of those that the program was about to remove."""
        paths = self.told.get("replaces")
        return [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []


def artifacts_of(
    logdir: Path, key: str, found: _Found, attempts: Attempts, ends: Mapping[str, float]
) -> tuple[list[Artifact], list[str]]:
    """Return the files of a key in the order of their time, and a sentence for each record that makes no sense."""
    rows = _rows(logdir, key, parts_of(found, attempts, ends))
    # Whatever is shown, a later attempt may have removed it.
    everything = rows if attempts == "all" else _rows(logdir, key, parts_of(found, "all", ends))
    replaced = {logdir / path for row in everything for path in row.replaces}
    problems = [f"a record of {key!r} makes no sense: {row.told!r:.100}" for row in rows if row.file is None]
    files = sorted(
        (
            (replace(row.file, is_removed=row.file.path in replaced and not _is_there(row.file)), row.told)
            for row in rows
            if row.file is not None
        ),
        key=lambda found: found[0].time,
    )
    return _with_aliases([file for file, _ in files], [told.get("mode") == "max" for _, told in files]), problems


def _with_aliases(files: Sequence[Artifact], is_max: Sequence[bool]) -> list[Artifact]:
    """Return them with the aliases of the checkpoints that are there; what is best, the last one with a metric says."""
    there = [n for n, one in enumerate(files) if one.kind == "checkpoint" and _is_there(one)]
    measured = [n for n in there if files[n].metric is not None]
    latest = there[-1] if there else None
    sign = -1 if measured and is_max[measured[-1]] else 1
    best = min(measured, key=lambda n: sign * (files[n].metric or 0.0), default=None)
    return [replace(one, aliases=("latest",) * (n == latest) + ("best",) * (n == best)) for n, one in enumerate(files)]


def _is_there(one: Artifact) -> bool:
    return one.path.is_file() and not one.path.is_symlink()


def _rows(logdir: Path, key: str, parts: Sequence[Part]) -> list[_Row]:
    return [_row(logdir, key, part, number) for part in parts for number in range(len(part.columns))]


def _row(logdir: Path, key: str, part: Part, number: int) -> _Row:
    columns = part.columns
    step, time, told = int(columns.step[number]), float(columns.time[number]), columns.value[number]
    if not isinstance(told, Mapping):
        return _Row(None, {"text": told})
    of = {name: told.get(name) for name in _TYPES}
    path = told.get("path")
    is_known = all(isinstance(of[name], types) and type(of[name]) is not bool for name, types in _TYPES.items())
    if not (is_known and isinstance(path, str) and is_stored_path(path)):
        return _Row(None, told)
    about: Any = {**of, "path": logdir / path}
    return _Row(Artifact(key, step, time, part.process, part.kind, **about), told)


_OPTIONAL = (int, float, type(None))
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("name", "sha256", "media_type"), str),
    "size": int,
    **dict.fromkeys(("mtime", "files", "metric"), _OPTIONAL),
}


def file_findings(logdir: Path) -> tuple[list[str], list[str]]:
    """Return a sentence for each file of a run that is gone or not as it was logged, and each record without sense.

    The second list names the files of which no record tells: their process was killed before it wrote that, or the
    record is lost.
    """
    shards, _ = open_shards(logdir / EVENTS)
    shards += open_others(logdir / EVENTS, shards)
    by_key: dict[str, list[tuple[OpenShard, SeriesId]]] = {}
    for shard in shards:
        for series in shard.reader.keys():  # noqa: SIM118  # no mapping
            if is_file_kind(series.kind):
                by_key.setdefault(full_key(series.scope, series.key), []).append((shard, series))
    damage: list[str] = []
    known: dict[Path, set[str]] = {}
    for key, found in sorted(by_key.items()):
        try:
            files, problems = artifacts_of(logdir, key, found, "all", ends_of(shards))
        except DamagedFile:
            continue  # which the shard itself tells
        damage += problems
        for one in files:
            if one.sha256 not in known.setdefault(one.path, set()):
                known[one.path].add(one.sha256)
                damage += one.verify()
                known.update((path, set()) for path in one.members() if path not in known)
    # What a process that runs has just stored will be recorded in a moment.
    is_live = any(shard.is_running for shard in shards)
    names = [] if is_live else [Path(entry.path) for entry in stored_files(logdir) if entry.is_file()]
    lost = [path for path in names if path not in known and not path.is_symlink() and not path.name.startswith(".")]
    return damage, [f"{path.relative_to(logdir)} is in no record" for path in lost]
