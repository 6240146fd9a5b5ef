"""Show: which values were logged?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from allogger.cli.command import Command, add_attempts, add_keys, add_runs
from allogger.cli.output import DAMAGED, Column, Output
from allogger.cli.runs import matching, name_of, opened
from allogger.cli.shown import clock, count, dumped, plain
from allogger.errors import ConfigError, DamagedFile, words_of

if TYPE_CHECKING:
    from allogger.series import Series
    from allogger.store import Run

__all__ = ["Show", "values_of"]

# A person sees so many values of each key unless told otherwise.
_FEW = 20

_COLUMNS = [
    Column("key", may_wrap=True),
    Column("step", count, is_number=True),
    Column("time", clock),
    Column("process"),
    Column("value", plain, is_number=True, may_wrap=True),
]


class Show(Command):
    """The command ``show``."""

    description = (
        "Show values: on a terminal the last 20 of each key, in a pipe all of them, exactly as they were logged;\n"
        "times are Unix seconds there. With --json each value is an object on a line of its own."
    )
    examples = (
        ("allogger show runs/a -k loss", "the last values of the loss"),
        ("allogger show runs/a -k loss --steps 100:200", "those of some steps"),
        ("allogger show runs/a -k loss > loss.tsv", "all values"),
        ("allogger show runs/a -k note --json | jq .value", "for programs"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)
        add_keys(parser)
        add_attempts(parser)
        parser.add_argument("-n", "--last", metavar="N", type=int, help="only the last N values of each key; 0: all")
        parser.add_argument("--steps", metavar="FIRST:LAST", type=_steps, help="only these steps, both included")

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Show them."""
        if args.last is not None and args.last < 0:
            raise ConfigError("-n takes a number of values, or 0 for all of them")
        runs = list(opened(args.runs, out, args.attempts))
        rows = (row for run in runs for key in matching(run, args.keys, out) for row in _rows(run, key, args, out))
        first = next(rows, None)
        if first is None:
            return
        every = (row for part in ([first], rows) for row in part)
        if out.as_json:
            out.lines(every, lambda row: dumped(row, None))
        else:
            out.table([Column("run")] * (len(runs) > 1) + _COLUMNS, every)


def _steps(text: str) -> tuple[int | None, int | None]:
    first, colon, last = text.partition(":")
    if not colon:
        last = first
    return int(first) if first else None, int(last) if last else None


def _rows(run: Run, key: str, args: argparse.Namespace, out: Output) -> Iterator[dict[str, Any]]:
    most = args.last if args.last is not None else _FEW if out.is_terminal else 0
    try:
        if not most and args.steps is None:
            for portion in run.portions(key):
                yield from values_of(portion, name_of(run))
            return
        series = run[key] if args.steps is None else run[key].steps(*args.steps)
    except DamagedFile as error:
        out.problem(DAMAGED, words_of(error))
        return
    if args.last is None and most and len(series) > most:
        out.say(f"the last {most} of {len(series):,} values of {key!r}; -n 0 shows all")
    yield from values_of(series[max(len(series) - most, 0) :] if most else series, name_of(run))


def values_of(series: Series, run: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each value of a series."""
    steps, times, processes = series.step.tolist(), series.time.tolist(), series.process.tolist()
    for step, time, process, value in zip(steps, times, processes, series.value, strict=True):
        yield {"run": run, "key": series.key, "step": step, "time": time, "process": process, "value": value}
