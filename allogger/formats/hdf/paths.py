"""Paths: under which path does each dataset of a series lie?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from allogger.reader import SeriesId
from allogger.record import hdf_path

__all__ = ["Paths"]

_MAX_BYTES, _MAX_PARTS = 16_000, 64


class Paths:
    """Gives every dataset a path of its own, out of the names of all *series* and of their process."""

    def __init__(self, series: Iterable[SeriesId], process: str) -> None:
        self._process = process
        self._taken: set[str] = set()
        # Names that HDF5 needs for groups, such as that of "a" if there is "a/b".
        self._groups: set[SeriesId] = set()
        for one in series:
            parts = one.key.split("/", _MAX_PARTS)
            self._groups.update(one._replace(key="/".join(parts[:n])) for n in range(1, len(parts)))

    def take(self, series: SeriesId, number: int) -> str:
        """Return the path for a series' dataset *number*, counted from 0; nobody gets it again.

        One that is too long for HDF5 is cut to a checksum; the attributes and the index know whose it is.
        """
        variant = number + 1 if number else -1 if series in self._groups else None
        path = hdf_path(*series, self._process, variant)
        if len(path.encode()) > _MAX_BYTES or path.count("/") >= _MAX_PARTS or path in self._taken:
            digest = hashlib.sha256(json.dumps([*series, self._process]).encode()).hexdigest()
            path = f"{series.kind}/%h{digest}" + (f"%v{number + 1}" if number else "" if variant is None else "%v")
        self._taken.add(path)
        return path
