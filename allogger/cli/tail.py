"""Tail: what comes in while a run goes on?"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from allogger.cli.command import Command, add_keys, add_runs
from allogger.cli.output import DAMAGED, NOTHING, Output
from allogger.cli.runs import matching, name_of, named_runs, opened, pattern_of
from allogger.cli.show import values_of
from allogger.cli.shown import clock, plain
from allogger.errors import ConfigError, DamagedFile, words_of
from allogger.listing import run_info
from allogger.names import printable
from allogger.rundir import shard_names

__all__ = ["Tail"]

_POLL_SECONDS = 0.5
# Of a long text log only the end is read for its last lines.
_END_BYTES = 2**16
_BEGIN = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[,.]\d{3}")
_TIME_LENGTH = len("2026-01-31 12:00:00,000")


class Tail(Command):
    """The command ``tail``."""

    description = (
        "Show the last values of a run, or its last messages, and go on with what comes in until the run is over or\n"
        "Ctrl-C. Of a folder with several runs the one that wrote last is taken."
    )
    examples = (
        ("allogger tail runs/a", "all values, as they come in"),
        ("allogger tail runs -k loss", "one key of the run that wrote last"),
        ("allogger tail runs/a --messages", "what logger.info and its sisters say"),
        ("allogger tail runs/a -k reward --json | jq .value", "for programs"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser, several=False)
        add_keys(parser)
        parser.add_argument("-n", "--last", metavar="N", type=int, default=10, help="begin with the last N (10)")
        parser.add_argument("-m", "--messages", action="store_true", help="messages instead of values")
        parser.add_argument("--once", action="store_true", help="do not wait for what comes in")

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Follow it."""
        if args.last < 0:
            raise ConfigError("-n takes a number, at least 0")
        paths = named_runs(args.runs, out)
        if not paths:
            return
        path = max(paths, key=lambda path: run_info(path).active or 0.0)
        if len(paths) > 1:
            out.say(f"of {len(paths)} runs the one that wrote last: {path}")
        if args.messages:
            out.lines(_messages(path, args, out), lambda row: "\n".join(map(printable, row["message"].splitlines())))
        else:
            out.lines(_values(path, args, out), _as_line)


def _as_line(row: Mapping[str, Any]) -> str:
    return f"{clock(row['time'])}\t{printable(row['key'])}\t{row['step']}\t{plain(row['value'])}"


# --------------------------------------------------------------------------------------------------------------- values


def _values(path: Path, args: argparse.Namespace, out: Output) -> Iterator[dict[str, Any]]:
    for run in opened([str(path)], out):
        is_over = run.state != "live"
        last: list[dict[str, Any]] = []
        for key in matching(run, args.keys, out) if len(run) or is_over else ():
            try:
                series = run[key]
            except DamagedFile as error:
                out.problem(DAMAGED, words_of(error))
                continue
            last += values_of(series[max(len(series) - args.last, 0) :], name_of(run))
        last.sort(key=lambda row: float(row["time"]))
        yield from last[max(len(last) - args.last, 0) :]
        if args.once or is_over:
            return
        for event in run.follow(pattern_of(args.keys), poll_seconds=_POLL_SECONDS):
            yield {
                "run": name_of(run),
                "key": event.key,
                "step": event.step,
                "time": event.time,
                "process": event.process,
                "value": event.value,
            }


# ------------------------------------------------------------------------------------------------------------- messages


def _messages(path: Path, args: argparse.Namespace, out: Output) -> Iterator[dict[str, str]]:
    files: dict[str, _Lines] = {}
    is_first = True
    while True:
        # Before the files, or what a process wrote at its end would be missed.
        is_live = run_info(path).state == "live"
        found = []
        for name in shard_names(path, ".log"):
            lines = files.setdefault(name, _Lines(path / f"{name}.log", _END_BYTES if is_first else None))
            found += _joined(lines.new(whole=not is_live))
        if all(map(_BEGIN.match, found)):
            found.sort(key=lambda message: message[:_TIME_LENGTH])
        for message in found[max(len(found) - args.last, 0) :] if is_first else found:
            yield {"run": str(path), "message": message}
        if is_first and not found and not is_live:
            out.problem(NOTHING, f"{path} holds no messages")
        if args.once or not is_live:
            return
        is_first = False
        time.sleep(_POLL_SECONDS)


def _joined(lines: Sequence[str]) -> list[str]:
    """Return messages: a line that does not begin with a time goes on with the message above it."""
    messages: list[str] = []
    for line in lines:
        if messages and _BEGIN.match(messages[-1]) and not _BEGIN.match(line):
            messages[-1] += f"\n{line}"
        else:
            messages.append(line)
    return messages


class _Lines:
    """The lines that are added to a file; at first those in its last *end* bytes, or all if that is None."""

    def __init__(self, path: Path, end: int | None) -> None:
        self._path, self._rest = path, b""
        self._at = 0
        with contextlib.suppress(OSError):
            size = os.stat(path).st_size
            self._at = max(size - end, 0) if end is not None else 0
        # The first of them may be half a line.
        self._is_torn = self._at > 0

    def new(self, whole: bool) -> list[str]:
        """Return the lines since the last call; *whole* also one without its end."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            return []
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._is_torn and lines:
            lines, self._is_torn = lines[1:], False
        if whole and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        return [line.decode("utf-8", "replace") for line in lines]
