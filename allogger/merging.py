"""Merging: how do the parts that several shards hold of one key become one series?"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from allogger.errors import DamagedFile, UnknownName
from allogger.kind import Kind
from allogger.opening import OpenShard, start_of
from allogger.reader import Columns, SeriesId, objects, uniform
from allogger.registry import kinds
from allogger.series import Series

__all__ = [
    "Attempts",
    "Part",
    "are_interleaved",
    "checked_attempts",
    "columns_of",
    "cut_of",
    "decoded",
    "is_shown_as_stored",
    "joined",
    "merge_order",
    "merged",
    "parts_of",
    "shortened",
    "starts_of",
]

Attempts = Literal["last", "all"]

# Integers up to here are exact as float64.
_EXACT = 2**53


@dataclass(frozen=True)
class Part:
    """What one shard holds of one full key: *columns* of one kind, and whose they are."""

    kind: str
    columns: Columns
    process: str
    attempt: str
    started: float
    ended: float
    shard_start: float


def checked_attempts(attempts: str) -> Attempts:
    """Return *attempts*; raises `UnknownName` if it is none of the two."""
    if attempts not in ("last", "all"):
        raise UnknownName.of("choice of attempts", attempts, ["last", "all"])
    return cast(Attempts, attempts)


def parts_of(found: Sequence[tuple[OpenShard, SeriesId]], attempts: Attempts, ends: Mapping[str, float]) -> list[Part]:
    """Return what the shards hold of one key, in the order of their start.

    With ``"last"``: from the step on at which a later attempt of the same process began the key, earlier ones are left
    out. Attempts that ran at the same time are no attempts of each other. Raises `DamagedFile` if nothing can be read.
    """
    starts = starts_of(found)
    parts = []
    damage: DamagedFile | None = None
    for shard, series in found:
        try:
            columns = decoded(series.kind, shard.read(series))
        except DamagedFile as error:
            damage = error
            continue
        started, ended = starts[shard.attempt], ends.get(shard.attempt, shard.start)
        parts.append(Part(series.kind, columns, shard.process, shard.attempt, started, ended, shard.start))
    if damage is not None and not parts:
        raise damage
    return parts if attempts == "all" else _of_last_attempts(parts)


def starts_of(found: Sequence[tuple[OpenShard, SeriesId]]) -> dict[str, float]:
    """Return for each attempt when it began."""
    starts: dict[str, float] = {}
    for shard, _ in found:
        start = start_of(shard.attempt, shard.start)
        starts[shard.attempt] = min(starts.get(shard.attempt, shard.start), start)
    return starts


def _of_last_attempts(parts: Sequence[Part]) -> list[Part]:
    by_process: dict[str, list[Part]] = {}
    for part in parts:
        by_process.setdefault(part.process, []).append(part)
    return [shortened(part, by_process[part.process]) for part in parts]


def is_shown_as_stored(kind: str) -> bool:
    """Return whether `decoded` changes nothing about the values of a kind."""
    try:
        return kinds[kind].decode is Kind.decode
    except Exception:
        return True  # it is not installed, or broken


def decoded(kind: str, columns: Columns) -> Columns:
    """Return the values as their kind shows them; those of a kind that is not installed, or that fails, as stored."""
    try:
        decode = kinds[kind].decode
        if decode is Kind.decode:
            return columns
        decoder = kinds[kind]()
        values = [
            decoder.decode(item if isinstance(item, str) else np.asarray(item), columns.attrs.get(row, {}))
            for row, item in enumerate(columns.value)
        ]
    except UnknownName:
        return columns
    except Exception as error:
        warnings.warn(f"kind {kind!r} cannot decode its values: {error}", RuntimeWarning, stacklevel=2)
        return columns
    return replace(columns, value=uniform(values))


def shortened(part: Part, parts: Sequence[Part]) -> Part:
    """Return *part* without what later attempts of its process, which are among *parts*, have replaced."""
    cut = cut_of(
        (later.attempt, float(later.columns.time[0]), int(later.columns.step[0]))
        for later in parts
        if later.started > part.ended and len(later.columns)
    )
    return part if cut is None else replace(part, columns=part.columns.take(part.columns.step < cut))


def cut_of(later: Iterable[tuple[str, float, int]]) -> int | None:
    """Return the step from which on later attempts replace a part, None if there is none.

    *later*: for each of their shards the attempt, and the time and the step of the first value.
    """
    # Of the shards of one attempt, the one that began the key first says where.
    first: dict[str, tuple[float, int]] = {}
    for attempt, time, step in later:
        first[attempt] = min(first.get(attempt, (time, step)), (time, step))
    return min((step for _, step in first.values()), default=None)


def merged(key: str, parts: Sequence[Part], began: float = np.nan) -> Series:
    """Return the values of all *parts* as one series of a run that *began* at that time (Unix seconds)."""
    parts = [part for part in parts if len(part.columns)] or list(parts[:1])
    step, time, value = columns_of(parts)
    counts = [len(part.columns) for part in parts]
    # A view of one label where there is only one: labels of a million values are 44 MB.
    # As objects, so that a long one, which a file may claim, is there once and not once for each value.
    label = np.array([part.process for part in parts], object)
    process = np.broadcast_to(label, len(step)) if len(parts) == 1 else np.repeat(label, counts)
    kinds = {part.kind for part in parts}
    kind = kinds.pop() if len(kinds) == 1 else "mixed"
    order = merge_order(parts, step, time)
    if order is not None:
        step, time, value, process = step[order], time[order], value[order], process[order]
    return Series(key, kind, step, time, value, process, _shared_attrs(parts), began)


def columns_of(parts: Sequence[Part]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[Any]]:
    """Return the steps, times and values of *parts*, one behind the other."""
    if len(parts) == 1:
        columns = parts[0].columns
        return columns.step, columns.time, columns.value
    step = np.concatenate([part.columns.step for part in parts])
    time = np.concatenate([part.columns.time for part in parts])
    return step, time, joined([part.columns.value for part in parts])


def _shared_attrs(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the attributes that all values have."""
    if not all(len(part.columns.attrs) == len(part.columns) for part in parts):
        return {}
    each = (attrs for part in parts for attrs in part.columns.attrs.values())
    first = next(each, {})
    return dict(first) if all(attrs is first or attrs == first for attrs in each) else {}


def merge_order(parts: Sequence[Part], step: NDArray[Any], time: NDArray[Any]) -> NDArray[np.intp] | None:
    """Return the order of the values of several parts: by step and time, or None for that in which they lie.

    The latter if one process has written them, one attempt after the other.
    """
    return np.lexsort((time, step)) if are_interleaved(parts) else None


class Span(Protocol):
    """What one process did from when to when."""

    @property
    def process(self) -> str: ...
    @property
    def started(self) -> float: ...
    @property
    def ended(self) -> float: ...


def are_interleaved(parts: Sequence[Span]) -> bool:
    """Return whether the values of all *parts* are sorted by step and time, because several processes wrote them."""
    return len(parts) > 1 and (len({part.process for part in parts}) > 1 or _side_by_side(parts))


def _side_by_side(parts: Sequence[Span]) -> bool:
    return any(a.started <= b.ended and b.started <= a.ended for a in parts for b in parts if a is not b)


def joined(values: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays of values in one: numbers in a common dtype if it holds them exactly, else objects."""
    values = [v for v in values if len(v)] or list(values[:1])
    if len({v.shape[1:] for v in values}) == 1:
        dtypes = {v.dtype for v in values}
        if len(dtypes) == 1 and dtypes != {np.dtype(object)}:
            out: NDArray[Any] = np.ndarray((sum(map(len, values)), *values[0].shape[1:]), values[0].dtype)
            return np.concatenate(values, out=out)
        common = _common_dtype(values) if values[0].ndim == 1 else None
        if common is not None:
            return np.concatenate([v.astype(common) for v in values])
    return uniform([item for v in values for item in objects(v)])


def _common_dtype(values: Sequence[NDArray[Any]]) -> np.dtype[Any] | None:
    """Return the dtype that holds all numbers exactly; None if there is none. The same rule as within one shard."""
    if not all(v.dtype.kind in "bifc" for v in values):
        return None
    common = np.result_type(*(v.dtype for v in values))
    if common.kind in "bi":
        return common
    if common not in (np.float64, np.complex128):
        return None
    integers = (v for v in values if v.dtype.kind == "i")
    return common if all(v.max() <= _EXACT and v.min() >= -_EXACT for v in integers) else None
