"""Follower: what is logged into a run from now on?"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from allogger.attempts import may_run, names_of
from allogger.errors import DamagedFile
from allogger.merging import decoded
from allogger.opening import OpenShard
from allogger.reader import Columns, Reader, SeriesId, Tail, Value, objects, uniform
from allogger.record import full_key
from allogger.rundir import EVENTS, RUN_FILE, load_json
from allogger.shards import ShardFile, list_shards, open_shard

__all__ = ["Event", "Follower"]


class Event(NamedTuple):
    """One value as it comes: full key, step, Unix time, label of the process, and the value."""

    key: str
    step: int
    time: float
    process: str
    value: Any


@dataclass
class _Followed:
    """A shard, and what goes on in it; without a tail it is finished."""

    shard: OpenShard
    tail: Tail | None
    is_done: bool = False


class Follower:
    """Yields what comes into a run after what its *shards* have seen."""

    def __init__(self, logdir: Path, shards: Sequence[OpenShard]) -> None:
        self._logdir = logdir
        self._events = logdir / EVENTS
        self._followed = {shard.file.name: _followed(shard) for shard in shards}

    def events(
        self, wants: Callable[[str], bool], poll_seconds: float, until: Callable[[], bool] | None
    ) -> Iterator[Event]:
        """Yield events until the run is finished or *until* says so; see `Run.follow`."""
        while True:
            # Asked before the look: what a process writes last is there when it is gone.
            is_live = self._is_live()
            for shard, value in self._look():
                key = full_key(value.series.scope, value.series.key)
                if wants(key):
                    yield Event(key, value.step, value.time, shard.process, _shown(value))
            if not is_live or (until is not None and until()):
                return
            time.sleep(poll_seconds)

    def _is_live(self) -> bool:
        """Return whether any process may go on writing."""
        done = {name for name, one in self._followed.items() if one.is_done}
        open_ones = [file.name for file in list_shards(self._events) if file.is_live and file.name not in done]
        # Some have logged nothing yet.
        started = [name for name in names_of(load_json(self._logdir / RUN_FILE)) if name not in self._followed]
        return any(may_run(self._events, name) for name in [*open_ones, *started])

    def _unmet(self) -> list[ShardFile]:
        return [file for file in list_shards(self._events) if file.name not in self._followed]

    def _look(self) -> Iterator[tuple[OpenShard, Value]]:
        for file in self._unmet():
            try:
                reader = open_shard(self._events, file.name)
            except (OSError, DamagedFile):
                continue  # cleared, or to be tried again
            one = self._followed[file.name] = _followed(OpenShard.of(file, reader))
            yield from ((one.shard, value) for value in _behind(reader, Counter()))
            reader.close()
        for one in self._followed.values():
            yield from ((one.shard, value) for value in self._new(one))

    def _new(self, one: _Followed) -> Iterator[Value]:
        if one.is_done or one.tail is None:
            return
        try:
            yield from one.tail.take()
            one.is_done = one.tail.is_closed
        except FileNotFoundError:
            # Its process has finished it since the last look.
            try:
                reader = open_shard(self._events, one.shard.file.name)
            except OSError:
                one.is_done = True  # the run was removed
                return
            yield from _behind(reader, one.tail.counts)
            one.is_done = True
            reader.close()


def _followed(shard: OpenShard) -> _Followed:
    tail = shard.reader.tail()
    return _Followed(shard, tail, tail is None or tail.is_closed)


def _behind(reader: Reader, counts: Counter[SeriesId]) -> list[Value]:
    """Return what a file holds of each series behind the values counted, by time."""
    found: list[Value] = []
    for series in reader.keys():  # noqa: SIM118  # no mapping
        try:
            columns = reader.part(series, slice(counts[series], None))
        except DamagedFile:
            continue  # whoever reads the run is told
        for row, value in enumerate(_items(columns)):
            step, moment = int(columns.step[row]), float(columns.time[row])
            found.append(Value(series, step, moment, value, columns.attrs.get(row, {})))
    return sorted(found, key=lambda value: value.time)


def _items(columns: Columns) -> list[Any]:
    value = columns.value
    return value.tolist() if value.ndim == 1 and value.dtype.kind in "biufc" else list(objects(value))


def _shown(value: Value) -> Any:
    if value.series.kind == "scalar":
        return value.value.item() if isinstance(value.value, np.ndarray) else value.value
    one = Columns(np.array([value.step]), np.array([value.time]), uniform([value.value]), {0: value.attrs})
    return decoded(value.series.kind, one).value[0]
