"""Checker: what has a file of a run to tell about its state, and how is it mended?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Checker", "FileCheck"]


@dataclass
class FileCheck:
    """What was found in a file when all of it was read.

    *series* and *values* count what can be read. *damage* has a sentence for each damaged place, *notes* for what is no
    damage. *torn_bytes* is the length of what its process was just writing, or was killed while it wrote.
    """

    name: str
    kind: str
    size: int = 0
    series: int = 0
    values: int = 0
    torn_bytes: int = 0
    damage: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    about: Mapping[str, Any] = field(default_factory=dict)


class Checker(ABC):
    """Looks after one file, of a kind that it knows."""

    #: What files of this kind are called, as in `allogger.registry.checkers`.
    kind: str

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    @abstractmethod
    def shard_name(path: Path) -> str | None:
        """Return the name of the shard that a file belongs to, None if it is of another kind; the name tells."""

    @abstractmethod
    def check(self) -> FileCheck:
        """Read the whole file, comparing every checksum; memory stays bounded. Raises `OSError`."""

    def mend(self, *, dry_run: bool) -> list[str]:
        """Finish what the process of this file, which is gone, left undone; return what was done, in sentences.

        The second time there is nothing to do. Whatever ends it, the values read back as before. With *dry_run* nothing
        is touched and the answer is the same. Raises `OSError` and `DamagedFile`.
        """
        return []
