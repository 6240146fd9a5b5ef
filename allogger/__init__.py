"""allogger: `logging` for numbers. Which names are public?

Configure one root logger, call `get_logger` anywhere, log any value at any rate, and read it back exactly.
"""

from __future__ import annotations

import importlib
from typing import Any

from allogger.errors import (
    AlloggerError,
    ConfigError,
    DamagedFile,
    LogdirExists,
    MissingDependency,
    NoSuchKey,
    NotARun,
    UnknownName,
    WriteFailed,
)
from allogger.kind import Kind
from allogger.logger import Logger, basic_configure, close, flush, get_logger, get_root, run
from allogger.plain import Unstorable
from allogger.registry import register_kind, register_writer
from allogger.store import Run, Runs, Series, open_run, open_runs
from allogger.writer import Writer

__all__ = [
    "AlloggerError",
    "ConfigError",
    "DamagedFile",
    "Kind",
    "LogdirExists",
    "Logger",
    "MissingDependency",
    "NoSuchKey",
    "NotARun",
    "Run",
    "Runs",
    "Series",
    "UnknownName",
    "Unstorable",
    "WriteFailed",
    "Writer",
    "__version__",
    "basic_configure",
    "close",
    "flush",
    "get_logger",
    "get_root",
    "open_run",
    "open_runs",
    "register_kind",
    "register_writer",
    "run",
    "valid_outputs",
]

_SUBMODULES = frozenset({"api", "config", "errors", "testing", "utils"})


def __getattr__(name: str) -> Any:
    if name == "valid_outputs":
        from allogger.registry import writers

        return writers.names()
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("allogger")
        except PackageNotFoundError:  # a checkout that is not installed
            return "0+unknown"
    if name in _SUBMODULES:
        return importlib.import_module(f"allogger.{name}")
    raise AttributeError(f"module 'allogger' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
