"""Acks: how does a program that will be killed tell what it has logged, so that nobody has to believe its files?

Each process appends records of fixed size to a file of its own outside of the logdir, each group with one `os.write`:
what it is about to log, what it has logged and when, and that a flush is over. What a process logs is numbered by it.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Acks", "Value", "Written", "read"]

_RECORD = struct.Struct("<cBHIddd")


class Value(NamedTuple):
    """One value to be logged: *kind* is a place in `tests.kill.values.KINDS`, *number* counts those of the process."""

    kind: int
    key: int
    number: int


class Acks:
    """Writes the acknowledgements of one process."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def begin(self, values: Iterable[Value]) -> None:
        """Note what may be found from now on."""
        self._write([_RECORD.pack(b"B", *value, 0.0, 0.0, 0.0) for value in values])

    def logged(self, values: Iterable[tuple[Value, float, float]]) -> None:
        """Note what has been logged; each with Unix seconds before and after the call."""
        now = time.monotonic()
        self._write([_RECORD.pack(b"L", *value, before, after, now) for value, before, after in values])

    def flushed(self) -> None:
        """Note that a flush is over, which covers everything logged before it."""
        self._write([_RECORD.pack(b"F", 0, 0, 0, 0.0, 0.0, time.monotonic())])

    def closed(self) -> None:
        """Note that everything is over: from here on there is nothing that may be missing."""
        self.flushed()

    def _write(self, records: list[bytes]) -> None:
        os.write(self._fd, b"".join(records))


@dataclass
class Written:
    """What a process has told: each series in the order logged, and what must be there if it died at some time."""

    begun: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    times: dict[int, tuple[float, float]] = field(default_factory=dict)
    #: Monotonic seconds of the acknowledgement by number.
    logged_at: dict[int, float] = field(default_factory=dict)
    #: Numbers below this one are covered by a flush.
    flushed: int = 0

    def must_be_there(self, died: float, seconds: float) -> set[int]:
        """Return the numbers of the values that nothing may lose: logged *seconds* before *died*, or flushed."""
        return {number for number, at in self.logged_at.items() if number < self.flushed or at < died - seconds}


def read(path: Path) -> Written:
    """Return what the file of a process tells; a torn record at its end counts for nothing."""
    raw = path.read_bytes()
    found = Written()
    last = -1
    for tag, kind, key, number, before, after, at in _RECORD.iter_unpack(raw[: len(raw) - len(raw) % _RECORD.size]):
        if tag == b"B":
            found.begun.setdefault((kind, key), []).append(number)
        elif tag == b"L":
            found.times[number] = before, after
            found.logged_at[number] = at
            last = number
        else:
            found.flushed = last + 1
    return found
