"""Buffer: where are the values of one logger until they are written, and when does that happen?"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from allogger.aggregates import Gathering, Window
from allogger.errors import UnknownName
from allogger.holding.windows import Held, json_of, windows
from allogger.manager import manager

if TYPE_CHECKING:
    from allogger.logger import Logger

__all__ = ["STRIDES", "Buffer", "Clock", "write_array"]

STRIDES: Final = ("step", "epoch", "static")
# At the end of the program another thread may be busy with the same, or interrupted for ever.
_PATIENCE_SECONDS: Final = 2.0


@dataclass
class Clock:
    """The numbers of the current epoch and, over all epochs, of the current step; 0 before the first."""

    epoch: int = 0
    step: int = 0
    first_epoch: int = 1
    first_step: int = 1

    def begin(self, epoch: int, step: int) -> None:
        """Go on behind these."""
        self.epoch, self.step = epoch, step
        self.first_epoch, self.first_step = epoch + 1, step + 1


class Buffer(Gathering):
    """What is held for one logger in one process.

    It lies among what that logger has gathered. So it is written whenever that is emitted, at each end of the program,
    and a forked child begins without.
    """

    def __init__(self, logger: Logger, clock: Clock, max_bytes: int) -> None:
        super().__init__("held values", "last", "held values", None)
        self.held: dict[str, Held] = {}
        self._logger = logger
        self._clock = clock
        self._max_bytes = max_bytes
        self._nbytes = 0
        self._lock = threading.Lock()
        self._owner = 0

    @property
    def is_timed(self) -> bool:
        """True: epochs of aggregates do not end it."""
        return True

    @property
    def waiting(self) -> int:
        """How many values are held that are to be written."""
        return sum(len(held.observations) for held in list(self.held.values()) if held.is_written)

    # ------------------------------------------------------------------------------------------------------------- hold

    def add(self, value: Any, key: str, stride: str, meta: Mapping[str, Any], is_written: bool) -> None:
        """Hold a copy of *value*; raises `Unstorable`."""
        held = self.held.get(key) or self._begin(key, stride, json_of(meta), is_written)
        if (stride, json_of(meta) if meta else held.meta) != (held.stride, held.meta):
            self._note(held, "is held with different meta-data; that of the first call is stored")
        place = self._clock.step if held.stride == "step" else self._clock.epoch
        # Threads that hold at the same time may lose count, which ends with the next window.
        self._nbytes += held.add(value, place)
        # From then on the index columns do not say where the values of this key belong.
        held.is_irregular |= bool(place) and place != held.next_place
        held.next_place = place + 1
        if self._nbytes > self._max_bytes:
            self._spill()

    def _begin(self, key: str, stride: str, meta: dict[str, Any], is_written: bool) -> Held:
        first = self._clock.first_epoch if stride == "epoch" else self._clock.first_step
        held = self.held.setdefault(key, Held(key, "epoch" if stride == "epoch" else "step", meta, is_written, first))
        if stride not in STRIDES:
            self._note(held, f"{UnknownName.of('stride', stride, STRIDES)}; 'step' is taken")
        return held

    def _spill(self) -> None:
        """Make room."""
        with self.turn(0) as is_mine:
            if not is_mine:
                return  # another thread is at it
            self.write()
            for held in list(self.held.values()):
                if self._nbytes > self._max_bytes and held.observations:
                    self._note(held, "is not written, and too large to be held; plots show its latest values only")
                    del held.observations[: -(len(held.observations) // 2) or None]
                    self._recount()

    # ------------------------------------------------------------------------------------------------------------ write

    def take(self) -> Window | None:
        """Write what is held; nothing is left to be emitted."""
        with self.turn(_PATIENCE_SECONDS, insists=True) as is_mine:
            if is_mine:
                self.write()
        return None

    @contextlib.contextmanager
    def turn(self, seconds: float, *, insists: bool = False) -> Iterator[bool]:
        """Keep other threads from writing the same; gives False where that is not to be had in time.

        With *insists* it is had all the same, but never in a signal handler that has interrupted the writing.
        """
        if self._owner == threading.get_ident():
            yield False
            return
        has_lock = self._lock.acquire(timeout=seconds)
        if not (has_lock or insists):
            yield False
            return
        self._owner = threading.get_ident()
        try:
            yield True
        finally:
            self._owner = 0
            if has_lock:
                self._lock.release()

    def write(self) -> None:
        """Write what is to be written; to be called in one's turn."""
        for held in list(self.held.values()):
            if held.is_written:
                self._write_windows(held)
        self._recount()

    def _write_windows(self, held: Held) -> None:
        step = self._clock.epoch or None
        for window, places in windows(list(held.observations)):
            write_array(self._logger, window, held.key, step, held.attrs)
            if held.is_irregular:
                write_array(self._logger, places, f"{held.key}/{held.stride}", step, {"stride": held.stride})
            # Not before: a signal may end the program anywhere.
            del held.observations[: len(places)]

    def forget_unwritten(self) -> None:
        """Drop what was held for plots only."""
        for held in list(self.held.values()):
            if not held.is_written:
                held.observations.clear()
        self._recount()

    def _recount(self) -> None:
        self._nbytes = sum(held.nbytes for held in list(self.held.values()))

    def _note(self, held: Held, what: str) -> None:
        manager.accounts.note(self._logger.scope, held.key, what)


def write_array(logger: Logger, array: Any, key: str, step: int | None, attrs: Mapping[str, Any]) -> None:
    """Log an array with attributes."""
    logger.log({"array": array, "meta": attrs}, key, step, data_type="array")
