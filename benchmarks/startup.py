"""Startup: how long does a program wait for an import, and how long for its first value?"""

from __future__ import annotations

import importlib
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter as now

from benchmarks import peers
from benchmarks.work import Goal, Rows, Size, Work

__all__ = ["WORK"]

_IMPORT = "from time import perf_counter as now; begin = now(); import {}; print(now() - begin, {} and now() - begin)"
# What an import puts off until something is asked for.
_FIRST_USE = {"allogger": "basic_configure"}


def measure(subject: str, folder: Path, size: Size) -> Rows:
    module = peers.PEERS[subject].module
    times = 1 if size.is_quick or not peers.is_light(subject) else 7
    pairs = [(_import_seconds("numpy"), _import_seconds(module)) for _ in range(times)]
    importlib.import_module("numpy")
    begin = now()
    imported_module = importlib.import_module(module)
    if module in _FIRST_USE:
        getattr(imported_module, _FIRST_USE[module])
    imported = now()
    peer = peers.open_peer(subject, folder)
    peer.log(1.0, "loss")
    logged = now()
    peer.close()
    return {
        subject: {
            "import_ms": statistics.median(own[0] for _, own in pairs) * 1e3,
            "import-beyond-numpy_ms": statistics.median(own[0] - numpy[0] for numpy, own in pairs) * 1e3,
            "usable-beyond-numpy_ms": statistics.median(own[1] - numpy[0] for numpy, own in pairs) * 1e3,
            "configure-to-first-value_ms": (logged - imported) * 1e3,
            "all_ms": (logged - begin) * 1e3,
        }
    }


def _import_seconds(module: str) -> tuple[float, float]:
    """Return how long the import takes, and how long until its functions can be called."""
    first_use = f"{module}.{_FIRST_USE[module]}" if module in _FIRST_USE else module
    code = _IMPORT.format(module, first_use)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, usable = map(float, done.stdout.split())
    return imported, usable


WORK = Work(
    "startup",
    "From the start of the interpreter to the first value",
    measure,
    ("allogger", "h5py, batched", *(name for name in peers.OUTSIDE if not peers.is_light(name))),
    (
        Goal("import beyond that of numpy, ms", lambda r: r["allogger"]["import-beyond-numpy_ms"], 15),
        Goal("basic_configure to the first value, ms", lambda r: r["allogger"]["configure-to-first-value_ms"], 100),
    ),
)
