"""Inputs: may a file that a log call names be read?"""

from __future__ import annotations

import os
import stat
from typing import Any, BinaryIO

from allogger.plain import Unstorable

__all__ = ["MOST_BYTES", "is_path", "opened"]

#: What a file unfolds to may take so much memory: a small one can claim to hold anything.
MOST_BYTES = 2**29


def is_path(value: Any) -> bool:
    """Return whether *value* names a file."""
    return isinstance(value, str | os.PathLike)


def opened(path: Any) -> BinaryIO:
    """Open a file for reading; raises `Unstorable` if there is none, or a pipe, which might keep us waiting."""
    try:
        name = os.fspath(path)
        # Without O_NONBLOCK a pipe would keep us waiting for its other end.
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except Exception as error:
        raise Unstorable(f"the file cannot be read: {error}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Unstorable(f"{name!r:.200} is no regular file")
    return open(fd, "rb")
