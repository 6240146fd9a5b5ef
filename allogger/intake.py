"""Intake: how do log calls from any thread become batches with steps, at the price of one atomic append?

A number is packed into a slot of 20 bytes and appended to one bytearray; ``bytearray.extend`` is one operation of the
interpreter, so no lock is needed, in threads and in signal handlers alike. The order of the slots is that of the
values: steps are counted when the lane takes them out, before any output sees them.

A slot is ``id u32, time f64, bits i64``. The id is ``route * 4 + code``; code 3 says that the bits are the number of an
object (an array, a text) waiting in a dict. With the top bit set, the slot holds the explicit step of the slot after
it, which was appended in the same operation.
"""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from allogger.device import Promise
from allogger.record import BOOL, FLOAT, INT, Batch, Payload, Record, Series

__all__ = ["OBJECT", "Intake", "Taken"]

OBJECT: Final = 3
STEP_FLAG: Final = 0x8000_0000
SLOT_BYTES: Final = 20
# So much is taken at once while little waits, so that the threads that log get the interpreter back soon.
TAKE_BYTES: Final = SLOT_BYTES * 8_000
#: When this much waits, log calls wake the lane.
WAKE_BYTES: Final = SLOT_BYTES * 25_000
_SLOT = np.dtype([("id", "<u4"), ("time", "<f8"), ("bits", "<i8")])

#: Packs ``(id, time, value)``; the second packs ``(id | STEP_FLAG, 0.0, step, id, time, value)``.
PACK: Final = {FLOAT: struct.Struct("<Idd").pack, INT: struct.Struct("<Idq").pack, BOOL: struct.Struct("<Idq").pack}
PACK_STEP: Final = {
    FLOAT: struct.Struct("<IdqIdd").pack,
    INT: struct.Struct("<IdqIdq").pack,
    BOOL: struct.Struct("<IdqIdq").pack,
}

MAX_STEP: Final = 2**63 - 1


class Taken(NamedTuple):
    """Values taken out of the buffer: a batch, for each row and each object the number of its plan, and their bytes."""

    batch: Batch
    row_plans: np.ndarray[Any, np.dtype[np.int64]]
    object_plans: list[int]
    nbytes: int


class Intake:
    """The buffer, and the tables that say what a slot means. A *plan* is a number for a set of outputs."""

    def __init__(self) -> None:
        # The log calls hold on to this very object; it is emptied, never replaced.
        self.buffer = bytearray()
        self.objects: dict[int, tuple[str, Payload | Promise, Mapping[str, Any]]] = {}
        self.object_bytes = 0
        #: The one element is the size of the buffer from which on a log call asks for attention.
        self.attention = [WAKE_BYTES]
        self._counter = itertools.count()
        # Ids of routes are never used twice: a log call may have looked one up before `clear` and use it afterwards.
        self._first_route = 0
        self._route_series: list[int] = []
        self.series: list[Series] = []
        self.clear()

    def clear(self) -> None:
        """Forget all values, routes, series and counters."""
        self._past = self._first_route, self._route_series, self.series
        self._first_route += len(self._route_series)
        self.strays: Counter[Series | None] = Counter()
        self.buffer.clear()
        self.objects.clear()
        self.object_bytes = 0
        self.series = []
        self._route_series = []
        self._route_plan: list[int] = []
        self._tables: tuple[Any, Any] = (np.zeros(0, np.int64), np.zeros(0, np.int64))
        self._first_steps: list[int] = []
        # Of the series that the lane has seen. Only the lane changes it: a sum of numpy is no single step.
        self._next_step = np.zeros(0, np.int64)

    # ------------------------------------------------------------------------------------------ in the threads that log

    def add_series(self, scope: str, key: str, next_step: int) -> Series:
        """Return a new series whose automatic steps begin with *next_step*; the caller holds a lock."""
        series = Series(len(self.series), scope, key)
        self._first_steps.append(min(next_step, MAX_STEP))
        self.series.append(series)
        return series

    def add_route(self, series: Series, plan: int) -> int:
        """Return the id for slots of values of *series* that go to the outputs of *plan*; the caller holds a lock."""
        self._route_plan.append(plan)
        self._route_series.append(series.index)
        return (self._first_route + len(self._route_series) - 1) * 4

    def put_object(
        self,
        buffer: bytearray,
        route: int,
        time: float,
        step: int | None,
        kind: str,
        payload: Payload | Promise,
        attrs: Mapping[str, Any],
    ) -> None:
        """Append a value that is no plain number to *buffer*: ours, or one that is handed on later."""
        number = next(self._counter)
        size = _size(payload)
        # With a call in this line another thread could come between its reading and its writing.
        self.object_bytes += size
        self.objects[number] = (kind, payload, attrs)
        if step is None:
            buffer.extend(PACK[INT](route + OBJECT, time, number))
        else:
            buffer.extend(PACK_STEP[INT]((route + OBJECT) | STEP_FLAG, 0.0, step, route + OBJECT, time, number))

    def upcoming(self, series: Series) -> int:
        """Return the next automatic step of *series*, as far as its values are taken out."""
        known = self._next_step
        return int(known[series.index]) if series.index < len(known) else self._first_steps[series.index]

    @property
    def nbytes(self) -> int:
        """The memory that the waiting values take, in bytes."""
        return len(self.buffer) + self.object_bytes

    # --------------------------------------------------------------------------------------------- in the lane's thread

    def go_on_with(self, steps: Mapping[int, int]) -> None:
        """Set the next automatic step of series, by their index."""
        self._take_up_series()
        for index, step in steps.items():
            self._next_step[index] = step

    def _take_up_series(self) -> None:
        new = self._first_steps[len(self._next_step) :]
        if new:
            self._next_step = np.concatenate([self._next_step, np.array(new, np.int64)])

    def take(self, limit: int) -> Taken | None:
        """Take about the first *limit* bytes out of the buffer; None if it is empty. One thread at a time."""
        buffer = self.buffer
        size = min(len(buffer), limit - limit % SLOT_BYTES)
        if size <= 0:
            return None
        if size < len(buffer) and buffer[size - SLOT_BYTES + 3] & 0x80:
            size += SLOT_BYTES  # a step and its value stay together
        slots = np.frombuffer(buffer[:size], _SLOT)
        del buffer[:size]
        ids = slots["id"]
        times = slots["time"]
        bits = slots["bits"]
        steps: np.ndarray[Any, Any] | None = None
        is_step = (ids & STEP_FLAG) != 0
        if is_step.any():
            rows = np.flatnonzero(~is_step)
            is_given = np.zeros(len(rows), bool)
            is_given[rows > 0] = is_step[rows[rows > 0] - 1]
            steps = np.where(is_given, bits[rows - 1], 0)
            ids, times, bits = ids[rows], times[rows], bits[rows]
        else:
            is_given = np.zeros(0, bool)
        routes = (ids >> 2).astype(np.intp) - self._first_route
        is_known = routes >= 0
        if not is_known.all():
            self._count_strays(routes[~is_known], bits[~is_known & ((ids & 3) == OBJECT)])
            ids, times, bits, routes = (column[is_known] for column in (ids, times, bits, routes))
            if steps is not None:
                is_given, steps = is_given[is_known], steps[is_known]
        if len(self._tables[0]) != len(self._route_series):
            self._tables = np.array(self._route_series, np.int64), np.array(self._route_plan, np.int64)
        series = self._tables[0][routes]
        self._take_up_series()
        step = self._count(series) if steps is None else self._count_given(series, is_given, steps)
        return Taken(*self._split(ids & 3, series, self._tables[1][routes], step, times, bits), size)

    def leftover(self) -> Counter[Series | None]:
        """Take everything out and return how many values of which series that was; for what came too late."""
        while (taken := self.take(TAKE_BYTES)) is not None:
            self.stray(taken.batch)
        found, self.strays = self.strays, Counter()
        return found

    def stray(self, batch: Batch) -> None:
        """Count the values of *batch*, which came too late for any output."""
        self.strays.update(batch.names[index] for index in batch.series.tolist())
        self.strays.update(record.series for record in batch.objects)

    def _count_strays(self, routes: np.ndarray[Any, Any], objects: np.ndarray[Any, Any]) -> None:
        """Count values that were logged under an id from before the last `clear`; *routes* are negative."""
        first, route_series, series = self._past
        for route in (routes + self._first_route - first).tolist():
            self.strays[series[route_series[route]] if route >= 0 else None] += 1
        for number in objects.tolist():
            found = self.objects.pop(number, None)
            if found is not None:
                size = _size(found[1])
                self.object_bytes -= size

    def _count(self, series: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the automatic steps of rows of these series, and move the counters on."""
        n = len(series)
        if not n or self._next_step[series].max() > MAX_STEP - n:
            return self._count_given(series, np.zeros(n, bool), np.zeros(n, np.int64))
        first = int(series[0])
        if (series == first).all():
            begin = int(self._next_step[first])
            self._next_step[first] += n
            return np.arange(begin, begin + n)
        order = np.argsort(series, kind="stable")
        ordered = series[order]
        is_start = np.empty(n, bool)
        is_start[0] = True
        np.not_equal(ordered[1:], ordered[:-1], out=is_start[1:])
        starts = np.flatnonzero(is_start)
        counts = np.diff(starts, append=n)
        present = ordered[starts]
        step = np.empty(n, np.int64)
        step[order] = np.arange(n) - np.repeat(starts - self._next_step[present], counts)
        self._next_step[present] += counts
        return step

    def _count_given(
        self, series: np.ndarray[Any, Any], is_given: np.ndarray[Any, Any], steps: np.ndarray[Any, Any]
    ) -> np.ndarray[Any, Any]:
        """The same where some rows have steps of their own, which move the counter on: to the highest plus one."""
        step = steps.astype(np.int64)
        for index in np.unique(series).tolist():
            mine = np.flatnonzero(series == index)
            given = is_given[mine]
            upcoming = int(self._next_step[index])
            if given.all():
                upcoming = max(upcoming, _after(int(step[mine].max())))
            elif not given.any() and upcoming <= MAX_STEP - len(mine):
                step[mine] = upcoming + np.arange(len(mine))
                upcoming += len(mine)
            else:
                for row, own in zip(mine.tolist(), given.tolist(), strict=True):
                    if own:
                        upcoming = max(upcoming, _after(int(step[row])))
                    else:
                        step[row] = upcoming
                        upcoming = _after(upcoming)
            self._next_step[index] = upcoming
        return step

    def _split(
        self, code: Any, series: Any, plans: Any, step: Any, times: Any, bits: Any
    ) -> tuple[Batch, Any, list[int]]:
        """Return the numbers in columns and the rest as records."""
        is_number = code != OBJECT
        objects: list[Record] = []
        at: list[int] = []
        object_plans: list[int] = []
        if not is_number.all():
            before = np.cumsum(is_number)
            for row in np.flatnonzero(~is_number).tolist():
                kind, payload, attrs = self.objects.pop(int(bits[row]))
                size = _size(payload)
                self.object_bytes -= size
                name = self.series[int(series[row])]
                if isinstance(payload, Promise):
                    try:
                        payload = payload.array()
                    except Exception:
                        # The device has failed, which the program hears from its own calls.
                        self.strays[name] += 1
                        continue
                objects.append(Record(name, kind, int(step[row]), float(times[row]), payload, attrs))
                at.append(int(before[row]))
                object_plans.append(int(plans[row]))
            code, series, plans, step, times, bits = (
                column[is_number] for column in (code, series, plans, step, times, bits)
            )
        batch = Batch(
            self.series,
            series.astype(np.uint32),
            code.astype(np.uint8),
            np.ascontiguousarray(step),
            np.ascontiguousarray(times),
            np.ascontiguousarray(bits),
            tuple(objects),
            tuple(at),
        )
        return batch, plans, object_plans


def _after(step: int) -> int:
    return min(step, MAX_STEP - 1) + 1


def _size(payload: Payload | Promise) -> int:
    return 200 + (len(payload) * 4 if isinstance(payload, str) else payload.nbytes)
