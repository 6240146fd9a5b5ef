"""Allogger02Reader: which series of one process are in an HDF5 file of ALLogger 0.2?

Its datasets are called ``<kind>/<scope>/<key>``, those of a subprocess ``<kind>/<scope>/Process5/<key>``, and the rows
have the fields ``step``, ``time``, ``walltime`` and ``value``. The files of several processes are one file there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from allogger.errors import DamagedFile
from allogger.formats.hdf import ImageFile
from allogger.reader import Columns, Reader, SeriesId
from allogger.readers.hdf import HdfReader
from allogger.record import MAIN_PROCESS, hdf_path

__all__ = ["Allogger02Reader"]

_PROCESS = re.compile(r"(?:Process|(?:Spawn|Fork|ForkServer)(?:Process|PoolWorker))\d+(?::\d+)*", re.ASCII)
# A Unix time in float32 is right to this many seconds.
_FLOAT32_SECONDS = 256.0


class Allogger02Reader(Reader):
    """Reads what one process has in such a file; *process* ``""`` stands for the first one there.

    The file has times in float32, which are right to two minutes only. Where that agrees, the time is made of *start*,
    when the file was begun (Unix seconds), and of the exact ``walltime`` since then.

    Raises `OSError` if the file cannot be opened, `DamagedFile` if it is no HDF5 file.
    """

    def __init__(self, path: Path, start: float | None = None, process: str = "") -> None:
        self.path = path
        self._file = HdfReader(path)
        self.damage = self._file.damage
        found = [(_names_of(series), series) for series in self._file.keys()]  # noqa: SIM118  # no mapping
        self.processes = list(dict.fromkeys(its for (_, its), _ in found)) or [MAIN_PROCESS]
        self._process = process or self.processes[0]
        self._series = {mine: series for (mine, its), series in found if its == self._process}
        self._start = start

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """What the name of the file says, and when it began."""
        about = {"name": self.path.stem, "process": self._process, "attempt": self.path.stem, "system": "ALLogger 0.2"}
        start = self._start
        if start is None:
            start = min(
                (float(columns.time.min()) for series in self._series if len(columns := self.read(series))), default=0.0
            )
        return {**about, "start": start}

    def keys(self) -> list[SeriesId]:
        """Return the series of the process."""
        return list(self._series)

    def read(self, series: SeriesId) -> Columns:
        """Return all values of a series; raises `KeyError` if the process has none such."""
        its = self._series[series]
        columns = self._file.read(its)
        walltime = self._walltime(its)
        if self._start is None or walltime is None or walltime.shape != columns.time.shape:
            return columns
        time = self._start + walltime
        agrees = np.abs(time - columns.time) <= _FLOAT32_SECONDS
        return replace(columns, time=np.where(agrees, time, columns.time))

    def _walltime(self, its: SeriesId) -> np.ndarray[Any, np.dtype[np.float64]] | None:
        file = ImageFile(self.path)
        try:
            rows, _ = file.dataset(hdf_path(*its)).rows(fields=["walltime", "time"])
            return rows["walltime"].astype(np.float64) if rows.dtype["time"] == np.float32 else None
        except (DamagedFile, LookupError, TypeError, ValueError):
            return None
        finally:
            file.close()

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def _names_of(series: SeriesId) -> tuple[SeriesId, str]:
    process, _, key = series.key.partition("/")
    if key and _PROCESS.fullmatch(process):
        return series._replace(key=key), process
    return series, MAIN_PROCESS
