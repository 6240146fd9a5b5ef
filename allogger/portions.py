"""Portions: how are the values of a key read one piece after the other, without all of them in memory?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from allogger.errors import DamagedFile
from allogger.merging import Attempts, Part, are_interleaved, decoded, merged, parts_of, shortened, starts_of
from allogger.opening import OpenShard
from allogger.reader import Columns, SeriesId
from allogger.series import Series

__all__ = ["portions_of"]

_Found = Sequence[tuple[OpenShard, SeriesId]]
# Of each of many processes so many values are in memory at least, or reading takes forever.
_LEAST_ROWS = 1024
_SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")


def portions_of(
    key: str, found: _Found, attempts: Attempts, ends: Mapping[str, float], rows: int, began: float = np.nan
) -> Iterator[Series]:
    """Yield what `parts_of` and `merged` make of a key, about *rows* values at once.

    Values of processes side by side are merged as they are read. Only if those of one process do not lie in the order
    of their steps, all are in memory at once. Raises `DamagedFile` if nothing can be read.
    """
    sources = _sources(found, attempts, ends)
    if not are_interleaved([source.head for source in sources]):
        for source in sources:
            yield from (merged(key, [part], began) for part in source.parts(rows))
        return
    rows = max(rows // len(sources), min(_LEAST_ROWS, rows))
    if all(_is_sorted(source, rows) for source in sources):
        yield from _side_by_side(key, [source.parts(rows) for source in sources], began)
        return
    whole = merged(key, parts_of(found, attempts, ends), began)
    for start in range(0, len(whole), rows):
        yield whole[start : start + rows]


@dataclass(frozen=True)
class _Source:
    """What a shard holds of the key: *head* has its first value, *rivals* are the heads that may replace some of it."""

    shard: OpenShard
    series: SeriesId
    head: Part
    rivals: Sequence[Part]

    def parts(self, rows: int) -> Iterator[Part]:
        """Yield all values that count, about *rows* at once."""
        for columns in self.shard.portions(self.series, rows):
            part = shortened(replace(self.head, columns=decoded(self.series.kind, columns)), self.rivals)
            if len(part.columns):
                yield part


def _sources(found: _Found, attempts: Attempts, ends: Mapping[str, float]) -> list[_Source]:
    """Return the shards that have a value of the key."""
    starts = starts_of(found)
    heads = []
    damage: DamagedFile | None = None
    for shard, series in found:
        try:
            first = next(shard.portions(series, 1), None)
        except DamagedFile as error:
            damage = error
            continue
        if first is not None:
            started, ended = starts[shard.attempt], ends.get(shard.attempt, shard.start)
            part = Part(series.kind, first, shard.process, shard.attempt, started, ended, shard.start)
            heads.append((shard, series, part))
    if damage is not None and not heads:
        raise damage
    return [
        _Source(*its, [part for *_, part in heads if attempts == "last" and part.process == its[2].process])
        for its in heads
    ]


def _is_sorted(source: _Source, rows: int) -> bool:
    """Return whether the values of a shard lie in the order of their steps, and of their times at one step."""
    step, time = np.empty(0, np.int64), np.empty(0)
    for part in source.parts(rows):
        step = np.concatenate([step[-1:], part.columns.step])
        time = np.concatenate([time[-1:], part.columns.time])
        if not ((step[1:] > step[:-1]) | ((step[1:] == step[:-1]) & (time[1:] >= time[:-1]))).all():
            return False
    return True


def _side_by_side(key: str, streams: Sequence[Iterator[Part]], began: float) -> Iterator[Series]:
    """Yield the values of several sorted streams in the order of step and time; at the same, the first stream's first.

    What lies before the end of everything that has been read of each stream is complete.
    """
    waiting = {n: part for n, stream in enumerate(streams) if (part := next(stream, None)) is not None}
    while waiting:
        ends = ((part.columns.step[-1], part.columns.time[-1], n) for n, part in waiting.items())
        step, time, shortest = min(ends)
        ready = []
        for n, part in list(waiting.items()):
            # More values of that very step and time may follow in the shortest stream, before those of later streams.
            side: Literal["left", "right"] = "right" if n <= shortest else "left"
            count = _rows_before(part.columns, step, time, side)
            ready.append(_rows(part, 0, count))
            waiting[n] = _rows(part, count, len(part.columns))
        following = next(streams[shortest], None)
        if following is None:
            del waiting[shortest]
        else:
            waiting[shortest] = following
        series = merged(key, ready, began)
        yield series[np.lexsort((series.time, series.step))]


def _rows_before(columns: Columns, step: int, time: float, side: Literal["left", "right"]) -> int:
    """Return how many rows come before a step and time, with ``"right"`` those at it included."""
    first, last = (int(np.searchsorted(columns.step, step, where)) for where in _SIDES)
    return first + int(np.searchsorted(columns.time[first:last], time, side))


def _rows(part: Part, start: int, stop: int) -> Part:
    return replace(part, columns=part.columns.take(np.arange(start, stop)))
