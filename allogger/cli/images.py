"""Images: which images does a run hold, and how do they become files?"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allogger.cli.command import Command, add_attempts, add_keys, add_runs
from allogger.cli.output import DAMAGED, FAILED, NOTHING, Column, Output
from allogger.cli.runs import matching, name_of, opened
from allogger.cli.shown import clock, count
from allogger.errors import DamagedFile, words_of
from allogger.kind import PICTURES
from allogger.names import file_name

if TYPE_CHECKING:
    from allogger.store import Run

__all__ = ["Images"]


class Images(Command):
    """The command ``images``."""

    description = "List the images of runs, or write them as PNG files, in folders named like the keys."
    examples = (
        ("allogger images runs/a", "which there are"),
        ("allogger images runs/a -o pictures", "all of them as files"),
        ("allogger images runs/a -k sample --last 1 -o .", "the last of one key"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)
        add_keys(parser)
        add_attempts(parser)
        parser.add_argument("-n", "--last", metavar="N", type=int, default=0, help="only the last N of each key")
        parser.add_argument("-o", "--output", metavar="DIR", help="write PNG files into this folder; none is replaced")

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """List or write them."""
        runs = list(opened(args.runs, out, args.attempts))
        found = [(run, key) for run in runs for key in matching(run, args.keys, out) if run.kinds[key] in PICTURES]
        if runs and not found and not out.code:
            out.problem(NOTHING, "there are no images")
        rows = out.progress(_rows(found, args, len(runs) > 1, out), "writing images")
        first = next(rows, None)
        if first is not None:
            columns = [Column("file")] if args.output else [Column("shape"), Column("dtype")]
            head = [Column("run")] * (len(runs) > 1)
            out.table([*head, *_COLUMNS, *columns], (row for part in ([first], rows) for row in part))


_COLUMNS = [Column("key", may_wrap=True), Column("step", count, is_number=True), Column("time", clock)]


def _rows(
    found: list[tuple[Run, str]], args: argparse.Namespace, has_runs: bool, out: Output
) -> Iterator[dict[str, Any]]:
    for run, key in found:
        try:
            images = run.images(key)
            for number in range(max(len(images) - args.last, 0) if args.last else 0, len(images)):
                image = images[number]
                row: dict[str, Any] = {
                    "run": name_of(run),
                    "key": key,
                    "step": int(images.step[number]),
                    "time": float(images.time[number]),
                    "shape": list(image.shape),
                    "dtype": str(image.dtype),
                }
                if args.output:
                    folders = [run.logdir.name] * has_runs + key.split("/")
                    place = Path(args.output, *map(file_name, folders))
                    row["file"] = str(place.with_name(f"{place.name}-{row['step']}-{number}.png"))
                    layout = str(images.attrs(number).get("layout", ""))
                    if not _written(Path(row["file"]), image, layout, out):
                        continue
                yield row
        except DamagedFile as error:
            out.problem(DAMAGED, words_of(error))


def _written(path: Path, image: Any, layout: str, out: Output) -> bool:
    from allogger.cli.png import png

    try:
        data = png(image, layout)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(data)
    except FileExistsError:
        out.problem(FAILED, f"{path} exists, and stays as it is")
    except ValueError as error:
        out.problem(FAILED, f"{path}: {error}")
    else:
        return True
    return False
