"""Export: how do values get into files of other formats?"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from allogger.cli.command import Command, add_attempts, add_keys, add_runs
from allogger.cli.output import Column, Output, Progress
from allogger.cli.runs import opened, pattern_of
from allogger.errors import ConfigError

if TYPE_CHECKING:
    from allogger.store import Run

__all__ = ["Export", "exported", "refuse"]

_FORMATS = ("csv", "csv-wide", "parquet", "jsonl", "npz", "hdf", "tensorboard")


class Export(Command):
    """The command ``export``."""

    description = (
        "Write all values of one or several runs into one file, exactly, however long they are. The file appears when\n"
        "it is complete."
    )
    examples = (
        ("allogger export runs/a -o a.csv", "a row for each value"),
        ("allogger export runs/a -o a.csv --format csv-wide -k loss", "a row for each step, a column for each key"),
        ("allogger export runs/* -o all.parquet", "several runs in one file"),
        ("allogger export runs/a -o board --format tensorboard", "a folder for TensorBoard"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)
        add_keys(parser)
        add_attempts(parser)
        parser.add_argument("-o", "--output", metavar="PATH", required=True, help="the file, or the folder, to write")
        parser.add_argument("--format", choices=_FORMATS, help="by default the suffix of PATH tells")
        parser.add_argument("--overwrite", action="store_true", help="replace a file that is there already")

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Write it."""
        if not args.overwrite:
            refuse(Path(args.output), "choose another path, or --overwrite")
        runs = list(opened(args.runs, out, args.attempts))
        if runs:
            path = exported(runs, Path(args.output), args.format, args.keys, out, overwrite=args.overwrite)
            out.table([Column("written"), Column("runs")], [{"written": str(path), "runs": len(runs)}])


def refuse(path: Path, way_out: str) -> None:
    """Raise `ConfigError` if there is something at *path*."""
    if os.path.lexists(path):
        raise ConfigError(f"{str(path)!r} exists; {way_out}")


def exported(
    runs: Sequence[Run],
    path: Path,
    format: str | None,
    regexes: Sequence[str] | None,
    out: Output,
    *,
    overwrite: bool = False,
) -> Path:
    """Export with a progress bar."""
    from allogger.export import export

    bar = Progress(f"writing {path}", 100)
    try:
        return export(
            runs[0] if len(runs) == 1 else runs,
            path,
            format,
            pattern_of(regexes),
            overwrite=overwrite,
            progress=lambda share, key: bar.update(round(100 * share), 100),
        )
    finally:
        bar.close()
