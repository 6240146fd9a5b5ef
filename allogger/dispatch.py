"""Dispatch: how do values get from the intake to the outlets that keep them, and who waits when they cannot?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from allogger.intake import TAKE_BYTES, WAKE_BYTES, Intake, Taken
from allogger.lane import Lane, Outlet, breathe
from allogger.record import Batch

__all__ = ["Dispatch"]

SetAside: TypeAlias = tuple[dict[str, Any], dict[str, Any], dict[int, Any]]

# A lane that waits for a network or a terminal must not hold up a flush of the files for longer.
_PATIENCE_SECONDS = 5.0
# When so much is left after the first portion, and that is as old as twice the longest time that values may wait, the
# threads that log have to wait.
_MANY_BYTES = 8 * WAKE_BYTES
_LATE_TICKS = 4
# What waits is taken in so many portions, or in more: a portion is in memory several times while it is taken apart.
_PORTIONS = 4
_LARGEST_PORTION = 4 * WAKE_BYTES


class Dispatch:
    """The intake, the lanes of this process and the plans: which outlets get the values of a route.

    The lane ``disk`` empties the intake and gives all outlets their values. *limit* gives the most bytes that may wait,
    *drops* whether a log call that finds more drops its value instead of waiting.
    """

    def __init__(self, report: Callable[[str], None], limit: Callable[[], int], drops: Callable[[], bool]) -> None:
        self.intake = Intake()
        self._report, self._limit, self._drops = report, limit, drops
        self.clear()

    def clear(self) -> None:
        """Forget all lanes, plans and values: those of a forked child's parent, or what was closed."""
        self.intake.clear()
        self.lanes: dict[str, Lane] = {}
        self._plans: list[tuple[Outlet, ...]] = []
        self._plan_of: dict[tuple[int, ...], int] = {}
        self._is_full = self._is_behind = False
        self._room = threading.Condition(threading.Lock())

    def set_aside(self) -> SetAside:
        """Hand on what waits, begin anew, and return what `go_on` needs. Lanes that are set aside go on to write."""
        disk = self.lanes.get("disk")
        if disk is not None:
            disk.connect(None)
            disk.call(self.drain)
        # All of these are replaced by `clear`, only the objects are removed from the dict that they are in.
        aside = vars(self).copy(), vars(self.intake).copy(), dict(self.intake.objects)
        self.clear()
        return aside

    def go_on(self, aside: SetAside) -> None:
        """Be again as before `set_aside`."""
        own, tables, objects = aside
        self.clear()
        vars(self).update(own)
        vars(self.intake).update(tables)
        self.intake.objects.update(objects)
        if "disk" in self.lanes:
            self.lanes["disk"].connect(self.drain)

    def plan(self, outlets: Sequence[Outlet]) -> int:
        """Return the number that stands for these outlets; the caller holds a lock."""
        which = tuple(sorted(map(id, outlets)))
        if which not in self._plan_of:
            self._plans.append(tuple(outlets))
            self._plan_of[which] = len(self._plans) - 1
        return self._plan_of[which]

    def lane_of(self, outlet: Outlet) -> Lane:
        """Return the running lane of an outlet's writer; made when it is the first there."""
        name = outlet.writer.lane or outlet.name
        for needed in ("disk", name):
            if needed not in self.lanes:
                self.lanes[needed] = Lane(needed, self._report, self.drain if needed == "disk" else None)
            self.lanes[needed].start()
        return self.lanes[name]

    def call_disk(self, order: Callable[[], None]) -> None:
        """Have something done between two batches, by the thread that counts the steps."""
        disk = self.lanes.get("disk")
        if disk is not None:
            disk.call(order)

    def every(self, seconds: float, chore: Callable[[], object] | None) -> None:
        """Have *chore* done by the lane ``disk``, if there is one, every so many seconds; see `Lane.every`."""
        disk = self.lanes.get("disk")
        if disk is not None:
            disk.every(seconds, chore)

    # ------------------------------------------------------------------------------------------------- in the disk lane

    def drain(self) -> None:
        """Hand everything to the outlets that was in the buffer when the call began."""
        # No more than that: threads that log without a pause would keep the lane here, and nothing would be written.
        left = len(self.intake.buffer)
        # Much means that threads log without a pause. Among them whoever gives the interpreter up is without it for
        # 5 ms and more: in many small portions the lane would fall behind.
        portion = min(max(TAKE_BYTES, left // _PORTIONS), _LARGEST_PORTION)
        is_first = True
        while (taken := self.intake.take(min(left, portion))) is not None:
            left -= taken.nbytes
            if is_first and left > _MANY_BYTES and self._is_late(taken.batch):
                self._ask_for_patience()
            is_first = False
            if left > 0:
                breathe()
            try:
                self._hand_out(taken)
            except Exception:
                # Out of the buffer and perhaps with no outlet: rather counted once too often than not at all.
                self.intake.stray(taken.batch)
                raise
            for lane in list(self.lanes.values()):
                if lane.name != "disk":
                    lane.wake()
                elif left > 0:
                    lane.relieve()
        self._is_behind = False
        self.intake.attention[0] = WAKE_BYTES
        if self._is_full and self.intake.nbytes < self._limit() // 2:
            with self._room:
                self._is_full = False
                self._room.notify_all()

    def _hand_out(self, taken: Taken) -> None:
        """Give the outlets what they keep of the values taken."""
        batch, row_plans, object_plans, _ = taken
        plans = sorted({*(np.unique(row_plans).tolist() if len(row_plans) else ()), *object_plans})
        for plan in plans:
            if any(outlet.is_closed for outlet in self._plans[plan]):
                # Looked up by a log call before its run was closed, and logged afterwards.
                self.intake.stray(batch.select(row_plans == plan, [one == plan for one in object_plans]))
        if len(plans) == 1:
            for outlet in self._plans[plans[0]]:
                if not outlet.is_closed:
                    outlet.offer(batch)
        else:
            self._distribute(batch, row_plans, object_plans, plans)

    def _distribute(self, batch: Batch, row_plans: Any, object_plans: list[int], plans: list[int]) -> None:
        by_outlet: dict[int, tuple[Outlet, set[int]]] = {}
        for plan in plans:
            for outlet in self._plans[plan]:
                by_outlet.setdefault(id(outlet), (outlet, set()))[1].add(plan)
        for outlet, mine in by_outlet.values():
            if outlet.is_closed:
                continue
            if len(mine) == len(plans):
                outlet.offer(batch)
                continue
            part = batch.select(np.isin(row_plans, list(mine)), [plan in mine for plan in object_plans])
            if len(part):
                outlet.offer(part)

    # ---------------------------------------------------------------------------------------------------- back-pressure

    def _is_late(self, batch: Batch) -> bool:
        """Return whether the first value of *batch* has waited for longer than values may."""
        return len(batch.time) > 0 and time.time() - batch.time[0] > _LATE_TICKS * self.lanes["disk"].tick

    def _ask_for_patience(self) -> None:
        """Have log calls wait until the lane has what is in the buffer now: threads leave it too little of their time.

        Not where they would lose their values instead.
        """
        if not self._drops():
            self._is_behind = True
            self.intake.attention[0] = -1

    def pressure(self) -> bool:
        """Wake the lane because much is waiting; return whether it is so much that the gate has just been closed.

        Then the caller sees to it that every log call asks `has_room` first.
        """
        disk = self.lanes.get("disk")
        if disk is not None:
            disk.wake()
        # Not with every call from now on: the lane needs a while.
        self.intake.attention[0] = len(self.intake.buffer) + WAKE_BYTES
        if self._is_full or not (self._is_behind or self.intake.nbytes >= self._limit()):
            return False
        self._is_full = True
        return True

    @property
    def is_full(self) -> bool:
        """Whether every log call has to ask `has_room`."""
        return self._is_full

    def has_room(self) -> bool:
        """Return whether a value may be logged now, after waiting for the lane if need be."""
        if not self._is_full:
            return True
        disk = self.lanes.get("disk")
        if disk is None or disk.is_own_thread() or self._drops():
            return False
        while True:
            disk.wake()
            with self._room:
                if self._room.wait_for(lambda: not self._is_full, timeout=0.1):
                    return True

    # -------------------------------------------------------------------------------------------------- flush and close

    def flush(self, timeout: float | None = None) -> bool:
        """Have everything written by all lanes; return whether it was done within *timeout* seconds."""
        deadline = np.inf if timeout is None else time.monotonic() + timeout
        disk = self.lanes.get("disk")
        done = disk is None or disk.call(disk.flush, _left(deadline))
        others = [(lane, lane.submit(lane.flush)) for lane in list(self.lanes.values()) if lane is not disk]
        patience = min(deadline, time.monotonic() + _PATIENCE_SECONDS)
        for lane, order in others:
            done &= lane.wait(order, _left(patience))
        return done

    def close(self, outlets: Sequence[Outlet], timeout: float | None = None) -> list[str]:
        """Finish *outlets*, all lanes side by side; return the names of those not done in *timeout* seconds."""
        deadline = np.inf if timeout is None else time.monotonic() + timeout
        late: list[str] = []
        # Else its values could come too late for outlets that are closed.
        self.every(0.0, None)
        disk = self.lanes.get("disk")
        if disk is not None and not disk.call(self.drain, _left(deadline)):
            late.append("the buffer")
        orders = [(lane, lane.submit(partial(lane.finish, outlets))) for lane in self.lanes.values()]
        for lane, order in orders:
            if not lane.wait(order, _left(deadline)):
                late += [outlet.name for outlet in lane.outlets if not outlet.is_finished]
        return late

    def stop(self, timeout: float) -> None:
        """Let all threads end, and wait for the one that empties the intake, at most *timeout* seconds.

        It would take what is meant for the lanes of the next configuration.
        """
        for lane in self.lanes.values():
            lane.stop()
        if "disk" in self.lanes:
            self.lanes["disk"].join(timeout)


def _left(deadline: float) -> float | None:
    return None if np.isinf(deadline) else max(deadline - time.monotonic(), 0.0)
