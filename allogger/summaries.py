"""Summaries: what is a key of a run like, and what does its curve look like, without reading all of it?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.curves import Curve, Points, blocks_of, numbers_of
from allogger.errors import ConfigError, DamagedFile
from allogger.merging import Attempts, are_interleaved, cut_of, decoded, is_shown_as_stored, starts_of
from allogger.opening import OpenShard
from allogger.reader import Columns, Entry, SeriesId, in_order
from allogger.summary import BLOCK_ROWS, Summary, plain, statistics

__all__ = ["Piece", "pieces_of", "reduced_curve", "summary_of"]

Found = Sequence[tuple[OpenShard, SeriesId]]


@dataclass(eq=False)
class Piece:
    """What one shard holds of a key, up to where a later attempt replaced it; read as late as possible."""

    shard: OpenShard
    series: SeriesId
    started: float
    ended: float
    cut: int | None = None

    @property
    def process(self) -> str:
        """The label of the process."""
        return self.shard.process

    @cached_property
    def _whole(self) -> Entry | None:
        told = self.shard.reader.entry(self.series) if is_shown_as_stored(self.series.kind) else None
        if told is not None:
            return told
        return _entry_of(self._read()) if self._may_be_numbers() else _ends_of(*self._steps())

    def _may_be_numbers(self) -> bool:
        if self.series.kind == "scalar":
            return True
        first = decoded(self.series.kind, self.shard.ask(lambda reader: reader.part(self.series, slice(1))))
        return first.value.ndim == 1 and first.value.dtype.kind in "biuf"

    @property
    def began(self) -> tuple[str, float, int] | None:
        """Attempt, and time and step of the first value; None if there is no value."""
        whole = self._whole
        return None if whole is None else (self.shard.attempt, whole.first_time, whole.first_step)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the shard was replaced, as far as that is known without its values."""
        whole = self._whole
        return self.cut is None or (whole is not None and whole.is_sorted and whole.last_step < self.cut)

    @cached_property
    def entry(self) -> Entry | None:
        """What there is, None if that is nothing."""
        if self.is_whole or self._whole is None:
            return self._whole
        if not self._whole.is_number:
            return _ends_of(*self.steps())
        return _entry_of(self.columns()) if self._beginning is None else _entry_of_beginning(*self._beginning)

    def columns(self) -> Columns:
        """Read the values."""
        columns = self._read()
        return columns if self.cut is None else columns.take(self._is_kept(columns.step))

    def steps(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Read the steps and times, if possible without the values."""
        step, time = self._steps()
        kept = self._is_kept(step)
        return step[kept], time[kept]

    def _steps(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        return self.shard.ask(lambda reader: reader.steps(self.series))

    @cached_property
    def _kept(self) -> NDArray[np.intp]:
        """The rows of the shard that were not replaced."""
        return np.flatnonzero(self._is_kept(self._steps()[0]))

    def _is_kept(self, step: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.ones(len(step), bool) if self.cut is None else step < self.cut

    def _read(self) -> Columns:
        return decoded(self.series.kind, self.shard.read(self.series))

    def part(self, rows: slice) -> Columns:
        """Read some of the values, at least one."""
        if self.entry is not None and self._is_beginning:
            return self._read_part(slice(*rows.indices(self.entry.count)))
        kept = self._kept[rows]
        found = self._read_part(slice(int(kept[0]), int(kept[-1]) + 1) if len(kept) else slice(0))
        return found.take(kept - kept[0])

    @property
    def _is_beginning(self) -> bool:
        # What is left of steps that never go back are the first of them.
        return self.is_whole or (self._whole is not None and self._whole.is_sorted)

    def _read_part(self, rows: slice) -> Columns:
        found = self.shard.ask(lambda reader: reader.part(self.series, rows))
        if not len(found):
            raise DamagedFile(f"{self.shard.file.path} does not hold the values of {self.series} that its index counts")
        return decoded(self.series.kind, found)

    def blocks(self) -> NDArray[Any] | None:
        """Return the statistics of each 1,024 values if the file has them for all of the piece."""
        if self.is_whole:
            return self._all_blocks()
        return None if self._beginning is None else self._beginning[0]

    def _all_blocks(self) -> NDArray[Any] | None:
        if self._whole is None or not self._whole.is_number:
            return None
        blocks = self.shard.ask(lambda reader: reader.blocks(self.series))
        if blocks is None or not len(blocks) or len(blocks) != -(-self._whole.count // BLOCK_ROWS):
            return None
        return blocks if np.array_equal(blocks["row"], np.arange(len(blocks)) * BLOCK_ROWS) else None

    @cached_property
    def _beginning(self) -> tuple[NDArray[Any], Columns] | None:
        """The blocks up to where a later attempt begins, and the values that are left of the last of them."""
        blocks = self._all_blocks() if self._is_beginning else None
        if blocks is None or self.cut is None:
            return None
        blocks = blocks[: np.searchsorted(blocks["step"], self.cut)].copy()
        if not len(blocks):
            return None
        rest = self._read_part(slice(int(blocks["row"][-1]), int(blocks["row"][-1]) + BLOCK_ROWS))
        rest = rest.take(self._is_kept(rest.step))
        if not len(rest):
            return None
        numbers = numbers_of(self.series.key, rest.value)
        last = blocks_of(numbers, numbers, BLOCK_ROWS)
        for name in ("mean", "low", "high", "count"):
            blocks[{"low": "min", "high": "max"}.get(name, name)][-1] = getattr(last, name)[0]
        return blocks, rest


def _are_sorted(pieces: Sequence[Piece]) -> bool:
    """Return whether the first and the last value of each piece are the ends, however they are sorted."""
    return all(piece.entry is not None and piece.entry.is_sorted for piece in pieces)


def _ends_of(step: NDArray[np.int64], time: NDArray[np.float64]) -> Entry | None:
    if not len(step):
        return None
    return Entry(len(step), int(step[0]), float(time[0]), int(step[-1]), float(time[-1]), in_order(step, time))


def _entry_of(columns: Columns) -> Entry | None:
    ends = _ends_of(columns.step, columns.time)
    if ends is None:
        return None
    try:
        low, high, mean = statistics(numbers_of("", columns.value))
    except ConfigError:
        return ends
    return replace(ends, is_number=True, min=low, max=high, mean=mean, last=plain(columns.value[-1]))


def _entry_of_beginning(blocks: NDArray[Any], rest: Columns) -> Entry:
    """Return what the blocks tell, the last of which stands for *rest*."""
    first = blocks[0]
    points = _points_of_blocks(blocks, "step").joined(np.zeros(1, np.intp))
    count = int(blocks["row"][-1]) + len(rest)
    ends = int(first["step"]), float(first["time"]), int(rest.step[-1]), float(rest.time[-1])
    low, high, mean = (float(column[0]) for column in (points.low, points.high, points.mean))
    return Entry(count, *ends, True, True, low, high, mean, plain(rest.value[-1]))


def pieces_of(found: Found, attempts: Attempts, ends: Mapping[str, float]) -> list[Piece]:
    """Return what the shards hold of one key as `parts_of` does, but read only what no index tells.

    Raises `DamagedFile` if nothing can be read.
    """
    starts = starts_of(found)
    pieces: list[Piece] = []
    damage: DamagedFile | None = None
    for shard, series in found:
        piece = Piece(shard, series, starts[shard.attempt], ends.get(shard.attempt, shard.start))
        try:
            if piece.began is not None:
                pieces.append(piece)
        except DamagedFile as error:
            damage = error
    kept: list[Piece] = []
    for piece in pieces:
        piece.cut = _cut(piece, pieces) if attempts == "last" else None
        try:
            if piece.entry is not None:
                kept.append(piece)
        except DamagedFile as error:
            damage = error
    if damage is not None and not kept:
        raise damage
    return kept


def _cut(piece: Piece, pieces: Sequence[Piece]) -> int | None:
    return cut_of(
        later.began
        for later in pieces
        if later.process == piece.process and later.started > piece.ended and later.began is not None
    )


def summary_of(pieces: Sequence[Piece]) -> Summary | None:
    """Return the summary of a key, None if only its values, read and sorted, tell which of them are the ends."""
    entries = [piece.entry for piece in pieces if piece.entry is not None]
    if not entries:
        return Summary(0)
    first, last = 0, len(entries) - 1
    if are_interleaved(pieces):
        if not _are_sorted(pieces):
            return None
        numbers = range(len(entries))
        first = min(numbers, key=lambda n: (entries[n].first_step, entries[n].first_time))
        last = max(numbers, key=lambda n: (entries[n].last_step, entries[n].last_time, n))
    ends = entries[first].first_step, entries[last].last_step, entries[first].first_time, entries[last].last_time
    found: dict[str, Callable[[], Any]] = {
        "first": lambda: plain(pieces[first].part(slice(0, 1)).value[0]),
        "last": lambda: _last_of(pieces[last]),
    }
    count = sum(entry.count for entry in entries)
    if not all(entry.is_number for entry in entries):
        return Summary(count, None, None, *ends, found)
    lows, highs = [entry.min for entry in entries], [entry.max for entry in entries]
    low, high = float(np.fmin.reduce(lows)), float(np.fmax.reduce(highs))
    found["mean"] = lambda: entries[0].mean if len(entries) == 1 else _mean_of(pieces)
    if not math.isnan(low):
        found["min_step"] = lambda: _step_of(pieces[lows.index(low)], "min", np.nanargmin)
        found["max_step"] = lambda: _step_of(pieces[highs.index(high)], "max", np.nanargmax)
    return Summary(count, low, high, *ends, found)


def _last_of(piece: Piece) -> Any:
    if piece.entry is not None and piece.entry.is_number:
        return piece.entry.last
    count = piece.entry.count if piece.entry is not None else 0
    return plain(piece.part(slice(count - 1, count)).value[-1])


def _step_of(piece: Piece, which: str, place: Callable[[NDArray[Any]], Any]) -> int:
    """Return the step of the smallest or largest value: the blocks say in which 1,024 values it is."""
    blocks = piece.blocks()
    rows = slice(None)
    if blocks is not None:
        start = int(blocks["row"][place(blocks[which])])
        rows = slice(start, start + BLOCK_ROWS)
    columns = piece.part(rows)
    return int(columns.step[place(numbers_of(piece.series.key, columns.value))])


def _mean_of(pieces: Sequence[Piece]) -> float:
    points = Points.of([points_of(piece, "step") for piece in pieces])
    return float(points.joined(np.zeros(1, np.intp)).mean[0])


def reduced_curve(key: str, pieces: Sequence[Piece], x: str, n: int) -> Curve | None:
    """Return a picture of very many values over ``"step"`` or ``"time"``; None where they have to be read for it."""
    entries = [piece.entry for piece in pieces if piece.entry is not None]
    count = sum(entry.count for entry in entries)
    if count < n * BLOCK_ROWS or not all(entry.is_number for entry in entries):
        return None
    is_sorted = are_interleaved(pieces)
    if is_sorted and not _are_sorted(pieces):
        return None
    points = Points.of([points_of(piece, x) for piece in pieces])
    if is_sorted:
        steps = Points.of([points_of(piece, "step") for piece in pieces]).x if x != "step" else points.x
        points = points.take(np.argsort(steps, kind="stable"))
    points = points.joined(np.arange(n) * len(points.x) // n)
    return Curve(key, x, points.x, points.mean, points.low, points.high, count, True)


def points_of(piece: Piece, x: str) -> Points:
    """Return a point for each 1,024 values of a piece over ``"step"`` or ``"time"``, if possible without reading them.

    Raises `ConfigError` if they are no real numbers.
    """
    blocks = piece.blocks()
    if blocks is not None:
        return _points_of_blocks(blocks, x)
    columns = piece.columns()
    places = columns.step if x == "step" else columns.time
    return blocks_of(places.astype(np.float64), numbers_of(piece.series.key, columns.value), BLOCK_ROWS)


def _points_of_blocks(blocks: NDArray[Any], x: str) -> Points:
    return Points(*(blocks[name].astype(np.float64) for name in (x, "mean", "min", "max", "count")))
