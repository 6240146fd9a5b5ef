"""Completion: how does the shell learn what may follow ``allogger``?"""

from __future__ import annotations

import argparse

from allogger.cli.command import Command
from allogger.cli.output import Output
from allogger.errors import MissingDependency

__all__ = ["Completion"]


class Completion(Command):
    """The command ``completion``."""

    description = "Print a script that completes commands, options and paths in a shell. Needs shtab."
    examples = (
        ('eval "$(allogger completion bash)"', "in ~/.bashrc"),
        ("allogger completion zsh > ~/.zfunc/_allogger", "a folder in the fpath of zsh"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Print it."""
        try:
            import shtab
        except ImportError as error:
            raise MissingDependency("completion needs shtab; install it with: pip install 'allogger[cli]'") from error
        out.text(shtab.complete(_whole(), args.shell))


def _whole() -> argparse.ArgumentParser:
    """Return one parser with all commands of ours in it."""
    from allogger.cli import parser_of
    from allogger.cli.commands import COMMANDS, command

    parser = argparse.ArgumentParser(prog="allogger")
    commands = parser.add_subparsers()
    for name, (_, line) in COMMANDS.items():
        its = parser_of(name, command(name, lambda _: None))
        commands.add_parser(name, help=line, parents=[its], add_help=False)
    for action in _actions(parser):
        if action.metavar in ("RUN", "PATH", "FILE", "DIR"):
            action.complete = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}  # type: ignore[attr-defined]
    return parser


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    found = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            found += [inner for child in action.choices.values() for inner in _actions(child)]
    return found
