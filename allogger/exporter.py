"""Exporter: what does a format have to do so that runs can be exported to it?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from allogger.series import Series

__all__ = ["Exporter", "Source", "by_process", "runs_of_kind"]


@dataclass(frozen=True)
class Source:
    """A run that is exported: the full *keys* of it, and *portions*, which gives the values of a key piece by piece.

    *name* tells it from the other runs; it is empty where there is only one. *start* is when the run began (Unix
    seconds). The portions of a key may be asked for several times, and are the same each time.
    """

    name: str
    start: float
    keys: Sequence[str]
    portions: Callable[[str], Iterator[Series]]


class Exporter(ABC):
    """Writes the values of runs into one new file or folder, in memory that does not grow with them.

    A value that the format has no place for is passed to `reject`, never dropped silently.
    """

    #: Whether a folder is made.
    makes_folder: ClassVar[bool] = False
    #: How often the values of a key are asked for.
    passes: ClassVar[int] = 1

    def __init__(self) -> None:
        self.rejected: dict[str, tuple[int, str]] = {}

    @abstractmethod
    def export(self, sources: Sequence[Source], path: Path) -> None:
        """Write all values to *path*, where there is nothing yet; raises `OSError`. What it leaves then is removed."""

    def portion_rows(self, keys: int) -> int:
        """Return how many values a portion has when *keys* keys are exported."""
        return 2**16

    def reject(self, key: str, count: int, why: str) -> None:
        """Count *count* values of *key* that this format cannot hold."""
        before = self.rejected.get(key, (0, why))
        self.rejected[key] = (before[0] + count, why)


def _kind_of(item: Any) -> str:
    """Return the kind of one value of a series of mixed kinds."""
    if isinstance(item, str):
        return "text"
    return "array" if isinstance(item, np.ndarray) and item.ndim else "scalar"


def runs_of_kind(series: Series) -> Iterator[tuple[str, slice]]:
    """Yield the rows of a series in stretches that are of one kind each."""
    if series.kind != "mixed":
        yield series.kind, slice(0, len(series))
        return
    kinds = [_kind_of(item) for item in series.value]
    start = 0
    for row in range(1, len(kinds) + 1):
        if row == len(kinds) or kinds[row] != kinds[start]:
            yield kinds[start], slice(start, row)
            start = row


def by_process(series: Series, rows: slice) -> Iterator[tuple[str, Any]]:
    """Yield the label of each process that wrote some of the *rows*, and which of them."""
    labels = series.process[rows]
    if len(labels) and labels.strides == (0,):
        yield str(labels[0]), rows
        return
    for label in dict.fromkeys(labels.tolist()):
        yield str(label), rows.start + np.flatnonzero(labels == label)
