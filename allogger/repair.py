"""Repair: how does a run become whole again after its processes were killed?"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allogger.checker import Checker
from allogger.names import printable
from allogger.rundir import is_here, is_live, is_running, temporary_pid
from allogger.verify import events_of, files_by_shard, leftovers

__all__ = ["Repair", "repair"]

# A process of another host that has written nothing for so long may still be computing; only its user can know.
_QUIET_SECONDS = 3600.0
# A temporary file that is in use changes all the time.
_LEFTOVER_SECONDS = 600.0


@dataclass
class Repair:
    """What `repair` has done under *logdir*, or, with *dry_run*, would do: a sentence for everything."""

    logdir: Path
    dry_run: bool
    done: list[str] = field(default_factory=list)
    #: What was left alone, and why.
    skipped: list[str] = field(default_factory=list)
    #: What could not be done; nothing was lost.
    failed: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "logdir": str(self.logdir),
            "dry_run": self.dry_run,
            "ok": self.ok,
            "done": self.done,
            "skipped": self.skipped,
            "failed": self.failed,
        }

    def __str__(self) -> str:
        lines = [str(self.logdir) if self.done or self.failed else f"{self.logdir}: nothing to repair"]
        done = "would be done" if self.dry_run else "done"
        for title, sentences in ((done, self.done), ("skipped", self.skipped), ("failed", self.failed)):
            lines += [f"{title}:"] * bool(sentences) + [f"  {what}" for what in sentences]
        return "\n".join(map(printable, lines))


def repair(logdir: str | os.PathLike[str], *, dry_run: bool = False, other_hosts: bool = False) -> Repair:
    """Finish what killed processes left behind under *logdir*; everything reads back as before.

    A journal becomes an HDF5 file and is removed when every value in it has been compared; one that is damaged is kept
    under another name. A torn last row of a CSV file is cut off, a missing index is written, leftover temporary files
    are removed. Whatever ends a repair, the run is readable; a second one goes on, and finds nothing to do when the
    first was complete.

    What belongs to a process that may be alive is left alone. Of processes on other hosts nobody here knows that: with
    *other_hosts* you say that none of them is, and what was not written to for an hour is repaired too. With *dry_run*
    nothing is touched. Raises `NotARun` if there is no run; all other troubles are told in the result.
    """
    run = Path(logdir)
    events = events_of(run)
    found = Repair(run, dry_run)
    if events.is_symlink():
        found.skipped.append(f"{events} is a symbolic link, which is not followed")
        return found
    spared = set()
    for name, files in files_by_shard(events).items():
        why = _reason_to_spare(events, name, files, other_hosts)
        if why is None:
            _repair_shard(files, found)
            continue
        spared.add(name)
        if any(file.kind == "journal" for file in files):
            found.skipped.append(f"{name}: {why}")
    for path in leftovers(run):
        if not path.name.startswith(tuple(f".{name}." for name in spared)):
            _remove_leftover(path, found)
    return found


def _reason_to_spare(events: Path, name: str, files: list[Checker], other_hosts: bool) -> str | None:
    """Return why the files of a shard have to be left alone, None if its process is gone."""
    if is_here(name):
        return "its process is running" if is_live(events, name) else None
    if all(file.kind == "hdf" for file in files):
        return None  # finished, by whomever
    if not other_hosts:
        return "it is of another host, where its process may be running; other_hosts=True repairs it"
    newest = max((_changed(file.path) for file in files), default=0.0)
    return None if time.time() - newest > _QUIET_SECONDS else "it was written to within the last hour"


def _changed(path: Path) -> float:
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return 0.0


def _repair_shard(files: list[Checker], found: Repair) -> None:
    # The journal first: what it becomes has an index.
    for file in sorted(files, key=lambda file: file.kind != "journal"):
        try:
            # A link is not followed, and a pipe would keep us waiting for its other end.
            if not stat.S_ISREG(os.lstat(file.path).st_mode):
                found.skipped.append(f"{file.path.name} is a link, or no file at all")
                continue
            found.done += file.mend(dry_run=found.dry_run)
        except FileNotFoundError:
            continue  # somebody else has repaired it
        except Exception as error:
            # Whatever one file holds must not keep the others from being repaired.
            found.failed.append(f"{file.path.name}: {error!r}")


def _remove_leftover(path: Path, found: Repair) -> None:
    try:
        changed = os.lstat(path).st_mtime
        pid = temporary_pid(path.name)
        if time.time() - changed < _LEFTOVER_SECONDS or (pid is not None and is_running(pid, changed)):
            return
        if not found.dry_run:
            path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        found.failed.append(f"{path.name}: {error}")
    else:
        found.done.append(f"{path.name} removed: the leftover of a write that was cut short")
