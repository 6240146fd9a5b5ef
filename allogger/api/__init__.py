"""API: which functions read single files? `allogger.api.hdf`."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "hdf":
        return importlib.import_module("allogger.api.hdf")
    raise AttributeError(name)
