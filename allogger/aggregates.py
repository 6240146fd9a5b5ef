"""Aggregates: what has a logger gathered, and when does one value of many go to its outputs?

Numbers are appended to a list for each key, which is one operation of the interpreter and needs no lock, in threads and
in signal handlers alike. Whoever finds the list long folds its first half into a small state, and puts the result in
place only if nobody else has done so meanwhile. The lock is held for no more than that exchange.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypedDict

import numpy as np

from allogger import ranks
from allogger.device import Promise, promise_of
from allogger.errors import UnknownName, words_of
from allogger.folding import DEFAULT_DECAY, How, State, aggregate
from allogger.guard import Guard
from allogger.manager import manager
from allogger.plain import Approximate, Unstorable, description, plain

if TYPE_CHECKING:
    from allogger.logger import Logger

__all__ = [
    "Aggregates",
    "Epoch",
    "Gathering",
    "Named",
    "Options",
    "Part",
    "Window",
    "checked_decay",
    "emit",
    "epoch",
    "log_state",
    "reduced",
    "so_far",
]

# So many calls wait at most; half of them stay, so that numbers which a device still computes are not waited for.
_WAITING_CALLS: Final = 512
#: So many numbers make one histogram at most.
MAX_VALUES: Final = 100_000


class Options(TypedDict, total=False):
    """What a call that gathers may be given; it holds for the key from then on."""

    nan: Literal["keep", "skip"]
    every_n: int
    every_seconds: float


class Window(NamedTuple):
    """What one emitted value is made of: so many calls, of which some were skipped as NaN, or refused by a device."""

    calls: int = 0
    skipped: int = 0
    refused: int = 0
    state: State = ()


@dataclass(eq=False)
class Epoch:
    """An open ``with`` block, for a scope and all below it, or what the `Named` keys of a phase have in common."""

    scope: str
    step: int | None
    phase: str | None

    def covers(self, scope: str) -> bool:
        """Return whether values of *scope* belong to it."""
        return scope == self.scope or scope.startswith(self.scope + ".")


_epochs: list[Epoch] = []


class Named(str):
    """A key that is the whole name of what is emitted, at the step that *epoch* has then, in no ``with`` block."""

    __slots__ = ("epoch",)
    epoch: Epoch

    def __new__(cls, name: str, epoch: Epoch) -> Named:
        """Return *name* as a key of *epoch*."""
        made = super().__new__(cls, name)
        made.epoch = epoch
        return made


class Gathering:
    """The numbers of one key for one aggregate, emitted under *name*."""

    def __init__(self, name: str, how: How, key: str, phase: str | None) -> None:
        self.name, self.how, self.key, self.phase = name, how, key, phase
        #: The epoch of a `Named` key.
        self.epoch = key.epoch if isinstance(key, Named) else None
        self.aggregate = aggregate(how)
        self.stride = 2 if self.aggregate.is_weighted else 1
        self._most = MAX_VALUES if self.is_histogram else _WAITING_CALLS
        self.options: Options = {}
        #: Numbers, or number, weight, number, weight, ...
        self.pending: list[Any] = []
        self.has_promises = False
        self.window = Window()
        self.guard = Guard()
        self.restart()

    @property
    def is_histogram(self) -> bool:
        """Whether all numbers are kept until they are emitted."""
        return self.aggregate.data_type is not None

    @property
    def is_timed(self) -> bool:
        """Whether it is emitted by itself, which is an x-axis of its own."""
        return bool(self.options.get("every_n") or self.options.get("every_seconds"))

    @property
    def waiting(self) -> int:
        """How many calls are not emitted yet."""
        return self.window.calls + len(self.pending) // self.stride

    def restart(self) -> None:
        """Begin the time, and find out how long *pending* may become before somebody has to look."""
        self.emit_at = time.monotonic() + self.options.get("every_seconds", math.inf)
        self._find_limit()

    def _find_limit(self) -> None:
        most = self._most
        if every := self.options.get("every_n"):
            most = min(most, max(1, every - self.window.calls))
        self.limit = 1 if "every_seconds" in self.options else most * self.stride

    def put(self, value: Any, weight: Any, note: Callable[[str], None]) -> None:
        """Append what any library calls a number; raises `Unstorable`. *note* is told what is not exact about it."""
        numbers = self._numbers(value, weight, note)
        self.has_promises |= isinstance(numbers[0], Promise) if numbers else False
        self.pending.extend(numbers)

    def _numbers(self, value: Any, weight: Any, note: Callable[[str], None]) -> list[Any]:
        """Return what of a call is appended to the pending numbers."""
        if (promise := promise_of(value)) is not None:
            number: Any = promise
        else:
            number = plain(value)
            if isinstance(number, np.ndarray) and number.dtype.kind in "biuf":
                if self.is_histogram:
                    return number.ravel().tolist()
                raise Unstorable(f"{description(value)} with {number.size} numbers, where one is needed")
            if type(number) is Approximate:
                note(number.note)
                number = float(number)
            if not isinstance(number, int | float):
                raise Unstorable(f"{description(value)}, where a number is needed")
        if self.stride == 1:
            return [number]
        share = plain(weight)
        if not (isinstance(share, int | float) and 0 <= share < _TOO_HEAVY):
            raise Unstorable("a weight is a number of 0 or more, and below 1e300")
        return [number, float(share)]

    def look(self) -> Window | None:
        """Called when much is pending: fold some of it; return a window that is complete."""
        if self.guard.is_mine():
            return None  # in a signal handler; the next call will look again
        every = self.options.get("every_n")
        if every and self.window.calls + len(self.pending) // self.stride >= every:
            return self._exactly(every)
        is_full = len(self.pending) >= self._most * self.stride
        if time.monotonic() >= self.emit_at or (is_full and self.is_histogram):
            return self.take()
        if is_full:
            self._fold(self._most // 2 * self.stride)
        self._find_limit()
        return None

    def _exactly(self, calls: int) -> Window | None:
        window = self.window
        # If another thread folds meanwhile, ours is in vain; then it finds the window complete, or the next call does.
        self._fold(max(0, calls - window.calls) * self.stride, window)
        return self._exchange(lambda window: window.calls >= calls)

    def take(self) -> Window | None:
        """Fold all that is pending, and begin anew; None if there was nothing. Not to be called inside the guard."""
        self.fold()
        return self._exchange(lambda window: window.calls > 0)

    def fold(self) -> Window:
        """Fold all that is pending, and return the window so far. Not to be called inside the guard."""
        # No more than that: other threads may append without a pause.
        left = len(self.pending)
        while left > 0 and self.pending:
            left -= self._fold(left)
        return self.window

    def _exchange(self, is_complete: Callable[[Window], bool]) -> Window | None:
        with self.guard:
            window = self.window
            if not is_complete(window):
                return None
            self.window = Window(state=window.state if self._goes_on(window.state) else ())
        self.restart()
        return window

    def _goes_on(self, state: State) -> bool:
        # After a NaN that was shown once it begins anew: it would be NaN for ever.
        return self.aggregate.goes_on and all(map(math.isfinite, state))

    def _fold(self, most: int, window: Window | None = None) -> int:
        """Fold at most so many entries of *pending* into the window; return how many, or 0 if another was faster."""
        window = self.window if window is None else window
        entries = self.pending[: most - most % self.stride]
        if not entries:
            return 0
        folded = self._folded(window, entries)
        with self.guard:
            if self.window is not window:
                return 0
            self.window = folded
            del self.pending[: len(entries)]
        return len(entries)

    def _folded(self, window: Window, entries: list[Any]) -> Window:
        calls, skipped, refused, state = window
        calls += len(entries) // self.stride
        numbers = _arrived(entries, self.stride) if self.has_promises else entries
        refused += (len(entries) - len(numbers)) // self.stride
        if self.options.get("nan") == "skip":
            before, numbers = len(numbers), _without_nan(numbers, self.stride)
            skipped += (before - len(numbers)) // self.stride
        if numbers:
            new = self.aggregate.of(numbers)
            state = self.aggregate.merge(state, new) if state else new
        return Window(calls, skipped, refused, state)


def _arrived(entries: list[Any], stride: int) -> list[Any]:
    """Return *entries* with the numbers that a device has promised; without those that it failed to give."""
    found: list[Any] = []
    for at in range(0, len(entries), stride):
        entry = entries[at : at + stride]
        if isinstance(entry[0], Promise):
            try:
                entry[0] = entry[0].array().item()
            except Exception:
                continue  # the program hears of the failure from its own calls
        found += entry
    return found


def _without_nan(entries: list[Any], stride: int) -> list[Any]:
    kept = (entries[at : at + stride] for at in range(0, len(entries), stride) if entries[at] == entries[at])
    return [number for entry in kept for number in entry]


def _small(number: int) -> int:
    if -(2**63) <= number < 2**63:
        return number
    raise OverflowError


# How a number of these types becomes Python's own, exactly; the others take the long way.
_QUICK: Final[dict[type, Callable[[Any], float]]] = {
    bool: bool,
    int: _small,
    **dict.fromkeys((np.float64, np.float32, np.float16), float),
    **dict.fromkeys((np.int64, np.int32, np.int16, np.int8, np.uint32, np.uint16, np.uint8), int),
}
_WEIGHTS: Final = frozenset({float, int})
_TOO_HEAVY: Final = 1e300


class Aggregates:
    """What one logger has gathered."""

    __slots__ = ("_cache", "_logger", "gatherings")

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        # Emptied whenever a decision may have changed; None: no output keeps it.
        self._cache: dict[Any, Gathering | None] = {}
        self.gatherings: dict[str, Gathering] = {}

    @property
    def scope(self) -> str:
        """The scope of the logger."""
        return self._logger.scope

    def forget_decisions(self) -> None:
        """Find out anew, at the next call of each key, where it belongs."""
        # Replaced, so that a call that is under way does not fill in what it found before.
        self._cache = {}

    def add(self, how: How, value: Any, key: Any, weight: Any, options: Mapping[str, Any]) -> None:
        """Gather *value*; never raises."""
        try:
            found = self._cache[how, key]
            if found is None:
                return
            if options and options != found.options:
                raise LookupError
            number = value if type(value) is float else _QUICK[type(value)](value)
            pending = found.pending
            if found.stride == 1:
                pending.append(number)
            elif type(weight) in _WEIGHTS and 0 <= weight < _TOO_HEAVY:
                pending.extend((number, weight))
            else:
                raise LookupError
            is_long = len(pending) >= found.limit
        except Exception:
            # A first call, something odd, or what cannot be a key.
            self._add_slowly(how, value, key, weight, options)
        else:
            if is_long:
                self._look(found)

    def _add_slowly(self, how: How, value: Any, key: Any, weight: Any, options: Mapping[str, Any]) -> None:
        name = "?"
        try:
            if manager.lock.is_mine():
                # We are in a signal handler that has interrupted the making of a decision; the value must not change.
                manager.lock.later(partial(self._add_slowly, how, copy.deepcopy(value), key, weight, dict(options)))
                return
            name = key if type(key) in (str, Named) else self._logger._name_of(key)
            found = self._gathering(how, name)
            if found is None:
                return
            if options:
                self._take_options(found, how, options)
            found.put(value, weight, partial(self._note, found))
            if len(found.pending) >= found.limit:
                self._look(found)
        except Exception as error:
            why = str(error) if isinstance(error, Unstorable) else f"{type(error).__name__}: {words_of(error)}"
            manager.accounts.not_stored(self.scope, name, why)

    def _take_options(self, found: Gathering, how: How, options: Mapping[str, Any]) -> None:
        if all(found.options.get(name, options) == option for name, option in options.items()):
            return
        known = {**found.options}
        what = f"argument of {how if isinstance(how, str) else how[0]}"
        for name, option in options.items():
            if name not in _CHECKS:
                self._note(found, f"{UnknownName.of(what, name, _CHECKS)}; ignored")
            elif known.get(name, option) != option:
                self._note(found, f"{name} was given with different values; the first one holds")
            elif not _CHECKS[name](option):
                self._note(found, f"{name}={option!r:.80} cannot be; ignored")
            else:
                known[name] = option
        if known != found.options:
            found.options = known  # type: ignore[assignment]
            found.restart()

    def _note(self, found: Gathering, what: str) -> None:
        manager.accounts.note(self.scope, found.name, what)

    def _gathering(self, how: How, key: str) -> Gathering | None:
        """Return what *key* is gathered in now; None, which costs nothing from then on, if no output keeps it."""
        cache = self._cache
        if (how, key) in cache:
            return cache[how, key]
        if not manager.is_ready():
            if manager.enabled:
                manager.accounts.not_configured(self.scope, key, manager.was_closed)
                return None
            cache[how, key] = None
            return None
        is_named = isinstance(key, Named)
        within = key.epoch if isinstance(key, Named) else _innermost(self.scope)
        phase = None if within is None else within.phase
        with manager.lock:
            found = self._named(how, key if is_named or phase is None else f"{phase}/{key}", phase)
            # What this rank does not log may be needed by the one that does.
            settings = self._logger.settings
            is_kept = self._logger.isEnabledFor(found.name) or (manager.is_muted(settings) and ranks.is_several())
            if is_kept:
                manager.see_the_end()
                self.gatherings[found.name] = found
            if cache is self._cache:
                cache[how, key] = found if is_kept else None
        return found if is_kept else None

    def _named(self, how: How, key: str, phase: str | None) -> Gathering:
        """Return the gathering of that aggregate and key, a new one under a name that no other has."""
        suffix = wanted = "" if isinstance(key, Named) else aggregate(how).suffix
        own = (how, key, phase)
        while (found := self.gatherings.get(key + suffix)) is not None and (found.how, found.key, found.phase) != own:
            suffix += wanted or "/mean"
        if suffix != wanted:
            what = f"is what two aggregates would be called; the second one is {key + suffix!r}"
            manager.accounts.note(self.scope, key + wanted, what)
        if found is None:
            found = Gathering(key + suffix, how, key, phase)
            if self._logger._slots.get(found.name) is not None:
                self._note(found, "is logged by itself too; both are one series")
        return found

    # ------------------------------------------------------------------------------------------------------------- emit

    def _look(self, found: Gathering) -> None:
        while (window := found.look()) is not None:
            if found.is_histogram and window.calls >= MAX_VALUES:
                self._note(found, f"{MAX_VALUES} numbers make one histogram at most; more make several")
            self._log(found, window, None)

    def emit(self, found: Gathering, step: int | None) -> None:
        """Log what was gathered there, if anything was, and begin anew; without *step*, at that of its epoch."""
        if found.guard.is_mine():
            # We are in a signal handler that has interrupted the exchange of a window.
            found.guard.later(partial(self.emit, found, step))
            return
        try:
            if (window := found.take()) is not None:
                self._log(found, window, step)
        except Exception as error:  # there is no memory, say
            manager.accounts.not_stored(self.scope, found.name, f"{type(error).__name__}: {words_of(error)}")

    def _log(self, found: Gathering, window: Window, step: int | None) -> None:
        if self.count(found, window):
            if step is None and not found.is_timed:
                step = found.epoch.step if found.epoch is not None else _step_of(self.scope, found.phase)
            log_state(self._logger, found.how, window.state, found.name, step)

    def count(self, found: Gathering, window: Window) -> int:
        """Count what is not in the result of *window*; return how many numbers are."""
        missing = window.skipped + window.refused
        if missing:
            manager.accounts.count(self.scope, found.name, missing)
        return window.calls - missing

    def drop(self) -> None:
        """Forget everything; what nobody will emit any more is counted."""
        for found in self.gatherings.values():
            if calls := found.waiting:
                manager.accounts.count(self.scope, found.name, calls)
        self.gatherings = {}
        self.forget_decisions()


def _is_count(given: Any) -> bool:
    return type(given) is int and given > 0


def _is_time(given: Any) -> bool:
    return type(given) in (int, float) and 0 < given < math.inf


_CHECKS: Final[dict[str, Callable[[Any], bool]]] = {
    "nan": ("keep", "skip").__contains__,
    "every_n": _is_count,
    "every_seconds": _is_time,
}


def checked_decay(logger: Logger, key: object, decay: Any) -> float:
    """Return *decay* if it can be one, else the default, which is told."""
    if type(decay) is float and 0.0 <= decay < 1.0:
        return decay
    if isinstance(decay, int | np.floating) and 0 <= decay < 1:
        return float(decay)
    what = f"a decay is at least 0 and below 1, not {decay!r:.80}; {DEFAULT_DECAY} is taken"
    manager.accounts.note(logger.scope, str(key), what)
    return DEFAULT_DECAY


# ---------------------------------------------------------------------------------------------------- several loggers


def emit(
    scope: str,
    step: int | None = None,
    *,
    children: bool = False,
    among: Callable[[Gathering], bool] = lambda _: True,
    reduce: str | None = None,
    logger_of: Callable[[str], Logger],
) -> None:
    """Log what *scope*, with *children* also those below it, has gathered *among* all; with *reduce* over all ranks."""
    chosen = [
        (each, found) for each in _all_of(scope, children) for found in list(each.gatherings.values()) if among(found)
    ]
    if reduce not in (None, "ranks"):
        manager.accounts.tell_once(f"{UnknownName.of('reduction', reduce, ['ranks'])}; ignored")
    if reduce == "ranks" and ranks.is_several():
        _emit_reduced(chosen, step, logger_of)
        return
    for each, found in chosen:
        each.emit(found, step)


class Part(NamedTuple):
    """What one rank has gathered under one name."""

    scope: str
    name: str
    how: How
    phase: str | None
    state: State
    #: Of a `Named` key.
    step: int | None = None


def _emit_reduced(
    chosen: Iterable[tuple[Aggregates, Gathering]], step: int | None, logger_of: Callable[[str], Logger]
) -> None:
    """Let rank 0 log what all ranks have gathered. All of them have to come here, whatever they have gathered."""
    own: list[Part] = []
    for each, found in chosen:
        if not found.guard.is_mine() and (window := found.take()) is not None and each.count(found, window):
            at = None if found.epoch is None else found.epoch.step
            own.append(Part(each.scope, found.name, found.how, found.phase, window.state, at))
    for part in reduced(own):
        at = part.step if step is None else step
        at = _step_of(part.scope, part.phase) if at is None else at
        log_state(logger_of(part.scope), part.how, part.state, part.name, at)


def reduced(own: list[Part]) -> Iterable[Part]:
    """Return what this rank has to log of the *own* parts of all ranks: rank 0 all of it. Waits for all ranks."""
    parts = own
    try:
        rank, texts = ranks.exchange(json.dumps(own))
        parts = [] if rank else [Part(*fields) for text in texts for fields in json.loads(text)]
    except Exception as error:
        manager.accounts.tell_once(f"no reduction over ranks, each logs its own: {type(error).__name__}: {error}")
    return _merged(parts)


def _merged(parts: Iterable[Part]) -> Iterable[Part]:
    merged: dict[tuple[str, str], Part] = {}
    for part in parts:
        how = part.how if isinstance(part.how, str) else (part.how[0], part.how[1])
        before = merged.get(part[:2])
        what = aggregate(how)
        state = tuple(part.state) if before is None else (what.across or what.merge)(before.state, tuple(part.state))
        merged[part[:2]] = part._replace(how=how, state=state)
    return merged.values()


def log_state(logger: Logger, how: How, state: State, name: str, step: int | None) -> None:
    """Log what that aggregate makes of *state*."""
    what = aggregate(how)
    if what.data_type is None:
        logger.log(what.result(state), name, step)
    else:
        logger.log(what.result(state), name, step, data_type=what.data_type)


def so_far(logger: Logger, name: str) -> Any:
    """Return what *logger* would emit under *name* now, None for nothing; waits for what a device still computes."""
    found = logger._aggregates.gatherings.get(name)
    if found is None or found.guard.is_mine():
        return None
    state = found.fold().state
    return found.aggregate.result(state) if state else None


def _all_of(scope: str, children: bool = True) -> list[Aggregates]:
    """Return what the logger of *scope*, and with *children* those below it, have gathered."""
    loggers = list(manager.loggers.items())
    return [
        logger._aggregates for name, logger in loggers if name == scope or (children and name.startswith(scope + "."))
    ]


# -------------------------------------------------------------------------------------------------------------- epochs


def _innermost(scope: str) -> Epoch | None:
    return next((each for each in reversed(_epochs) if each.covers(scope)), None)


def _step_of(scope: str, phase: str | None) -> int | None:
    """Return the step of the epoch that is open for values of that phase; None, to count, if there is none."""
    return next((each.step for each in reversed(_epochs) if each.phase == phase and each.covers(scope)), None)


@contextlib.contextmanager
def epoch(
    scope: str, step: int | None, phase: str | None, reduce: str | None, logger_of: Callable[[str], Logger]
) -> Iterator[None]:
    """Gather for an epoch, see `Logger.epoch`."""
    one = Epoch(scope, step, None if phase is None else str(phase))

    def emit_own(reduce: str | None = None) -> None:
        # What is emitted every so often has an x-axis of its own.
        emit(
            scope,
            children=True,
            among=lambda found: found.phase == one.phase and not found.is_timed and found.epoch is None,
            reduce=reduce,
            logger_of=logger_of,
        )

    # What was gathered before under the same names is no part of the epoch.
    emit_own(reduce)
    _epochs.append(one)
    _forget_decisions(scope)
    try:
        yield
    except BaseException:
        # Other ranks may not come here.
        emit_own()
        raise
    else:
        emit_own(reduce)
    finally:
        _epochs.remove(one)
        _forget_decisions(scope)


def _forget_decisions(scope: str) -> None:
    for each in _all_of(scope):
        each.forget_decisions()
