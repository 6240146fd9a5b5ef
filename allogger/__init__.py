"""allogger: `logging` for numbers. Which names are public?

Configure one root logger, call `get_logger` anywhere, log any value at any rate, and read it back exactly.

A name is imported when it is first used, so `import allogger` costs next to nothing, and who only reads need not load
what writes.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allogger import api as api
    from allogger import config as config
    from allogger import errors as errors
    from allogger import mixin as mixin
    from allogger import system as system
    from allogger import testing as testing
    from allogger import utils as utils
    from allogger.artifacts import Artifact
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
    from allogger.holding import HoldingLogger
    from allogger.kind import FileKind, Kind
    from allogger.logger import Logger, basic_configure, close, flush, get_logger, get_root, run
    from allogger.mixin import LoggingMixin
    from allogger.plain import Unstorable
    from allogger.registry import register_kind, register_writer
    from allogger.store import Run, Runs, Series, open_run, open_runs
    from allogger.tracker import Tracker, TrackerCollection
    from allogger.trainer import MemoryLogger, TrainerLogger
    from allogger.watching import watch
    from allogger.writer import Writer

    __version__: str
    valid_outputs: list[str]

__all__ = [
    "AlloggerError",
    "Artifact",
    "ConfigError",
    "DamagedFile",
    "FileKind",
    "HoldingLogger",
    "Kind",
    "LogdirExists",
    "Logger",
    "LoggingMixin",
    "MemoryLogger",
    "MissingDependency",
    "NoSuchKey",
    "NotARun",
    "Run",
    "Runs",
    "Series",
    "Tracker",
    "TrackerCollection",
    "TrainerLogger",
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
    "watch",
]

_SUBMODULES = frozenset({"api", "config", "errors", "mixin", "system", "testing", "utils"})
_HOMES = {
    name: f"allogger.{module}"
    for module, names in {
        "artifacts": "Artifact",
        "errors": "AlloggerError ConfigError DamagedFile LogdirExists MissingDependency NoSuchKey NotARun UnknownName "
        "WriteFailed",
        "holding": "HoldingLogger",
        "kind": "FileKind Kind",
        "logger": "Logger basic_configure close flush get_logger get_root run",
        "mixin": "LoggingMixin",
        "plain": "Unstorable",
        "registry": "register_kind register_writer",
        "store": "Run Runs Series open_run open_runs",
        "tracker": "Tracker TrackerCollection",
        "watching": "watch",
        "trainer": "MemoryLogger TrainerLogger",
        "writer": "Writer",
    }.items()
    for name in names.split()
}


def _load(name: str) -> Any:
    if name == "valid_outputs":
        return _imported("allogger.registry").writers.names()
    if name == "__version__":
        return _version()
    if name in _SUBMODULES:
        return _imported(f"allogger.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'allogger' has no attribute {name!r}")
    value = globals()[name] = getattr(_imported(_HOMES[name]), name)
    return value


if not TYPE_CHECKING:  # a type checker is to find misspelt names
    __getattr__ = _load


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})


# A child forked while another thread is inside an import could never import that module.
_import_lock = threading.RLock()


def _imported(module: str) -> Any:
    with _import_lock:
        return importlib.import_module(module)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("allogger")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0+unknown"


def _close_at_exit() -> None:
    manager = sys.modules.get("allogger.manager")
    if manager is not None:
        manager.close_at_exit()


# Now, not with the first use: exit handlers run in reverse order, and those of the program may still log.
atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_import_lock.acquire, after_in_parent=_import_lock.release, after_in_child=_import_lock.release
    )
