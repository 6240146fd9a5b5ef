"""System: what do files, threads and forked children of this process do?"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from allogger.errors import MissingDependency

__all__ = ["PATIENCE_SECONDS", "files", "in_a_forked_child", "in_a_thread", "open_files", "skip"]

# For what should be over at once: something hangs when it takes longer.
PATIENCE_SECONDS = 30.0


def skip(why: str) -> NoReturn:
    """End the test without a verdict."""
    try:
        import pytest
    except ImportError as error:
        raise MissingDependency("the contracts of allogger.testing need pytest: pip install pytest") from error
    pytest.skip(why)


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of all files in *folder* by path; of folders, nothing."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def open_files(folder: Path) -> list[str]:
    """Return the paths in *folder* that this process has open, where the system tells."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [path for path in found if path.startswith(f"{folder.resolve()}{os.sep}")]


def in_a_thread(step: Callable[[], object]) -> None:
    """Do *step* in another thread; raises what it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            step()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive(), "it hangs when it is called by another thread"
    for error in errors:
        raise error


def in_a_forked_child(step: Callable[[], object]) -> None:
    """Do *step* in a forked child, which then ends at once; raises `AssertionError` if it raises or hangs."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Python warns of forks in programs with threads, which is what this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        try:
            step()
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}"[:1000].encode(errors="replace"))
        os._exit(0)
    os.close(write)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError("it hangs in a forked child")
        time.sleep(0.001)
    with os.fdopen(read) as messages:
        said = messages.read()
    assert not said, f"in a forked child: {said}"
