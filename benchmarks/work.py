"""Work: what is a kind of work to measure, and what is asked of the result?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

__all__ = ["Goal", "Rows", "Size", "Work"]

#: What a round measured, by row and column. The last word of a column's name is its unit: ``p50_ns``.
Rows: TypeAlias = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Size:
    """How much is to be done: *is_quick* means only so much that everything is seen to work."""

    is_quick: bool = False

    def of(self, count: int, slowness: int = 1) -> int:
        """Return how often to do something that is done *count* times by all but the slow."""
        return max(count // slowness // (200 if self.is_quick else 1), 20)


@dataclass(frozen=True)
class Goal:
    """A number to reach, in every round computed from that round's rows: at most *limit*, or *at_least* that."""

    what: str
    value: Callable[[Mapping[str, Mapping[str, float]]], float]
    limit: float
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        """Return whether *value* is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Work:
    """One kind of work, done by each of *subjects* in a process of its own, in every round.

    *measure* is called in that process with the subject and an empty folder, the current one too. It returns a row for
    the subject, or several where what is compared must alternate within one process.
    """

    name: str
    question: str
    measure: Callable[[str, Path, Size], Rows]
    subjects: tuple[str, ...]
    goals: tuple[Goal, ...] = ()
