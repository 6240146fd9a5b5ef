"""Runs: which runs do the paths on a command line mean?"""

from __future__ import annotations

import glob
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allogger.cli.output import DAMAGED, FAILED, NOTHING, OK, Output
from allogger.errors import AlloggerError, ConfigError, DamagedFile, NotARun, words_of
from allogger.listing import KeyInfo, find_runs, format_problem, is_run

if TYPE_CHECKING:
    from allogger.store import Run

__all__ = [
    "found_runs",
    "key_infos",
    "matching",
    "name_of",
    "named_runs",
    "opened",
    "pattern_of",
    "real_number",
    "regex_of",
    "tell_no_key",
]


def named_runs(paths: Sequence[str], out: Output) -> list[Path]:
    """Return the logdirs that *paths* name: each is one, holds some, or is a pattern; what means none is told."""
    return _each_once(paths, _named, out)


def found_runs(paths: Sequence[str], out: Output) -> list[Path]:
    """Return what *paths* name like `named_runs`, and besides it files and folders of other systems, as they are."""
    return _each_once(paths, lambda path: _named(path) or _foreign(path), out)


def _each_once(paths: Sequence[str], named: Callable[[str], Sequence[Path]], out: Output) -> list[Path]:
    found: dict[str, Path] = {}
    for path in paths:
        logdirs = named(path)
        if not logdirs:
            out.problem(NOTHING, _why_none(path))
        for logdir in logdirs:
            found.setdefault(os.path.realpath(logdir), logdir)
    return list(found.values())


def _named(path: str) -> list[Path]:
    here = list(_found_at(Path(path)))
    return here or [logdir for match in sorted(glob.glob(path, recursive=True)) for logdir in _found_at(Path(match))]


def _foreign(path: str) -> list[Path]:
    """Return *path* if there is something that may be of another system: whoever opens it will see."""
    return [Path(path)] if os.path.isfile(path) or (os.path.isdir(path) and not _is_empty(path)) else []


def _is_empty(folder: str) -> bool:
    try:
        return not os.listdir(folder)
    except OSError:  # it is not ours to read, as whoever opens it will tell
        return False


def _found_at(path: Path) -> Iterator[Path]:
    # A run may hold others, but who names one means that one.
    return iter([path]) if is_run(path) else find_runs(path)


def _why_none(path: str) -> str:
    if not os.path.lexists(path):
        return f"{path!r} does not exist" if not glob.has_magic(path) else f"nothing matches {path!r}"
    if not os.path.isdir(path):
        return f"{path!r} is no run but a file"
    if _is_empty(path):
        return f"{path!r} is an empty folder"
    return f"{path!r} holds no run: there is neither events/ nor run.json in it or below"


def opened(paths: Sequence[str], out: Output, attempts: str = "last") -> Iterator[Run]:
    """Open the runs that *paths* name; one that cannot be opened is told and costs only itself."""
    from allogger.store import open_run

    _listen(out)
    for path in found_runs(paths, out):
        try:
            run = open_run(path, attempts=attempts)  # type: ignore[arg-type]  # it checks that itself
            other_format = format_problem(path, run.about)
            if other_format:
                out.problem(DAMAGED, other_format)
            yield run
        except ConfigError:
            raise
        except DamagedFile as error:
            out.problem(DAMAGED, words_of(error))
        except NotARun as error:
            out.problem(NOTHING, words_of(error))
        except (AlloggerError, OSError) as error:
            out.problem(FAILED, words_of(error))


def _listen(out: Output) -> None:
    """Have what the library logs and warns of told as our own sentences; damage also counts for the exit code."""
    import logging

    class Voice(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            sentence = record.getMessage()
            out.problem(DAMAGED if sentence.startswith("damaged") else OK, sentence)

    logger = logging.getLogger("allogger")
    logger.handlers = [Voice()]
    logger.propagate = False
    warnings.showwarning = lambda message, *_, **__: out.say(str(message))


def pattern_of(regexes: Sequence[str] | None) -> str | None:
    """Return one regular expression for several; raises `ConfigError` for one that is none."""
    if not regexes:
        return None
    together = regexes[0] if len(regexes) == 1 else "|".join(f"(?:{regex})" for regex in regexes)
    for regex in (*regexes, together):
        try:
            re.compile(regex)
        except re.error as error:
            raise ConfigError(f"{regex!r} is no regular expression: {error}") from None
    return together


def regex_of(regexes: Sequence[str] | None) -> re.Pattern[str]:
    """Return the compiled `pattern_of` several."""
    return re.compile(pattern_of(regexes) or "")


def key_infos(run: Run) -> Iterator[KeyInfo]:
    """Yield of an opened run what `allogger.listing` gets from the indices; what cannot be read is left out."""
    for key, kind in run.kinds.items():
        try:
            its = run.summary(key)
        except DamagedFile:
            continue  # the run tells it
        if its.count and its.first_step is not None and its.last_step is not None:
            yield KeyInfo(
                key=key,
                kind=kind,
                count=its.count,
                first_step=its.first_step,
                last_step=its.last_step,
                first_time=math.nan if its.first_time is None else its.first_time,
                last_time=math.nan if its.last_time is None else its.last_time,
                last=real_number(its.last),
                min=real_number(its.min),
                max=real_number(its.max),
            )


def real_number(value: Any) -> float | None:
    """Return a number as Python's, None for everything else."""
    value = value.item() if getattr(value, "ndim", None) == 0 else value
    return value if isinstance(value, int | float) else None


def matching(run: Run, regexes: Sequence[str] | None, out: Output) -> list[str]:
    """Return the keys of a run that are asked for, and tell it if there are none."""
    keys = run.keys(pattern_of(regexes))
    if not keys:
        tell_no_key(name_of(run), regexes, out)
    return keys


def tell_no_key(run: str, regexes: Sequence[str] | None, out: Output) -> None:
    """Tell that a run has none of the keys that are asked for."""
    asked = " or ".join(map(repr, regexes or ()))
    out.problem(NOTHING, f"{run}: no key matches {asked}" if asked else f"{run} holds no values")


def name_of(run: Run) -> str:
    """Return what a run is called in tables: its path as given."""
    return str(run.logdir)
