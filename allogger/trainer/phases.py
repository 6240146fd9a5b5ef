"""Phases: how far has each phase of a training come, such as ``train`` and ``val``?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from allogger.aggregates import Epoch, Named
from allogger.plain import plain
from allogger.trainer.progress import Progress

__all__ = ["Metric", "Phase", "Place", "number", "whole"]


@dataclass(frozen=True, slots=True)
class Place:
    """What an iteration says about itself. *step* counts all iterations from 1."""

    phase: str
    epoch: int
    step: int
    batch_size: float
    batch: int | None
    batches: int | None
    max_epochs: int | None
    #: For ``log_freq``: the batch within the epoch from 0; None where all are kept.
    batch_idx: int | None


class Metric(NamedTuple):
    """What a number of each iteration is called in the run; *label* is for people."""

    label: str
    batch_wise: str
    mean: Named
    histogram: Named


class Phase:
    """What is known of a phase, such as ``train``, in its epoch."""

    def __init__(self, epoch: Epoch) -> None:
        #: Its step is that of what is gathered.
        self.epoch = epoch
        self.metrics: dict[tuple[str, str], Metric] = {}
        self.is_pending = False
        self.place: Place
        self.began = 0.0
        self.iterations = 0
        self.samples = 0.0

    def go_on(self, place: Place, now: float) -> None:
        """Take in an iteration; the first one begins the epoch."""
        if not self.is_pending:
            self.is_pending, self.began, self.iterations, self.samples = True, now, 0, 0.0
            self.epoch.step = place.epoch
        self.place = place
        self.iterations += 1
        self.samples += place.batch_size

    def progress(self, now: float) -> Progress:
        """Return how far it has come."""
        at = self.place
        return Progress(
            phase=at.phase,
            epoch=at.epoch,
            seconds=now - self.began,
            iterations=self.iterations,
            samples=self.samples,
            max_epochs=at.max_epochs,
            batch=at.batch,
            batches=at.batches,
            batch_size=at.batch_size,
        )


def number(value: Any) -> float | None:
    """Return a number of any library as Python's own, None for what is none."""
    if type(value) is float or type(value) is int:
        return value
    try:
        found = plain(value)
    except Exception:
        return None
    return found if isinstance(found, int | float) else None


def whole(value: Any) -> int | None:
    """Return a whole number of any library as an int, None for what is none."""
    found = None if value is None else number(value)
    return int(found) if found is not None and math.isfinite(found) and found == int(found) else None
