"""Errors: which exceptions allogger raises, and when.

All of them are raised while configuring or reading, never by a log call::

    AlloggerError
    ├── ConfigError (ValueError)          a setting that cannot work: names the value and the fix
    │   ├── UnknownName (ValueError)      an output, setting, kind or parameter that does not exist
    │   └── LogdirExists (FileExistsError)  ``default_path_exists="abort"`` met an existing logdir
    ├── MissingDependency (ImportError)   an extra is not installed: says the ``pip install`` to run
    ├── NotARun (FileNotFoundError)       nothing of allogger's under the given path
    ├── NoSuchKey (KeyError)              a run or file does not hold that key
    ├── DamagedFile (ValueError)          a file that cannot be trusted: says where and why
    └── WriteFailed (OSError)             with ``strict``: what a writer could not store
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AlloggerError",
    "ConfigError",
    "DamagedFile",
    "LogdirExists",
    "MissingDependency",
    "NoSuchKey",
    "NotARun",
    "UnknownName",
    "WriteFailed",
]


class AlloggerError(Exception):
    """The parent of every exception that allogger raises."""


class ConfigError(AlloggerError, ValueError):
    """A setting that cannot work."""


class UnknownName(ConfigError):
    """A name that is none of the known ones."""

    @classmethod
    def of(cls, what: str, name: object, known: Iterable[str]) -> UnknownName:
        """Return the error for *name*, with the nearest of the *known* names as a suggestion."""
        # Not with every import of allogger: most programs make no mistake.
        from difflib import get_close_matches

        names = sorted(known)
        by_lower = {known_name.lower(): known_name for known_name in names}
        near = get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
        hint = f"; did you mean {by_lower[near[0]]!r}?" if near else ""
        return cls(f"there is no {what} {name!r}{hint} (known: {', '.join(names) or 'none'})")


class LogdirExists(ConfigError, FileExistsError):
    """The logdir exists and ``default_path_exists`` is ``"abort"``."""


class MissingDependency(AlloggerError, ImportError):
    """A library that an output or function needs is not installed."""


class NotARun(AlloggerError, FileNotFoundError):
    """The path holds nothing that allogger can read."""


class NoSuchKey(AlloggerError, KeyError):
    """The run or file holds no such key."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would put quotes around the sentence.
        return str(self.args[0]) if self.args else ""


class DamagedFile(AlloggerError, ValueError):
    """A file whose content cannot be trusted."""


class WriteFailed(AlloggerError, OSError):
    """Values that could not be stored, raised by ``flush`` and ``close`` when ``strict`` is set."""


def words_of(error: BaseException) -> str:
    """Return what *error* says; that of a plug-in or of a hostile value may not be able to say it."""
    try:
        return str(error)
    except Exception:
        return f"a {type(error).__name__} that cannot be shown"
