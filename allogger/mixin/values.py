"""Logged values: what does an object keep of the many values that it logs under one name?

Register your own by a subclass of `LoggedValue`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Any, ClassVar, Final, Literal

from numpy.typing import NDArray

from allogger.aggregates import Gathering, Window
from allogger.errors import UnknownName
from allogger.folding import How, State, aggregate
from allogger.manager import manager
from allogger.plain import copied

__all__ = ["Count", "Folded", "Latest", "LatestArray", "LoggedValue", "Max", "Mean", "Min", "Std", "Sum"]

_POLICIES: Final = ("keep", "skip")


class LoggedValue(ABC):
    """A value that a `LoggingMixin` has registered. Threads may log and read it at the same time."""

    #: What it is logged as by `LoggingMixin.collect`; None: found out from the value.
    data_type: ClassVar[str | None] = None
    #: Set it to leave out what is logged from now on.
    skip_logging: bool = False

    @abstractmethod
    def log(self, value: Any) -> None:
        """Take *value*; keep no reference to it. What it raises is counted and told, and goes no further."""

    @abstractmethod
    def get(self, reset: bool = False) -> Any:
        """Return what there is since it was last reset, None for nothing; with *reset* begin anew."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what was logged; also called in a forked child, where a lock of other threads is never released."""


class Folded(LoggedValue):
    """Numbers of which one is made: the parent of those below.

    With ``nan="skip"`` a NaN is left out, else it makes the result NaN. A number of torch on a GPU is not waited for.
    """

    how: ClassVar[How]

    def __init__(self, *, nan: Literal["keep", "skip"] = "keep") -> None:
        if nan not in _POLICIES:
            raise UnknownName.of("policy for NaN", nan, _POLICIES)
        self.nan = nan
        self.reset()

    def log(self, value: Any, weight: float = 1.0) -> None:
        """Take a number; in a mean and a deviation it has a *weight* of 0 or more, such as the size of the batch."""
        gathering = self._gathering
        gathering.put(value, weight, manager.accounts.tell_once)
        if len(gathering.pending) >= gathering.limit:
            gathering.look()

    def get(self, reset: bool = False) -> Any:
        """Return the result, None if there is no number."""
        return self.result(self.window(reset))

    def window(self, reset: bool = False) -> Window:
        """Return what the result is made of."""
        gathering = self._gathering
        if gathering.guard.is_mine():
            return Window()  # in a signal handler that has interrupted another reader
        return gathering.take() or Window() if reset else gathering.fold()

    def result(self, window: Window) -> Any:
        """Return what is made of *window*."""
        return aggregate(self.how).result(self.state(window)) if numbers_in(window) else None

    def state(self, window: Window) -> State:
        """Return what those of several ranks are merged by."""
        return window.state

    def reset(self) -> None:
        """Forget what was logged."""
        self._gathering = Gathering("", self.how, "", None)
        self._gathering.options = {"nan": self.nan}

    def __getstate__(self) -> dict[str, Any]:
        # A copy has the same numbers, but locks cannot be copied.
        return {**vars(self), "_gathering": self.window()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.reset()
        self._gathering.window = state["_gathering"]


def numbers_in(window: Window) -> int:
    """Return how many numbers have a part in the result of *window*."""
    return window.calls - window.skipped - window.refused


class Mean(Folded):
    """The running mean, weighted, since it was last reset.

    >>> loss = Mean()
    >>> loss.log(1.0, weight=3)
    >>> loss.log(5.0)
    >>> loss.get(reset=True), loss.get()
    (2.0, None)
    """

    how = "mean"


class Std(Folded):
    """The standard deviation, weighted, with n in the denominator."""

    how = "std"


class Sum(Folded):
    """The sum; that of ints is exact."""

    how = "sum"


class Min(Folded):
    """The smallest number."""

    how = "min"


class Max(Folded):
    """The largest number."""

    how = "max"


class Count(Folded):
    """How many numbers were logged."""

    how = "sum"

    def state(self, window: Window) -> State:
        """Return the count as a sum, so that ranks add theirs up."""
        return numbers_in(window), 0


class Latest(Folded):
    """The latest number."""

    how = "last"


class LatestArray(LoggedValue):
    """The latest array, tensor or list, as a numpy array: a copy, so it keeps no graph of torch alive."""

    data_type = "array"

    def __init__(self) -> None:
        # What a deque does is one operation of the interpreter, so no lock is needed.
        self._kept: deque[NDArray[Any]] = deque(maxlen=1)

    def log(self, value: Any) -> None:
        """Take an array of any library."""
        self._kept.append(copied(value))

    def get(self, reset: bool = False) -> NDArray[Any] | None:
        """Return the array, None if there is none."""
        try:
            return self._kept.pop() if reset else self._kept[-1].copy()
        except IndexError:
            return None

    def reset(self) -> None:
        """Forget the array."""
        self._kept.clear()
