"""Keys: what has been logged in a run?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from allogger.cli.command import Command, add_keys, add_runs
from allogger.cli.output import DAMAGED, Column, Output
from allogger.cli.runs import found_runs, key_infos, opened, regex_of, tell_no_key
from allogger.cli.shown import Moment, count, number
from allogger.listing import KeyInfo, is_run, run_info

__all__ = ["Keys"]

_COLUMNS = [
    Column("key", may_wrap=True),
    Column("kind"),
    Column("count", count, is_number=True),
    Column("first_step", count, is_number=True),
    Column("last_step", count, is_number=True),
    Column("last", number, is_number=True),
]


class Keys(Command):
    """The command ``keys``."""

    description = "List the keys of runs: kind, number of values, steps and the last value, if that is a number."
    examples = (
        ("allogger keys runs/a", "all keys"),
        ("allogger keys runs/a -k '^agent'", "those of one scope and the scopes below"),
        ("allogger keys runs/a | cut -f1", "the names alone"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)
        add_keys(parser)

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """List them."""
        regex = regex_of(args.keys)
        paths = found_runs(args.runs, out)
        rows = []
        for path in out.progress(paths, "reading runs"):
            found = [key for key in _keys_at(path, out) if regex.search(key.key)]
            if not found:
                tell_no_key(str(path), args.keys, out)
            rows += [_row(path, key) for key in sorted(found, key=lambda key: key.key)]
        if rows:
            out.table([Column("run")] * (len(paths) > 1) + _COLUMNS, rows)


def _keys_at(path: Path, out: Output) -> Iterator[KeyInfo]:
    info = run_info(path) if is_run(path) else None
    for problem in info.problems if info is not None else ():
        out.problem(DAMAGED, problem)
    # Where several attempts or processes logged a key, only the values tell how many of them count.
    if info is not None and info.is_complete and all(key.shards == 1 for key in info.keys.values()):
        yield from info.keys.values()
        return
    for run in opened([str(path)], out):
        yield from key_infos(run)


def _row(path: Path, key: KeyInfo) -> dict[str, Any]:
    return {
        "run": str(path),
        "key": key.key,
        "kind": key.kind,
        "count": key.count,
        "first_step": key.first_step,
        "last_step": key.last_step,
        "last": key.last,
        "first_time": Moment(key.first_time),
        "last_time": Moment(key.last_time),
    }
