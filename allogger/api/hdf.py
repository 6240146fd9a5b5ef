"""HDF: which keys does a file or run hold, and what are their values?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.errors import NoSuchKey, NotARun, UnknownName
from allogger.reader import SeriesId
from allogger.record import hdf_path
from allogger.registry import readers
from allogger.rundir import EVENTS
from allogger.store import Attempts, Part, _ends_of, _Shard, joined, merge_order, open_shards, parts_of

__all__ = ["list_keys", "read_from_key"]


def list_keys(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of all series, such as ``"scalar/main/loss"``, in alphabetical order.

    *path*: an HDF5 file, the ``events`` folder of a run or a logdir, of a run that is live, killed or finished. The
    names are the paths of the datasets in the finished files. Raises `NotARun` if there is nothing of allogger's.
    """
    return sorted(_series(_open(path)))


def read_from_key(path: str | os.PathLike[str], key: str, attempts: Attempts = "last") -> NDArray[Any]:
    """Return all values of one of the names that `list_keys` gives.

    The result is a structured array with the fields ``step`` (int64), ``time`` (float64, Unix seconds), ``walltime``
    (float64, seconds since its process began to log) and ``value`` (the values' own dtype and shape; object where
    shapes or dtypes differ and for texts). *path* and *attempts* as for `list_keys` and `allogger.open_run`. Raises
    `NoSuchKey`.
    """
    shards = _open(path)
    series = _series(shards)
    if key not in series:
        raise NoSuchKey(str(UnknownName.of(f"key in {os.fspath(path)!r}:", key, series)))
    parts = parts_of(series[key], attempts, _ends_of(shards))
    return _rows(parts)


def _open(path: str | os.PathLike[str]) -> list[_Shard]:
    place = Path(path)
    if place.is_file():
        reader = readers["hdf"](place)  # type: ignore[call-arg]  # every reader takes a path
        about = reader.about
        start = float(about.get("start") or 0.0)
        return [_Shard(place.stem, reader, str(about.get("process")), str(about.get("attempt")), start)]
    events = place / EVENTS if (place / EVENTS).is_dir() else place
    shards = open_shards(events, []) if events.is_dir() else []
    if not shards:
        raise NotARun(f"{os.fspath(path)!r} holds nothing that allogger has logged")
    return shards


def _series(shards: Sequence[_Shard]) -> dict[str, list[tuple[_Shard, SeriesId]]]:
    found: dict[str, list[tuple[_Shard, SeriesId]]] = {}
    for shard in shards:
        for series in shard.reader.keys():  # noqa: SIM118  # no mapping
            name = hdf_path(series.kind, series.scope, series.key, shard.process)
            found.setdefault(name, []).append((shard, series))
    return found


def _rows(parts: Sequence[Part]) -> NDArray[Any]:
    step = np.concatenate([part.columns.step for part in parts])
    time = np.concatenate([part.columns.time for part in parts])
    walltime = np.concatenate([part.columns.time - part.shard_start for part in parts])
    value = joined([part.columns.value for part in parts])
    dtype = [("step", "i8"), ("time", "f8"), ("walltime", "f8"), ("value", value.dtype, value.shape[1:])]
    rows = np.empty(len(step), dtype=dtype)
    order = merge_order(parts, step, time)
    for name, column in (("step", step), ("time", time), ("walltime", walltime), ("value", value)):
        rows[name] = column[order]
    return rows
