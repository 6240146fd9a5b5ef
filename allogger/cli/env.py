"""Env: under which circumstances did a run take place, and what differs between two?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from allogger.cli.command import Command, add_keys, add_runs
from allogger.cli.output import NOTHING, Column, Output
from allogger.cli.runs import named_runs, regex_of
from allogger.cli.shown import plain
from allogger.errors import ConfigError
from allogger.rundir import RUN_FILE, load_json

__all__ = ["Env"]

_LINES = 3


class Env(Command):
    """The command ``env``."""

    description = (
        "Show what report_env stored about a run, and its parameters; of several attempts the last. Of two runs only\n"
        "what differs. Long texts, such as the changes since the last commit, are cut short on a terminal."
    )
    examples = (
        ("allogger env runs/a", "host, command, versions, commit, ..."),
        ("allogger env runs/a runs/b", "what differs between two runs"),
        ("allogger env runs/a -k git.diff --json | jq -r '.[].value'", "the changes, to apply them again"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)
        add_keys(parser)

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Show it."""
        regex = regex_of(args.keys)
        paths = named_runs(args.runs, out)
        if len(paths) > 2:
            raise ConfigError(f"env takes one run, or two to compare, not {len(paths)}")
        every = []
        for path in paths:
            found = {name: value for name, value in _facts(path).items() if regex.search(name)}
            if not found:
                out.problem(NOTHING, f"{path}: nothing {'of that' if args.keys else 'about its environment'} is stored")
            every.append(found)
        if len(every) == 2:
            names = [str(path) for path in paths]
            rows = [{"name": name, names[0]: one, names[1]: other} for name, one, other in _differing(*every)]
            if not rows:
                out.say("nothing differs")
            out.table([Column("name"), *(Column(name, _short, may_wrap=True) for name in names)], rows)
        elif any(every):
            rows = [{"name": name, "value": value} for name, value in every[0].items()]
            out.table([Column("name"), Column("value", _short, may_wrap=True)], rows)


def _facts(path: Path) -> dict[str, Any]:
    """Return what ``run.json`` tells, each fact under one name such as ``git.commit``."""
    about = load_json(path / RUN_FILE)
    told = about.get("attempts")
    attempts = [entry for entry in told if isinstance(entry, dict)] if isinstance(told, list) else []
    with_environment = [entry for entry in attempts if isinstance(entry.get("environment"), dict)]
    environment = with_environment[-1]["environment"] if with_environment else {}
    params = about.get("params")
    return {**dict(_flat(environment, "")), **dict(_flat(params if isinstance(params, dict) else {}, "params."))}


def _flat(facts: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys((*one, *other)):
        if one.get(name) != other.get(name):
            yield name, one.get(name), other.get(name)


def _short(value: Any) -> str:
    lines = value.splitlines() if isinstance(value, str) else []
    if len(lines) <= 1:
        return plain(value)
    more = [f"... {len(lines) - _LINES} more lines"] if len(lines) > _LINES else []
    return "\n".join([*map(plain, lines[:_LINES]), *more])
