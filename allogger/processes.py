"""Processes: who is this process, what does it take over from its parent, and how does it notice its end?"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

from allogger import sigterm
from allogger.record import MAIN_PROCESS

__all__ = ["at_end", "inherited", "is_child", "is_first_of_host", "is_preparing", "label", "name", "publish", "rank"]

# How long another program that takes over the process may have to wait.
EXEC_SECONDS = 5.0
_RANK_VARIABLES = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
# SLURM's last: where it starts another launcher, that one's processes all have it.
_LOCAL_RANK_VARIABLES = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
_STATE = "allogger"


def name() -> str:
    """Return the name that multiprocessing gives this process."""
    # Where it is not imported, this is no child of it.
    process = sys.modules.get("multiprocessing.process")
    return str(process.current_process().name) if process is not None else MAIN_PROCESS


def is_child() -> bool:
    """Return whether multiprocessing started this process, by whatever method."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


def is_preparing() -> bool:
    """Return whether this is a child of multiprocessing that only imports the main module yet."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and getattr(process.current_process(), "_inheriting", False)


def rank(given: object = None) -> int | None:
    """Return the *given* rank or that which a launcher set in the environment; None if there is no launcher."""
    if isinstance(given, int):
        return given
    for variable in _RANK_VARIABLES:
        # Asked for with every new key, and four exceptions take ten times as long.
        if variable in os.environ:
            with contextlib.suppress(KeyError, ValueError):
                return int(os.environ[variable])
    return None


def is_first_of_host(given_rank: object = None) -> bool:
    """Return whether this is the one process of its host to speak for all; where no launcher says it, rank 0 is."""
    for variable in _LOCAL_RANK_VARIABLES:
        with contextlib.suppress(KeyError, ValueError):
            return int(os.environ[variable]) == 0
    return not rank(given_rank)


def label(given_rank: object = None, forked: str | None = None) -> str:
    """Return what this process is called in the files: ``MainProcess``, ``Process-1``, ``rank3``, ``fork-4711``.

    *forked* is its name if it came from a bare ``os.fork``.
    """
    own = name()
    if own == MAIN_PROCESS and forked:
        own = forked
    number = rank(given_rank)
    if not number:
        return own
    return f"rank{number}" if own == MAIN_PROCESS else f"rank{number}-{own}"


# ------------------------------------------------------------------------------------------------------------------ the
# parent


def publish(state: object) -> None:
    """Leave *state* where multiprocessing carries it to children of every start method; None removes it.

    It travels as bytes, so that a child that never logs does not import anything for it.
    """
    from multiprocessing.process import current_process

    config = getattr(current_process(), "_config", None)
    if config is None:
        return
    config.pop(_STATE, None)
    if state is not None:
        with contextlib.suppress(pickle.PicklingError, TypeError, AttributeError):
            config[_STATE] = pickle.dumps(state)


def inherited() -> Any:
    """Return what the parent published; None if this is no child of multiprocessing, or if there was nothing."""
    if not is_child():
        return None
    from multiprocessing.process import current_process

    raw = getattr(current_process(), "_config", {}).get(_STATE)
    # From our own parent's memory, through multiprocessing, which unpickled the process itself in the same way.
    return None if raw is None else pickle.loads(raw)


# ------------------------------------------------------------------------------------------------------------------ the
# end


def at_end(close: Callable[[], None], flush: Callable[[float], object], stop: Callable[[float], object]) -> None:
    """See to it that this process calls *close* at its end, *stop* on SIGTERM and *flush* before ``os.exec*``.

    To be called in each process that logs, as late as its first value. atexit is the caller's business, because its
    order matters.
    """
    if is_child():
        _see_end_of_child(close)
    elif is_preparing():
        from multiprocessing.util import register_after_fork

        # When the child has imported the main module, multiprocessing forgets what was to be done at its end.
        register_after_fork(close, _see_end_of_child)
    sigterm.watch(stop)
    _on_exec(flush)


def _see_end_of_child(close: Callable[[], None]) -> None:
    from multiprocessing.util import Finalize

    # atexit does not run in children.
    Finalize(None, _after_threads, args=(close,), exitpriority=-100)


def _after_threads(close: Callable[[], None]) -> None:
    """Call *close*, as soon as no other thread that the interpreter waits for is running: such a thread may log."""

    def others() -> list[threading.Thread]:
        ours = (threading.main_thread(), threading.current_thread())
        return [thread for thread in threading.enumerate() if not thread.daemon and thread not in ours]

    def wait_and_close() -> None:
        while running := others():
            running[0].join()
        close()

    if not others():
        close()
        return
    # A thread of that kind itself: it ends with the last of them. The main thread must not wait for them here, because
    # those of an executor end only when the interpreter, after this, tells them to.
    threading.Thread(target=wait_and_close, name="allogger-end").start()


_has_audit_hook = False


def _on_exec(flush: Callable[[float], object]) -> None:
    """Have *flush* called before another program takes this process over, which runs no exit handlers."""
    # An audit hook cannot be removed, so there is one for all time; a forked child has its parent's.
    global _has_audit_hook
    if _has_audit_hook:
        return
    _has_audit_hook = True

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "os.exec":
            flush(EXEC_SECONDS)

    sys.addaudithook(hook)
