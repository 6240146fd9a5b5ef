"""Guard: what if a thread comes back in the middle of what a lock protects?

A signal handler, or a destructor that the garbage collector calls, runs inside whatever its thread is at, also inside
what that thread has locked. A plain lock would then wait for itself for ever, a re-entrant one would let it see and
change what is half done. Here it can ask, and leave its call for later.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

__all__ = ["Guard"]


class Guard:
    """A re-entrant lock for ``with`` blocks that keeps calls until its owner has left the outermost block."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._owner = 0
        self._depth = 0
        self._late: deque[Callable[[], object]] = deque()

    def is_mine(self) -> bool:
        """Return whether the calling thread is inside a block already."""
        return self._owner == threading.get_ident()

    def later(self, call: Callable[[], object]) -> None:
        """Have *call* made when the calling thread, which is inside a block, has left it."""
        self._late.append(call)

    def __enter__(self) -> None:
        self._lock.acquire()
        # A handler that interrupts us here does all its work before ours begins.
        self._depth += 1
        self._owner = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        is_outermost = not self._depth
        if is_outermost:
            self._owner = 0
        self._lock.release()
        while is_outermost and self._late:
            self._late.popleft()()
