"""Outputs: which values does each output show, read by what its users read it with?"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger

__all__ = ["ALL", "values"]

ALL = ("hdf", "csv", "tensorboard")


def values(logdir: Path, full_key: str) -> dict[str, list[float]]:
    """Return the sorted values of a key of numbers, of all processes and attempts, by output."""
    return {"hdf": _hdf(logdir, full_key), "csv": _csv(logdir, full_key), "tensorboard": _events(logdir, full_key)}


def _hdf(logdir: Path, full_key: str) -> list[float]:
    run = allogger.open_run(logdir, attempts="all")
    assert not run.damage
    return sorted(run[full_key].value.tolist()) if full_key in run else []


def _csv(logdir: Path, full_key: str) -> list[float]:
    found: list[float] = []
    for file in (logdir / "events").glob("*.csv"):
        table = pd.read_csv(file)
        found += table["value"][table["key"] == full_key].astype(float).tolist()
    return sorted(found)


def _events(logdir: Path, full_key: str) -> list[float]:
    found: list[float] = []
    for folder in {file.parent for file in (logdir / "events").glob("*/*tfevents*")}:
        reader = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        if full_key in reader.Tags()["scalars"]:
            found += [event.value for event in reader.Scalars(full_key)]
    return sorted(found)
