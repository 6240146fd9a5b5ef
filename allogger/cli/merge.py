"""Merge: how do all shards and attempts of a run become one?"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from allogger.cli.command import Command, add_attempts, add_runs
from allogger.cli.export import exported, refuse
from allogger.cli.output import Column, Output
from allogger.cli.runs import opened
from allogger.errors import ConfigError
from allogger.registry import checkers
from allogger.rundir import EVENTS, IMAGE, RUN_FILE, new_shard, shard_names, stored_files, temporary_pid

if TYPE_CHECKING:
    from allogger.store import Run

__all__ = ["Merge"]


class Merge(Command):
    """The command ``merge``."""

    description = (
        "Write what all processes and attempts of a run have logged into one HDF5 file, in the order in which it\n"
        "reads back: into a new logdir, with the text logs, run.json and the logged files of the run beside it, or,\n"
        "when the name ends in .h5, as a file alone, which may hold several runs. The runs stay as they are."
    )
    examples = (
        ("allogger merge runs/a -o merged", "a new logdir with one file for all processes"),
        ("allogger merge runs/a -o merged --attempts all", "all values of all attempts"),
        ("allogger merge runs/* -o all.h5", "several runs in one file"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)
        add_attempts(parser)
        parser.add_argument("-o", "--output", metavar="PATH", required=True, help="the logdir, or .h5 file, to make")

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Merge them."""
        target = Path(args.output)
        refuse(target, "choose another path")
        runs = list(opened(args.runs, out, args.attempts))
        if not runs:
            return
        if target.suffix in (".h5", ".hdf5"):
            exported(runs, target, "hdf", None, out)
            if any(True for run in runs for _ in stored_files(run.logdir)):
                out.say("files that were logged stay with their runs; the file has their names and checksums")
        elif len(runs) > 1:
            raise ConfigError(f"a logdir is for one run, and these are {len(runs)}; a name with .h5 takes several")
        else:
            _make_logdir(runs[0], target, out)
        out.table([Column("written"), Column("runs")], [{"written": str(target), "runs": len(runs)}])


def _make_logdir(run: Run, target: Path, out: Output) -> None:
    # It gets its name when it is complete.
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shard = new_shard(temporary)
    try:
        (temporary / EVENTS).mkdir(parents=True)
        exported([run], shard.path(IMAGE), "hdf", None, out)
        checkers["hdf"](shard.path(IMAGE)).mend(dry_run=False)  # which makes the index
        for name in [RUN_FILE, *(f"{name}.log" for name in shard_names(run.logdir, ".log"))]:
            if (run.logdir / name).is_file() and not (run.logdir / name).is_symlink():
                shutil.copyfile(run.logdir / name, temporary / name)
        for entry in stored_files(run.logdir):
            # Not the links to checkpoints, which would have to lead to the same one.
            if temporary_pid(entry.name) is None and entry.is_file(follow_symlinks=False):
                copy = temporary / Path(entry.path).relative_to(run.logdir)
                copy.parent.mkdir(parents=True, exist_ok=True)
                # Nobody ever changes such a file.
                try:
                    os.link(entry.path, copy)
                except FileNotFoundError:
                    continue  # a checkpoint that the program has removed meanwhile
                except OSError:
                    shutil.copyfile(entry.path, copy)
        os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
