"""Ls: which runs are there, and how far are they?"""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import Any

from allogger.cli.command import Command, add_keys
from allogger.cli.output import DAMAGED, NOTHING, Column, Output
from allogger.cli.runs import key_infos, named_runs, opened, regex_of
from allogger.cli.shown import Moment, age, count, number, plain, size
from allogger.listing import RunInfo, run_info

__all__ = ["Ls"]

# Who wants to know more of unfinished runs than fits into so many bytes of journals has to open them.
MOST_JOURNAL_BYTES = 32_000_000
_MOST_LAST = 3

_SORTS: dict[str, Callable[[RunInfo], Any]] = {
    "path": lambda run: str(run.path),
    "start": lambda run: run.start or 0.0,
    "active": lambda run: run.active or 0.0,
    "size": lambda run: run.size,
    "step": lambda run: run.last_step or 0,
}


class Ls(Command):
    """The command ``ls``."""

    description = "List runs: one line for each run in the given folders and below."
    examples = (
        ("allogger ls", "runs in this folder and below"),
        ("allogger ls runs --state live", "what is running now"),
        ("allogger ls runs -k 'val/.*loss'", "with the last values of these keys"),
        ("allogger ls runs --sort active -r", "the one that wrote last comes first"),
        ("allogger ls runs --json", "everything, for programs"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument("paths", metavar="PATH", nargs="*", default=["."], help="a run, or a folder with runs (.)")
        add_keys(parser)
        parser.add_argument("--state", choices=["live", "killed", "finished"], help="only runs in that state")
        parser.add_argument("--sort", choices=list(_SORTS), default="path", help="order of the lines (path)")
        parser.add_argument("-r", "--reverse", action="store_true", help="the other way round")

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """List them."""
        regex = regex_of(args.keys)
        found = []
        for path in out.progress(named_runs(args.paths, out), "looking at runs"):
            with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                found.append(_looked_into(run_info(path), out))
        chosen = [info for info in found if args.state in (None, info.state)]
        if found and not chosen:
            out.problem(NOTHING, f"none of {len(found)} runs is {args.state}")
        chosen.sort(key=_SORTS[args.sort], reverse=args.reverse)
        if chosen:
            most = _MOST_LAST if args.keys is None else len(chosen[0].keys)
            out.table(_columns(most), [_row(info, regex) for info in chosen])


def _looked_into(info: RunInfo, out: Output) -> RunInfo:
    """Return *info* with the keys that only the journals know, if these are not too long to read now."""
    for problem in info.problems:
        out.problem(DAMAGED, problem)
    if not info.is_complete and info.journal_bytes <= MOST_JOURNAL_BYTES:
        info.keys = {key.key: key for run in opened([str(info.path)], out) for key in key_infos(run)}
    return info


def _columns(most_last: int) -> list[Column]:
    return [
        Column("run"),
        Column("state"),
        Column("started", _ago),
        Column("active", _ago),
        Column("step", count, is_number=True),
        Column("keys", count, is_number=True),
        Column("size", size, is_number=True),
        Column("last", partial(_shown_last, most=most_last), may_wrap=True),
    ]


def _ago(at: Moment | None) -> str:
    return "" if at is None else f"{age(at)} ago"


def _shown_last(last: Mapping[str, Any], most: int) -> str:
    shown = [f"{plain(key)}={number(value)}" for key, value in islice(last.items(), most)]
    return "  ".join([*shown, f"+{len(last) - most}"] if len(last) > most else shown)


def _row(info: RunInfo, regex: re.Pattern[str]) -> dict[str, Any]:
    last = {key: info.keys[key].last for key in sorted(info.keys) if regex.search(key)}
    return {
        "run": str(info.path),
        "state": info.state,
        "started": None if info.start is None else Moment(info.start),
        "active": None if info.active is None else Moment(info.active),
        "step": info.last_step,
        "keys": len(info.keys) if info.is_complete or info.keys else None,
        "size": info.size,
        "last": {key: value for key, value in last.items() if value is not None},
        "attempts": info.attempts,
        "shards": info.shards,
    }
