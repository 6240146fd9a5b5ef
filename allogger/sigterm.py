"""Sigterm: how is what was logged saved when SIGTERM ends the process, which then ends as it would without us?

A handler written in Python is not enough. It runs when the main thread comes back to the interpreter: a long
computation makes the process deaf, and a signal that arrives just before the thread begins to wait for something is
heard when that wait is over. Of pools that were terminated with such a handler in their workers, one of twenty hung. So
the C part of Python's signal handling wakes a thread of ours through a pipe, and that thread saves and ends the
process, whatever the main thread is at.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

__all__ = ["hold", "let_go_in_child", "let_go_in_parent", "watch"]

# Given a signal to end, a process has about this long before somebody loses patience.
SAVE_SECONDS = 5.0

_watch: _Watch | None = None
_mask = threading.local()


def watch(save: Callable[[float], object]) -> None:
    """Have *save* called, with the seconds that it may take, before SIGTERM ends the process.

    Does nothing where somebody else handles the signal, or will again when it is called in another thread than the main
    one, because only that can set handlers.
    """
    global _watch
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return
    if _watch is not None:
        _watch.forget()
    _watch = _Watch(save)
    _watch.begin()


class _Watch:
    """The handler, the pipe that wakes the thread, and the thread."""

    def __init__(self, save: Callable[[float], object]) -> None:
        self._save = save
        self._pid = os.getpid()
        self._was_called = False
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._thread = threading.Thread(target=self._run, name="allogger-sigterm", daemon=True)

    def begin(self) -> None:
        """Watch from now on."""
        self._thread.start()
        before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        if before != -1:
            # An event loop's. Then our handler wakes the thread.
            signal.set_wakeup_fd(before)
        signal.signal(signal.SIGTERM, self._handle)

    @property
    def is_in_charge(self) -> bool:
        """Whether nobody has set another handler since."""
        return signal.getsignal(signal.SIGTERM) == self._handle

    def forget(self) -> None:
        """Release the descriptors; where the thread still waits, it ends."""
        before = signal.set_wakeup_fd(-1)
        if before not in (-1, self._write_end):
            signal.set_wakeup_fd(before)
        os.close(self._write_end)
        if os.getpid() != self._pid:
            os.close(self._read_end)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._was_called = True
        with contextlib.suppress(OSError):
            os.write(self._write_end, bytes([number]))
        # The program goes no further. Should that thread be gone, this one ends the process.
        self._thread.join(3 * SAVE_SECONDS)
        _end_by(number)

    def _run(self) -> None:
        while signals := os.read(self._read_end, 4096):
            if signal.SIGTERM in signals and (self._was_called or self.is_in_charge):
                self._save_in_time()
                _end_by(signal.SIGTERM)
        os.close(self._read_end)

    def _save_in_time(self) -> None:
        # In yet another thread, because what the main thread was interrupted in may hold any lock.
        helper = threading.Thread(target=self._save, args=(SAVE_SECONDS,), daemon=True)
        try:
            helper.start()
        except RuntimeError:  # the interpreter is shutting down
            self._save(SAVE_SECONDS)
        else:
            helper.join(2 * SAVE_SECONDS)


def _end_by(number: int) -> None:
    """End the process by the signal; `signal.signal` works in the main thread only."""
    ctypes.pythonapi.PyOS_setsig(number, None)
    os.kill(os.getpid(), number)


# ---------------------------------------------------------------------------------------------------------------- forks


def hold() -> None:
    """Hold SIGTERM back from the calling thread, which is about to fork.

    Python forgets what arrives for a forked child before the child could have handled it. Without a handler of ours it
    would have ended; with one, a child that is terminated as soon as it is started would live on.
    """
    _mask.before = None
    if _watch is not None and _watch.is_in_charge:
        _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))


def let_go_in_parent() -> None:
    """Let the signal through again."""
    if (before := getattr(_mask, "before", None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_go_in_child() -> None:
    """Let the signal through again; it ends the child as if we were not there, until the child calls `watch` itself."""
    global _watch
    inherited, _watch = _watch, None
    if inherited is not None:
        if inherited.is_in_charge:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        inherited.forget()
    let_go_in_parent()
