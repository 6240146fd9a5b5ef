"""Command line: which command is asked for, and how does it end?

Every command is one class in one module, imported when it is called by its name.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from allogger.cli.commands import COMMANDS, command, plugins
from allogger.cli.output import DAMAGED, FAILED, INTERRUPTED, NOTHING, OK, USAGE, Output
from allogger.errors import AlloggerError, ConfigError, DamagedFile, NoSuchKey, NotARun, words_of

if TYPE_CHECKING:
    from allogger.cli.command import Command

__all__ = ["main", "parser_of"]

_EXAMPLES = """\
examples:
  allogger ls runs                      what is there, and how far is it
  allogger plot runs/* -k loss          all curves of the loss in one picture
  allogger tail runs/last               follow what comes in

exit codes: 0 ok, 1 failed, 2 wrong usage, 3 nothing found, 4 data damaged, 130 interrupted
'allogger COMMAND --help' says more about a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with *arguments* (by default those of the process) and return the exit code."""
    out = Output()
    for stream in (sys.stdout, sys.stderr):
        # A terminal without braille must not be the end of a command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        _run(list(sys.argv[1:] if arguments is None else arguments), out)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()  # whoever read it has seen enough
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:  # argparse has said why
        return end.code if isinstance(end.code, int) else FAILED
    except ConfigError as error:
        out.problem(FAILED, words_of(error))
        return USAGE
    except (NotARun, NoSuchKey) as error:
        out.problem(NOTHING, words_of(error))
    except DamagedFile as error:
        out.problem(DAMAGED, words_of(error))
    except AlloggerError as error:
        out.problem(FAILED, words_of(error))
    except OSError as error:
        out.problem(FAILED, words_of(error))
        _drop_output()  # it may have been stdout
    return out.code


def _drop_output() -> None:
    """Let what is left in the buffer of stdout not fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str], out: Output) -> None:
    if not arguments or arguments[0].startswith("-"):
        _overview().parse_args(arguments or ["--help"])
        return
    chosen = command(arguments[0], out.say)
    args = parser_of(arguments[0], chosen).parse_args(arguments[1:])
    out.as_json = args.json
    chosen.run(args, out)


def _overview() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {line}" for name, (_, line) in COMMANDS.items()]
    more = sorted(plugins())
    if more:
        lines.append(f"\nof plug-ins: {', '.join(more)}")
    parser = argparse.ArgumentParser(
        prog="allogger",
        usage="allogger COMMAND [ARGUMENTS]",
        description="Look at runs that allogger has logged.\n\ncommands:\n" + "\n".join(lines),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    return parser


def parser_of(name: str, chosen: Command) -> argparse.ArgumentParser:
    """Return the parser of one command."""
    parser = _Parser(
        prog=f"allogger {name}",
        description=chosen.description,
        epilog=chosen.epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    chosen.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    return parser


class _Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaint is one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"allogger: {message}; see '{self.prog} --help'\n")


class _Version(argparse.Action):
    """Looks for the version only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import allogger

        print("allogger", allogger.__version__)
        parser.exit(OK)
