"""Repair: how are the runs of killed processes made whole again?"""

from __future__ import annotations

import argparse

from allogger.cli.command import Command, add_runs
from allogger.cli.output import FAILED, Column, Output
from allogger.cli.runs import named_runs

__all__ = ["Repair"]


class Repair(Command):
    """The command ``repair``."""

    description = (
        "Finish what killed processes left behind: a journal becomes an HDF5 file and is removed when every value has\n"
        "been compared. Everything reads back as before. What belongs to a process that may be alive is left alone."
    )
    examples = (
        ("allogger repair runs/a --dry-run", "only say what would be done"),
        ("allogger repair runs", "all runs below"),
        ("allogger repair runs/a --other-hosts", "also what was written on other hosts, where no process runs"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)
        parser.add_argument("-n", "--dry-run", action="store_true", help="touch nothing")
        parser.add_argument(
            "--other-hosts", action="store_true", help="I know that no process of another host writes to these runs"
        )

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Repair them."""
        from allogger.repair import repair

        found = [
            repair(path, dry_run=args.dry_run, other_hosts=args.other_hosts)
            for path in out.progress(named_runs(args.runs, out), "repairing")
        ]
        if out.as_json:
            out.json([one.as_dict() for one in found])
        elif out.is_terminal:
            out.text("\n".join(map(str, found)))
        elif found:
            rows = [
                {"run": str(one.logdir), "outcome": outcome, "what": what}
                for one in found
                for outcome, sentences in (("done", one.done), ("skipped", one.skipped), ("failed", one.failed))
                for what in sentences
            ]
            out.table([Column("run"), Column("outcome"), Column("what")], rows)
        for one in found:
            for what in one.failed:
                out.problem(FAILED, f"{one.logdir}: {what}")
