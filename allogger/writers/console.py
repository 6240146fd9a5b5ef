"""ConsoleWriter: what does a person who watches the terminal see of the values?

At most one short update per interval: for each scope one line with the latest value of each key, and the texts::

    [agent.critic] step 120 | loss 0.1234 | acc 0.91 (step 100)
    [main] step 7 | note: the learning rate was halved

Only whole lines are written, so that progress bars, pipes and log files of batch systems stay in order.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
import time
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from allogger.errors import ConfigError
from allogger.record import MAIN_PROCESS, Batch, Record
from allogger.rundir import Shard
from allogger.writer import Writer

__all__ = ["ConsoleWriter"]

# Per scope and update where there is no terminal whose width would bound the line.
_MAX_ENTRIES = 20
_MAX_TEXTS = 5
# Of one key or text.
_MAX_CHARACTERS = 500
_FALLBACK_COLUMNS = 80


class ConsoleWriter(Writer):
    """Prints to whatever ``sys.stdout`` is at that moment, at most every *interval_seconds*.

    What happens in between is shown as the latest value of each key and the last few texts with a count of the others.
    A stdout that fails is reported by one `OSError`; what comes later is shown if it works again.
    *clock* gives seconds that only go forward.
    """

    lane: ClassVar[str] = "console"
    needs_logdir: ClassVar[bool] = False

    def __init__(
        self, shard: Shard, *, interval_seconds: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(shard)
        self._interval = _checked(interval_seconds)
        self._clock = clock
        self._next = -math.inf
        self._numbers: dict[int, Record] = {}
        self._texts: deque[Record] = deque(maxlen=_MAX_TEXTS)
        self._text_count = 0
        self._failed: object = None

    def accepts(self, kind: str) -> bool:
        """Take what fits into a line: single numbers and texts."""
        return kind in ("scalar", "text")

    def write(self, batch: Batch) -> None:
        """Take in the batch, and print an update if one is due."""
        broken = []
        for record in _latest(batch):
            if isinstance(record.payload, str):
                self._texts.append(record)
                self._text_count += 1
            elif _is_number(record.payload):
                self._numbers[record.series.index] = record
            else:
                broken.append(record)
        self.flush()
        for record in broken:
            self.reject(record.series, 1, "the console shows single numbers and texts only")

    def flush(self) -> None:
        """Print an update if one is due."""
        if self._clock() >= self._next:
            self._update()

    def close(self) -> None:
        """Print what has not been shown; may be called twice."""
        # At the end of a program a closed pipe is common, and nobody is left to see.
        with contextlib.suppress(OSError):
            self._update()

    def abandon(self) -> None:
        """Forget what has not been shown: the parent shows it."""
        self._forget()

    def _forget(self) -> None:
        self._numbers.clear()
        self._texts.clear()
        self._text_count = 0

    def _update(self) -> None:
        if not self._numbers and not self._texts:
            return
        self._next = self._clock() + self._interval
        stream: Any = sys.stdout
        try:
            # None is what programs without a console have.
            if stream is not None:
                _print("".join(line + "\n" for line in self._lines(_Look.of(stream, self.shard.process))), stream)
        except Exception as error:
            # Besides OSError: ValueError of a closed file, and anything from what a program put into sys.stdout.
            if stream is not self._failed:
                self._failed = stream
                raise OSError(f"cannot print to stdout: {error}") from error
        finally:
            self._forget()

    def _lines(self, look: _Look) -> Iterable[str]:
        scopes: dict[str, list[Record]] = {}
        for _, record in sorted(self._numbers.items()):
            scopes.setdefault(record.scope, []).append(record)
        for scope, records in scopes.items():
            yield _numbers_line(scope, records, look)
        if self._text_count > len(self._texts):
            yield f"... and {self._text_count - len(self._texts)} earlier texts"
        for record in self._texts:
            yield f"{look.front(record.scope)} step {record.step} | {_shown(record.key)}: {_shown(str(record.payload))}"


def _checked(interval_seconds: object) -> float:
    if isinstance(interval_seconds, int | float) and interval_seconds >= 0:
        return interval_seconds
    raise ConfigError(f"interval_seconds must be a number of seconds, 0 or more, not {interval_seconds!r}")


def _is_number(payload: object) -> bool:
    return not isinstance(payload, np.ndarray) or (not payload.ndim and payload.dtype.kind in "biufc")


def _latest(batch: Batch) -> Batch:
    """Return the batch with only the last number of each series."""
    count = len(batch.series)
    _, from_the_end = np.unique(batch.series[::-1], return_index=True)
    is_last = np.zeros(count, dtype=np.bool_)
    is_last[count - 1 - from_the_end] = True
    return batch.select(is_last, [True] * len(batch.objects))


# -------------------------------------------------------------------------------------------------------------- lines


class _Look:
    """How lines have to look: *columns* is the width of the terminal, None without one."""

    def __init__(self, columns: int | None, is_coloured: bool, process: str) -> None:
        self.columns = columns
        self._is_coloured = is_coloured
        self._process = "" if process == MAIN_PROCESS else f"@{process}"

    @classmethod
    def of(cls, stream: Any, process: str) -> _Look:
        """Return the look of what *process* prints to *stream*."""
        if not hasattr(stream, "isatty") or not stream.isatty():
            return cls(None, False, process)
        try:
            columns = os.get_terminal_size(stream.fileno()).columns
        except (OSError, ValueError, AttributeError):
            columns = 0
        is_coloured = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        # Some terminals say 0.
        return cls(columns or _FALLBACK_COLUMNS, is_coloured, process)

    def front(self, scope: str) -> str:
        """Return the name of the scope as it begins a line."""
        return self._dim(self._front(scope))

    def line(self, scope: str, text: str, entries: Sequence[str]) -> str:
        """Return the front, *text*, and as many of the *entries* as there is room for, with a count of the others."""
        front = self._front(scope)
        if self.columns is None:
            return front + _bounded(text, entries)
        front = _cut(front, self.columns)
        return self._dim(front) + _fitted(text, entries, self.columns - _columns(front))

    def _front(self, scope: str) -> str:
        return f"[{_shown(scope.removeprefix('root.') + self._process)}]"

    def _dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._is_coloured else text


def _numbers_line(scope: str, records: Sequence[Record], look: _Look) -> str:
    # The step of most of them; if two are as frequent, the later one.
    counts = Counter(record.step for record in records)
    step = max(counts, key=lambda step: (counts[step], step))
    entries = [f"{_shown(r.key)} {_value(r)}" + (f" (step {r.step})" if r.step != step else "") for r in records]
    return look.line(scope, f" step {step}", entries)


def _bounded(text: str, entries: Sequence[str]) -> str:
    left = len(entries) - _MAX_ENTRIES
    return " | ".join([text, *entries[:_MAX_ENTRIES]]) + (f" | ... and {left} more" if left > 0 else "")


def _fitted(text: str, entries: Sequence[str], columns: int) -> str:
    whole = " | ".join([text, *entries])
    if _columns(whole) <= columns:
        return whole
    left = len(entries)
    for entry in entries:
        longer = f"{text} | {entry}"
        if _columns(f"{longer} | ... and {left - 1} more") > columns:
            break
        text = longer
        left -= 1
    return _cut(f"{text} | ... and {left} more", columns)


def _value(record: Record) -> str:
    value: Any = record.payload.item() if isinstance(record.payload, np.ndarray) else record.payload
    return str(value) if isinstance(value, bool | int) else f"{value:.4g}"


def _shown(text: str) -> str:
    """Return *text* on one line, of bounded length, with everything escaped that a terminal would obey."""
    left = len(text) - _MAX_CHARACTERS
    if left > 0:
        text = text[:_MAX_CHARACTERS]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return f"{text}... and {left} more characters" if left > 0 else text


def _columns(text: str) -> int:
    return len(text) if text.isascii() else sum(map(_column, text))


def _column(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(text: str, columns: int) -> str:
    for end, character in enumerate(text):
        columns -= _column(character)
        if columns < 0:
            return text[:end]
    return text


# ------------------------------------------------------------------------------------------------------------ printing


def _print(text: str, stream: Any) -> None:
    text = _encodable(text, stream)
    flush = getattr(stream, "flush", lambda: None)
    if (bars := _progress_bars()) is not None:
        bars.write(text, file=stream, end="")
    elif (raw := _raw(stream)) is not None:
        flush()
        _write_all(raw, text.encode(stream.encoding, stream.errors))
        return
    else:
        stream.write(text)
    flush()


def _encodable(text: str, stream: Any) -> str:
    """Return *text* with escapes for the characters that the encoding of *stream* lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    except LookupError:
        return text


def _progress_bars() -> Any:
    """Return the class of tqdm's bars if the program shows any."""
    # Never imported from here: a program without it has no bars.
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
    return bars if getattr(bars, "_instances", None) else None


def _raw(stream: Any) -> io.FileIO | None:
    """Return the unbuffered file below an ordinary stdout.

    What stayed in the buffer of a broken pipe would fail once more at the end of the program and spoil its exit status.
    And the buffer has a lock, which a child that is forked while a slow terminal holds us up there would never get.
    """
    if type(stream) is not io.TextIOWrapper or type(stream.buffer) is not io.BufferedWriter:
        return None
    raw = stream.buffer.raw
    return raw if type(raw) is io.FileIO else None


def _write_all(raw: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = raw.write(view)
        # None: not ready, of a file in non-blocking mode.
        if not written:
            raise BlockingIOError("not ready for more")
        view = view[written:]
