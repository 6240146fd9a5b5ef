"""Commands: which are there, and which class stands behind each name?"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from allogger.cli.command import Command
from allogger.errors import ConfigError, UnknownName, words_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["COMMANDS", "command", "plugins"]

GROUP = "allogger.commands"

#: Name -> module and class, and one line of help, which is all that `allogger --help` needs.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "ls": ("allogger.cli.ls:Ls", "list runs: state, age, steps, size, last values"),
    "keys": ("allogger.cli.keys:Keys", "list the keys of runs"),
    "show": ("allogger.cli.show:Show", "show values"),
    "stats": ("allogger.cli.stats:Stats", "count, first, last, smallest, largest and mean value of each key"),
    "plot": ("allogger.cli.plot:Plot", "draw curves in the terminal, or into a file"),
    "tail": ("allogger.cli.tail:Tail", "follow the values or messages of a live run"),
    "compare": ("allogger.cli.compare:Compare", "show parameters and results of several runs side by side"),
    "export": ("allogger.cli.export:Export", "write values as CSV, Parquet, JSON lines, NPZ, TensorBoard events, HDF5"),
    "images": ("allogger.cli.images:Images", "list images, videos, sounds and the like, or write them as files"),
    "artifacts": ("allogger.cli.artifacts:Artifacts", "list files, models and checkpoints, or copy them out"),
    "env": ("allogger.cli.env:Env", "show under which circumstances a run took place, or what differs between two"),
    "verify": ("allogger.cli.verify:Verify", "read every file to its end and say what is damaged"),
    "repair": ("allogger.cli.repair:Repair", "finish what killed processes left behind"),
    "merge": ("allogger.cli.merge:Merge", "make one run of all shards and attempts of a run"),
    "du": ("allogger.cli.du:Du", "show what takes how much space"),
    "rm": ("allogger.cli.rm:Rm", "remove runs, and nothing that allogger did not make"),
    "completion": ("allogger.cli.completion:Completion", "print a script that completes commands in bash, zsh or tcsh"),
}


def plugins() -> dict[str, EntryPoint]:
    """Return the commands of plug-ins, none of them loaded; our own names cannot be taken."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP) if point.name not in COMMANDS}


def command(name: str, warn: Callable[[str], None]) -> Command:
    """Return the command of that name; raises `UnknownName`. A plug-in that is broken is told to *warn*."""
    if name in COMMANDS:
        module, _, cls = COMMANDS[name][0].partition(":")
        found: Command = getattr(importlib.import_module(module), cls)()
        return found
    others = plugins()
    if name in others:
        try:
            return _loaded(others.pop(name))
        except Exception as error:
            warn(f"skips the command {name!r}: {type(error).__name__}: {words_of(error)}")
    raise UnknownName.of("command", name, [*COMMANDS, *others])


def _loaded(point: EntryPoint) -> Command:
    cls = point.load()
    if not (isinstance(cls, type) and issubclass(cls, Command)):
        raise ConfigError(f"it must be a subclass of {Command.__module__}.Command, not {cls!r}")
    made: Command = cls()
    return made
