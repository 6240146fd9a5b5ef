"""Stats: how many values has each key, and how large are they?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from allogger.cli.command import Command, add_attempts, add_keys, add_runs
from allogger.cli.output import DAMAGED, Column, Output
from allogger.cli.runs import matching, name_of, opened, real_number
from allogger.cli.shown import count, number
from allogger.errors import DamagedFile, words_of

if TYPE_CHECKING:
    from allogger.store import Run

__all__ = ["Stats"]

_INTEGERS = ("count", "min_step", "max_step")
_NAMES = ("count", "first", "last", "min", "min_step", "max", "max_step", "mean")


class Stats(Command):
    """The command ``stats``."""

    description = (
        "Show of each key how many values it has, the first, the last, the smallest and the largest with their steps,\n"
        "and the mean. NaN counts as a value, but is neither smallest nor largest, and is left out of the mean."
    )
    examples = (
        ("allogger stats runs/a", "all keys of a run"),
        ("allogger stats runs/* -k val/loss", "one key of several runs"),
        ("allogger stats runs/* -k val/loss | sort -t$'\\t' -k6g | head -3", "the three best"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)
        add_keys(parser)
        add_attempts(parser)

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Show them."""
        runs = list(opened(args.runs, out, args.attempts))
        found = [(run, key) for run in runs for key in matching(run, args.keys, out)]
        rows = [row for run, key in out.progress(found, "reading") for row in _row(run, key, out)]
        columns = [Column(name, count if name in _INTEGERS else number, is_number=True) for name in _NAMES]
        if rows:
            out.table([Column("run")] * (len(runs) > 1) + [Column("key", may_wrap=True), *columns], rows)


def _brief(value: Any) -> Any:
    """Return numbers and texts as they are, and nothing of an array."""
    return value if isinstance(value, str) else real_number(value)


def _row(run: Run, key: str, out: Output) -> Iterator[dict[str, Any]]:
    try:
        summary = run.summary(key)
        yield {"run": name_of(run), "key": key, **{name: _brief(getattr(summary, name)) for name in _NAMES}}
    except DamagedFile as error:
        out.problem(DAMAGED, words_of(error))
