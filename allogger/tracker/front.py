"""Tracker: which logger is behind it, from when to when, and which of its calls are kept?"""

from __future__ import annotations

import contextlib
import operator
import os
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from allogger.errors import ConfigError, UnknownName, words_of
from allogger.logger import basic_configure, get_logger
from allogger.manager import check
from allogger.plain import Unstorable
from allogger.processes import rank as rank_of
from allogger.registry import kinds, writers
from allogger.settings import Settings
from allogger.tracker.acts import KINDS, Act, Call, storing
from allogger.tracker.energy import Rates
from allogger.tracker.session import Session

__all__ = ["Tracker"]

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
# The tracker that has a context, by the scope of its logger.
_open: weakref.WeakValueDictionary[str, Tracker] = weakref.WeakValueDictionary()


class Tracker:
    """A front of one logger with one call for everything: ``log(item, identifier, kind)``.

    *logdir*, *default_outputs* and *settings* are those of `allogger.basic_configure`. Without a logdir it logs to the
    run that is configured already, or that the environment names. *scope* is that of its logger, the root unless it is
    one of several in a `TrackerCollection`.

    *log_freq*: of the calls with ``batch_idx``, n keeps those of which it is a multiple (0, n, 2 n, ...), ``"batch"``
    all and ``"epoch"`` none; calls without it are always kept. *log_on_workers*: the ranks that log, -1 for all. For
    the kind ``carbon``, *grams_co2_per_kwh* is what the electricity costs, and *cpu_watts* what a busy processor core
    takes on a machine that does not measure it.

    Raises `ConfigError` for a setting that cannot work.
    """

    def __init__(
        self,
        logdir: str | os.PathLike[str] | None = None,
        default_outputs: Sequence[str] | None = None,
        *,
        scope: str | None = None,
        log_freq: int | str = 1,
        log_on_workers: int | Iterable[int] = 0,
        grams_co2_per_kwh: float | None = None,
        cpu_watts: float | None = None,
        **settings: Any,
    ) -> None:
        if logdir is not None:
            settings["logdir"] = logdir
        if default_outputs is not None:
            settings["default_outputs"] = default_outputs
        self._settings = settings
        self._is_scope_given = scope is not None
        #: The logger behind it.
        self.logger = get_logger(scope or "root")
        self._workers = _workers(log_on_workers)
        check(self.scope, Settings.of(settings, writers.names))
        self.log_freq = log_freq
        self._rates = Rates.of(grams_co2_per_kwh, cpu_watts)
        self._session: Session | None = None

    # ---------------------------------------------------------------------------------------------------------- context

    def create_logger_context(self, rank: int | None = None, **settings: Any) -> None:
        """Configure the logger, *settings* laid over those of the tracker.

        *rank* is that of this process; without it the launcher tells it. A tracker that has a context keeps it, which
        is told once. Raises `ConfigError` or `MissingDependency` if it cannot log.
        """
        if self.is_initialized:
            what = "a tracker that has a context keeps it; create_logger_context has done nothing for the scope"
            self.logger.manager.accounts.tell_once(what, repr(self.scope))
            return
        if (other := _open.get(self.scope)) is not None and other.is_initialized:
            raise ConfigError(f"another tracker has the scope {self.scope!r} at this time; give this one scope='...'")
        if misplaced := settings.keys() & {"log_freq", "log_on_workers"}:
            raise ConfigError(f"{', '.join(sorted(misplaced))}: give it to the tracker, not to its context")
        given = {**self._settings, **settings, **({} if rank is None else {"rank": rank})}
        has_own_run = given.get("logdir") is not None
        if has_own_run:
            # So that all loggers of this run log on the same ranks.
            given["log_on_workers"] = -1 if self._workers is None else self._workers
        before = self._configure(given)
        rank = rank_of(self.logger.settings.rank) or 0
        self._session = Session(self.logger, self._rates, before if has_own_run else None, rank)
        _open[self.scope] = self

    def _configure(self, given: Mapping[str, Any]) -> Settings:
        """Configure the logger; return the settings that it has had before."""
        manager = self.logger.manager
        is_first = manager.enabled and not manager.is_ready()
        before = manager.settings.get(self.scope, Settings())
        is_root = self.logger.parent is None
        if is_root and manager.enabled and before == Settings():
            # Which asks the environment, too.
            basic_configure(**given)
            return before
        if is_first:
            basic_configure()
        if given:
            get_logger(self.scope, **given)
        return before

    def destroy_logger_context(self) -> None:
        """Flush; if the tracker has a run of its own, finish its files and give the logger back its settings.

        Does nothing without a context.
        """
        if self._session is None:
            return
        is_open, session, self._session = self.is_initialized, self._session, None
        if not is_open:
            return
        _open.pop(self.scope, None)
        try:
            self.logger.flush(children=True)
        finally:
            if session.before is not None:
                # What is gathered belongs to the run.
                get_logger(self.scope, logdir=None)
                # A run that was left for this one may be finished or, by now, in use.
                had_run = isinstance(session.before.logdir, Path)
                before = replace(session.before, logdir=None) if had_run else session.before
                self.logger.manager.apply(self.scope, before, replace=True)

    @contextlib.contextmanager
    def start_logging(self, rank: int | None = None, **settings: Any) -> Iterator[Tracker]:
        """Have a context for the length of a ``with`` block, see `create_logger_context`."""
        had_one = self.is_initialized
        self.create_logger_context(rank, **settings)
        try:
            yield self
        finally:
            if not had_one:
                self.destroy_logger_context()

    # -------------------------------------------------------------------------------------------------------------- log

    def log(
        self,
        item: Any,
        identifier: str | Sequence[str],
        kind: str = "metric",
        step: int | None = None,
        batch_idx: int | None = None,
        *,
        context: str | None = None,
        **options: Any,
    ) -> None:
        """Log *item* under *identifier* as *kind*; of two lists, each item under its identifier.

        Raises `UnknownName` for a *kind* that does not exist, and nothing else: what cannot be stored is counted and
        reported once. *step*: counted from 1 if not given. *batch_idx*: the batch within the epoch, for ``log_freq``.
        *context* goes in front of the identifier: ``context/identifier``. *options*: ``to_<output>=True`` or ``False``,
        and those of the kind.
        """
        self._perform(self._act(kind), item, identifier, step, batch_idx, context, options)

    def _act(self, kind: object) -> Act:
        if isinstance(kind, str) and kind in KINDS:
            return KINDS[kind]
        if isinstance(kind, str) and kind in kinds:
            return storing(kind)
        raise UnknownName.of("kind", kind, self.supported_kinds)

    def _perform(
        self,
        act: Act,
        item: Any,
        identifier: Any,
        step: int | None = None,
        batch_idx: int | None = None,
        context: str | None = None,
        options: Mapping[str, Any] = _NO_OPTIONS,
    ) -> None:
        try:
            if self.should_log(batch_idx):
                for each, name in _pairs(item, identifier):
                    key = name if context is None else f"{context}/{name}"
                    self._perform_one(act, each, key, step, options)
        except Exception as error:
            for name in identifier if _are_several(identifier) else [identifier]:
                self._tell_unstored(name, error)

    def _perform_one(self, act: Act, item: Any, key: Any, step: int | None, options: Mapping[str, Any]) -> None:
        if self._session is None or self._session.is_over():
            self.logger.manager.accounts.count(self.scope, _name_of(key))
            self.logger.manager.accounts.tell_once(_EARLY)
            return
        try:
            act(Call(self._session, item, key, step, dict(options)))
        except Exception as error:
            self._tell_unstored(key, error)

    def _tell_unstored(self, key: object, error: Exception) -> None:
        what = words_of(error)
        why = what if isinstance(error, Unstorable) else f"{type(error).__name__}: {what}"
        self.logger.manager.accounts.not_stored(self.scope, _name_of(key), why)

    def save_hyperparameters(self, params: Any) -> None:
        """Add to the parameters of the run, ``run.params``: a nested dict, a dataclass, a Namespace and the like."""
        self._perform(lambda call: call.session.add_params(params, call.options), params, "params")

    @contextlib.contextmanager
    def timing(self, identifier: str, step: int | None = None) -> Iterator[None]:
        """Log how many seconds a ``with`` block takes, also if it raises."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.log(time.perf_counter() - began, identifier, "execution_time", step)

    # ------------------------------------------------------------------------------------------------------ what it has

    def should_log(self, batch_idx: int | None = None) -> bool:
        """Return whether this rank logs, and the batch is one that ``log_freq`` keeps."""
        rank = (rank_of() or 0) if self._session is None else self._session.rank
        if self._workers is not None and rank not in self._workers:
            return False
        if batch_idx is None or self._every == 1:
            return True
        return self._every != 0 and operator.index(batch_idx) % self._every == 0

    @property
    def log_freq(self) -> int | str:
        """Which calls with ``batch_idx`` are kept; may be set at any time."""
        return self._log_freq

    @log_freq.setter
    def log_freq(self, value: int | str) -> None:
        every = Settings.of({"log_freq": value}, writers.names).log_freq
        assert isinstance(every, int)
        # 0 stands for "epoch", as everywhere.
        self._log_freq, self._every = value, every

    @property
    def scope(self) -> str:
        """The scope of the logger."""
        return self.logger.scope

    def name_scope(self, name: str) -> None:
        """Take *name* for the scope if none was given."""
        if not self._is_scope_given and self._session is None:
            self.logger = get_logger(name)

    @property
    def is_initialized(self) -> bool:
        """Whether it has a context, and `allogger.close` has not closed everything since."""
        manager = self.logger.manager
        if self._session is None or self._session.is_over():
            return False
        return manager.is_ready() or not manager.enabled

    @property
    def experiment_id(self) -> str | None:
        """The logdir in use, None if there is none."""
        logdir = self.logger.logdir if self.is_initialized else None
        return None if logdir is None else str(logdir)

    @property
    def run_id(self) -> str | None:
        """The name of this start of the program, an ``attempt`` in ``run.json``; None if there is none."""
        manager = self.logger.manager
        run = manager.runs.get(manager.logdir(self.scope)) if self.is_initialized else None
        return run.attempt or None if run is not None else None

    @property
    def supported_kinds(self) -> frozenset[str]:
        """What *kind* may be."""
        return frozenset(KINDS) | frozenset(kinds.names())

    def __repr__(self) -> str:
        return f"<Tracker {self.scope!r} logdir={self.experiment_id!r}>"


_EARLY = (
    "what a tracker without a context is given is not stored, but counted and named at the end; "
    "log in a block `with tracker.start_logging():`"
)


def _workers(given: Any) -> frozenset[int] | None:
    checked = Settings.of({"log_on_workers": given}, writers.names).log_on_workers
    return checked if isinstance(checked, frozenset) else None


def _are_several(identifier: Any) -> bool:
    # By its type, which cannot raise.
    return issubclass(type(identifier), list | tuple)


def _name_of(key: Any) -> str:
    return str.__str__(key) if issubclass(type(key), str) else f"({type(key).__name__})"


def _pairs(item: Any, identifier: Any) -> Iterable[tuple[Any, Any]]:
    """Return each item with its identifier; raises `Unstorable` if there are not as many."""
    if not _are_several(identifier):
        return [(item, identifier)]
    if isinstance(item, str | bytes | Mapping):
        raise Unstorable(f"for {len(identifier)} identifiers a list of items is needed, not a {type(item).__name__}")
    items = [item] * len(identifier) if item is None else list(item)
    if len(items) != len(identifier):
        raise Unstorable(f"there are {len(items)} items and {len(identifier)} identifiers")
    return list(zip(items, identifier, strict=True))
