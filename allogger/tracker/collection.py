"""TrackerCollection: how does one call reach several trackers, of which none can stop the others?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from allogger.errors import UnknownName, words_of
from allogger.manager import manager
from allogger.tracker.front import Tracker

__all__ = ["TrackerCollection"]


class TrackerCollection:
    """Several trackers as one; each call goes to all of them, and each keeps what its own settings keep.

    Of several, those without a ``scope`` get ``tracker1``, ``tracker2``, ... by their place. An error of one is told
    once and counted in `failures`; the others go on. An empty collection does nothing: it stands for a tracker where
    nothing is to be logged.
    """

    def __init__(self, trackers: Iterable[Tracker] = ()) -> None:
        self.trackers: Sequence[Tracker] = tuple(trackers)
        #: How often each tracker has failed, by its place.
        self.failures = [0] * len(self.trackers)
        # Those that were used: to ask for all of them takes longer than to log.
        self._known_kinds: set[str] = set()
        for number, tracker in enumerate(self.trackers, 1):
            if len(self.trackers) > 1:
                tracker.name_scope(f"tracker{number}")

    def create_logger_context(self, rank: int | None = None, **settings: Any) -> None:
        """Make the context of each; raises the error of the first one only if none of them can have one."""
        errors = self._for_each(lambda tracker: tracker.create_logger_context(rank, **settings))
        if errors and len(errors) == len(self.trackers):
            raise errors[0]

    def destroy_logger_context(self) -> None:
        """End the context of each that has one."""
        self._for_each(lambda tracker: tracker.destroy_logger_context())

    @contextlib.contextmanager
    def start_logging(self, rank: int | None = None, **settings: Any) -> Iterator[TrackerCollection]:
        """Have a context for the length of a ``with`` block, see `Tracker.start_logging`."""
        before = [tracker for tracker in self.trackers if tracker.is_initialized]
        self.create_logger_context(rank, **settings)
        try:
            yield self
        finally:
            self._for_each(lambda tracker: None if tracker in before else tracker.destroy_logger_context())

    def log(
        self,
        item: Any,
        identifier: str | Sequence[str],
        kind: str = "metric",
        step: int | None = None,
        batch_idx: int | None = None,
        **options: Any,
    ) -> None:
        """Log with each tracker, see `Tracker.log`; raises `UnknownName` for a *kind* that none of them has."""
        if self.trackers and kind not in self._known_kinds:
            if kind not in self.supported_kinds:
                raise UnknownName.of("kind", kind, self.supported_kinds)
            self._known_kinds.add(kind)
        self._for_each(lambda tracker: tracker.log(item, identifier, kind, step, batch_idx, **options))

    def save_hyperparameters(self, params: Any) -> None:
        """Add to the parameters of each run, see `Tracker.save_hyperparameters`."""
        self._for_each(lambda tracker: tracker.save_hyperparameters(params))

    def should_log(self, batch_idx: int | None = None) -> bool:
        """Return whether any of them keeps calls with *batch_idx*."""
        return any(tracker.should_log(batch_idx) for tracker in self.trackers)

    @property
    def is_initialized(self) -> bool:
        """Whether any of them has a context."""
        return any(tracker.is_initialized for tracker in self.trackers)

    @property
    def supported_kinds(self) -> frozenset[str]:
        """What *kind* may be."""
        return frozenset().union(*(tracker.supported_kinds for tracker in self.trackers))

    def _for_each(self, act: Callable[[Tracker], object]) -> list[Exception]:
        """Have each tracker act, and return the errors."""
        errors = []
        for place, tracker in enumerate(self.trackers):
            try:
                act(tracker)
            except Exception as error:
                errors.append(error)
                self.failures[place] += 1
                what = f"tracker {place + 1} of {len(self.trackers)} failed, and the others go on:"
                manager.accounts.tell_once(f"{what} {type(error).__name__}:", words_of(error))
        return errors
