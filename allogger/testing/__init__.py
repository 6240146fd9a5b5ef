"""Testing: how is code that logs tested, and how does a plug-in show that it keeps its promises?

`capture` keeps what a test logs in memory. `WriterContract` and `KindContract` are classes of pytest tests to inherit
from: they check what the docstrings of `allogger.Writer` and `allogger.Kind` promise. The module `strategies` makes
values for Hypothesis. pytest and Hypothesis are imported where they are used; `capture` needs neither.
"""

from __future__ import annotations

import importlib
from typing import Any

from allogger.testing.kind_contract import KindContract
from allogger.testing.memory import Captured, MemoryWriter, Values, capture
from allogger.testing.rows import Row, batch_of
from allogger.testing.writer_contract import Stored, WriterContract

__all__ = [
    "Captured",
    "KindContract",
    "MemoryWriter",
    "Row",
    "Stored",
    "Values",
    "WriterContract",
    "batch_of",
    "capture",
]


def __getattr__(name: str) -> Any:
    if name == "strategies":
        return importlib.import_module("allogger.testing.strategies")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
