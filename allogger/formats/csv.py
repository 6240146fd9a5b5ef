r"""CSV: how are numbers and texts written as a table that any program opens, and how do they come back exactly?

One row per value, in the order logged, with the columns of `HEADER`: the full key, the step, the time in Unix seconds,
the process, the kind and the value. Quoting is that of RFC 4180, rows end in a line feed, the encoding is UTF-8::

    key,step,time,process,kind,value
    agent.critic/loss,1,1700000000.25,MainProcess,scalar,0.1
    main/note,7,1700000001.5,MainProcess,text,"one, ""two""
    and three"

Numbers are written as Python's `repr` of them, so floats read back to the last bit: ``0.1``, ``3``, ``True``, ``nan``,
``-inf``, ``(1+2j)``. (Before its version 3.1 pandas itself needs ``float_precision="round_trip"`` for the last bit.)

What UTF-8 or a CSV reader cannot carry is written as the escape that Python uses: NUL as ``\x00``, a lone surrogate as
``\ud800``. Backslashes stay as they are, except for those directly before what is, or only looks like, such an escape:
they are doubled. `unescape` is the exact inverse; a text with nothing of the kind needs none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from allogger.errors import DamagedFile
from allogger.record import INT, Batch, Record, Series

__all__ = ["HEADER", "Encoder", "Row", "escape", "mend", "rows", "torn_bytes", "unescape"]

HEADER = b"key,step,time,process,kind,value\n"

_CHUNK_BYTES = 2**20
_NEEDS_QUOTES = re.compile('[,"\r\n]')
_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"|([^",]*)')
_LOOKS_LIKE_AN_ESCAPE = r"x00|ud[89a-f][0-9a-f]{2}"
# The look-behind keeps a long run of backslashes from being tried at each of them.
_TO_ESCAPE = re.compile(rf"(?<!\\)(\\*)(?:([\x00\ud800-\udfff])|(?<=\\)({_LOOKS_LIKE_AN_ESCAPE}))")
_TO_UNESCAPE = re.compile(rf"(?<!\\)(\\+)({_LOOKS_LIKE_AN_ESCAPE})")
_INTEGER = re.compile(r"-?\d+")


class Row(NamedTuple):
    """One value of a file: *time* in Unix seconds, *value* a number for the kind ``scalar`` and a str for ``text``."""

    key: str
    step: int
    time: float
    process: str
    kind: str
    value: float | int | bool | complex | str


# --------------------------------------------------------------------------------------------------------------- texts


def escape(text: str) -> str:
    r"""Return *text* without NUL and lone surrogates.

    >>> print(escape("C:\\new \0 \\x00"))
    C:\new \x00 \\x00
    """
    return _TO_ESCAPE.sub(_escape_one, text)


def _escape_one(found: re.Match[str]) -> str:
    backslashes, character, lookalike = found.groups()
    if character is None:
        return backslashes * 2 + lookalike
    return backslashes * 2 + ("\\x00" if character == "\0" else f"\\u{ord(character):04x}")


def unescape(text: str) -> str:
    """Return the text that `escape` was given."""
    return _TO_UNESCAPE.sub(_unescape_one, text)


def _unescape_one(found: re.Match[str]) -> str:
    backslashes, name = found.groups()
    half = "\\" * (len(backslashes) // 2)
    return half + (chr(int(name[1:], 16)) if len(backslashes) % 2 else name)


def _quoted(text: str) -> str:
    text = escape(text)
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


# ------------------------------------------------------------------------------------------------------------- writing


class Encoder:
    """Makes the rows of one process; quotes every key once."""

    def __init__(self, process: str) -> None:
        self._process = _quoted(process)
        self._keys: dict[int, str] = {}

    def encode(self, batch: Batch) -> tuple[bytes, list[tuple[Record, str]]]:
        """Return the rows of *batch*, and the values that cannot be a row, each with the reason."""
        lines = self._numbers(batch)
        if not batch.objects:
            return "".join(lines).encode(), []
        out: list[str] = []
        broken: list[tuple[Record, str]] = []
        done = 0
        for record, place in zip(batch.objects, batch.places, strict=True):
            out += lines[done:place]
            done = place
            try:
                out.append(self._row(record))
            except (TypeError, ValueError) as error:
                broken.append((record, str(error)))
        return "".join(out + lines[done:]).encode(), broken

    def _numbers(self, batch: Batch) -> list[str]:
        values: list[float | int | bool] = batch.bits.view(np.float64).tolist()
        for row in np.flatnonzero(batch.code).tolist():
            bits = int(batch.bits[row])
            values[row] = bits if batch.code[row] == INT else bool(bits)
        for index in np.unique(batch.series).tolist():
            self._key(batch.names[index])
        keys = map(self._keys.__getitem__, batch.series.tolist())
        tail = f",{self._process},scalar,"
        return [
            f"{key},{step},{time!r}{tail}{value!r}\n"
            for key, step, time, value in zip(keys, batch.step.tolist(), batch.time.tolist(), values, strict=True)
        ]

    def _row(self, record: Record) -> str:
        value = _number(record.payload) if record.kind == "scalar" else _text(record.payload)
        front = f"{self._key(record.series)},{int(record.step)},{float(record.time)!r}"
        return f"{front},{self._process},{_quoted(record.kind)},{value}\n"

    def _key(self, series: Series) -> str:
        key = self._keys.get(series.index)
        if key is None:
            key = self._keys[series.index] = _quoted(series.full_key)
        return key


def _number(payload: object) -> str:
    if isinstance(payload, np.ndarray) and not payload.ndim and payload.dtype.kind in "biufc":
        payload = payload.item()
    if isinstance(payload, str | np.ndarray):
        raise TypeError(f"a number is needed, not {_what(payload)}")
    # numpy's long double has no Python counterpart, and its repr names its type.
    return repr(payload) if isinstance(payload, bool | int | float | complex) else str(payload)


def _text(payload: object) -> str:
    if not isinstance(payload, str):
        raise TypeError(f"a text is needed, not {_what(payload)}")
    return _quoted(payload)


def _what(payload: object) -> str:
    if isinstance(payload, np.ndarray):
        return f"an array of shape {payload.shape} and dtype {payload.dtype}"
    return f"a {type(payload).__name__}"


# ------------------------------------------------------------------------------------------------------------- reading


def rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file, except for a last one that is not complete yet.

    Raises `DamagedFile` at a row that is none of ours, `OSError` if the file cannot be read.
    """
    with open(path, "rb") as file:
        offset = 0
        for line in _complete_lines(file):
            if line != HEADER:
                try:
                    yield _parsed(line[:-1].decode())
                except ValueError as error:
                    raise DamagedFile(f"{path}: no row of values at byte {offset} ({error})") from None
            offset += len(line)


def _complete_lines(file: BinaryIO) -> Iterator[bytes]:
    pieces: list[bytes] = []
    quotes = 0
    for piece in file:
        pieces.append(piece)
        quotes += piece.count(b'"')
        # An odd number of quotes: this line feed belongs to a text.
        if quotes % 2 == 0 and piece.endswith(b"\n"):
            yield b"".join(pieces)
            pieces.clear()


def _parsed(line: str) -> Row:
    key, step, time, process, kind, value = _fields(line)
    return Row(key, int(step), float(time), process, kind, _parsed_number(value) if kind == "scalar" else value)


def _fields(line: str) -> list[str]:
    # Not the standard library's reader: it refuses fields above a length that can only be changed for all its users.
    if '"' not in line:
        return [unescape(field) for field in line.split(",")]
    fields = []
    position = -1
    while position < len(line):
        found = _QUOTED.match(line, position + 1)
        if found is None or line[found.end() : found.end() + 1] not in ("", ","):
            raise ValueError("a quote in the wrong place")
        quoted, plain = found.groups()
        fields.append(unescape(plain if quoted is None else quoted.replace('""', '"')))
        position = found.end()
    return fields


def _parsed_number(literal: str) -> float | int | bool | complex:
    if literal in ("True", "False"):
        return literal == "True"
    if _INTEGER.fullmatch(literal):
        return int(literal)
    return complex(literal) if literal.endswith(("j", ")")) else float(literal)


# ------------------------------------------------------------------------------------------------------------- mending


def torn_bytes(path: Path) -> int:
    """Return the length of a last row that is not complete, in bytes; raises `OSError`.

    The whole file is read, at the speed of the disk: whether a line feed ends a row or stands in a text depends on the
    number of quotes before it.
    """
    with open(path, "rb") as file:
        end = _end_of_last_row(file)
        return file.seek(0, os.SEEK_END) - end


def mend(path: Path) -> int:
    """Cut a last row that is not complete off the file, and return the number of bytes cut, see `torn_bytes`.

    Raises `OSError` if the file cannot be read or changed, or is a symbolic link.
    """
    # A link may lead to a file that nobody meant, and a pipe would keep us waiting for its other end.
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags), "rb") as file:
        end = _end_of_last_row(file)
        size = file.seek(0, os.SEEK_END)
        if end < size:
            os.ftruncate(file.fileno(), end)
    return size - end


def _end_of_last_row(file: BinaryIO) -> int:
    end = offset = quotes = 0
    while chunk := file.read(_CHUNK_BYTES):
        # Pieces before an even number of quotes lie outside of texts; the last line feed in one of them counts.
        pieces = chunk.split(b'"')
        start = offset + len(chunk) + 1
        for number in range(len(pieces) - 1, -1, -1):
            start -= len(pieces[number]) + 1
            if (quotes + number) % 2 == 0 and (found := pieces[number].rfind(b"\n")) >= 0:
                end = start + found + 1
                break
        quotes += len(pieces) - 1
        offset += len(chunk)
    return end
