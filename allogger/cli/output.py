"""Output: how does a command show what it has found: to a person, to another program, or as JSON?

Data goes to stdout: tables for a terminal, tab-separated values for a pipe, JSON with ``--json``. Everything else goes
to stderr, and what went wrong is remembered as the exit code.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TextIO, TypeVar

from allogger.cli.shown import cell, dumped, plain
from allogger.names import printable

__all__ = ["DAMAGED", "FAILED", "INTERRUPTED", "NOTHING", "OK", "USAGE", "Column", "Output"]

T = TypeVar("T")

# The exit codes.
OK, FAILED, USAGE, NOTHING, DAMAGED, INTERRUPTED = 0, 1, 2, 3, 4, 130

# Of several, the one that says more about what the user has to do.
_GRAVITY = (OK, NOTHING, DAMAGED, FAILED)
# What is over sooner shows no progress.
_PATIENCE_SECONDS = 1.0
_UPDATE_SECONDS = 0.1
# On a terminal that leaves less for a column that may wrap, all of them do.
_MIN_WIDTH = 10


class Column(NamedTuple):
    """A column of a table: *name* in the rows, and how a person sees a value. Numbers stand on the right.

    Where the terminal is too narrow, the columns that may wrap become narrower first.
    """

    name: str
    shown: Callable[[Any], str] = plain
    is_number: bool = False
    may_wrap: bool = False


class Output:
    """What a command writes to. *as_json* is the option ``--json``; *code* is the exit code so far."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.code = OK
        self._told: set[str] = set()

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at stdout, and wants no JSON."""
        return not self.as_json and _is_terminal(sys.stdout)

    # ------------------------------------------------------------------------------------------------------------- talk

    def say(self, sentence: str) -> None:
        """Tell something on stderr."""
        print("allogger:", printable(sentence), file=sys.stderr)

    def problem(self, code: int, sentence: str) -> None:
        """Tell on stderr, once, what went wrong, and let the command end with *code* or with one that is graver."""
        if sentence not in self._told:
            self._told.add(sentence)
            self.say(sentence)
        self.code = max(self.code, code, key=_GRAVITY.index)

    def progress(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Yield *items*, and show on a terminal how many are done when it takes longer than a second."""
        if total is None and isinstance(items, Sequence):
            total = len(items)
        bar = Progress(what, total)
        try:
            for item in items:
                yield item
                bar.advance()
        finally:
            bar.close()

    # ------------------------------------------------------------------------------------------------------------- data

    def table(self, columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> None:
        """Show *rows*; with ``--json`` as a list of objects with everything in them, be it a column or not."""
        if self.as_json:
            self.json(list(rows))
        elif not (self.is_terminal and _show_rich(columns, list_of(rows))):
            self._tabbed(columns, rows)

    def _tabbed(self, columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> None:
        write = sys.stdout.write
        write("\t".join(cell(column.name) for column in columns) + "\n")
        for row in rows:
            write("\t".join(cell(row.get(column.name)) for column in columns) + "\n")

    def lines(self, rows: Iterable[Mapping[str, Any]], shown: Callable[[Mapping[str, Any]], str]) -> None:
        """Show each row at once, as a line: what *shown* makes of it, or, with ``--json``, an object."""
        for row in rows:
            sys.stdout.write((dumped(row, None) if self.as_json else shown(row)) + "\n")
            sys.stdout.flush()

    def json(self, value: Any) -> None:
        """Write one JSON document."""
        sys.stdout.write(dumped(value, 1) + "\n")

    def text(self, text: str) -> None:
        """Write text as it is."""
        sys.stdout.write(text + "\n")


class Progress:
    """A line on stderr that says how far something is; only on a terminal, and only from the first second on."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what, self._total = what, total
        self._done = 0
        self._next = time.monotonic() + _PATIENCE_SECONDS
        self._is_shown = False
        self._is_silent = not _is_terminal(sys.stderr)

    def advance(self, count: int = 1) -> None:
        """Note that *count* more are done."""
        self.update(self._done + count, self._total)

    def update(self, done: int, total: int | None = None) -> None:
        """Note that *done* of *total* are done."""
        self._done, self._total = done, total
        now = time.monotonic()
        if self._is_silent or now < self._next:
            return
        self._next = now + _UPDATE_SECONDS
        self._is_shown = True
        sys.stderr.write(f"\r\x1b[K{self._what} {_bar(done, total)}")
        sys.stderr.flush()

    def close(self) -> None:
        """Take the line away."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._is_shown = False


def _bar(done: int, total: int | None, width: int = 30) -> str:
    if not total:
        return f"{done:,}"
    share = min(done / total, 1.0)
    full = round(share * width)
    return f"[{'#' * full}{'.' * (width - full)}] {share:4.0%}  {done:,} of {total:,}"


def list_of(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return *rows* as a list; one is returned as it is."""
    return rows if isinstance(rows, list) else list(rows)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False


def _show_rich(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Show a table with rich; return False if it is not installed."""
    try:
        from rich.cells import cell_len
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    console = Console(file=sys.stdout, highlight=False, no_color="NO_COLOR" in os.environ)
    cells = [[column.shown(row.get(column.name)) for column in columns] for row in rows]
    heads = [printable(column.name) for column in columns]
    widths = [max(map(cell_len, its)) for its in zip(heads, *cells, strict=True)]
    least = [_MIN_WIDTH if column.may_wrap else width for column, width in zip(columns, widths, strict=True)]
    is_too_narrow = sum(least) + 2 * len(columns) > console.width
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column, head in zip(columns, heads, strict=True):
        side: Literal["left", "right"] = "right" if column.is_number else "left"
        # As Text, or what is written in square brackets would be taken for a style.
        table.add_column(Text(head), justify=side, no_wrap=not (column.may_wrap or is_too_narrow), overflow="fold")
    for its in cells:
        table.add_row(*map(Text, its))
    console.print(table)
    return True
