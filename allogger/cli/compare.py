"""Compare: in what do runs differ, and how did each of them end?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from allogger.cli.command import Command, add_attempts, add_keys, add_runs
from allogger.cli.output import DAMAGED, NOTHING, Column, Output
from allogger.cli.runs import name_of, opened, regex_of
from allogger.cli.shown import jsonable, number
from allogger.errors import DamagedFile, words_of

if TYPE_CHECKING:
    from allogger.store import Run

__all__ = ["Compare"]

_CHOICES = ("last", "min", "max", "mean", "count")


class Compare(Command):
    """The command ``compare``."""

    description = (
        "Show several runs side by side, a column for each: the parameters in which they differ, and the last value\n"
        "of each key, or its smallest, largest or mean."
    )
    examples = (
        ("allogger compare runs/*", "parameters that differ, and last values"),
        ("allogger compare runs/* -k val/loss --show min", "the best value of one key"),
        ("allogger compare runs/* --all --json", "everything, for programs"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)
        add_keys(parser)
        add_attempts(parser)
        parser.add_argument("--show", choices=_CHOICES, default=_CHOICES[0], help=f"what of each key ({_CHOICES[0]})")
        parser.add_argument("--all", action="store_true", help="also parameters that are the same everywhere")

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Compare them."""
        regex = regex_of(args.keys)
        runs = list(opened(args.runs, out, args.attempts))
        params = {name_of(run): {f"params.{name}": value for name, value in _flat(run)} for run in runs}
        results = {name_of(run): _results(run, args, out) for run in runs}
        names = [name for name in _names(params) if args.all or _differs(name, params)]
        keys = [key for key in sorted(_names(results)) if regex.search(key)]
        if runs and not keys:
            out.problem(NOTHING, "no key matches" if args.keys else "there are no values to compare")
        rows = [
            {"name": name, **{run: facts.get(name) for run, facts in table.items()}}
            for table, chosen in ((params, names), (results, keys))
            for name in chosen
        ]
        if rows:
            out.table([Column("name", may_wrap=True), *(Column(run, number, is_number=True) for run in params)], rows)


def _flat(run: Run) -> list[tuple[str, Any]]:
    from allogger.comparing import flattened

    return list(flattened(run.params).items())


def _results(run: Run, args: argparse.Namespace, out: Output) -> dict[str, Any]:
    found = {}
    for key, kind in run.kinds.items():
        if kind != "scalar" and args.show != "count":
            continue
        try:
            found[key] = getattr(run.summary(key), args.show)
        except DamagedFile as error:
            out.problem(DAMAGED, words_of(error))
    return found


def _names(tables: dict[str, dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for facts in tables.values() for name in facts))


def _differs(name: str, tables: dict[str, dict[str, Any]]) -> bool:
    return len({repr(jsonable(facts.get(name))) for facts in tables.values()}) > 1
