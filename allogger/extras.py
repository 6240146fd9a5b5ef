"""Extras: how is a module of ours imported whose library is not among the core dependencies?"""

from __future__ import annotations

import importlib
from types import ModuleType

from allogger.errors import MissingDependency

__all__ = ["load"]


def load(module: str, extra: str) -> ModuleType:
    """Return one of our modules; raises `MissingDependency` where its library is missing, which *extra* installs."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        needed = str(error.name or "a library").partition(".")[0]
        raise MissingDependency(
            f"this needs {needed}; install it with: pip install 'allogger[{extra}]' ({error})"
        ) from error
