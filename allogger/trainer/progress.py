"""Progress: how is it told in a line how far a training is?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Progress", "duration", "epoch_line", "progress_line"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase has come in its epoch, *seconds* after its first iteration. What nobody knows is None."""

    phase: str
    epoch: int
    seconds: float
    iterations: int
    samples: float
    max_epochs: int | None = None
    batch: int | None = None
    batches: int | None = None
    batch_size: float = 1

    @property
    def left(self) -> float | None:
        """The seconds that are left of this epoch, if the other iterations take as long as those after the first."""
        if self.iterations < 2 or self.batch is None or self.batches is None:
            return None
        return self.seconds / (self.iterations - 1) * max(self.batches - self.batch, 0)

    @property
    def all_samples(self) -> float | None:
        """How many samples the epoch has, if the batches to come are as large as the last one."""
        if self.batch is None or self.batches is None:
            return None
        return self.samples + max(self.batches - self.batch, 0) * self.batch_size


def progress_line(at: Progress, values: Mapping[str, float]) -> str:
    """Return the line of an iteration.

    >>> at = Progress("train", 1, 60.0, 31, 992, max_epochs=2, batch=31, batches=46, batch_size=32)
    >>> progress_line(at, {"loss": 0.25})
    'train | epoch 1/2 | steps 31/46 | samples 992/1472 | 0:01:00, 0:00:30 left | loss 0.25'
    """
    left = "" if at.left is None else f", {duration(at.left)} left"
    steps = at.iterations if at.batch is None else at.batch
    parts = [
        at.phase,
        f"epoch {_of(at.epoch, at.max_epochs)}",
        f"steps {_of(steps, at.batches)}",
        f"samples {_of(at.samples, at.all_samples)}",
        duration(at.seconds) + left,
        *_shown(values),
    ]
    return _in_one_line(parts)


def epoch_line(at: Progress, means: Mapping[str, float], gpu: tuple[float, float] | None) -> str:
    """Return the line at the end of an epoch; *gpu* is the used and the total memory in bytes.

    >>> at = Progress("val", 1, 3.0, 10, 360, max_epochs=2)
    >>> epoch_line(at, {"loss": 0.25}, (2**30, 2**34))
    'val | epoch 1/2 done in 0:00:03 | loss 0.25 | GPU memory 1.0/16.0 GiB'
    """
    memory = [] if gpu is None else [f"GPU memory {gpu[0] / 2**30:.1f}/{gpu[1] / 2**30:.1f} GiB"]
    done = f"epoch {_of(at.epoch, at.max_epochs)} done in {duration(at.seconds)}"
    return _in_one_line([at.phase, done, *_shown(means), *memory])


def duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds.

    >>> duration(3725.4)
    '1:02:05'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def _of(number: float, whole: float | None) -> str:
    return _whole(number) if whole is None else f"{_whole(number)}/{_whole(whole)}"


def _whole(number: float) -> str:
    return str(int(number)) if math.isfinite(number) and number == int(number) else f"{number:.4g}"


def _shown(values: Mapping[str, float]) -> list[str]:
    return [f"{name} {value:.4g}" for name, value in values.items()]


def _in_one_line(parts: list[str]) -> str:
    line = " | ".join(parts)
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
