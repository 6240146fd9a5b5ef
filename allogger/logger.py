"""Logger: how does a value leave the user's code?"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
import operator
import os
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack, cast

import numpy as np

from allogger import aggregates, messages
from allogger.aggregates import Aggregates, Options
from allogger.device import Promise, promise_of
from allogger.errors import ConfigError, UnknownName, words_of
from allogger.folding import DEFAULT_DECAY, How
from allogger.intake import PACK, PACK_STEP, STEP_FLAG, WAKE_BYTES
from allogger.kind import FileKind, Kind, is_known, kind_of
from allogger.manager import Manager, NoLogdir, NotReady, NotTaken, Overrides, check, manager
from allogger.plain import Approximate, Unstorable, is_config, leaves, plain
from allogger.record import BOOL, FLOAT, INT, Payload, full_key, normal_scope
from allogger.registry import kinds, writers
from allogger.settings import Settings, output_of
from allogger.sources import environment, is_enabled, parse_file, split

if TYPE_CHECKING:
    from allogger.checkpoints import Checkpoints

__all__ = ["Logger", "basic_configure", "close", "flush", "get_logger", "get_root", "run"]

# Types whose values struct packs exactly as they are.
_CODES: dict[type, int] = {
    float: FLOAT,
    int: INT,
    bool: BOOL,
    np.float64: FLOAT,
    np.float32: FLOAT,
    np.float16: FLOAT,
    **{getattr(np, f"{sign}int{bits}"): INT for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def _number_in_array(value: Any) -> Any:
    if value.dtype.kind not in "fiub":
        raise TypeError  # a time in ns would give an int
    return value.item()


def _number_in_tensor(value: Any) -> Any:
    if not value.is_cpu:
        raise TypeError
    # `item` gives the interpreter up, and whoever does that beside a busy thread waits for it.
    return value.item() if value.ndim else value.tolist()


# How an array or tensor of one element gives its number; the types of tensors are added when they are first seen.
_ITEMS: dict[type, Callable[[Any], Any]] = {np.ndarray: _number_in_array}
# Of an array they ask for nothing but its dtype and shape.
_KINDS_OF_ARRAYS = ("array", "histogram", "image")
_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1

LogCall = Callable[..., None]


class _Alike(NamedTuple):
    """What was decided about an array, and holds for all like it as long as no *changes* are made to the kinds."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    changes: int
    route: int
    kind: str
    attrs: Mapping[str, Any]


class Logger:
    """A named source of values; made by `get_logger`, never directly. The same scope is always the same object."""

    def __init__(self, scope: str) -> None:
        self._scope = scope
        # Key -> id of the slots of its numbers; None: no output keeps it. Emptied whenever a decision may have changed.
        self._slots: dict[Any, int | None] = {}
        # Key -> what was decided about the last array there; emptied likewise.
        self._alike: dict[Any, _Alike] = {}
        self._routes: dict[tuple[str, str, Overrides], int | None] = {}
        self._kept: dict[tuple[str, Overrides], tuple[str, ...]] = {}
        self._held = bytearray()
        self._is_handing_on = False
        self._aggregates = Aggregates(self)
        self._checkpoints: Checkpoints | None = None
        self._log = _make_log(self)
        self._choose_log()

    # ------------------------------------------------------------------------------------------------------ log a value

    def log(
        self,
        value: Any,
        key: str,
        step: int | None = None,
        *,
        data_type: str | None = None,
        batch_idx: int | None = None,
        **to: bool | None,
    ) -> None:
        """Log *value* under *key*. Never raises; what cannot be stored is counted and reported once per key.

        *value*: a number, text, array, tensor, list, figure, or dict of these; it is copied. *step*: an int64; counted
        from 1 when not given. *data_type*: a kind (``"scalar"``, ``"array"``, ``"image"``, ``"params"``, ``"table"``,
        ...) instead of the inferred one. *batch_idx*: the batch within the epoch, for ``log_freq``.
        ``to_<output>=True`` or ``False`` switches an output on or off for this call.
        """
        self._log_slowly(value, key, step, {"data_type": data_type, "batch_idx": batch_idx, **to})

    def _log_slowly(
        self, value: Any, key: Any, step: Any, options: Mapping[str, Any], now: float | None = None
    ) -> None:
        """Everything that the closure of `_make_log` leaves to others: first calls, steps, kinds, odd values."""
        now = time.time() if now is None else now
        name = "?"
        try:
            if manager.lock.is_mine():
                # We are in a signal handler that has interrupted the making of a decision; the value must not change.
                manager.lock.later(partial(self._log_slowly, copy.deepcopy(value), key, step, options, now))
                return
            name = key if type(key) is str else self._name_of(key)
            if not manager.is_ready():
                if not manager.enabled:
                    self._slots[name] = None
                else:
                    manager.accounts.not_configured(self._scope, name, manager.was_closed)
                return
            data_type = options.get("data_type")
            if not self._is_due(options.get("batch_idx")):
                return
            overrides = self._overrides(name, options)
            if not (_is_tree(value, data_type) or self._kept_by(name, overrides)):
                return
            if not manager.dispatch.has_room():
                manager.accounts.not_stored(self._scope, name, "the buffer is full and when_full='drop'")
                return
            self._put(value, name, self._step(name, step), data_type, overrides, now, options)
        except NotReady:
            manager.accounts.not_configured(self._scope, name, manager.was_closed)
        except NoLogdir:
            manager.accounts.count(self._scope, name)
        except (Unstorable, NotTaken) as error:
            manager.accounts.not_stored(self._scope, name, str(error))
        except Exception as error:
            manager.accounts.not_stored(self._scope, name, f"{type(error).__name__}: {words_of(error)}")

    def _put(
        self,
        value: Any,
        key: str,
        step: int | None,
        data_type: str | None,
        overrides: Overrides,
        now: float,
        options: Mapping[str, Any],
    ) -> None:
        if _is_tree(value, data_type):
            for leaf_key, leaf in leaves(value, key):
                self._log_slowly(leaf, leaf_key, step, {**options, "data_type": None}, now)
            return
        if data_type is not None and data_type not in ("scalar", "scalars"):
            kind = manager.kind(data_type)
            self._put_object(key, step, kind.name, self._encoded(kind, value, key, overrides), overrides, now)
            return
        if (promise := promise_of(value)) is not None:
            self._put_object(key, step, "scalar", (promise, {}), overrides, now)
            return
        try:
            found = plain(value)
        except Unstorable:
            # Figures are neither numbers nor arrays, and a plug-in may know the value.
            found = value
            if data_type is not None or not is_known(value, manager.all_kinds()):
                raise
        if type(found) is Approximate:
            manager.accounts.note(self._scope, key, found.note)
            found = float(found)
        code = _CODES.get(type(found))
        if code is None:
            kind = manager.kind("scalar") if data_type is not None else kind_of(found, manager.all_kinds())
            encoded = self._encoded(kind, found, key, overrides)
            self._put_object(key, step, kind.name, encoded, overrides, now)
            if found is value and data_type is None and not overrides:
                self._keep_decision(value, key, kind.name, encoded[1])
            return
        routes = self._routes
        slot = self._route(key, "scalar", overrides)
        if slot is None:
            return
        if type(value).__module__ == "torch" and hasattr(value, "is_cpu"):
            _ITEMS[type(value)] = _number_in_tensor
        buffer = self._buffer()
        if step is None:
            buffer.extend(PACK[code](slot + code, now, found))
        else:
            buffer.extend(PACK_STEP[code]((slot + code) | STEP_FLAG, 0.0, step, slot + code, now, found))
        if buffer is not self._held and not overrides and self._slots.get(key) != slot:
            self._keep_slot(key, slot, routes)
        self._watch()

    def _keep_decision(self, value: Any, key: str, kind: str, attrs: Mapping[str, Any]) -> None:
        """Let `_put_alike` find what holds for all arrays of this key, dtype and shape."""
        # First, so that whatever changes from here on is seen: below, or by `_put_alike`.
        routes, changes = self._routes, kinds.changes
        is_plain = type(value) is np.ndarray and value.dtype.kind in "biufc" and kind in _KINDS_OF_ARRAYS
        if not is_plain or self.settings.manual_flush:
            return
        if len(manager.all_kinds()) > len(kinds.builtin):
            return  # a plug-in may look at the numbers of each array before it says whether it takes that one
        route = routes.get((key, kind, ()))
        with manager.lock:
            if route is not None and routes is self._routes and not manager.dispatch.is_full:
                self._alike[key] = _Alike(value.dtype, value.shape, changes, route, kind, attrs)

    def _put_alike(self, value: Any, key: Any, step: Any) -> bool:
        """Log an array like the last one under the same key; return False if there is none, or it cannot be done."""
        try:
            dtype, shape, changes, route, kind, attrs = self._alike[key]
            if value.dtype is not dtype or value.shape != shape or changes != kinds.changes:
                return False
            if step is not None and not (type(step) is int and _MIN_INT64 <= step <= _MAX_INT64):
                return False
            manager.intake.put_object(manager.intake.buffer, route, time.time(), step, kind, value.copy(), attrs)
        except Exception:
            return False
        self._watch()
        return True

    def _encoded(self, kind: Kind, value: Any, key: str, overrides: Overrides) -> tuple[Payload, Mapping[str, Any]]:
        if not isinstance(kind, FileKind):
            return kind.encode(value)
        # First, because it raises where no output takes the kind: then no file is touched.
        self._route(key, kind.name, overrides)
        logdir = self.logdir
        if logdir is None:
            raise NotTaken(f"values of the kind {kind.name!r} are files of the logdir, and there is none")
        # Not for the start of all the programs that store none.
        from allogger.files import Files

        return kind.encode(dict(kind.store(value, Files(logdir, full_key(self._scope, key)))))

    def _put_object(
        self,
        key: str,
        step: int | None,
        kind: str,
        encoded: tuple[Payload | Promise, Mapping[str, Any]],
        overrides: Overrides,
        now: float,
    ) -> None:
        slot = self._route(key, kind, overrides)
        if slot is not None:
            manager.intake.put_object(self._buffer(), slot, now, step, kind, *encoded)
            self._watch()

    def _watch(self) -> None:
        if self._held and manager.holds_much(len(self._held)):
            for logger in list(manager.loggers.values()):
                logger._hand_on()
        if manager.intake.nbytes > manager.intake.attention[0]:
            manager.pressure()

    def _buffer(self) -> bytearray:
        return self._held if self.settings.manual_flush else manager.intake.buffer

    def _route(self, key: str, kind: str, overrides: Overrides) -> int | None:
        routes, which = self._routes, (key, kind, overrides)
        if which not in routes:
            kept_by = self._kept_by(key, overrides)
            routes[which] = manager.route(self._scope, key, kind, kept_by) if kept_by else None
        return routes[which]

    def _kept_by(self, key: str, overrides: Overrides) -> tuple[str, ...]:
        """Return the outputs that keep *key*; the filters are asked once."""
        routes, kept, which = self._routes, self._kept, (key, overrides)
        if which not in kept:
            kept[which] = manager.kept_by(self._scope, key, overrides)
            if not overrides and not kept[which]:
                self._keep_slot(key, None, routes)
        return kept[which]

    def _keep_slot(self, key: str, slot: int | None, routes: object) -> None:
        """Let the next calls with *key* find their slot, unless *routes* are those of the past."""
        with manager.lock:
            if routes is self._routes and not manager.dispatch.is_full:
                self._slots[key] = slot

    def _name_of(self, key: Any) -> str:
        if issubclass(type(key), str):
            # What an Enum with texts shows is not its text, under which the dicts of a logger would find it.
            return str.__str__(key)
        name = "".join(str(key))
        # Not once per key: who gives the key first and the value second has a new key with each value.
        what = (
            f"a key is a str, and comes after the value; in {self._scope!r} a {type(key).__name__} was given, such as"
        )
        manager.accounts.tell_once(what, _shown(name))
        return name

    def _is_due(self, batch_idx: Any) -> bool:
        every = self.settings.log_freq
        if batch_idx is None or every == 1:
            return True
        return every != 0 and operator.index(batch_idx) % cast(int, every) == 0

    def _overrides(self, key: str, options: Mapping[str, Any]) -> Overrides:
        found: dict[str, bool] = {}
        for name, wanted in options.items():
            if name in ("data_type", "batch_idx"):
                continue
            output = output_of(name.removeprefix("to_"))
            if not name.startswith("to_") or output not in writers:
                known = [f"to_{known}" for known in writers.names()]
                manager.accounts.note(self._scope, key, f"{UnknownName.of('argument of log', name, known)}; ignored")
            elif wanted is not None:
                found[output] = bool(wanted)
        return tuple(sorted(found.items()))

    def _step(self, key: str, step: Any) -> int | None:
        if step is None:
            return None
        try:
            found = plain_index(step)
            number = int(found) if isinstance(found, float) and found.is_integer() else operator.index(found)
            if _MIN_INT64 <= number <= _MAX_INT64:
                return number
        except Exception:
            pass  # reported below, like a number that is too large
        what = "a step is a whole number within int64; steps are counted instead of taking such as"
        manager.accounts.note(self._scope, key, what, _shown(step))
        return None

    def checkpoint(
        self,
        state: Any,
        key: str = "checkpoint",
        step: int | None = None,
        *,
        metric: Any = None,
        mode: str = "min",
        keep_last: int | None = 5,
        keep_best: int = 1,
    ) -> None:
        """Store a nested *state* to go on from, and remove older ones of *key* that are no longer kept.

        *state*: dicts, lists and tuples of arrays, tensors, numbers, texts and None; models and optimizers stand for
        their ``state_dict()``. It is on disk when the call returns, unless ``manual_flush`` holds its record back.

        Kept are the last *keep_last* (None: all) and the *keep_best* with the smallest *metric*, or with ``mode="max"``
        the largest, also from one start of the program to the next. An old one is removed when the new one is complete
        and recorded.

        Raises `ConfigError` for an impossible *mode*, *keep_last* or *keep_best*; otherwise, like `log`, it never
        raises. Read them with `Run.checkpoints`.
        """
        # Not for the start of all the programs that store none.
        from allogger.checkpoints import Checkpoints, Rule

        rule = Rule.of(mode, keep_last, keep_best)
        own = self._checkpoints = self._checkpoints or Checkpoints(self)
        own.save(state, key, step, metric, rule)

    # ------------------------------------------------------------------------------------------------- gather and emit

    def mean(self, value: Any, key: str, weight: float = 1.0, **options: Unpack[Options]) -> None:
        """Gather *value* for a mean, which is emitted under *key*. Never raises, and costs little.

        It is logged at the end of an `epoch`, by `emit`, and at the latest when everything is closed. Of the options,
        ``every_n`` and ``every_seconds`` have it logged by itself after so many calls or that time. With ``nan="skip"``
        a NaN is left out and counted; else it makes the result NaN. *weight*: 0 or more, such as the size of a batch.
        """
        self._gather("mean", value, key, weight, options)

    def std(self, value: Any, key: str, weight: float = 1.0, **options: Unpack[Options]) -> None:
        """Gather for the standard deviation, ``key/std``, with n in the denominator as numpy has it; see `mean`."""
        self._gather("std", value, key, weight, options)

    def sum(self, value: Any, key: str, **options: Unpack[Options]) -> None:
        """Gather for a sum, ``key/sum``; that of ints is exact; see `mean`."""
        self._gather("sum", value, key, 1.0, options)

    def min(self, value: Any, key: str, **options: Unpack[Options]) -> None:
        """Gather for the smallest value, ``key/min``; see `mean`."""
        self._gather("min", value, key, 1.0, options)

    def max(self, value: Any, key: str, **options: Unpack[Options]) -> None:
        """Gather for the largest value, ``key/max``; see `mean`."""
        self._gather("max", value, key, 1.0, options)

    def last(self, value: Any, key: str, **options: Unpack[Options]) -> None:
        """Keep the latest value, ``key/last``; see `mean`."""
        self._gather("last", value, key, 1.0, options)

    def ema(self, value: Any, key: str, decay: float = DEFAULT_DECAY, **options: Unpack[Options]) -> None:
        """Gather for an exponential moving average, ``key/ema0.99``; see `mean`.

        A value weighs *decay* times as much as the next one. The weights are normed, so it is not drawn to 0 at first.
        The average goes on from one emit to the next, and begins anew after one that was not finite.
        """
        self._gather(("ema", aggregates.checked_decay(self, key, decay)), value, key, 1.0, options)

    def histogram_of(self, value: Any, key: str, **options: Unpack[Options]) -> None:
        """Gather a number, or all numbers of an array, for a histogram, ``key/histogram``; see `mean`.

        At most 100,000 numbers are held; with more, several histograms are logged.
        """
        self._gather("histogram", value, key, 1.0, options)

    def emit(self, step: int | None = None, *, children: bool = False, reduce: str | None = None) -> None:
        """Log what was gathered, of the scopes below too with *children*, at *step*; then gathering begins anew.

        What was gathered nothing for is not logged. Without *step* it is counted, or within an `epoch` taken from it.
        With ``reduce="ranks"`` the values of all ranks of torch.distributed or mpi4py become one, which rank 0 logs;
        then every rank has to make this call.
        """
        aggregates.emit(self._scope, step, children=children, reduce=reduce, logger_of=get_logger)

    @contextlib.contextmanager
    def epoch(self, n: int | None, phase: str | None = None, *, reduce: str | None = None) -> Iterator[Logger]:
        """Gather for the length of a ``with`` block, here and in all scopes below, and log the results at its end.

        The step is *n*, the keys begin with *phase*: ``train/loss``. That holds for all threads. In nested blocks the
        innermost counts. A block that raises emits, too, but does not *reduce*, see `emit`. What has ``every_n`` or
        ``every_seconds`` goes on at its own pace.
        """
        with aggregates.epoch(self._scope, n, phase, reduce, get_logger):
            yield self

    def _gather(self, how: How, value: Any, key: Any, weight: Any, options: Mapping[str, Any]) -> None:
        self._aggregates.add(how, value, key, weight, options)

    # -------------------------------------------------------------------------------------------------- what holds here

    @property
    def settings(self) -> Settings:
        """What holds for this scope: its own settings laid over those of the scopes above."""
        return manager.effective(self._scope)

    @property
    def scope(self) -> str:
        """The full name, starting with ``root``."""
        return self._scope

    @property
    def logdir(self) -> Path | None:
        """The folder of the run that this scope logs to."""
        return manager.logdir(self._scope)

    @property
    def parent(self) -> Logger | None:
        """The nearest logger above that exists; None for the root."""
        above = self._scope
        while above != "root":
            above = above.rpartition(".")[0]
            if above in manager.loggers or above == "root":
                return get_logger(above)
        return None

    @property
    def default_outputs(self) -> list[str]:
        """The names of the outputs that a call without ``to_<output>`` goes to."""
        return list(cast("tuple[str, ...]", self.settings.default_outputs))

    def isEnabledFor(self, key: str) -> bool:  # as the standard logging has it
        """Return whether any output keeps *key*, so that costly values need not be computed."""
        try:
            return manager.is_ready() and bool(self._kept_by(key, ()))
        except NotReady:
            return False

    def flush(self, children: bool = False) -> None:
        """Hand on what ``manual_flush`` has held back, of the scopes below too with *children*, and flush to disk."""
        for scope, logger in list(manager.loggers.items()):
            if logger is self or (children and scope.startswith(self._scope + ".")):
                logger._hand_on()
        manager.flush()

    # --------------------------------------------------------------------------------------------------------- counters

    @property
    def manager(self) -> Manager:
        """The state of the library in this process."""
        return manager

    @property
    def step_per_key(self) -> MutableMapping[tuple[str, str], int]:
        """The next automatic step by ``(scope-process, key)``, such as ``("root.main-MainProcess", "loss")``."""
        return StepPerKey()

    @step_per_key.setter
    def step_per_key(self, steps: Mapping[tuple[str, str], int]) -> None:
        manager.set_counters({(str(who), str(key)): step for (who, key), step in dict(steps).items()})

    def state_dict(self) -> dict[str, Any]:
        """Return the step counters of this scope and all below, for a checkpoint; JSON can hold it."""
        steps: dict[str, dict[str, int]] = {}
        for (who, key), step in manager.counters().items():
            scope = who.rpartition("-")[0]
            if scope == self._scope or scope.startswith(self._scope + "."):
                steps.setdefault(who, {})[key] = step
        return {"step_per_key": steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the step counters of `state_dict`; raises `ConfigError` for anything else."""
        try:
            steps = {(who, key): step for who, of in state["step_per_key"].items() for key, step in of.items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"this is no state that state_dict() returned: {state!r:.200}") from error
        manager.set_counters(steps)

    # ------------------------------------------------------------------------------------------------------------- text

    def debug(self, message: object, *args: object, to_stdout: bool = False) -> None:
        """Write a text message of level DEBUG to the text log, and to the console with *to_stdout*."""
        self._say(logging.DEBUG, message, args, to_stdout)

    def info(self, message: object, *args: object, to_stdout: bool = False) -> None:
        """Write a text message of level INFO, see `debug`."""
        self._say(logging.INFO, message, args, to_stdout)

    def warning(self, message: object, *args: object, to_stdout: bool = False) -> None:
        """Write a text message of level WARNING, see `debug`."""
        self._say(logging.WARNING, message, args, to_stdout)

    def error(self, message: object, *args: object, to_stdout: bool = False) -> None:
        """Write a text message of level ERROR, see `debug`."""
        self._say(logging.ERROR, message, args, to_stdout)

    def critical(self, message: object, *args: object, to_stdout: bool = False) -> None:
        """Write a text message of level CRITICAL, see `debug`."""
        self._say(logging.CRITICAL, message, args, to_stdout)

    def exception(self, message: object, *args: object, to_stdout: bool = False) -> None:
        """Write a text message of level ERROR with the traceback of the exception being handled, see `debug`."""
        self._say(logging.ERROR, message, args, to_stdout, exc_info=True)

    def _say(
        self, level: int, message: object, args: tuple[object, ...], to_stdout: bool, exc_info: bool = False
    ) -> None:
        manager.is_ready()
        if not manager.enabled:
            return
        messages.emit(
            self._scope,
            level,
            message,
            args,
            to_stdout=to_stdout,
            exc_info=exc_info,
            path=manager.log_path(self._scope),
            params=cast("Mapping[str, Any]", self.settings.basic_logging_params),
            stacklevel=3,
        )

    # -------------------------------------------------------------------------------------------------- for the manager

    def _bind(self, hand_on: bool = True) -> None:
        """Forget all decisions; they are made again at the next call of each key."""
        if hand_on:
            if self._held and not self.settings.manual_flush:
                self._hand_on()
        else:
            self._held.clear()
            self._is_handing_on = False  # a thread that was at it has no part in a forked child
            self._aggregates = Aggregates(self)
        self._aggregates.forget_decisions()
        self._checkpoints = None
        # Replaced, so that a log call that is under way does not fill in what it found before.
        self._routes, self._kept = {}, {}
        self._ask_again()
        self._choose_log()

    def _choose_log(self) -> None:
        # An attribute of the instance: a closure finds what it needs without looking anything up.
        self.__dict__["log"] = self._log if manager.enabled else _make_idle(self)

    def _ask_again(self) -> None:
        """Have the next call of each key go through `_log_slowly`."""
        self._slots.clear()
        self._alike.clear()

    def _emit_gathered(self) -> None:
        aggregates.emit(self._scope, logger_of=get_logger)

    def _drop_gathered(self) -> None:
        self._aggregates.drop()

    def _hand_on(self) -> None:
        with manager.lock:
            # The lock keeps other threads out, and this a signal handler that interrupts us and flushes, too.
            if self._is_handing_on:
                return
            self._is_handing_on = True
            try:
                size = len(self._held)
                manager.intake.buffer.extend(self._held[:size])
                del self._held[:size]
            finally:
                self._is_handing_on = False

    def __reduce__(self) -> tuple[Callable[[str], Logger], tuple[str]]:
        return get_logger, (self._scope,)

    def __repr__(self) -> str:
        return f"<Logger {self._scope!r} logdir={str(self.logdir) if self.logdir else None!r}>"


def _is_tree(value: Any, data_type: str | None) -> bool:
    """Return whether *value* is one series per leaf. Asks its type only: a dropped call never touches the value."""
    cls = type(value)
    return data_type in (None, "scalars") and issubclass(cls, Mapping) and (data_type is not None or not is_config(cls))


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.80}"
    except Exception:
        return f"a {type(value).__name__} that cannot be shown"


def plain_index(step: Any) -> Any:
    """Return a step that came as a 0-d array or tensor as an int."""
    return step if hasattr(type(step), "__index__") and not hasattr(step, "shape") else plain(step)


# What log calls need. No cells of the closure: one costs each call a nanosecond, whether it is used there or not.
_now, _array = time.time, np.ndarray
_buffer, _attention, _extend = manager.intake.buffer, manager.intake.attention, manager.intake.buffer.extend
_pressure = manager.pressure
_pack_float, _pack_step_float = PACK[FLOAT], PACK_STEP[FLOAT]


def _make_log(logger: Logger) -> LogCall:
    """Return the hot path of one logger: a dictionary hit, a pack, one atomic append."""
    slots = logger._slots

    # One dict of options costs less than a default for each of them, and most calls have none.
    def log(value: Any, key: str, step: int | None = None, **options: Any) -> None:
        if options:
            return logger._log_slowly(value, key, step, options)
        try:
            slot = slots[key]
            if slot is None:
                return None
            if step is None:
                if type(value) is float:
                    _extend(_pack_float(slot, _now(), value))
                    # Compared with a constant: nearly always that is all there is to ask.
                    if len(_buffer) < WAKE_BYTES:
                        return None
                else:
                    code = _CODES.get(type(value))
                    if code is None:
                        # Raises for what is no single number.
                        number = _ITEMS[type(value)](value)
                        code = _CODES[type(number)]
                        _extend(PACK[code](slot + code, _now(), number))
                    else:
                        _extend(PACK[code](slot + code, _now(), value))
            elif type(value) is float:
                _extend(_pack_step_float(slot | STEP_FLAG, 0.0, step, slot, _now(), value))
            else:
                code = _CODES[type(value)]
                _extend(PACK_STEP[code]((slot + code) | STEP_FLAG, 0.0, step, slot + code, _now(), value))
        except Exception:
            if type(value) is _array and logger._put_alike(value, key, step):
                return None
            return logger._log_slowly(value, key, step, options)
        if len(_buffer) > _attention[0]:
            _pressure()
        return None

    return _presentable(log)


def _make_idle(logger: Logger) -> LogCall:
    """Return what stands in the place of the hot path while the library is switched off; somebody may keep it."""

    def log(value: Any, key: str, step: int | None = None, **options: Any) -> None:
        if manager.enabled:
            logger._log(value, key, step, **options)

    return _presentable(log)


def _presentable(log: LogCall) -> LogCall:
    """Return *log* with what help() and inspect show."""
    log.__doc__, log.__qualname__ = Logger.log.__doc__, Logger.log.__qualname__
    log.__signature__ = _SIGNATURE  # type: ignore[attr-defined]
    return log


def _public_signature() -> inspect.Signature:
    own = inspect.signature(Logger.log)
    return own.replace(parameters=list(own.parameters.values())[1:])


_SIGNATURE = _public_signature()


class StepPerKey(MutableMapping[tuple[str, str], int]):
    """A live view of the step counters, see `Logger.step_per_key`; reading it waits for the lane."""

    def __getitem__(self, name: tuple[str, str]) -> int:
        return manager.counters()[name]

    def __setitem__(self, name: tuple[str, str], step: int) -> None:
        manager.set_counters({name: step})

    def __delitem__(self, name: tuple[str, str]) -> None:
        raise TypeError("a step counter cannot be removed; assign the next step instead")

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(manager.counters())

    def __len__(self) -> int:
        return len(manager.counters())

    def __repr__(self) -> str:
        return repr(manager.counters())


# -------------------------------------------------------------------------------------------------------------
# functions


def get_logger(scope: str = "root", **settings: Any) -> Logger:
    """Return the logger of *scope*; the same scope gives the same object, and ``"main"`` is ``"root.main"``.

    *settings* are given to the scope, over those that it has; raises `ConfigError` if one is impossible.

    >>> import allogger
    >>> allogger.get_logger("agent.critic") is allogger.get_logger("root.agent.critic")
    True
    """
    if not isinstance(scope, str):
        raise ConfigError(f"a scope is a str such as 'agent.critic', not {scope!r}")
    name = normal_scope(scope)
    if "logdir" in settings:
        # What was gathered belongs to the run so far.
        aggregates.emit(name, children=True, logger_of=get_logger)
    with manager.lock:
        logger = manager.loggers.get(name)
        if logger is None:
            logger = manager.loggers[name] = Logger(name)
        if settings:
            manager.configure(name, settings)
    return logger


def get_root() -> Logger:
    """Return the root logger."""
    return get_logger("root")


def basic_configure(
    logdir: str | os.PathLike[str] | None = None,
    default_outputs: list[str] | tuple[str, ...] | None = None,
    *,
    enable: bool = True,
    **settings: Any,
) -> Logger:
    """Configure the root logger, from which all scopes inherit, and return it.

    *logdir* is the folder of the run, *default_outputs* are names of outputs (``["hdf"]`` if not given), *settings* as
    listed in the README; ``enable=False`` makes the whole library do nothing. What is not given comes from the
    environment (``ALLOGGER_LOGDIR``, ``ALLOGGER_OUTPUTS``, ``ALLOGGER_FILTER``, ``ALLOGGER_ENABLE``), then from the
    file that ``ALLOGGER_CONFIG`` names. May be called again: what is not given then has its default again.

    Raises `ConfigError` for a setting that cannot work, `MissingDependency` for an output whose library is missing.
    """
    given = dict(settings)
    if logdir is not None:
        given["logdir"] = logdir
    if default_outputs is not None:
        given["default_outputs"] = default_outputs
    return configure(given, enable=enable)


def configure(
    given: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    *,
    enable: bool = True,
) -> Logger:
    """Configure the root from what the caller gave, the environment and the mapping *config*, in this precedence."""
    root = get_root()
    if config is None:
        path = os.environ.get("ALLOGGER_CONFIG")
        config = parse_file(path) if path else {}
    from_config, scopes = split(config)
    enable = is_enabled(enable, from_config.pop("enable", True))
    names = writers.names
    merged = Settings.of(given, names)
    merged = merged.over(Settings.of(environment(names()), names).over(Settings.of(from_config, names)))
    checked = {scope: Settings.of(of_scope, names) for scope, of_scope in scopes.items()}
    # Before anything changes, so that a mistake in one of them leaves all as they were.
    for scope, of_scope in checked.items():
        check(scope, of_scope, above=merged)
    aggregates.emit("root", children=True, logger_of=get_logger)
    with manager.lock:
        if not enable:
            manager.disable()
            return root
        was_enabled, manager.enabled = manager.enabled, True
        try:
            manager.apply("root", merged, replace=True)
            for scope, of_scope in checked.items():
                get_logger(scope)
                manager.apply(scope, of_scope, replace=True)
        except BaseException:
            manager.enabled = was_enabled
            raise
    return root


def flush() -> None:
    """Return when everything that was logged so far is on disk, where it outlives even ``kill -9``.

    With ``strict`` it raises `WriteFailed` if an output could not store something.
    """
    manager.flush()


def close(timeout: float | None = None) -> None:
    """Flush, finish all files and release everything; may be called twice, and from any process.

    Returns after *timeout* seconds even if an output hangs; what it has written then stays as it is. With ``strict`` it
    raises `WriteFailed` if something could not be stored.
    """
    manager.close(timeout)


@contextlib.contextmanager
def run(
    logdir: str | os.PathLike[str], default_outputs: list[str] | tuple[str, ...] | None = None, **settings: Any
) -> Iterator[Logger]:
    """Configure the root for the length of a ``with`` block, and close everything at its end.

    >>> import allogger
    >>> with allogger.run("runs/doctest") as logger:
    ...     logger.log(0.5, "loss")
    >>> allogger.open_run("runs/doctest")["root/loss"].value
    array([0.5])
    """
    logger = basic_configure(logdir, default_outputs, **settings)
    try:
        yield logger
    finally:
        close()
