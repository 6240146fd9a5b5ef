"""Rm: how are runs removed, and nothing else?"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from allogger.cli.command import Command, add_runs
from allogger.cli.output import FAILED, NOTHING, Column, Output
from allogger.cli.runs import named_runs
from allogger.cli.shown import size
from allogger.errors import ConfigError, words_of
from allogger.listing import RunInfo, is_run, run_info
from allogger.rundir import clear

__all__ = ["Rm"]


class Rm(Command):
    """The command ``rm``."""

    description = (
        "Remove runs: what allogger made in their folders, and the folders when nothing else is in them. Links are\n"
        "not followed, files of others stay, and a run whose process may be alive is left alone. Asks before."
    )
    examples = (
        ("allogger rm runs/a", "asks, then removes"),
        ("allogger rm runs/a runs/b --yes", "does not ask"),
        ("allogger rm -r runs --dry-run", "what would go of all runs below"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)
        parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
        parser.add_argument("-r", "--recursive", action="store_true", help="also the runs below a folder that is none")
        parser.add_argument("-n", "--dry-run", action="store_true", help="remove nothing, only say what would go")
        parser.add_argument("--force", action="store_true", help="even runs that a process may still be writing")

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Remove them."""
        chosen = [run_info(path) for path in _chosen(args, out)]
        gone = []
        for info in chosen:
            if info.path.is_symlink():
                out.problem(FAILED, f"{info.path} is a symbolic link, which is not followed")
            elif info.state == "live" and not args.force:
                out.problem(FAILED, f"{info.path} is live; --force removes it all the same")
            elif args.dry_run or ((args.yes or _is_wanted(info)) and _removed(info.path, args.force, out)):
                gone.append(info)
        if gone:
            what = "would be removed" if args.dry_run else "removed"
            rows = [{"run": str(info.path), "outcome": what, "size": info.size} for info in gone]
            out.table([Column("run"), Column("outcome"), Column("size", size, is_number=True)], rows)


def _chosen(args: argparse.Namespace, out: Output) -> list[Path]:
    paths = named_runs(args.runs, out)
    if args.recursive:
        return paths
    named = [path for path in map(Path, args.runs) if is_run(path)]
    folders = [path for path in args.runs if Path(path).is_dir() and not is_run(Path(path))]
    for folder in folders:
        if any(path.is_relative_to(folder) for path in paths):
            out.problem(NOTHING, f"{folder!r} is no run but holds some; --recursive removes these")
    return [path for path in paths if path in named or not any(path.is_relative_to(folder) for folder in folders)]


def _is_wanted(info: RunInfo) -> bool:
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError("nobody is there to be asked; --yes removes without asking")
    sys.stderr.write(f"remove {info.path} ({info.state}, {len(info.keys)} keys, {size(info.size)})? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _removed(logdir: Path, even_live: bool, out: Output) -> bool:
    try:
        clear(logdir, even_live=even_live)
    except (ConfigError, OSError) as error:
        out.problem(FAILED, words_of(error))
        return False
    with contextlib.suppress(OSError):  # something that is not ours is in it
        logdir.rmdir()
    if logdir.exists():
        out.say(f"{logdir} holds more than this run; that stays")
    return True
