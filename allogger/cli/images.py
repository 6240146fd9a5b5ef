"""Images: which pictures, films, sounds and shapes does a run hold, and how do they become files?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allogger.cli.command import Command, add_attempts, add_keys, add_runs
from allogger.cli.output import DAMAGED, FAILED, NOTHING, Column, Output
from allogger.cli.runs import matching, name_of, opened
from allogger.cli.shown import clock, count
from allogger.errors import ConfigError, DamagedFile, words_of
from allogger.kind import MEDIA
from allogger.names import file_name

if TYPE_CHECKING:
    from allogger.media import Media
    from allogger.store import Run

__all__ = ["Images"]


class Images(Command):
    """The command ``images``."""

    description = (
        "List the images, figures, videos, sounds, meshes and point clouds of runs, or write them as files\n"
        "(PNG, HTML, WebP, WAV, PLY), in folders named like the keys."
    )
    examples = (
        ("allogger images runs/a", "which there are"),
        ("allogger images runs/a -o pictures", "all of them as files"),
        ("allogger images runs/a -k sample --last 1 -o .", "the last of one key"),
        ("allogger images runs/a -k walk --format mp4 -o .", "videos in another format"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)
        add_keys(parser)
        add_attempts(parser)
        parser.add_argument("-n", "--last", metavar="N", type=int, default=0, help="only the last N of each key")
        parser.add_argument("-o", "--output", metavar="DIR", help="write files into this folder; none is replaced")
        parser.add_argument("--format", help="of the files: png, html, json, webp, gif, mp4, wav or ply")

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """List or write them."""
        runs = list(opened(args.runs, out, args.attempts))
        found = [(run, key) for run in runs for key in matching(run, args.keys, out) if _has_media(run, key)]
        if runs and not found and not out.code:
            out.problem(NOTHING, "there are no images")
        rows = out.progress(_rows(found, args, len(runs) > 1, out), "writing files" if args.output else "reading")
        first = next(rows, None)
        if first is not None:
            columns = [Column("file")] if args.output else [Column("kind"), Column("shape"), Column("dtype")]
            head = [Column("run")] * (len(runs) > 1)
            out.table([*head, *_COLUMNS, *columns], (row for part in ([first], rows) for row in part))


_COLUMNS = [Column("key", may_wrap=True), Column("step", count, is_number=True), Column("time", clock)]


def _has_media(run: Run, key: str) -> bool:
    if run.kinds[key] != "mixed":
        return run.kinds[key] in MEDIA
    try:
        return len(run.media(key)) > 0
    except (ConfigError, DamagedFile):  # the damage has been told
        return False


def _rows(
    found: list[tuple[Run, str]], args: argparse.Namespace, has_runs: bool, out: Output
) -> Iterator[dict[str, Any]]:
    for run, key in found:
        try:
            media = run.media(key)
            for number in range(max(len(media) - args.last, 0) if args.last else 0, len(media)):
                row: dict[str, Any] = {
                    "run": name_of(run),
                    "key": key,
                    "step": int(media.step[number]),
                    "time": float(media.time[number]),
                    "kind": media.kind(number),
                }
                if args.output:
                    folder = Path(args.output, file_name(run.logdir.name)) if has_runs else Path(args.output)
                    row["file"] = _written(media, number, folder, args.format, out)
                    if row["file"] is None:
                        continue
                else:
                    # Of several arrays, the first: places in space come before their colours.
                    value = media[number]
                    array = next(iter(value.values())) if isinstance(value, dict) and value else value
                    row |= {"shape": list(getattr(array, "shape", ())), "dtype": str(getattr(array, "dtype", ""))}
                yield row
        except DamagedFile as error:
            out.problem(DAMAGED, words_of(error))


def _written(media: Media, number: int, folder: Path, format: str | None, out: Output) -> str | None:
    try:
        return str(media.save_one(number, folder, format))
    except FileExistsError as error:
        out.problem(FAILED, f"{error.filename} exists, and stays as it is")
    except DamagedFile:
        raise
    except (ValueError, ImportError) as error:
        out.problem(FAILED, f"{media.key!r}, step {media.step[number]}: {words_of(error)}")
    return None
