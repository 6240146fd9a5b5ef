"""Params: which hyperparameters lie beside the files of a run, as PyTorch Lightning puts them there?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from allogger.errors import DamagedFile
from allogger.formats.regular import open_regular

__all__ = ["params_beside"]

_MOST_BYTES = 2**20


def params_beside(path: Path, note: Callable[[str], None]) -> Mapping[str, Any]:
    """Return what the ``hparams.yaml`` in the folder of *path* holds; none without one, or without PyYAML.

    What is damaged is told by *note*; what would run code is refused and told likewise.
    """
    path = path.with_name("hparams.yaml")
    try:
        import yaml

        with open_regular(path) as file:
            found = yaml.safe_load(file.read(_MOST_BYTES))
    except (ImportError, FileNotFoundError):
        return {}
    except (OSError, DamagedFile, RecursionError, ValueError, yaml.YAMLError) as error:
        note(f"{path.name} cannot be read: {str(error).partition(chr(10))[0]}")
        return {}
    return {str(name): value for name, value in found.items()} if isinstance(found, dict) else {}
