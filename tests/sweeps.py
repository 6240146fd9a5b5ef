"""Sweeps: runs that differ in their parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import allogger
from allogger.manager import manager
from allogger.store import Runs


def a_run(logdir: Path, values: dict[str, list[tuple[int, Any]]], params: dict[str, Any] | None = None) -> allogger.Run:
    with allogger.run(logdir, ["hdf"]) as root:
        for key, pairs in values.items():
            for step, value in pairs:
                root.log(value, key, step)
    manager.reset()
    about = json.loads((logdir / "run.json").read_text())
    (logdir / "run.json").write_text(json.dumps({**about, "params": params or {}}))
    return allogger.open_run(logdir)


def a_sweep(folder: Path) -> Runs:
    """Return six runs: three seeds of each of two learning rates, each longer than the one before."""
    random = np.random.default_rng(0)
    return Runs(
        [
            a_run(
                folder / f"lr{lr}-seed{seed}",
                {"loss": [(n, random.normal()) for n in range(10 + seed)]},
                {"lr": lr, "net": {"layers": [64, 64]}, "seed": seed},
            )
            for lr in (0.1, 0.01)
            for seed in range(3)
        ]
    )
