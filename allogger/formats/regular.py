"""Regular files: how is a file of unknown origin opened, so that it cannot keep us waiting?"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from allogger.errors import DamagedFile

__all__ = ["open_regular"]


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; raises `OSError`, or `DamagedFile` for a pipe, a device or a folder."""
    # Without O_NONBLOCK a pipe would keep us waiting for its other end.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise DamagedFile(f"{path} is no regular file")
    return open(fd, "rb")
