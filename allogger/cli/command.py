"""Command: what does a command have to offer, and which arguments do several of them share?"""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from allogger.cli.output import Output

__all__ = ["Command", "add_attempts", "add_keys", "add_runs"]


class Command(ABC):
    """One command of `allogger`. Plug-ins name a subclass by an entry point in the group ``allogger.commands``.

    A command raises what the library raises: the caller tells it in one sentence and chooses the exit code.
    """

    #: What it is good for, in a few sentences.
    description: ClassVar[str] = ""
    #: Lines to try out, each with a remark: ``(("allogger ls runs", "what there is"), ...)``.
    examples: ClassVar[Sequence[tuple[str, str]]] = ()

    @abstractmethod
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add what the command takes; ``--json`` is there already."""

    @abstractmethod
    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Do it, and show the outcome on *out*."""

    @property
    def epilog(self) -> str:
        """The examples as they stand at the end of the help."""
        if not self.examples:
            return ""
        width = max(len(line) for line, _ in self.examples)
        return "\n".join(["examples:", *(f"  {line:<{width}}   {remark}" for line, remark in self.examples)])


def add_runs(parser: argparse.ArgumentParser, *, several: bool = True) -> None:
    """Add the paths of runs."""
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+" if several else 1,
        help="a run's folder, a folder with runs in it, or a pattern such as 'runs/**'"
        if several
        else "the folder of a run",
    )


def add_keys(
    parser: argparse.ArgumentParser, what: str = "only keys in which this regular expression is found"
) -> None:
    """Add the regular expression for keys; it may be given several times."""
    parser.add_argument("-k", "--keys", metavar="REGEX", action="append", help=f"{what}; may be repeated")


def add_attempts(parser: argparse.ArgumentParser) -> None:
    """Add the choice between the last attempt and all of them."""
    parser.add_argument(
        "--attempts",
        choices=["last", "all"],
        default="last",
        help="what counts where the program was started again: from the step on at which a later attempt began a key, "
        "that attempt alone (last), or all values",
    )
