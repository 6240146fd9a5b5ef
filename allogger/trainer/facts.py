"""Facts: what does a training say about itself besides its hyperparameters?"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

__all__ = ["facts", "parameter_counts"]


def facts(*, seed: int | None = None, tags: Sequence[str] = ()) -> dict[str, Any]:
    """Return what is known of these: ``seed``, ``tags``, and ``SLURM_JOB_ID`` in a job of SLURM.

    >>> facts(seed=1, tags=["baseline"])
    {'seed': 1, 'tags': ['baseline']}
    """
    found: dict[str, Any] = {}
    if seed is not None:
        found["seed"] = seed
    if tags:
        found["tags"] = list(tags)
    if job := os.environ.get("SLURM_JOB_ID"):
        found["SLURM_JOB_ID"] = job
    return found


def parameter_counts(model: Any) -> dict[str, int]:
    """Return how many numbers a model of torch learns, and how many of them are frozen.

    Anything with ``parameters()`` that have a ``shape`` is a model.
    """
    counts = [(math.prod(each.shape), bool(getattr(each, "requires_grad", True))) for each in model.parameters()]
    total = sum(count for count, _ in counts)
    trainable = sum(count for count, learns in counts if learns)
    return {"total": total, "trainable": trainable, "frozen": total - trainable}
