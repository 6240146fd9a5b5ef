"""Artifacts: which files does a run hold, and how does one get them out?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allogger.cli.command import Command, add_attempts, add_keys, add_runs
from allogger.cli.output import DAMAGED, FAILED, NOTHING, Column, Output
from allogger.cli.runs import name_of, opened, pattern_of
from allogger.cli.shown import clock, count, size
from allogger.errors import DamagedFile, words_of
from allogger.names import MAIN_PROCESS, file_name

if TYPE_CHECKING:
    from allogger.artifacts import Artifact
    from allogger.store import Run

__all__ = ["Artifacts"]


class Artifacts(Command):
    """The command ``artifacts``."""

    description = (
        "List the files, folders, models and checkpoints that runs hold, or copy them out, each after comparing its\n"
        "checksum, into folders named by key, step and, unless it is the main one, process."
    )
    examples = (
        ("allogger artifacts runs/a", "which there are"),
        ("allogger artifacts runs/a -k config -o files", "copy those of some keys"),
        ("allogger artifacts runs/a -a best -o .", "the best checkpoint"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)
        add_keys(parser)
        add_attempts(parser)
        parser.add_argument("-a", "--alias", choices=["latest", "best"], help="only this checkpoint of each key")
        parser.add_argument("-o", "--output", metavar="DIR", help="copy them into this folder; nothing is replaced")

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """List or copy them."""
        runs = list(opened(args.runs, out, args.attempts))
        found = [(run, one) for run in runs for one in _found(run, args)]
        if runs and not found and not out.code:
            out.problem(NOTHING, "there are no such files")
        if not found:
            return
        rows = out.progress(_rows(found, args, len(runs) > 1, out), "copying", len(found))
        head = [Column("run")] * (len(runs) > 1)
        last = Column("copy") if args.output else Column("path")
        out.table([*head, *_COLUMNS, last], rows)


_COLUMNS = [
    Column("key", may_wrap=True),
    Column("kind"),
    Column("step", count, is_number=True),
    Column("time", clock),
    Column("name", may_wrap=True),
    Column("size", size, is_number=True),
    Column("state"),
]


_FIELDS = ("key", "kind", "step", "time", "name", "size", "sha256", "metric")


def _found(run: Run, args: argparse.Namespace) -> Iterator[Artifact]:
    pattern = pattern_of(args.keys)
    for one in [*run.artifacts(pattern), *run.checkpoints(pattern)]:
        if args.alias is None or args.alias in one.aliases:
            yield one


def _rows(
    found: list[tuple[Run, Artifact]], args: argparse.Namespace, has_runs: bool, out: Output
) -> Iterator[dict[str, Any]]:
    for run, one in found:
        state = "removed" if one.is_removed else ", ".join(one.aliases)
        row: dict[str, Any] = {
            "run": name_of(run),
            **{name: getattr(one, name) for name in _FIELDS},
            "state": state,
            "path": str(one.path),
        }
        if args.output:
            if one.is_removed:
                continue
            folders = [run.logdir.name] * has_runs + one.key.split("/") + [str(one.step)]
            folders += [one.process] * (one.process != MAIN_PROCESS)
            copy = _copied(one, Path(args.output, *map(file_name, folders)), out)
            if copy is None:
                continue
            row["copy"] = str(copy)
        yield row


def _copied(one: Artifact, folder: Path, out: Output) -> Path | None:
    try:
        return one.copy_to(folder)
    except FileExistsError as error:
        out.problem(FAILED, f"{error.filename} exists, and stays as it is")
    except DamagedFile as error:
        out.problem(DAMAGED, words_of(error))
    return None
