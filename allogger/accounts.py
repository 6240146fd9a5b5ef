"""Accounts: which values were not stored, and what has the user been told?"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from allogger.lane import Outlet
from allogger.record import Series, full_key
from allogger.settings import Filter

__all__ = ["Accounts"]


class Accounts:
    """Counts every value that is not stored, and says each thing once through *report*."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self.clear()

    def clear(self) -> None:
        """Forget everything; in a forked child this frees the lock, too."""
        # Never held while somebody else's code runs; reentrant, because a signal handler may log.
        self._lock = threading.RLock()
        self._unstored: Counter[str] = Counter()
        self._told: set[str] = set()

    def count(self, scope: str, key: str, amount: int = 1) -> int:
        """Count a value, or so many, that no output gets; return how many there are of its key."""
        name = full_key(scope, key)
        with self._lock:
            self._unstored[name] += amount
            return self._unstored[name]

    def count_series(self, counts: Mapping[Series | None, int]) -> None:
        """Count values of series; None stands for those of which nobody knows any more what they were."""
        with self._lock:
            for series, count in counts.items():
                self._unstored["?" if series is None else series.full_key] += count

    def not_stored(self, scope: str, key: str, why: str) -> None:
        """Count a value that no output gets; reported once per key."""
        if self.count(scope, key) == 1:
            self._report(f"{full_key(scope, key)!r} is not stored: {why}")

    def not_configured(self, scope: str, key: str, was_closed: bool) -> None:
        """Count a value that was logged before the configuration or after `close`."""
        self.count(scope, key)
        when = "after allogger was closed" if was_closed else "before allogger.basic_configure was called"
        self.tell_once(f"values that are logged {when} are not stored; they are counted and named at the end")

    def note(self, scope: str, key: str, what: str, example: str = "") -> None:
        """Tell the user, once per key, something about its values that he may not expect, with the first *example*."""
        self.tell_once(f"{full_key(scope, key)!r}: {what}", example)

    def tell_once(self, text: str, example: str = "") -> None:
        """Report *text*, followed by *example*, unless it was reported before, with whichever example."""
        if self.is_new(text):
            self._report(f"{text} {example}".rstrip())

    def is_new(self, text: str) -> bool:
        """Return whether *text* was not reported before; from now on it was."""
        with self._lock:
            is_new = text not in self._told
            self._told.add(text)
        return is_new

    def say_losses(self, outlets: Iterable[Outlet], late: Iterable[str]) -> None:
        """Report what outputs could not write, and the names of those that were too *late*."""
        for name in late:
            self._report(f"output {name!r} was not finished in time; what it has written stays as it is")
        for outlet in outlets:
            rejected = {key: count for key, (count, _) in outlet.writer.rejected.items()}
            for what, counts in (("lost", outlet.lost), ("cannot represent", rejected)):
                if counts:
                    self._report(f"output {outlet.name!r} {what} {sum(counts.values())} values: {_listing(counts)}")

    def say_unstored(self) -> None:
        """Report how many values of which keys were not stored since the last time."""
        with self._lock:
            counts, self._unstored = self._unstored, Counter()
        if counts:
            self._report(f"{sum(counts.values())} values were not stored: {_listing(counts)}")

    def say_idle_filters(self, filters: Iterable[Filter]) -> None:
        """Report each pattern that never matched anything: it may be a typing error."""
        hits: dict[tuple[str, str], bool] = {}
        for each in filters:
            for pattern, was_hit in each.hits.items():
                hits[each.output, pattern] = hits.get((each.output, pattern), False) or was_hit
        for (output, pattern), was_hit in hits.items():
            if not was_hit:
                self._report(f"{pattern} of output {output!r} matched nothing in the whole run")


def _listing(counts: Mapping[str, int], limit: int = 20) -> str:
    items = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name!r} {count}" for name, count in items[:limit])
    return shown + (f", and {len(items) - limit} more keys" if len(items) > limit else "")
