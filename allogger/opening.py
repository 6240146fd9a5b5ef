"""Opening: which shards does a run have, and what does each of them say about itself?"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from allogger.errors import DamagedFile
from allogger.indexed import IndexedReader
from allogger.reader import Columns, Reader, SeriesId, pieces
from allogger.record import MAIN_PROCESS
from allogger.rundir import EVENTS, IMAGE, is_here, is_live, shard_name_of, shard_of
from allogger.shards import ShardFile, last_steps, list_shards, open_shard, steps_in

if TYPE_CHECKING:
    from allogger.foreign import OpenForeign

__all__ = [
    "OpenShard",
    "ends_of",
    "open_foreign",
    "open_others",
    "open_shards",
    "recorded_steps",
    "start_of",
    "tell_damage",
]

T = TypeVar("T")


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
            _time_of(about.get("start"), start_of(file.name, 0.0)),
            _time_of(about.get("end"), np.inf if runs else -np.inf),
        )

    def read(self, series: SeriesId) -> Columns:
        """Return all values of a series; raises `DamagedFile` if there is nothing left of them."""
        return self.ask(lambda reader: reader.read(series))

    def ask(self, question: Callable[[Reader], T]) -> T:
        """Return what the reader answers; raises `DamagedFile` if its file is gone."""
        try:
            return question(self.reader)
        except FileNotFoundError:
            # Its process has finished it since, and removed the journal.
            self.reader = self._reopened()
            return question(self.reader)
        finally:
            if not self.stays_open:
                self.reader.close()

    def _reopened(self) -> Reader:
        try:
            return open_shard(self.file.path.parent, self.file.name)
        except OSError as error:
            raise DamagedFile(f"{self.file.path} cannot be read any more: {error}") from error

    def portions(self, series: SeriesId, rows: int) -> Iterator[Columns]:
        """Yield all values of a series, about *rows* at once; raises like `read`."""
        if not self.stays_open:
            # Its file is closed behind each piece of work, of which this would be many.
            yield from pieces(self.read(series), rows)
            return
        try:
            yield from self.reader.portions(series, rows)
        except FileNotFoundError:
            # A journal is found gone before it gives anything.
            yield from pieces(self.read(series), rows)

    @property
    def is_running(self) -> bool:
        """Whether its process may still write to it."""
        path, name = self.file.path, self.file.name
        if path.suffix == IMAGE or "end" in self.reader.about or shard_name_of(name + IMAGE, IMAGE) is None:
            return False
        return is_live(path.parent, name)

    @property
    def is_finished(self) -> bool:
        """Whether its process, or a repair, has finished it."""
        return not self.file.is_live or "end" in self.reader.about

    @property
    def damage(self) -> list[str]:
        """One sentence for each damaged place, beginning with the path."""
        path = str(self.file.path)
        # What was lost of a journal before `repair` made this file of it.
        lost = self.reader.about.get("damage")
        found = [*self.reader.damage, *(map(str, lost) if isinstance(lost, list) else ())]
        return [what if what.startswith(path) else f"{path}: {what}" for what in found]


def open_shards(events: Path) -> tuple[list[OpenShard], list[str]]:
    """Open every shard in *events*; what cannot be read is left out and told in the second list."""
    # More would leave the program none of the files that it may have open.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limit = most // 4 if most != resource.RLIM_INFINITY else sys.maxsize
    shards: list[OpenShard] = []
    unreadable = []
    for file in list_shards(events):
        try:
            shard = OpenShard.of(file, _reader_of(file))
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


def open_others(events: Path, shards: Sequence[OpenShard]) -> list[OpenShard]:
    """Open what the outputs ``csv`` and ``tensorboard`` hold of a run beside its *shards*."""
    if not _has_others(events):
        return []
    from allogger.foreign import other_outputs

    return [_foreign(one) for one in other_outputs(events, {shard.file.name for shard in shards})]


def recorded_steps(logdir: Path, process: str, attempt: str) -> dict[tuple[str, str], int]:
    """Return the last recorded step by ``(scope, key)`` of what *process* logged in other attempts than *attempt*.

    Of shards that have neither a journal nor an HDF5 file, it is read from what ``csv`` and ``tensorboard`` have.
    """
    found: dict[tuple[str, str], int] = {}
    events = logdir / EVENTS
    if _has_others(events):
        from allogger.foreign import other_outputs

        for one in other_outputs(events, {shard.name for shard in list_shards(events)}):
            # What cannot be read cannot be continued; reading the run reports it.
            with contextlib.suppress(OSError, DamagedFile), contextlib.closing(one.reader) as reader:
                if one.process == process and reader.about.get("attempt") != attempt:
                    found.update(steps_in(reader))
    return found | last_steps(logdir, process, attempt)


def open_foreign(path: Path) -> list[OpenShard]:
    """Open what other systems have written at *path*; raises `OSError` or `DamagedFile` for a file that is unreadable.

    Raises `ConfigError` for a folder of far too many files.
    """
    from allogger.foreign import foreign_shards

    return [_foreign(one) for one in foreign_shards(path) or []]


def _foreign(one: OpenForeign) -> OpenShard:
    return OpenShard.of(ShardFile(one.name, one.path), one.reader)


def _has_others(events: Path) -> bool:
    try:
        with os.scandir(events) as entries:
            return any(entry.name.endswith(".csv") or entry.is_dir(follow_symlinks=False) for entry in entries)
    except OSError:
        return False


def _reader_of(file: ShardFile) -> Reader:
    if not file.is_live:
        # A missing or damaged index is no damage: the file itself has another.
        with contextlib.suppress(OSError, ValueError):
            return IndexedReader(file.path)
    return open_shard(file.path.parent, file.name)


def tell_damage(damage: Sequence[str], told: set[str]) -> None:
    """Say, in one message of the standard `logging`, what is not in *told* yet."""
    new = [what for what in damage if what not in told]
    told.update(new)
    if new:
        more = f"; and {len(new) - 1} more places" if len(new) > 1 else ""
        logging.getLogger("allogger").warning("damaged, only what is left is shown: %s%s", new[0], more)


def _time_of(told: Any, otherwise: float) -> float:
    return told if isinstance(told, float) and np.isfinite(told) else otherwise


def start_of(name: str, otherwise: float) -> float:
    """Return when the shard or attempt of that name began (Unix seconds), *otherwise* if the name does not say it."""
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
