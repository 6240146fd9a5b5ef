"""Manager: which loggers, settings and runs does this process have, and where does each key go?

The only mutable global of the library is `manager`. Settings belong to names of scopes, so it does not matter whether a
scope was made before or after those above it. A *route* is the decision for one scope, key and kind: which outputs keep
it. Routes are made once, under a lock, and forgotten whenever a setting changes.
"""

from __future__ import annotations

import contextlib
import operator
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from allogger import messages, processes, sigterm
from allogger.accounts import Accounts
from allogger.dispatch import Dispatch
from allogger.errors import AlloggerError, ConfigError, UnknownName, WriteFailed
from allogger.guard import Guard
from allogger.intake import MAX_STEP, PACK
from allogger.kind import Kind
from allogger.lane import Outlet, import_late_modules
from allogger.record import FLOAT, MAIN_PROCESS, Batch, Series, full_key, normal_scope
from allogger.registry import kinds, parameters, writers
from allogger.rundir import EVENTS, Shard, has_outputs, new_shard, prepare, record_attempt
from allogger.settings import (
    COMMON_PARAMS,
    DEFAULTS,
    ROOT_ONLY,
    UNSET,
    Filter,
    Settings,
    flush_seconds_of,
    scopes_above,
)
from allogger.writer import Writer

if TYPE_CHECKING:
    from allogger.logger import Logger
    from allogger.system import Meter

__all__ = ["Manager", "NoLogdir", "NotReady", "NotTaken", "Overrides", "check", "manager"]

# How long the end of a program waits for outputs: a disk that hangs must not keep it for ever.
EXIT_SECONDS = 60.0
#: The scope of what the machine does.
SYSTEM = "root.system"
_JOIN_SECONDS = 5.0
_WARNING, _INFO, _DEBUG = 30, 20, 10

# What a manager keeps when it is set aside.
_STAYS = frozenset({"lock", "loggers", "dispatch", "intake", "_sees_its_end", "_forked"})

#: The outputs that one log call switches on or off.
Overrides = tuple[tuple[str, bool], ...]


class NotTaken(Exception):
    """A value that was to be kept and that no output can take; the message says why."""


class NotReady(NotTaken):
    """A value that was logged while nothing is configured."""


class NoLogdir(NotTaken):
    """A value whose outputs all lack something: a logdir, a library; the user has been told."""


@dataclass(slots=True)
class OpenRun:
    """A logdir in use by this process: *attempt* names the start of the program, *shard* what this process writes.

    *ends* are the last steps that earlier attempts recorded, read when they are first asked for.
    """

    logdir: Path
    attempt: str
    is_continued: bool
    shard: Shard | None = None
    outlets: dict[str, Outlet] = field(default_factory=dict)
    ends: dict[tuple[str, str], int] | None = None


class Manager:
    """The state of the library in one process."""

    def __init__(self) -> None:
        self.lock = Guard()
        self.loggers: dict[str, Logger] = {}
        self.accounts = Accounts(self.report)
        self.dispatch = Dispatch(self.report, self._gate_bytes, lambda: self.effective("root").when_full == "drop")
        self.intake = self.dispatch.intake
        self._kinds: dict[str, Kind] = {}
        self._all_kinds: dict[str, Kind] = {}
        self._all_kinds_at = -1
        self.was_closed = False
        self._has_adopted = False
        self._sees_its_end = False
        self._forked: str | None = None
        self._forget()

    def _forget(self) -> None:
        self.enabled = True
        self._is_closing = False
        self.settings: dict[str, Settings] = {}
        self._effective: dict[str, Settings] = {}
        self._filters: dict[tuple[Any, ...], Filter] = {}
        # The logdir that was asked for -> the one in use, which `unique` may have chosen.
        self._chosen: dict[Path, Path] = {}
        self.runs: dict[Path | None, OpenRun] = {}
        self._series: dict[tuple[Path | None, str, str], Series] = {}
        self._presets: dict[tuple[str, str], int] = {}
        #: By the names of modules: called before everything is closed, to log or count what they keep. Never raises.
        self.collectors: dict[str, Callable[[], None]] = {}
        self._meter: Meter | None = None
        self.dispatch.clear()

    def _gate_bytes(self) -> int:
        """Return how much may wait in the buffer, which is in memory several times while it grows and is emptied."""
        return self._buffer_limit() // 6

    def _buffer_limit(self) -> int:
        return cast(int, self.effective("root").max_buffer_bytes)

    # -------------------------------------------------------------------------------------------------------- configure

    def configure(self, scope: str, given: Mapping[str, Any], *, replace: bool = False) -> None:
        """Give *scope* settings by their public names; raises `ConfigError` and changes nothing if one is impossible.

        With *replace* they take the place of those that the scope had, else they are laid over them.
        """
        self.apply(scope, Settings.of(given, writers.names), replace=replace)

    def apply(self, scope: str, settings: Settings, *, replace: bool = False) -> None:
        """Give *scope* checked settings, see `configure`."""
        scope = normal_scope(scope)
        check(scope, settings)
        with self.lock:
            self._adopt()
            before = dict(self.settings)
            self.settings[scope] = settings if replace else settings.over(before.get(scope, Settings()))
            self._effective = {}
            try:
                for known in {*self.settings, *self.loggers}:
                    _try_writers(self.effective(known))
                self._open_run(scope, anew=replace and settings.logdir is not UNSET)
                # A scope that was given its logdir while everything was disabled has no run there yet.
                for known in self.settings:
                    self._open_run(known)
            except BaseException:
                self.settings = before
                self._effective = {}
                raise
            self.was_closed = False
            self._changed()
            self._publish()
            # Not with the first value of each kind: a signal handler may log while its thread imports.
            for name in kinds.builtin:
                self.kind(name)
            if self.enabled:
                import_late_modules()
                # Already now: the first value may come from a thread, and only the main one can do this.
                sigterm.watch(self._stop)
                self._attend_machine()

    def _open_run(self, scope: str, anew: bool = False) -> None:
        """Open the run of *scope* unless it is open; with *anew*, ``clear`` begins an open one again from nothing."""
        settings = self.effective(scope)
        wanted = settings.logdir
        if not self.enabled or not isinstance(wanted, Path):
            return
        policy = str(settings.default_path_exists)
        number = processes.rank(settings.rank)
        if wanted in self._chosen:
            # Configured again. A spawned child that runs the main module again must not clear what its parent made.
            if policy != "clear" or processes.is_child() or not anew:
                return
            self._close_run(self.runs.pop(self._chosen.pop(wanted)))
        if number and policy == "unique":
            raise ConfigError("default_path_exists='unique' cannot agree between ranks: choose the logdir in rank 0")
        # A spawned child that runs the main module again joins what its parent has made.
        joins = number or (policy != "unique" and processes.is_preparing())
        actual = prepare(wanted, "continue" if joins else policy)
        is_continued = has_outputs(actual / EVENTS)
        shard = new_shard(actual, self.process_label(settings))
        self.runs[actual] = OpenRun(actual, shard.attempt, is_continued, shard)
        self._chosen[wanted] = actual
        self._explain(f"{shard.process} begins {'to continue' if is_continued else 'a new run in'} {actual}")
        if not number:
            record_attempt(actual, shard, {})

    def _changed(self) -> None:
        """Forget every decision that settings had a part in, and close the runs that no scope uses any more."""
        self._effective = {}
        for logger in self.loggers.values():
            logger._bind()
        in_use = {None, *(self.logdir(scope) for scope in {*self.settings, *self.loggers, "root"})}
        for logdir in self.runs.keys() - in_use:
            for logger in self.loggers.values():
                logger._hand_on()
            self._chosen = {wanted: actual for wanted, actual in self._chosen.items() if actual != logdir}
            self._close_run(self.runs.pop(logdir))
        for run in self.runs.values():
            for outlet in run.outlets.values():
                waits = (flush_seconds_of(outlet.name, self.effective(scope)) for scope in {"root", *self.loggers})
                outlet.flush_seconds = min(waits)
                self.dispatch.lane_of(outlet).hurry(outlet.flush_seconds)

    def _attend_machine(self) -> None:
        """Have the lane log what the machine does, if that is asked for; the caller holds the lock.

        All is decided here and now, as the thread of the lane must not wait for the lock: its owner may wait for it.
        """
        seconds = self.effective("root").system_metrics_seconds
        # Another thread may be closing everything.
        if not isinstance(seconds, float) or not self.is_ready() or not self._speaks_for_host():
            self._meter = None
            self.dispatch.every(0.0, None)
            return
        if self._meter is None:
            # Not for the start of all the programs that do not ask for it.
            from allogger.system import Meter

            self._meter = Meter()
            # Rates are since the measurement before. And whatever its libraries import, they import now.
            self._meter.measure()
            # What fails already now has no series; if all of it does, no later measurement could tell.
            self._tell_failures(self._meter)
        slots: dict[str, int] = {}
        for name in self._meter.names:
            if kept_by := self.kept_by(SYSTEM, name):
                with contextlib.suppress(NotTaken):
                    slots[name] = self.route(SYSTEM, name, "scalar", kept_by) + FLOAT
        self.dispatch.every(seconds, partial(self._log_machine, self._meter, slots) if slots else None)

    def _log_machine(self, meter: Meter, slots: Mapping[str, int]) -> None:
        """Log a measurement, in the thread of the lane."""
        values, now = meter.measure(), time.time()
        for name, slot in slots.items():
            if name in values:
                self.intake.buffer.extend(PACK[FLOAT](slot, now, values[name]))
        self._tell_failures(meter)

    def _tell_failures(self, meter: Meter) -> None:
        for what, why in meter.failures.items():
            self.accounts.tell_once(f"of what the machine does, {what} cannot be measured:", why)

    def _speaks_for_host(self) -> bool:
        """Return whether this process measures the machine: no child does, and no server that forks them."""
        is_first = processes.is_first_of_host(self.effective("root").rank)
        return is_first and self.is_main_process() and not processes.is_preparing()

    def disable(self) -> None:
        """Make the whole library do nothing from now on."""
        self.close()
        with self.lock:
            self.enabled = False
            for logger in self.loggers.values():
                logger._bind()
            self._publish()

    # ------------------------------------------------------------------------------------------------------- what holds

    def effective(self, scope: str) -> Settings:
        """Return what holds for *scope*: each setting from the nearest scope above that sets it."""
        # The dict is replaced when settings change, so whoever still works with the old ones fills a dict of the past.
        cache = self._effective
        found = cache.get(scope)
        if found is None:
            found = DEFAULTS
            for name in scopes_above(scope):
                if name in self.settings:
                    found = self.settings[name].over(found)
            cache[scope] = found
        return found

    def logdir(self, scope: str) -> Path | None:
        """Return the logdir of *scope* as it is in use: ``unique`` may have chosen another than was asked for."""
        wanted = self.effective(scope).logdir
        return self._chosen.get(wanted, wanted) if isinstance(wanted, Path) else None

    def is_ready(self) -> bool:
        """Return whether values have somewhere to go; a spawned child first takes over what its parent configured."""
        if not self.settings and not self._has_adopted:
            with self.lock:
                self._adopt()
        return bool(self.settings) and not self._is_closing

    def process_label(self, settings: Settings) -> str:
        """Return the name of this process in the files, see `allogger.processes.label`."""
        return processes.label(settings.rank, self._forked)

    def is_main_process(self) -> bool:
        """Return whether this process was started by a person or a launcher, not by another Python process."""
        return processes.name() == MAIN_PROCESS and not self._forked

    def kind(self, name: str) -> Kind:
        """Return the kind of that name; raises `UnknownName`."""
        found = self._kinds.get(name)
        # A plug-in may have been registered anew.
        if found is None or type(found) is not kinds[name]:
            found = self._kinds[name] = kinds[name]()
        return found

    def all_kinds(self) -> Mapping[str, Kind]:
        """Return all kinds by name."""
        if self._all_kinds_at != kinds.changes:
            plugins = dict(kinds.plugins(self.accounts.tell_once))
            self._all_kinds = {**plugins, **{name: self.kind(name) for name in kinds.builtin}}
            self._all_kinds_at = kinds.changes
        return self._all_kinds

    # ----------------------------------------------------------------------------------------------------------- routes

    def kept_by(self, scope: str, key: str, overrides: Overrides = ()) -> tuple[str, ...]:
        """Return the outputs that keep that key, whatever its kind: here the filters are asked.

        The caller may keep the answer until `Logger._bind` is called. Raises `NotReady`.
        """
        with self.lock:
            if not self.is_ready():
                raise NotReady
            settings = self.effective(scope)
            if not self.enabled or self.is_muted(settings):
                return ()
            return tuple(self._kept_by(scope, key, settings, overrides))

    def route(self, scope: str, key: str, kind: str, kept_by: Sequence[str]) -> int:
        """Return the id for slots of a key that the outputs *kept_by* keep, see `Intake`.

        The caller may keep the answer until `Logger._bind` is called. Raises `NotTaken`.
        """
        with self.lock:
            if not self.is_ready():
                raise NotReady
            settings = self.effective(scope)
            logdir = self.logdir(scope)
            outlets = [outlet for name in kept_by if (outlet := self._usable(name, settings, logdir)) is not None]
            if not outlets:
                raise NoLogdir
            taking = [outlet for outlet in outlets if outlet.writer.accepts(kind)]
            if not taking:
                names = ", ".join(sorted({outlet.name for outlet in outlets}))
                raise NotTaken(f"none of its outputs ({names}) takes values of the kind {kind!r}")
            for outlet in outlets:
                text = f"output {outlet.name!r} takes no values of the kind {kind!r}, which its other outputs have"
                if outlet not in taking and self.accounts.is_new(text):
                    self.report(text, _INFO)
            self.see_the_end()
            self._explain(f"{full_key(scope, key)!r} ({kind}) goes to {', '.join(outlet.name for outlet in taking)}")
            return self.intake.add_route(self._series_of(logdir, scope, key), self.dispatch.plan(taking))

    def is_muted(self, settings: Settings) -> bool:
        """Return whether processes of this rank, or children, log nothing there."""
        if settings.log_only_main_process and not self.is_main_process():
            return True
        ranks = settings.log_on_workers
        return isinstance(ranks, frozenset) and (processes.rank(settings.rank) or 0) not in ranks

    def _kept_by(self, scope: str, key: str, settings: Settings, overrides: Overrides) -> Iterator[str]:
        wanted = dict.fromkeys(cast("tuple[str, ...]", settings.default_outputs), True) | dict(overrides)
        for output, is_on in wanted.items():
            if is_on and self._filter(output, settings).keeps(scope, key):
                yield output
                # The hook writes what TensorBoard keeps.
                is_hook = output == "tensorboard" and "hdf" not in wanted and _has_hook(settings)
                if is_hook and self._filter("hdf", settings).keeps(scope, key):
                    yield "hdf"

    def _filter(self, output: str, settings: Settings) -> Filter:
        params = settings.writer_params.get(output, {})
        which = (output, *(params.get(name) for name in ("filter", "exclude", "scope")))
        if which not in self._filters:
            self._filters[which] = Filter(output, params)
        return self._filters[which]

    def _usable(self, output: str, settings: Settings, logdir: Path | None) -> Outlet | None:
        """Return the outlet for *output*, or one that counts what is lost if there is no such writer to be had."""
        try:
            return self._outlet(output, settings, logdir)
        except AlloggerError as error:
            run = self.runs.get(logdir) or self.runs.setdefault(None, OpenRun(Path(), "", False))
            outlet = run.outlets.get(f"no {output}")
            if outlet is None:
                writer = _Unusable(self._shard(run, settings), error)
                outlet = run.outlets[f"no {output}"] = self._started(Outlet(output, writer, 1.0, 0, self.report))
            return outlet

    def _outlet(self, output: str, settings: Settings, logdir: Path | None) -> Outlet | None:
        """Return the outlet for *output*, made when it is the first; None, which is told once, without a logdir."""
        needs_logdir = writers[output].needs_logdir
        # What has no logdir is for the outputs that need none.
        run = None if needs_logdir and logdir is None else self.runs.get(logdir)
        if run is None:
            if needs_logdir:
                what = f"output {output!r} has no logdir; give one to basic_configure or get_logger"
                self.accounts.tell_once(f"{what}. Until then values are not stored there; they are counted")
                return None
            run = self.runs.setdefault(None, OpenRun(Path(), "", False))
        # Writers with different parameters are different writers, with files of their own.
        which = f"{output} {sorted(_own_params(output, settings).items(), key=str)}"
        outlet = run.outlets.get(which)
        if outlet is None:
            shard = self._shard(run, settings)
            if any(other.name == output for other in run.outlets.values()):
                shard = new_shard(shard.logdir, shard.process, shard.attempt)
            writer = _make_writer(output, settings, shard)
            outlet = Outlet(output, writer, flush_seconds_of(output, settings), self._buffer_limit(), self.report)
            run.outlets[which] = self._started(outlet)
        return outlet

    def _started(self, outlet: Outlet) -> Outlet:
        """Put an outlet into its lane; one that is in none would keep what it is given for ever."""
        self.dispatch.lane_of(outlet).add(outlet)
        return outlet

    def _shard(self, run: OpenRun, settings: Settings) -> Shard:
        if run.shard is None:
            run.shard = new_shard(run.logdir, self.process_label(settings), run.attempt)
        return run.shard

    # --------------------------------------------------------------------------------------------------------- counters

    def _series_of(self, logdir: Path | None, scope: str, key: str) -> Series:
        found = self._series.get((logdir, scope, key))
        if found is None:
            label = self.process_label(self.effective(scope))
            step = self._presets.pop((_who(scope, label), key), None)
            if step is None:
                step = self._recorded_end(logdir, label, scope, key) + 1
            found = self._series[logdir, scope, key] = self.intake.add_series(scope, key, step)
        return found

    def _recorded_end(self, logdir: Path | None, label: str, scope: str, key: str) -> int:
        run = self.runs.get(logdir)
        if run is None or not run.is_continued:
            return 0
        if run.ends is None:
            from allogger.opening import recorded_steps

            run.ends = recorded_steps(run.logdir, label, run.attempt)
        return run.ends.get((scope, key), 0)

    def counters(self) -> dict[tuple[str, str], int]:
        """Return the next step by ``(scope-process, key)``, as far as values are handed on."""
        self.dispatch.call_disk(self.dispatch.drain)
        with self.lock:
            found = dict(self._presets)
            for (logdir, scope, key), series in self._series.items():
                if logdir == self.logdir(scope):
                    label = self.process_label(self.effective(scope))
                    found[_who(scope, label), key] = self.intake.upcoming(series)
            return found

    def set_counters(self, steps: Mapping[tuple[str, str], Any]) -> None:
        """Say with which steps to go on, by ``(scope-process, key)``; raises `ConfigError` for what is no int64."""
        new = {name: _checked_step(name, step) for name, step in steps.items()}
        self.dispatch.call_disk(self.dispatch.drain)
        with self.lock:
            known: dict[int, int] = {}
            for (_, scope, key), series in self._series.items():
                who = _who(scope, self.process_label(self.effective(scope)))
                if (who, key) in steps:
                    known[series.index] = _checked_step((who, key), steps[who, key])
                    new.pop((who, key), None)
            # For keys that are logged later.
            self._presets.update(new)
            self._publish()
        self.dispatch.call_disk(partial(self.intake.go_on_with, known))

    def dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return ``dict(*args, **kwargs)``, so that ``root.step_per_key = root.manager.dict(saved)`` works."""
        return dict(*args, **kwargs)

    # ------------------------------------------------------------------------------------------------- telling the user

    def report(self, text: str, level: int = _WARNING) -> None:
        """Tell the user something about allogger itself: a warning in the text log and on the console."""
        params = cast("Mapping[str, Any]", self.effective("root").basic_logging_params)
        path = self.log_path("root")
        messages.emit("root", level, f"allogger: {text}", (), path=path, params=params, stacklevel=2)

    def _explain(self, text: str) -> None:
        """With the setting ``debug``, note in the text log what was decided and why."""
        if self.effective("root").debug is True:
            self.report(text, _DEBUG)

    def log_path(self, scope: str) -> Path | None:
        """Return the file for the text messages of *scope* in this process."""
        run = self.runs.get(self.logdir(scope))
        if run is None or not run.attempt or not self.enabled:
            return None
        shard = run.shard
        if shard is None:
            # Only where there was none: a lane reports while the thread that holds the lock waits for that lane.
            with self.lock:
                shard = self._shard(run, self.effective(scope))
        return shard.logdir / f"{shard.name}.log"

    def record_environment(self, environment: Mapping[str, Any]) -> None:
        """Keep what `report_env` found in ``run.json``."""
        run = self.runs.get(self.logdir("root"))
        if run is not None and run.shard is not None and self.enabled:
            record_attempt(run.logdir, run.shard, {"environment": environment})

    # ---------------------------------------------------------------------------------------------------- back-pressure

    def holds_much(self, held_bytes: int) -> bool:
        """Return whether *held_bytes* that ``manual_flush`` holds back, and what else waits, take half of the buffer.

        Once it is full, log calls wait for the lane, which does not get what is held back.
        """
        if held_bytes + self.intake.nbytes <= self._gate_bytes() // 2:
            return False
        self.accounts.tell_once("manual_flush: half of the buffer is used, so what is held back is handed on")
        return True

    def pressure(self) -> None:
        """Called by a log call that finds that much is waiting."""
        if self.dispatch.pressure():
            # No thread may find a route now: each asks `dispatch.has_room` first.
            with self.lock:
                for logger in self.loggers.values():
                    logger._ask_again()

    # -------------------------------------------------------------------------------------------------- flush and close

    def flush(self, timeout: float | None = None) -> bool:
        """Bring everything handed on so far to disk; return whether it was done within *timeout* seconds."""
        done = self.dispatch.flush(timeout)
        if self.effective("root").strict:
            outlets = [outlet for run in self.runs.values() for outlet in run.outlets.values()]
            _raise_losses([outlet for outlet in outlets if outlet.is_failing or outlet.lost])
        return done

    def close(self, timeout: float | None = None) -> None:
        """Flush, finish the files, release everything, and say what could not be stored."""
        if self.settings and not self._is_closing:
            self._emit_gathered()
        with self.lock:
            if not self.settings:
                self.accounts.count_series(self.intake.leftover())
                self.accounts.say_unstored()
                return
            strict = bool(self.effective("root").strict)
            # From here on, log calls find nothing configured.
            self._is_closing = self.was_closed = self._has_adopted = True
            for logger in self.loggers.values():
                logger._hand_on()
                logger._bind()
                logger._drop_gathered()
            runs = list(self.runs.values())
        outlets = [outlet for run in runs for outlet in run.outlets.values()]
        self._explain(f"closing {', '.join(outlet.name for outlet in outlets) or 'nothing'}")
        late = self.dispatch.close(outlets, timeout)
        self.dispatch.stop(0.1 if late else _JOIN_SECONDS)
        if self.is_main_process():
            self.accounts.say_idle_filters(self._filters.values())
        self.accounts.say_losses(outlets, late)
        if not late:
            # Logged by other threads while the outputs were being finished.
            self.accounts.count_series(self.intake.leftover())
        self.accounts.say_unstored()
        with self.lock:
            for run in runs:
                if run.shard is not None:
                    messages.close(run.shard.logdir / f"{run.shard.name}.log")
            self._forget()
            processes.publish(None)
            for logger in self.loggers.values():
                logger._bind()
        if strict and (late or any(outlet.lost for outlet in outlets)):
            raise WriteFailed("allogger could not store everything; see the warnings above")

    def _close_run(self, run: OpenRun) -> None:
        """Finish a logdir that no scope uses any more."""
        outlets = list(run.outlets.values())
        self.accounts.say_losses(outlets, self.dispatch.close(outlets))
        self._series = {which: series for which, series in self._series.items() if which[0] != run.logdir}

    def reset(self) -> None:
        """Close everything and forget all loggers, settings and accounts: for tests."""
        with contextlib.suppress(WriteFailed):
            self.close()
        with self.lock:
            for logger in self.loggers.values():
                logger._bind(hand_on=False)
            self.loggers.clear()
            self.accounts.clear()
            self._forget()
            self.was_closed = self._has_adopted = False

    @contextlib.contextmanager
    def set_aside(self) -> Iterator[None]:
        """Be unconfigured for the length of a ``with`` block, and afterwards go on as before: for tests.

        Runs that are set aside stay open and write what they have; what the block configures is closed at its end. No
        other thread may log while the block begins or ends.
        """
        pid = os.getpid()
        waiting = self.dispatch.set_aside()
        with self.lock:
            before = {name: value for name, value in vars(self).items() if name not in _STAYS}
            held = {logger: bytes(logger._held) for logger in self.loggers.values()}
            gathered = {logger: logger._aggregates for logger in self.loggers.values()}
            self._begin_anew()
        try:
            yield
        finally:
            # A forked child that comes here must leave its parent's files alone.
            if os.getpid() == pid:
                lanes = list(self.dispatch.lanes.values())
                with contextlib.suppress(WriteFailed):
                    self.close()
                for lane in lanes:
                    lane.join(1.0)
                with self.lock:
                    self._begin_anew()
                    vars(self).update(before)
                    self.dispatch.go_on(waiting)
                    for logger, values in held.items():
                        logger._held.extend(values)
                        logger._aggregates = gathered[logger]
                    if self.settings or not self.enabled:
                        self._publish()

    def _begin_anew(self) -> None:
        for logger in self.loggers.values():
            logger._bind(hand_on=False)
        self._forget()
        self._kinds = {}
        self._all_kinds_at = -1
        self.accounts = Accounts(self.report)
        self.was_closed = False
        # What the parent of a child configured is set aside too.
        self._has_adopted = True
        processes.publish(None)

    # --------------------------------------------------------------------------------------------- children and the end

    def see_the_end(self) -> None:
        """See to it that what this process has logged or gathered is stored at its end; the caller holds the lock."""
        if not self._sees_its_end:
            self._sees_its_end = True
            processes.at_end(close_at_exit, self._save, self._stop)

    def _emit_gathered(self) -> None:
        for collect in list(self.collectors.values()):
            collect()
        for logger in list(self.loggers.values()):
            logger._emit_gathered()

    def _save(self, timeout: float) -> None:
        self._emit_gathered()
        self.flush(timeout)

    def _stop(self, timeout: float) -> None:
        """Save what there is before a signal ends the process."""
        # Flush first: it needs no lock of ours, which the interrupted code may hold.
        self.dispatch.flush(timeout)
        with contextlib.suppress(WriteFailed):
            self.close(timeout)

    def after_fork_in_child(self) -> None:
        """Drop what belongs to the parent: its threads, descriptors and buffered values."""
        self.lock = Guard()
        messages.reset_after_fork()
        for run in self.runs.values():
            for outlet in run.outlets.values():
                outlet.writer.abandon()
            run.outlets, run.shard, run.ends = {}, None, None
        # The parent still owns the buffered values; writing them here would store them twice.
        self.dispatch.clear()
        self.accounts.clear()
        self._series = {}
        self._meter = None
        self._sees_its_end = False
        if not processes.is_child():
            self._forked = f"fork-{os.getpid()}"
        for logger in self.loggers.values():
            logger._bind(hand_on=False)

    def _publish(self) -> None:
        """Leave our settings to the children that multiprocessing will start."""
        joined = [(path, run.attempt, run.is_continued) for path, run in self.runs.items() if path is not None]
        processes.publish((self.enabled, self.settings, self._chosen, self._presets, joined))

    def _adopt(self) -> None:
        """In a child of multiprocessing that has nothing yet: take over what the parent published, once."""
        if self._has_adopted:
            return
        self._has_adopted = True
        state = None if self.runs else processes.inherited()
        if state is None:
            return
        self.enabled, settings, self._chosen, self._presets, joined = state
        self.settings = {**settings, **self.settings}
        self.runs = {path: OpenRun(path, attempt, is_continued) for path, attempt, is_continued in joined}
        self._effective = {}
        for logger in self.loggers.values():
            logger._bind()


class _Unusable(Writer):
    """Stands for a writer that cannot be made, so that what it does not get is counted and named."""

    lane = "disk"
    needs_logdir = False

    def __init__(self, shard: Shard, error: AlloggerError) -> None:
        super().__init__(shard)
        self._error = error

    def write(self, batch: Batch) -> None:
        """Fail as the making did."""
        raise self._error


def check(scope: str, settings: Settings, above: Settings | None = None) -> None:
    """Raise `ConfigError` if *settings* cannot be those of *scope*, whatever the others are; or, below *above*."""
    if normal_scope(scope) != "root":
        for name in ROOT_ONLY:
            if getattr(settings, name) is not getattr(Settings(), name):
                raise ConfigError(f"{name} holds for the whole process; give it to basic_configure")
    if isinstance(settings.system_metrics_seconds, float):
        from allogger.system import require

        require()
    if isinstance(settings.basic_logging_params, Mapping):
        messages.check_params(settings.basic_logging_params)
    _check_writer_params(settings)
    if above is not None:
        _try_writers(settings.over(above.over(DEFAULTS)))


def _try_writers(settings: Settings) -> None:
    """Make the writers once, so that a missing library or a bad parameter is found now."""
    for output in _outputs_of(settings):
        _make_writer(output, settings, Shard(Path(), "trial"))


def _check_writer_params(settings: Settings) -> None:
    for output, params in settings.writer_params.items():
        if params.keys() <= COMMON_PARAMS:
            continue  # without a look at the class, which may need a library that nobody wants to have loaded
        known = {*parameters(writers[output]), *COMMON_PARAMS}
        for name in params:
            if name not in known:
                raise UnknownName.of(f"parameter of {output}_writer_params", name, known)


def _outputs_of(settings: Settings) -> list[str]:
    outputs = list(cast("tuple[str, ...]", settings.default_outputs))
    if "tensorboard" in outputs and "hdf" not in outputs and _has_hook(settings):
        outputs.append("hdf")
    return outputs


def _has_hook(settings: Settings) -> bool:
    return bool(settings.writer_params.get("tensorboard", {}).get("use_hdf_hook", True))


def _own_params(output: str, settings: Settings) -> dict[str, Any]:
    names = set(parameters(writers[output]))
    return {name: value for name, value in settings.writer_params.get(output, {}).items() if name in names}


def _make_writer(output: str, settings: Settings, shard: Shard) -> Writer:
    try:
        return writers[output](shard, **_own_params(output, settings))
    except AlloggerError:
        raise
    except Exception as error:
        raise ConfigError(f"output {output!r} cannot be made: {type(error).__name__}: {error}") from error


def _raise_losses(failing: list[Outlet]) -> None:
    if failing:
        what = "; ".join(f"{o.name}: {sum(o.lost.values())} lost, {o.waiting_bytes} bytes waiting" for o in failing)
        raise WriteFailed(f"allogger could not store everything ({what})")


def _checked_step(name: object, step: Any) -> int:
    try:
        number = operator.index(step)
    except TypeError:
        number = MAX_STEP + 1
    if not -MAX_STEP <= number <= MAX_STEP:
        raise ConfigError(f"a step is an int64, not {step!r} (given for {name!r})")
    return number


def _who(scope: str, process: str) -> str:
    return f"{scope}-{process.replace('-', '')}"


def close_at_exit() -> None:
    """Store what is left, at the end of the process."""
    try:
        manager.close(EXIT_SECONDS)
    except WriteFailed as error:
        manager.report(str(error))


manager = Manager()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=sigterm.hold,
        after_in_parent=sigterm.let_go_in_parent,
        after_in_child=manager.after_fork_in_child,
    )
    # After ours, because now a signal that has waited ends the child.
    os.register_at_fork(after_in_child=sigterm.let_go_in_child)
