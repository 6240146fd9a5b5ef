"""HDF: which keys does a file or run hold, and what are their values?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.errors import NoSuchKey, NotARun, UnknownName
from allogger.merging import Attempts, Part, checked_attempts, columns_of, merge_order, parts_of
from allogger.opening import OpenShard, ends_of, open_foreign, open_others, open_shards, tell_damage
from allogger.reader import SeriesId, objects
from allogger.record import hdf_path
from allogger.registry import readers
from allogger.rundir import EVENTS, JOURNAL, RUN_FILE
from allogger.shards import ShardFile

__all__ = ["list_keys", "read_from_key"]


def list_keys(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of all series, such as ``"scalar/main/loss"``, in alphabetical order.

    *path*: an HDF5 file, the ``events`` folder of a run or a logdir, of a run that is live, killed or finished. The
    names are the paths of the datasets in the finished files. Raises `NotARun` if there is nothing of allogger's,
    `DamagedFile` for a file that is none of HDF5; says what is damaged through the standard `logging`.
    """
    shards, unreadable = _open(path)
    _tell(shards, unreadable)
    return sorted(_series(shards))


def read_from_key(path: str | os.PathLike[str], key: str, attempts: Attempts = "last") -> NDArray[Any]:
    """Return all values of one of the names that `list_keys` gives.

    The result is a structured array with the fields ``step`` (int64), ``time`` (float64, Unix seconds), ``walltime``
    (float64, seconds since its process began to log) and ``value`` (the values' own dtype and shape; object where
    shapes or dtypes differ and for texts). *path* and *attempts* as for `list_keys` and `allogger.open_run`. Raises
    `NoSuchKey`, or `DamagedFile` if there is nothing left of the values.
    """
    checked_attempts(attempts)
    shards, unreadable = _open(path)
    try:
        series = _series(shards)
        if key not in series:
            raise NoSuchKey(str(UnknownName.of(f"key in {os.fspath(path)!r}:", key, series)))
        return _rows(parts_of(series[key], attempts, ends_of(shards)))
    finally:
        _tell(shards, unreadable)


def _open(path: str | os.PathLike[str]) -> tuple[list[OpenShard], list[str]]:
    place = Path(path)
    if place.is_file():
        reader = readers["journal" if place.suffix == JOURNAL else "hdf"](place)  # type: ignore[call-arg]  # every reader takes a path
        return [OpenShard.of(ShardFile(place.stem, place), reader)], []
    events = place if place.name == EVENTS or not (place / EVENTS).is_dir() else place / EVENTS
    shards, unreadable = open_shards(events)
    if not shards and not unreadable:
        # Of an output without HDF5, or of ALLogger 0.2.
        shards = open_others(events, []) or open_foreign(place)
    # A run that has only just begun holds nothing yet.
    if not shards and not unreadable and events.name != EVENTS and not (place / RUN_FILE).is_file():
        raise NotARun(f"{os.fspath(path)!r} holds nothing that allogger has logged")
    return shards, unreadable


def _tell(shards: Sequence[OpenShard], unreadable: Sequence[str]) -> None:
    tell_damage([*unreadable, *(what for shard in shards for what in shard.damage)], set())


def _series(shards: Sequence[OpenShard]) -> Mapping[str, list[tuple[OpenShard, SeriesId]]]:
    found: dict[str, list[tuple[OpenShard, SeriesId]]] = {}
    for shard in shards:
        for series in shard.reader.keys():  # noqa: SIM118  # no mapping
            name = hdf_path(series.kind, series.scope, series.key, shard.process)
            found.setdefault(name, []).append((shard, series))
    return found


def _rows(parts: Sequence[Part]) -> NDArray[Any]:
    step, time, value = columns_of(parts)
    starts = np.repeat([part.shard_start for part in parts], [len(part.columns) for part in parts])
    order = merge_order(parts, step, time)
    front = [("step", "i8"), ("time", "f8"), ("walltime", "f8")]
    try:
        rows = np.empty(len(step), [*front, ("value", value.dtype, value.shape[1:])])
    except ValueError:  # too large, or too many axes, for a field
        value = objects(value)
        rows = np.empty(len(step), [*front, ("value", object)])
    for name, column in (("step", step), ("time", time), ("walltime", time - starts), ("value", value)):
        rows[name] = column if order is None else column[order]
    return rows
