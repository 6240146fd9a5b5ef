"""Value types: what does a call cost with a number of another library?"""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.meters import alternate
from benchmarks.work import Goal, Rows, Size, Work

__all__ = ["WORK"]


def measure(subject: str, folder: Path, size: Size) -> Rows:
    import allogger

    log = allogger.basic_configure(folder / "run").log
    values: dict[str, Any] = {
        "float": 0.5,
        "int": 3,
        "np.float64": np.float64(0.5),
        "np.float32": np.float32(0.5),
        "np.int64": np.int64(3),
        "numpy, 0-d array": np.array(0.5),
    }
    if importlib.util.find_spec("torch"):
        import torch

        values["torch, 0-d tensor"] = torch.tensor(0.5)
        values["torch, 0-d tensor with gradient"] = torch.tensor(0.5, requires_grad=True) * 2
    calls = {name: ("log(value, key)", {"log": log, "value": value, "key": name}) for name, value in values.items()}
    calls["float, with a step"] = ("log(value, key, 7)", {"log": log, "value": 0.5, "key": "step"})
    took = alternate(calls, size.of(5_000), 40)
    allogger.close()
    return {name: {"call_ns": ns, "times-float_x": ns / took["float"]} for name, ns in took.items()}


def _times_float(name: str, rows: Any) -> float:
    return float(rows[name]["times-float_x"])


WORK = Work(
    "value-types",
    "A log call with numbers of other libraries",
    measure,
    ("allogger",),
    tuple(
        Goal(f"{name}, times a float", partial(_times_float, name), 2)
        for name in ("np.float32", "np.int64", "numpy, 0-d array", "torch, 0-d tensor")
    ),
)
