"""Messages: where does the text of ``logger.info(...)`` and its sisters go?

Every message goes to the text log of the process, to the standard `logging` under the name ``allogger.<scope>`` (the
root scope is ``allogger``), and to the console exactly once. The user's handlers, filters and levels decide as they
would for any other logger; this module adds no handler, sets no level and configures nothing. Only where no handler
is found does it print by itself: to stderr, from the scope's ``level`` on.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, TypeAlias

from allogger.errors import ConfigError, UnknownName

__all__ = ["check_params", "close", "close_all", "emit", "logger_name", "lost", "reset_after_fork", "show"]

FORMAT = "%(asctime)s (%(levelname)s) [%(name)s] > %(message)s"

# How long to wait for another thread that is inside the same file: long enough for a slow disk, but a message must
# never wait for ever, and a handler of SIGTERM must be able to close.
LOCK_SECONDS = 2.0

_Raised: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
ExcInfo: TypeAlias = bool | BaseException | _Raised | None


def emit(
    scope: str,
    level: int,
    message: object,
    args: tuple[object, ...],
    *,
    to_stdout: bool = False,
    exc_info: ExcInfo = None,
    path: Path | None,
    params: Mapping[str, Any],
    stacklevel: int,
) -> None:
    """Pass one text message on; never raises.

    *scope* starts with ``root``. *path* is the text log of this process, None for no file. *params* are the scope's
    ``basic_logging_params``. With *to_stdout* the message is on the console whatever its level. *stacklevel* says
    whose line the record names: 1 is the caller of this function, 2 the caller of the method that calls it.
    """
    try:
        logger = logging.getLogger(logger_name(scope))
        record = _record(logger, level, message, args, exc_info, stacklevel + 1)
        text = _text(record, scope.removeprefix("root."), params)
        if path is not None:
            _file(path).write(text)
        _hand_on(logger, record)
        if to_stdout:
            if not _was_printed(logger, record):
                _show(text, sys.stdout)
        elif _is_ours_to_print(logger, record, params):
            _show(text, sys.stderr)
    except RecursionError:
        pass  # The program is at its limit, and says so itself at the next call.
    except Exception as error:
        _report_once("text messages cannot be made", error)


def logger_name(scope: str) -> str:
    """Return the name of a scope in the standard `logging`.

    >>> logger_name("root.agent.critic"), logger_name("root")
    ('allogger.agent.critic', 'allogger')
    """
    return "allogger" + scope.removeprefix("root")


# ----------------------------------------------------------------------------------------------------------- parameters


def check_params(params: Mapping[str, Any]) -> None:
    """Raise `ConfigError` or `UnknownName` unless *params* can be used as ``basic_logging_params``.

    >>> check_params({"level": "INFO", "formatter": {"fmt": "%(name)s: %(message)s", "datefmt": "%H:%M"}})
    """
    _check_names(params, "basic_logging_params", ("level", "formatter"))
    if params.get("level") is not None:
        _level_number(params["level"])
    options = params.get("formatter")
    if options is None:
        return
    _check_names(options, "formatter", ("fmt", "datefmt"))
    for name, value in options.items():
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{name} of the formatter must be text, not {value!r}")
    try:
        # The constructor finds a wrong style; a field that does not exist shows up only in use.
        _formatter(options.get("fmt"), options.get("datefmt")).format(logging.makeLogRecord({"msg": "trial"}))
    except Exception as error:
        raise ConfigError(
            f"the formatter {dict(options)!r} does not work: {_summary(error)}; the default fmt is {FORMAT!r}"
        ) from error


def _check_names(given: object, what: str, known: tuple[str, ...]) -> None:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{what} must be a dict with {' and '.join(known)}, not {given!r}")
    for name in given:
        if name not in known:
            raise UnknownName.of(f"entry of {what}", name, known)


def _level_number(level: object) -> int:
    if isinstance(level, int) and not isinstance(level, bool):
        return level
    known = logging.getLevelNamesMapping()
    if not isinstance(level, str):
        raise ConfigError(f"level must be an int or one of {', '.join(known)}, not {level!r}")
    if level.upper() not in known:
        raise UnknownName.of("level", level, known)
    return known[level.upper()]


@lru_cache(maxsize=64)
def _formatter(fmt: str | None, datefmt: str | None) -> logging.Formatter:
    return logging.Formatter(FORMAT if fmt is None else fmt, datefmt)


# --------------------------------------------------------------------------------------------------------------- record


def _record(
    logger: logging.Logger,
    level: int,
    message: object,
    args: tuple[object, ...],
    exc_info: ExcInfo,
    stacklevel: int,
) -> logging.LogRecord:
    """Return the record as *logger* makes it; *stacklevel* counts from this function."""
    frame = sys._getframe()
    for _ in range(stacklevel):
        frame = frame.f_back or frame
    code, line = frame.f_code, frame.f_lineno
    raised = _raised(exc_info)
    return logger.makeRecord(logger.name, level, code.co_filename, line, message, args, raised, code.co_name)


def _raised(exc_info: ExcInfo) -> _Raised | None:
    """Return what `logging` makes of its argument of that name."""
    if isinstance(exc_info, BaseException):
        return type(exc_info), exc_info, exc_info.__traceback__
    if isinstance(exc_info, tuple):
        return exc_info
    return sys.exc_info() if exc_info else None


def _text(record: logging.LogRecord, scope: str, params: Mapping[str, Any]) -> str:
    """Return the lines to store and to print, without the newline at the end."""
    # A formatter leaves its traceback and its time in the record; the user's formatters must not find ours.
    ours = copy.copy(record)
    ours.name, ours.msg, ours.args = scope, _message(record), ()
    try:
        options = params.get("formatter") or {}
        return _formatter(options.get("fmt"), options.get("datefmt")).format(ours)
    except Exception:
        return _formatter(None, None).format(ours)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        return f"{_printable(record.msg)} [does not fit its arguments {_printable(record.args)}: {_summary(error)}]"


def _printable(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be printed>"


def _summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {_printable(error)}"


# -------------------------------------------------------------------------------------------------- the user's handlers


def _hand_on(logger: logging.Logger, record: logging.LogRecord) -> None:
    # Without any handler the standard library would print through its handler of last resort, and so would we.
    if not logger.hasHandlers() or not logger.isEnabledFor(record.levelno):
        return
    try:
        logger.handle(record)
    except Exception as error:
        _report_once("a handler or filter of the standard logging fails", error)


def _is_ours_to_print(logger: logging.Logger, record: logging.LogRecord, params: Mapping[str, Any]) -> bool:
    """Return whether the record belongs on stderr and no handler is there to put it there.

    Without a ``level`` in *params* that is so exactly when the handler of last resort would print it.
    """
    if logger.hasHandlers() or logger.disabled or logger.manager.disable >= record.levelno:
        return False
    level = params.get("level")
    lowest = max(logging.WARNING, logger.getEffectiveLevel()) if level is None else _level_number(level)
    return record.levelno >= lowest and bool(logger.filter(copy.copy(record)))


def _was_printed(logger: logging.Logger, record: logging.LogRecord) -> bool:
    """Return whether one of the user's handlers has put this record on stdout or stderr."""
    if not logger.hasHandlers() or not logger.isEnabledFor(record.levelno):
        return False
    # There is no trace of what a handler did, so its filters are asked again, on a copy that they may change.
    # One that counts its calls may answer otherwise this time: then the message shows twice rather than never.
    again = copy.copy(record)
    return bool(logger.filter(again)) and any(
        record.levelno >= handler.level and _is_console(handler) and handler.filter(again)
        for handler in _handlers(logger)
    )


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    """Yield the handlers that a record of *logger* reaches."""
    place: logging.Logger | None = logger
    while place is not None:
        yield from place.handlers
        place = place.parent if place.propagate else None


def _is_console(handler: logging.Handler) -> bool:
    # RichHandler and its kin have a console instead of a stream.
    stream = getattr(handler, "stream", None) or getattr(getattr(handler, "console", None), "file", None)
    if stream is None:
        return False
    return stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__) or _fileno(stream) in (1, 2)


def _fileno(stream: TextIO) -> int:
    """Return the descriptor under *stream*, -1 if it has none."""
    try:
        return stream.fileno()
    except Exception:
        return -1


# -------------------------------------------------------------------------------------------------------------- console


class _PerThread(threading.local):
    is_printing = False


_per_thread = _PerThread()
_reported: set[tuple[str, type[Exception]]] = set()


def show(text: str) -> None:
    """Print a line on stdout, above progress bars, and store it nowhere; never raises."""
    _show(text, sys.stdout)


def _show(text: str, stream: TextIO | None) -> None:
    """Print a line on *stream*; never raises."""
    if stream is None:
        return
    if _per_thread.is_printing:
        # A signal handler logs while its thread is printing, or the user made stderr a file that logs what it gets.
        _show_raw(text, stream)
        return
    _per_thread.is_printing = True
    try:
        _print(_encodable(text, stream) + "\n", stream)
    except RuntimeError:
        # A buffered stream takes nothing from a signal handler that interrupted a print to it.
        _show_raw(text, stream)
    except Exception:
        pass  # A console that went away is no reason to stop.
    finally:
        _per_thread.is_printing = False


def _print(line: str, stream: TextIO) -> None:
    bars = getattr(sys.modules.get("tqdm.std"), "tqdm", None)
    if getattr(bars, "_instances", None):
        # No lock: a worker that was killed, or a thread at the time of a fork, may hold tqdm's for ever.
        bars.write(line, file=stream, end="", nolock=True)  # type: ignore[union-attr]
    else:
        stream.write(line)
    stream.flush()


def _show_raw(text: str, stream: TextIO) -> None:
    fd = _fileno(stream)
    if fd < 0:
        real = sys.__stdout__ if stream is sys.stdout else sys.__stderr__
        fd = _fileno(real) if real is not None else -1
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.write(fd, _encoded(text))


def _encodable(text: str, stream: TextIO) -> str:
    """Return *text* with escapes for whatever the stream's encoding cannot hold."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _encoded(text: str) -> bytes:
    return f"{text}\n".encode("utf-8", "backslashreplace")


def _report_once(what: str, error: Exception) -> None:
    if (what, type(error)) not in _reported:
        _reported.add((what, type(error)))
        _show(f"allogger: {what}: {_summary(error)}", sys.stderr)


# ----------------------------------------------------------------------------------------------------------------- file


class _TextFile:
    """The text log of this process at one path, written through so that kill -9 loses nothing.

    Reports the first failure on stderr, counts what is lost, and says so in the file once it takes messages again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost = 0
        self._gap = 0
        self._error = ""
        self._is_torn = False
        self._fd = -1
        # Reentrant: a signal handler may log while its thread is in here.
        self._lock = threading.RLock()

    def write(self, text: str) -> None:
        """Append *text* and a newline; never raises."""
        with _at_most(self._lock, LOCK_SECONDS):
            try:
                self._open_unless_there()
                self._append(self._note_of_gap() + _encoded(text))
            except OSError as error:
                self._count(error)
                return
            self._gap = 0

    def close(self) -> None:
        """Release the file, say how many messages it could not take, and count anew."""
        with _at_most(self._lock, LOCK_SECONDS):
            self.release()
        if self.lost:
            _show(f"allogger: {self.lost} text messages are missing in {self.path}: {self._error}", sys.stderr)
            self.lost = 0

    def release(self) -> None:
        """Close the descriptor; no lock."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _open_unless_there(self) -> None:
        if self._fd >= 0 and _is_file_at(self._fd, self.path):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A link in the place of our file would lead us to one that is not ours.
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        self._is_torn = False
        if self._fd < 0:
            self._fd = fd
            return
        # The number stays the same: whoever was interrupted between reading it and writing hits the new file.
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            count = os.write(self._fd, rest)
            if not count:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            rest = rest[count:]
            self._is_torn = bool(rest)

    def _note_of_gap(self) -> bytes:
        note = f"-- {self._gap} messages are missing here: {self._error}\n" if self._gap else ""
        return ("\n" * self._is_torn + note).encode("utf-8", "backslashreplace")

    def _count(self, error: OSError) -> None:
        self.lost += 1
        self._gap += 1
        self._error = error.strerror or str(error)
        if self.lost == 1:
            _show(f"allogger: cannot write text messages to {self.path}: {self._error}", sys.stderr)


_files: dict[str, _TextFile] = {}


def _file(path: Path) -> _TextFile:
    name = os.fspath(path)
    # Two threads that come first at once must end up with the same object.
    return _files.get(name) or _files.setdefault(name, _TextFile(path))


def _is_file_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


@contextlib.contextmanager
def _at_most(lock: threading.RLock, seconds: float) -> Iterator[None]:
    """Hold *lock*, or go on without it when that takes too long."""
    is_held = lock.acquire(timeout=seconds)
    try:
        yield
    finally:
        if is_held:
            lock.release()


def lost(path: Path) -> int:
    """Return how many messages the text log at *path* could not take since it was first used or last closed."""
    file = _files.get(os.fspath(path))
    return file.lost if file else 0


def close(path: Path) -> None:
    """Release the text log at *path*; a later message opens it again."""
    # It stays in the table: another thread may be about to write to it, and must not do so behind our back.
    file = _files.get(os.fspath(path))
    if file is not None:
        file.close()


def close_all() -> None:
    """Release every text log of this process."""
    for file in list(_files.values()):
        file.close()


def reset_after_fork() -> None:
    """Forget, in a child just forked, the text logs and the locks of its parent, which keeps its own."""
    for file in list(_files.values()):
        file.release()
    _files.clear()
    _reported.clear()
    _per_thread.is_printing = False
