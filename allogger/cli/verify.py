"""Verify: is everything in a run as it was written?"""

from __future__ import annotations

import argparse

from allogger.cli.command import Command, add_runs
from allogger.cli.output import DAMAGED, Column, Output
from allogger.cli.runs import named_runs
from allogger.cli.shown import count

__all__ = ["Verify"]


class Verify(Command):
    """The command ``verify``."""

    description = (
        "Read every file of a run to its end and compare all checksums. Nothing is changed, and a run may go on\n"
        "meanwhile. What a killed process was just writing is no damage. The exit code is 4 if anything is damaged."
    )
    examples = (
        ("allogger verify runs/a", "one run"),
        ("allogger verify 'runs/**' && rm -r backup", "all of them, before something that cannot be undone"),
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        add_runs(parser)

    def run(self, args: argparse.Namespace, out: Output) -> None:
        """Verify them."""
        from allogger.verify import verify

        found = [verify(path) for path in out.progress(named_runs(args.runs, out), "verifying")]
        if out.as_json:
            out.json([one.as_dict() for one in found])
        elif out.is_terminal:
            out.text("\n".join(map(str, found)))
        elif found:
            rows = [
                {
                    "run": str(one.logdir),
                    "shard": shard.name,
                    "process": shard.process,
                    "state": shard.state,
                    "values": shard.main.values if shard.main else 0,
                    "series": shard.main.series if shard.main else 0,
                    "damage": [*shard.damage, *(what for file in shard.files for what in file.damage)],
                }
                for one in found
                for shard in one.shards
            ]
            out.table([Column(name) for name in ("run", "shard", "process", "state")] + _NUMBERS, rows)
        for one in found:
            for what in one.damage:
                out.problem(DAMAGED, f"{one.logdir}: {what}")


_NUMBERS = [Column("values", count, is_number=True), Column("series", count, is_number=True), Column("damage")]
