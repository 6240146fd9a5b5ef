"""Lane: which thread empties the buffer into the writers, and what happens when a writer fails?"""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from allogger.errors import words_of
from allogger.record import Batch
from allogger.writer import Writer

__all__ = ["Lane", "Outlet", "breathe", "import_late_modules"]

# A writer that has failed is tried again after 0.1 s, 0.2 s, ... 30 s.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
# At the end it gets these further chances.
_LAST_PAUSES = (0.1, 0.2)
# Of a disk that fails and recovers again and again the user hears no more often than that.
_SILENCE_SECONDS = 60.0
_SYNC_SECONDS = 30.0
_WRITE_ROWS = 16_384
# So much is written at once, while the program makes more.
_MUCH_BYTES = 4 << 20
# A chore may take this part of the thread's time, so that values do not wait for it for long.
_SHARE_OF_CHORE = 0.1
# So many broken values in a row, and a writer is taken to be broken itself: no more looking for the good ones.
_MAX_STRIKES = 32


def import_late_modules() -> None:
    """Import now what numpy and the standard library would import in the thread of a lane.

    A child forked in the middle of that could never use them, and later there may be no descriptor to open a file with.
    """
    with contextlib.suppress(OSError):
        for module in ("numpy.ma", "encodings.unicode_escape"):
            importlib.import_module(module)


class Outlet:
    """One writer, what waits for it, and the account of what it could not take.

    `offer` may be called by another thread than the other methods, which belong to the writer's lane. *report* takes a
    sentence for the user; it is called once per failure, not once per value.
    """

    def __init__(
        self, name: str, writer: Writer, flush_seconds: float, max_bytes: int, report: Callable[[str], None]
    ) -> None:
        self.name, self.writer = name, writer
        self.flush_seconds = flush_seconds
        self.lost: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self._max_bytes = max_bytes
        self._report = report
        self._waiting: deque[Batch] = deque()
        self._offered = self._taken = 0
        self._due = 0.0
        self._sync_at = 0.0
        self._pause = 0.0
        self._retry_at = 0.0
        self._has_told = False
        self._silent_until = 0.0
        self._strikes = 0
        self._told_rejected: set[str] = set()
        self._complaints: set[str] = set()
        #: It takes nothing any more; and: its writer has finished.
        self.is_closed = self.is_finished = False

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt to write failed for a reason that may pass."""
        return self._pause > 0

    @property
    def waiting_bytes(self) -> int:
        """About the memory of what waits for the writer."""
        return self._offered - self._taken

    def offer(self, batch: Batch) -> None:
        """Queue a batch; counts it as lost when the writer is closed, or so far behind that memory runs out."""
        if self.is_closed:
            self._lose(batch, "the output was closed")
        elif self.waiting_bytes + batch.nbytes > self._max_bytes and self._waiting and self.is_behind:
            self._lose(batch, f"it was more than {self._max_bytes >> 20} MiB behind")
        else:
            self._offered += batch.nbytes
            self._waiting.append(batch)

    @property
    def is_behind(self) -> bool:
        """Whether waiting would not help: the writer fails, or its lane is not the one that empties the buffer."""
        return self.is_failing or self.writer.lane != "disk"

    def pump(self, now: float, force: bool = False) -> None:
        """Write what is waiting if it is due; *now* is monotonic seconds."""
        is_due = now >= self._due or self.waiting_bytes > _MUCH_BYTES
        if not self._waiting or not (force or (is_due and now >= self._retry_at)):
            if now >= self._sync_at > 0:
                self._sync(now)
            return
        batches = [self._waiting.popleft() for _ in range(len(self._waiting))]
        taken = sum(batch.nbytes for batch in batches)
        left = self._write(batches)
        self._waiting.extendleft(reversed(left))
        self._taken += taken - sum(batch.nbytes for batch in left)
        self._due = now + self.flush_seconds * 0.5
        if not self._sync_at:
            self._sync_at = now + _SYNC_SECONDS
        self._tell_rejected()

    def _write(self, batches: list[Batch]) -> list[Batch]:
        """Write as much as possible; return what is to be tried again."""
        todo = _joined(batches)[::-1]
        while todo:
            part = todo.pop()
            try:
                self.writer.write(part)
            except OSError as error:
                self._has_failed(error)
                return [part, *reversed(todo)]
            except Exception as error:
                if len(part) > 1 and self._strikes < _MAX_STRIKES:
                    first, second = part.halves()
                    todo += [second, first]
                    continue
                self._strikes += 1
                self._lose(part, f"{type(error).__name__}: {words_of(error)}")
            else:
                self._strikes = 0
                self._has_recovered()
            if todo:
                breathe()
        return []

    def _has_failed(self, error: OSError) -> None:
        if not self._has_told and time.monotonic() >= self._silent_until:
            self._has_told = True
            self._report(
                f"output {self.name!r} cannot write ({words_of(error)}); "
                "values are kept in memory and it is tried again"
            )
        self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._retry_at = time.monotonic() + self._pause

    def _has_recovered(self) -> None:
        if self._pause and self._has_told:
            self._has_told = False
            self._silent_until = time.monotonic() + _SILENCE_SECONDS
            self._report(f"output {self.name!r} writes again")
        self._pause = self._retry_at = 0.0

    def _lose(self, batch: Batch, why: str) -> None:
        if not self.lost:
            self._report(f"output {self.name!r} loses values ({why}); they are counted and named at close")
        indices, counts = np.unique(batch.series, return_counts=True)
        for index, count in zip(indices.tolist(), counts.tolist(), strict=True):
            self._count(batch.names[index].full_key, count, why)
        for record in batch.objects:
            self._count(record.full_key, 1, why)

    def _count(self, full_key: str, count: int, why: str) -> None:
        self.lost[full_key] += count
        self.reasons.setdefault(full_key, why)

    def _tell_rejected(self) -> None:
        for full_key in self.writer.rejected.keys() - self._told_rejected:
            self._told_rejected.add(full_key)
            _, why = self.writer.rejected[full_key]
            self._report(f"output {self.name!r} cannot represent values of {full_key!r}: {why}")

    def _sync(self, now: float) -> None:
        self._sync_at = now + _SYNC_SECONDS
        try:
            self.writer.sync()
        except OSError as error:
            self._has_failed(error)
        except Exception as error:
            self._complain("cannot force its values onto the disk", error)

    def _complain(self, what: str, error: Exception) -> None:
        if what not in self._complaints:
            self._complaints.add(what)
            self._report(f"output {self.name!r} {what} ({type(error).__name__}: {words_of(error)})")

    def flush(self) -> None:
        """Write everything that is waiting and make it outlive the process."""
        self.pump(time.monotonic(), force=True)
        try:
            self.writer.flush()
        except Exception as error:
            self._complain("cannot flush", error)

    def close(self) -> None:
        """Write what is waiting, finish the output, count what could not be written."""
        if self.is_closed:
            return
        self.flush()
        for pause in _LAST_PAUSES:
            if self._waiting and self.is_failing:
                time.sleep(pause)
                self.flush()
        self.is_closed = True
        while self._waiting:
            self._lose(self._waiting.popleft(), "it could not be written before the end")
        try:
            self.writer.close()
        except Exception as error:
            self._complain("could not be finished; what was written stays as it is", error)
        self.is_finished = True
        self._tell_rejected()


def _joined(batches: list[Batch]) -> list[Batch]:
    """Return the batches with neighbours joined up to about `_WRITE_ROWS` values: a write has a price of its own."""
    groups: list[list[Batch]] = []
    size = 0
    for batch in batches:
        if not groups or size + len(batch) > _WRITE_ROWS:
            groups.append([])
            size = 0
        groups[-1].append(batch)
        size += len(batch)
    return [Batch.join(group) for group in groups]


def breathe() -> None:
    """Let the threads of the program have the interpreter.

    A thread that has it gives it up when another has waited for 5 ms, and a log call must not wait that long.
    """
    time.sleep(2e-5)


class Lane:
    """A thread that runs every *tick* seconds, or at once when it is woken, until it is stopped.

    No lock is shared with the threads that log: they wake it with `wake` and leave orders with `call`.
    """

    def __init__(self, name: str, report: Callable[[str], None], source: Callable[[], None] | None = None) -> None:
        self.name = name
        self.outlets: list[Outlet] = []
        self._report = report
        self.tick = 0.5
        self._source = source
        self._thread: threading.Thread | None = None
        self._orders: deque[tuple[Callable[[], Any], threading.Lock]] = deque()
        # A lock that is released to wake: unlike an Event it can be used in a signal handler at any moment.
        self._sleep = threading.Lock()
        self._sleep.acquire()
        self._inline = threading.RLock()
        self._stopped = False
        self._chore: Callable[[], object] | None = None
        self._chore_seconds, self._chore_at = 0.0, float("inf")

    def add(self, outlet: Outlet) -> None:
        """Take on a writer."""
        self.outlets.append(outlet)
        self.hurry(outlet.flush_seconds)

    def hurry(self, flush_seconds: float) -> None:
        """Run often enough for an outlet whose values may wait that long."""
        self.tick = min(self.tick, max(flush_seconds / 2, 0.005))
        self.wake()

    def every(self, seconds: float, chore: Callable[[], object] | None) -> None:
        """Have *chore* done by the thread every so many seconds, in place of the one before; None: nothing any more.

        One that is being done is not waited for, but it is over before any order that is given from now on. A new one
        has the turn of the one before. It must not wait for threads that may wait for this one.
        """
        self._chore, self._chore_seconds = chore, seconds
        self._chore_at = float("inf") if chore is None else min(self._chore_at, time.monotonic() + seconds)
        self.wake()

    def start(self) -> None:
        """Start the thread unless it runs; where none can be started, orders are carried out by the caller."""
        if self._thread is None or not (self._thread.is_alive() or self._stopped):
            import_late_modules()
            thread = threading.Thread(target=self._run, name=f"allogger-{self.name}", daemon=True)
            with contextlib.suppress(RuntimeError):  # the interpreter is shutting down
                thread.start()
                self._thread = thread

    def wake(self) -> None:
        """Let the thread run now; safe in signal handlers."""
        with contextlib.suppress(RuntimeError):
            self._sleep.release()

    def is_own_thread(self) -> bool:
        """Whether the caller is the lane's thread."""
        return self._thread is threading.current_thread()

    def submit(self, order: Callable[[], Any]) -> threading.Lock:
        """Have *order* carried out by the thread; return a lock for `wait`, which is released when it is done.

        Called by the thread itself, or where there is none, it is done at once.
        """
        done = threading.Lock()
        done.acquire()
        thread = self._thread
        if thread is None or self.is_own_thread() or not thread.is_alive():
            with self._inline:
                self._guarded(order)
            done.release()
        else:
            self._orders.append((order, done))
            self.wake()
        return done

    def wait(self, done: threading.Lock, timeout: float | None = None) -> bool:
        """Wait for an order; return whether it was carried out within *timeout* seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            # In portions, so that a thread that dies cannot leave us waiting for ever.
            portion = 0.5 if deadline is None else min(0.5, max(deadline - time.monotonic(), 0.0))
            if done.acquire(timeout=portion):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            if self._thread is None or not self._thread.is_alive():
                with self._inline:
                    self._carry_out()

    def call(self, order: Callable[[], Any], timeout: float | None = None) -> bool:
        """Have *order* carried out by the thread; return whether it was done within *timeout* seconds."""
        return self.wait(self.submit(order), timeout)

    def flush(self) -> None:
        """Write everything; runs in the lane's thread."""
        if (source := self._source) is not None:
            source()
        for outlet in list(self.outlets):
            outlet.flush()

    def finish(self, outlets: Sequence[Outlet]) -> None:
        """Close those of *outlets* that are here; runs in the lane's thread."""
        for outlet in [own for own in self.outlets if any(own is other for other in outlets)]:
            outlet.close()
        self.outlets = [outlet for outlet in self.outlets if not outlet.is_closed]

    def cycle(self) -> None:
        """Take over new values and write what is due; runs in the lane's thread."""
        if (source := self._source) is not None:
            source()
        now = time.monotonic()
        for outlet in list(self.outlets):
            outlet.pump(now)
        # Not in a lane that is set aside.
        if self._source is not None:
            self._do_chore()

    def _do_chore(self) -> None:
        begin = time.monotonic()
        if (chore := self._chore) is not None and begin >= self._chore_at:
            self._guarded(chore)
            took = time.monotonic() - begin
            self._chore_at = begin + max(self._chore_seconds, took / _SHARE_OF_CHORE)

    def relieve(self) -> None:
        """Write at once where much is waiting; runs in the lane's thread."""
        now = time.monotonic()
        for outlet in list(self.outlets):
            if outlet.waiting_bytes > _MUCH_BYTES:
                outlet.pump(now)

    def connect(self, source: Callable[[], None] | None) -> None:
        """Take new values from *source* from the next cycle on."""
        self._source = source

    def stop(self) -> None:
        """Let the thread end after the orders that it has."""
        self._stopped = True
        self.wake()

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, at most *timeout* seconds."""
        if self._thread is not None and not self.is_own_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopped:
            self._sleep.acquire(timeout=self._pause())
            self._carry_out()
            if not self._stopped:
                self._guarded(self.cycle)
        self._carry_out()

    def _pause(self) -> float:
        if self._chore is None or self._source is None:
            return self.tick
        return min(self.tick, max(self._chore_at - time.monotonic(), 0.0))

    def _carry_out(self) -> None:
        while self._orders:
            order, done = self._orders.popleft()
            self._guarded(order)
            done.release()

    def _guarded(self, step: Callable[[], Any]) -> None:
        try:
            step()
        except Exception as error:  # the thread outlives whatever happens in it
            self._report(f"internal error in the lane {self.name!r}: {type(error).__name__}: {words_of(error)}")
