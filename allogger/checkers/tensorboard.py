"""TensorboardChecker: does every event of an event file agree with its checksum?"""

from __future__ import annotations

from pathlib import Path

from allogger.checker import Checker, FileCheck
from allogger.formats.tfevents import FRAME_BYTES, read_events, tags
from allogger.rundir import event_shard_of

__all__ = ["TensorboardChecker"]


class TensorboardChecker(Checker):
    """Looks after one event file. There is nothing to mend: TensorBoard passes over an event that is not complete."""

    kind = "tensorboard"

    @staticmethod
    def shard_name(path: Path) -> str | None:
        """Return the name of the shard that wrote the file."""
        return event_shard_of(path.name)

    def check(self) -> FileCheck:
        """Read all events."""
        found = FileCheck(f"{self.path.parent.name}/{self.path.name}", self.kind, self.path.stat().st_size)
        found.about = {"process": self.path.parent.name}
        keys: set[bytes] = set()
        read = 0
        for event in read_events(self.path, found.damage):
            read += len(event) + FRAME_BYTES
            of_event = tags(event)
            keys.update(of_event)
            found.values += len(of_event)
        found.series = len(keys)
        # Behind damage nobody knows.
        found.torn_bytes = 0 if found.damage else max(found.size - read, 0)
        return found
