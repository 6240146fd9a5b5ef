"""Plot: what do curves look like, in the terminal or in a file?"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allogger.cli.command import Command, add_attempts, add_keys, add_runs
from allogger.cli.output import DAMAGED, NOTHING, Column, Output
from allogger.cli.runs import matching, name_of, opened
from allogger.errors import ConfigError, DamagedFile, NoSuchKey, words_of
from allogger.extras import load
from allogger.names import file_name, printable

if TYPE_CHECKING:
    from allogger.cli.braille import Line
    from allogger.curves import Curve
    from allogger.store import Run

__all__ = ["Plot"]

# More pictures than a person looks at.
_MOST_PICTURES = 8
_FOLLOW_SECONDS = 1.0
_HEIGHT = 20

# What of an aggregate makes a line and the band around it.
_BANDS = {
    "std": ("mean", "mean ± standard deviation"),
    "iqr": ("median", "median and quartiles"),
    "minmax": ("mean", "mean, smallest and largest"),
    "ci95": ("mean", "mean and its 95 % interval"),
}
_EDGES = {"iqr": ("q25", "q75"), "minmax": ("min", "max"), "ci95": ("low95", "high95")}


class Plot(Command):
    """The command ``plot``."""

    description = (
        "Draw a picture of each key, with the curves of all given runs in it. Where there are more values than dots,\n"
        "what happened only once can still be seen. With -o a file is made by matplotlib."
    )
    examples = (
        ("allogger plot runs/a -k loss", "one curve"),
        ("allogger plot runs/* -k val/loss --logy", "several runs, logarithmic"),
        ("allogger plot runs/a -k reward --smooth 0.9 -x relative", "smoothed, over the time since the run began"),
        ("allogger plot runs/* -k reward --band std --by lr", "mean and spread over seeds, a curve for each lr"),
        ("allogger plot runs/a -k loss --follow", "drawn anew while the run goes on"),
        ("allogger plot runs/* -k loss -o loss.pdf", "into a file: png, svg or pdf"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)
        add_keys(parser)
        add_attempts(parser)
        parser.add_argument("-x", metavar="X", default="step", help="step, time, relative, or another key (step)")
        parser.add_argument("--smooth", metavar="S", type=float, help="0.9: moving average; 20: mean of 20 values")
        parser.add_argument("--logx", action="store_true", help="logarithmic x axis")
        parser.add_argument("--logy", action="store_true", help="logarithmic y axis")
        parser.add_argument("--overlay", action="store_true", help="all keys in one picture")
        parser.add_argument("--band", choices=list(_BANDS), help="mean and spread over the runs")
        parser.add_argument("--by", metavar="PARAM", help="with --band: a curve for each value of this parameter")
        parser.add_argument("-f", "--follow", action="store_true", help="draw anew while a run is live")
        parser.add_argument("-o", "--output", metavar="FILE", help="a png, svg or pdf file instead of the terminal")
        parser.add_argument("--width", type=int, help="columns of the picture")
        parser.add_argument("--height", type=int, help=f"rows of the picture ({_HEIGHT})")

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Draw them."""
        _check(args)
        runs = list(opened(args.runs, out, args.attempts))
        while args.follow and not any(runs) and _go_on(runs):
            pass
        if not [key for run in runs for key in _keys(run, args, out)]:
            return
        if args.output:
            _draw_file(runs, args, out)
            return
        _show(runs, args, out)
        while args.follow and _go_on(runs):
            _show(runs, args, out)


def _go_on(runs: Sequence[Run]) -> bool:
    """Look again after a while; return whether any run was live until then."""
    # Asked before the look: what a process writes last is there when it is gone.
    is_live = any(run.state == "live" for run in runs)
    if is_live:
        time.sleep(_FOLLOW_SECONDS)
        for run in runs:
            run.refresh()
    return is_live


def _check(args: argparse.Namespace) -> None:
    if args.by and not args.band:
        raise ConfigError("--by belongs to --band")
    if args.smooth is not None and not args.smooth >= 0:
        raise ConfigError("--smooth takes a share of the past below 1, or a number of values")
    if args.output and Path(args.output).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"-o makes png, svg or pdf files, which {args.output!r} is none of")
    if args.follow and args.output:
        raise ConfigError("--follow draws in the terminal; leave out -o")


def _keys(run: Run, args: argparse.Namespace, out: Output) -> list[str]:
    """Return the keys to draw: those of numbers."""
    keys = matching(run, args.keys, out)
    numbers = [key for key in keys if run.kinds[key] in ("scalar", "mixed")]
    if keys and not numbers:
        out.problem(NOTHING, f"{name_of(run)}: no numbers among {', '.join(keys[:3])}; only these have curves")
    return numbers


# --------------------------------------------------------------------------------------------------------- the terminal


def _show(runs: Sequence[Run], args: argparse.Namespace, out: Output) -> None:
    if out.as_json:
        out.json([row for _, drawn in _pictures(runs, args, out) for row in map(_as_json, drawn)])
        return
    if args.follow and out.is_terminal:
        out.text("\x1b[H\x1b[J")
    for title, lines in _pictures(runs, args, out):
        out.text(_drawn(title, lines, args, out))
    sys.stdout.flush()


def _drawn(title: str, lines: Sequence[Line], args: argparse.Namespace, out: Output) -> str:
    from allogger.cli.braille import picture

    drawn = picture(
        lines,
        width=_width(args),
        height=args.height or _HEIGHT,
        x_name=args.x,
        logx=args.logx,
        logy=args.logy,
        has_colours=out.is_terminal and "NO_COLOR" not in os.environ,
    )
    return f"{printable(title)}\n{drawn}" if title else drawn


def _width(args: argparse.Namespace) -> int:
    width: int = args.width or shutil.get_terminal_size().columns
    return width


def _pictures(runs: Sequence[Run], args: argparse.Namespace, out: Output) -> Iterator[tuple[str, list[Line]]]:
    """Yield a title and the lines of each picture."""
    keys = list(dict.fromkeys(key for run in runs for key in _keys(run, args, out)))
    if len(keys) > _MOST_PICTURES and not args.overlay and not out.as_json:
        out.say(f"the first {_MOST_PICTURES} of {len(keys)} keys; -k chooses others")
        keys = keys[:_MOST_PICTURES]
    if args.overlay:
        lines = [line for key in keys for line in _lines(key, runs, args, out)]
        if lines:
            yield "", lines
        return
    for key in keys:
        lines = _lines(key, runs, args, out)
        if lines:
            yield key, lines


def _lines(key: str, runs: Sequence[Run], args: argparse.Namespace, out: Output) -> list[Line]:
    if args.band:
        return list(_bands(key, runs, args))
    lines = []
    for run in runs:
        if key not in run:
            continue
        try:
            curve = _curve(run, key, args)
        except DamagedFile as error:
            out.problem(DAMAGED, words_of(error))
        except (ConfigError, NoSuchKey) as error:
            out.problem(NOTHING, f"{name_of(run)}: {words_of(error)}")
        else:
            lines.append(_line(curve, f"{name_of(run)} {key}" if args.overlay else name_of(run)))
    return lines


def _curve(run: Run, key: str, args: argparse.Namespace) -> Curve:
    points = 4 * _width(args)
    if args.smooth is None:
        return run.curve(key, args.x, points)
    # Over all values, or it would depend on the width of the terminal.
    return _smooth(run.curve(key, args.x), args).binned(points)


def _smooth(curve: Curve, args: argparse.Namespace) -> Curve:
    if args.smooth is None:
        return curve
    return curve.smooth(ema=args.smooth) if args.smooth < 1 else curve.smooth(window=round(args.smooth))


def _line(curve: Curve, name: str) -> Line:
    from allogger.cli.braille import Line

    return Line(name, curve.x, curve.y, curve.low, curve.high)


def _bands(key: str, runs: Sequence[Run], args: argparse.Namespace) -> Iterator[Line]:
    from allogger.cli.braille import Line
    from allogger.curves import Curve
    from allogger.store import Runs

    # At steps runs meet; anywhere else they have to be brought together.
    grid = None if args.x == "step" else 4 * _width(args)
    tables = Runs(list(runs)).aggregate(key, args.by or _together, args.x, grid)
    center, title = _BANDS[args.band]
    for label, table in tables.items() if isinstance(tables, dict) else [("", tables)]:
        columns = {name: table[name].to_numpy(float) for name in table.columns}
        if args.band in _EDGES:
            low, high = (columns[edge] for edge in _EDGES[args.band])
        else:
            low, high = columns["mean"] - columns["std"], columns["mean"] + columns["std"]
        name = f"{label}: {title}" if label else title
        places = table.index.to_numpy(float)
        y, low, high = (_smooth(Curve(key, args.x, places, y), args).y for y in (columns[center], low, high))
        yield Line(f"{key} {name}" if args.overlay else name, places, y, low, high, is_band=True)


def _together(run: Run) -> str:
    """Return the name of the group that all runs are in."""
    return "all runs"


def _as_json(line: Line) -> dict[str, object]:
    return {"name": line.name, "x": line.x, "y": line.y, "low": line.low, "high": line.high}


# ------------------------------------------------------------------------------------------------------------- the file


def _draw_file(runs: Sequence[Run], args: argparse.Namespace, out: Output) -> None:
    plotting = load("allogger.plotting", "plot")
    keys = list(dict.fromkeys(key for run in runs for key in _keys(run, args, out)))
    smooth = None if args.smooth is None else args.smooth if args.smooth < 1 else round(args.smooth)
    options = {"x": args.x, "smooth": smooth, "logx": args.logx, "logy": args.logy}
    written = []
    if len(runs) == 1:
        chosen = f"^({'|'.join(map(re.escape, keys))})$"
        axes = plotting.plot_run(runs[0], chosen, **options)
        written.append(_saved(axes if hasattr(axes, "figure") else axes.flat[0], Path(args.output)))
    else:
        by = (args.by or _together) if args.band else None
        for key in keys:
            axes = plotting.plot_runs(runs, key, by, args.band, **options)
            path = Path(args.output)
            written.append(_saved(axes, path if len(keys) == 1 else path.with_stem(f"{path.stem}-{file_name(key)}")))
    out.table([Column("written")], [{"written": path} for path in written])


def _saved(axes: Any, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    axes.figure.savefig(path, dpi=150)
    return str(path)
