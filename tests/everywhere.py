"""A run as people find it: live, killed and finished, with values of one kind that a real program has logged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import allogger
from allogger.manager import manager


def series_of(folder: Path, kind: str, values: Sequence[Any]) -> Iterator[allogger.Series]:
    """Log *values* under one key, and yield the series of it while the run is live, killed, and finished."""
    manager.reset()
    root = allogger.basic_configure(folder / "run", ["hdf"], hdf_writer_params={"snapshot_seconds": None})
    for value in values:
        root.log(value, "value", data_type=kind)
    allogger.flush()
    yield _series(folder / "run")
    shutil.copytree(folder / "run", folder / "killed")
    yield _series(folder / "killed")
    allogger.close()
    yield _series(folder / "run")


def _series(logdir: Path) -> allogger.Series:
    run = allogger.open_run(logdir)
    found = run["root/value"]
    assert not run.damage
    return found
