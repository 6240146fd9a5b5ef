"""Shards: which files hold the values of a run, and how is each of them opened?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allogger.errors import DamagedFile
from allogger.reader import Reader
from allogger.record import MAIN_PROCESS
from allogger.registry import readers
from allogger.rundir import EVENTS, IMAGE, INDEX, JOURNAL, load_json, shard_names

__all__ = ["ShardFile", "last_steps", "list_shards", "open_shard", "steps_in"]


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A shard by name, and the file that holds all of its values: its journal if there is one, else its HDF5 file."""

    name: str
    path: Path

    @property
    def is_live(self) -> bool:
        """Whether its process has not finished it: it runs, or was killed."""
        return self.path.suffix == JOURNAL


def list_shards(events: Path) -> list[ShardFile]:
    """Return the shards in the order of their start. A journal counts before an HDF5 file, which may be older."""
    journals = dict.fromkeys(shard_names(events, JOURNAL), JOURNAL)
    suffixes = dict.fromkeys(shard_names(events, IMAGE), IMAGE) | journals
    return [ShardFile(name, events / (name + suffix)) for name, suffix in sorted(suffixes.items())]


def open_shard(events: Path, name: str, attempts: int = 20) -> Reader:
    """Open the reader of a shard; raises `OSError` or `DamagedFile`.

    Between the look and the opening a live shard may be finished: then its journal is gone and its HDF5 file is there.
    """
    for attempt in range(attempts):
        for suffix, kind in ((JOURNAL, "journal"), (IMAGE, "hdf")):
            try:
                return readers[kind](events / (name + suffix))  # type: ignore[call-arg]  # every reader takes a path
            except FileNotFoundError:
                continue
        # On a network file system the new name can be late.
        time.sleep(0.01 * attempt)
    raise FileNotFoundError(f"neither {name + JOURNAL} nor {name + IMAGE} in {events}")


def last_steps(logdir: Path, process: str, attempt: str) -> dict[tuple[str, str], int]:
    """Return the last recorded step by ``(scope, key)`` of what *process* wrote in other attempts than *attempt*."""
    found: dict[tuple[str, str], int] = {}
    events = logdir / EVENTS
    for shard in list_shards(events):
        try:
            about, steps = _ends(events, shard)
        except (OSError, DamagedFile):
            continue  # what cannot be read cannot be continued; reading the run reports it
        if about.get("process", MAIN_PROCESS) == process and about.get("attempt") != attempt:
            found.update(steps)
    return found


def _ends(events: Path, shard: ShardFile) -> tuple[Mapping[str, Any], dict[tuple[str, str], int]]:
    if not shard.is_live:
        try:
            index = load_json(events / (shard.name + INDEX))
            return dict(index["about"]), {
                (str(entry["scope"]), str(entry["key"])): _checked(entry["last_step"]) for entry in index["series"]
            }
        except (LookupError, TypeError, ValueError):
            pass  # it is missing or damaged: the file itself has another
    reader = open_shard(events, shard.name)
    try:
        return reader.about, dict(steps_in(reader))
    finally:
        reader.close()


def steps_in(reader: Reader) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield ``(scope, key)`` and the last step of each series."""
    for series in reader.keys():  # noqa: SIM118  # no mapping
        # One that is damaged must not let the others begin anew.
        with contextlib.suppress(DamagedFile):
            step = reader.last_step(series)
            if step is not None:
                yield (series.scope, series.key), step


def _checked(step: Any) -> int:
    if type(step) is not int or not -(2**63) <= step < 2**63:
        raise ValueError(f"{step!r:.80} is no step")
    return step


def text_logs(logdir: Path) -> Iterator[Path]:
    """Yield the files of text messages of a run, in the order of their start."""
    for name in shard_names(logdir, ".log"):
        yield logdir / (name + ".log")
