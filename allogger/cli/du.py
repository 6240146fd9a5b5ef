"""Du: what takes how much space?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from allogger.cli.command import Command
from allogger.cli.output import Column, Output
from allogger.cli.runs import named_runs
from allogger.cli.shown import size
from allogger.listing import sizes

__all__ = ["Du"]

_KINDS = ("hdf", "journal", "tensorboard", "csv", "text", "files", "other")


class Du(Command):
    """The command ``du``."""

    description = (
        "Show how many bytes the files of each run have: by output, the text log, the files that were\n"
        "logged, and what else allogger made (indices, run.json). Files of others are not counted."
    )
    examples = (
        ("allogger du runs", "every run below runs, and the sum"),
        ("allogger du runs | sort -t$'\\t' -nk2", "the largest last"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument("paths", metavar="PATH", nargs="*", default=["."], help="a run, or a folder with runs (.)")

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Count."""
        paths = named_runs(args.paths, out)
        rows = list(out.progress(_rows(paths), "counting", len(paths)))
        if not rows:
            return
        if out.is_terminal and len(rows) > 1:
            rows.append({name: sum(row[name] for row in rows) for name in ("total", *_KINDS)} | {"run": "all"})
        columns = [Column("run"), *(Column(name, size, is_number=True) for name in ("total", *_KINDS))]
        out.table([column for column in columns if not out.is_terminal or _is_used(column.name, rows)], rows)


def _rows(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        by_kind = sizes(path)
        yield {"run": str(path), "total": sum(by_kind.values()), **{kind: by_kind.get(kind, 0) for kind in _KINDS}}


def _is_used(name: str, rows: list[dict[str, Any]]) -> bool:
    return any(row[name] for row in rows)
