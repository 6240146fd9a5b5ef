"""Textlog: which messages of text does a run hold?"""

from __future__ import annotations

import math
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from allogger.shards import text_logs

__all__ = ["Message", "messages_of"]

_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:[,.](\d{3}))? \(([A-Z]\w*)\) \[([^]]*)\] > (.*)", re.S)
_NOTE = re.compile(r"-- \d+ messages are missing here: ")
# A hostile file must not eat the memory.
_MAX_BYTES = 256 * 2**20


class Message(NamedTuple):
    """One message of text: *time* in Unix seconds, the name of its *level*, the *scope* and the *text* itself.

    Of a line that is not in allogger's own format only the text is known; the time is NaN.
    """

    time: float
    level: str
    scope: str
    text: str


def messages_of(logdir: Path) -> list[Message]:
    """Return the messages of all processes: by time, where it is known, and otherwise as they are in the files."""
    found = [message for path in text_logs(logdir) for message in _messages(path)]
    # Those of one file stay in their order, also where a clock was set back.
    return found if any(math.isnan(message.time) for message in found) else sorted(found, key=lambda m: m.time)


def _messages(path: Path) -> Iterator[Message]:
    message: Message | None = None
    for line in _lines(path):
        begun = _LINE.fullmatch(line)
        if begun is None and message is not None and message.level and not _NOTE.match(line):
            # A message of several lines.
            message = message._replace(text=f"{message.text}\n{line}")
            continue
        if message is not None:
            yield message
        message = Message(math.nan, "", "", line) if begun is None else _message(begun)
    if message is not None:
        yield message


def _message(begun: re.Match[str]) -> Message:
    try:
        seconds = time.mktime(time.strptime(begun[1], "%Y-%m-%d %H:%M:%S")) + int(begun[2] or 0) / 1000
    except (ValueError, OverflowError):
        seconds = math.nan
    return Message(seconds, begun[3], begun[4], begun[5])


def _lines(path: Path) -> Iterator[str]:
    try:
        # Without O_NONBLOCK a pipe would keep us waiting for its other end.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return
        raw = file.read(_MAX_BYTES)
    # Only a line feed ends a line: a message may hold any other character.
    lines = raw.decode("utf-8", "replace").split("\n")
    yield from lines[:-1] if not lines[-1] else lines
