"""Record and Batch: what is one captured value on its way?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.names import (
    MAIN_PROCESS,
    file_name,
    full_key,
    hdf_path,
    normal_scope,
    split_full_key,
    split_hdf_path,
)

__all__ = [
    "BOOL",
    "FLOAT",
    "INT",
    "MAIN_PROCESS",
    "Batch",
    "Payload",
    "Record",
    "Series",
    "file_name",
    "full_key",
    "hdf_path",
    "normal_scope",
    "split_full_key",
    "split_hdf_path",
]

# How the 8 bytes of a number are to be read.
FLOAT, INT, BOOL = 0, 1, 2

#: What a kind makes of a value: an array (possibly 0-d) or text.
Payload = NDArray[Any] | str


@dataclass(frozen=True, slots=True)
class Series:
    """The identity of a series inside one process: *index* is its place in the process's table of series."""

    index: int
    scope: str
    key: str

    @property
    def full_key(self) -> str:
        """``<scope>/<key>``, see `full_key`."""
        return full_key(self.scope, self.key)


@dataclass(frozen=True, slots=True)
class Record:
    """One value on its way to the writers.

    *payload* is what the kind made of the value: a Python float, int or bool for a plain number, else an array or a
    text that belongs to this record alone. *time* is in Unix seconds. *attrs* are small JSON values.
    """

    series: Series
    kind: str
    step: int
    time: float
    payload: Payload | float | int | bool
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name of the value inside its scope."""
        return self.series.key

    @property
    def scope(self) -> str:
        """The scope, starting with ``root``."""
        return self.series.scope

    @property
    def full_key(self) -> str:
        """The one name of the series in every output."""
        return self.series.full_key


@dataclass(frozen=True)
class Batch:
    """Values in the order in which they were logged: numbers in columns, everything else as records.

    ``series``, ``code``, ``step``, ``time`` and ``bits`` are columns of equal length, one row per number: the index
    into ``names`` (uint32), how to read the bits (uint8: `FLOAT`, `INT`, `BOOL`), the step (int64), Unix seconds
    (float64) and the 8 bytes of the value (int64). ``objects`` are the other records; ``at`` says for each how many of
    the rows were logged before it (all of them, if ``at`` is empty). A batch never changes.
    """

    names: Sequence[Series]
    series: NDArray[np.uint32]
    code: NDArray[np.uint8]
    step: NDArray[np.int64]
    time: NDArray[np.float64]
    bits: NDArray[np.int64]
    objects: tuple[Record, ...] = ()
    at: tuple[int, ...] = ()

    @classmethod
    def join(cls, batches: Sequence[Batch]) -> Batch:
        """Return one batch with the values of several, in their order."""
        if len(batches) == 1:
            return batches[0]
        objects = tuple(record for b in batches for record in b.objects)
        at: list[int] = []
        before = 0
        for b in batches:
            at += [before + row for row in b.places]
            before += len(b.series)
        return cls(
            batches[-1].names,
            np.concatenate([b.series for b in batches]),
            np.concatenate([b.code for b in batches]),
            np.concatenate([b.step for b in batches]),
            np.concatenate([b.time for b in batches]),
            np.concatenate([b.bits for b in batches]),
            objects,
            tuple(at),
        )

    @property
    def places(self) -> tuple[int, ...]:
        """``at``, spelled out."""
        return self.at or (len(self.series),) * len(self.objects)

    def __len__(self) -> int:
        return len(self.series) + len(self.objects)

    @property
    def nbytes(self) -> int:
        """About the memory that the batch holds, in bytes."""
        return 29 * len(self.series) + sum(
            200 + (4 * len(r.payload) if isinstance(r.payload, str) else np.asarray(r.payload).nbytes)
            for r in self.objects
        )

    @property
    def floats(self) -> NDArray[np.float64]:
        """Every number as float64; integers beyond 2**53 are rounded."""
        # No functools.cached_property, which has a lock: a child forked while a lane has it would never get it.
        found: NDArray[np.float64] | None = self.__dict__.get("_floats")
        if found is None:
            found = self.bits.view(np.float64)
            if self.code.any():
                found = np.where(self.code == FLOAT, found, self.bits)
            self.__dict__["_floats"] = found
        return found

    def numbers(self) -> Iterator[Record]:
        """Yield a record for each plain number, its payload a Python float, int or bool."""
        rows = zip(
            self.series.tolist(),
            self.code.tolist(),
            self.step.tolist(),
            self.time.tolist(),
            self.bits.view(np.float64).tolist(),
            self.bits.tolist(),
            strict=True,
        )
        for series, code, step, time, as_float, as_int in rows:
            value = as_float if code == FLOAT else as_int if code == INT else bool(as_int)
            yield Record(self.names[series], "scalar", step, time, value)

    def __iter__(self) -> Iterator[Record]:
        """Yield every value as a record, in the order logged."""
        if not self.objects:
            yield from self.numbers()
            return
        numbers = self.numbers()
        done = 0
        for record, place in zip(self.objects, self.places, strict=True):
            yield from itertools.islice(numbers, place - done)
            done = place
            yield record
        yield from numbers

    def select(self, rows: NDArray[np.bool_], objects: Sequence[bool] | NDArray[np.bool_]) -> Batch:
        """Return a batch of the values for which the masks *rows* and *objects* are true."""
        chosen = [i for i, keep in enumerate(objects) if keep]
        before = np.concatenate(([0], np.cumsum(rows)))
        places = self.places
        return Batch(
            self.names,
            self.series[rows],
            self.code[rows],
            self.step[rows],
            self.time[rows],
            self.bits[rows],
            tuple(self.objects[i] for i in chosen),
            tuple(int(before[places[i]]) for i in chosen),
        )

    def halves(self) -> tuple[Batch, Batch]:
        """Return the batch in two parts in logging order, each with a value when there are two or more."""
        rows, objects = np.arange(len(self.series)), np.arange(len(self.objects))
        # The place of each value among all of them, in the order logged.
        places = np.asarray(self.places, dtype=np.int64)
        order_rows = rows + np.searchsorted(places, rows, side="right")
        order_objects = places + objects
        first_rows, first_objects = order_rows < len(self) // 2, order_objects < len(self) // 2
        return self.select(first_rows, first_objects), self.select(~first_rows, ~first_objects)
