"""Writer: what does an output have to do, and what may it rely on?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from allogger.record import Batch, Series
from allogger.rundir import Shard

__all__ = ["Writer"]


class Writer(ABC):
    """Puts batches somewhere. One object serves one process and one logdir.

    What a writer may rely on:

    - it is made in the thread that configures, its other methods are called by one thread at a time: no locks needed;
    - it never sees a fork: a forked child gets a writer of its own, and `abandon` is called on the inherited one;
    - batches come in the order logged, and never again once `write` has returned.

    What it promises in return:

    - ``__init__`` takes its parameters as keyword-only arguments, checks them (`allogger.errors.ConfigError`) and opens
      nothing: files come with the first batch;
    - `write` is all or nothing. An `OSError` means that nothing of the batch is stored and that the same batch may come
      again; any other exception means that some value in it cannot be written, and the batch comes again in parts;
    - a value that it cannot represent is passed to `reject`, never dropped silently.
    """

    #: Writers of one lane share a thread. A writer that may wait for a network or a terminal names a lane of its own.
    lane: ClassVar[str] = ""
    #: Whether the writer needs a logdir.
    needs_logdir: ClassVar[bool] = True

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.rejected: dict[str, tuple[int, str]] = {}

    def accepts(self, kind: str) -> bool:
        """Return whether the writer takes values of this kind; asked once per key and kind."""
        return True

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Store the batch; readable by others when `flush` has returned."""

    def flush(self) -> None:
        """Hand everything written so far to the operating system, so that it outlives the process."""

    def sync(self) -> None:
        """Force everything written so far onto the disk; called about every 30 s and at close."""

    def close(self) -> None:
        """Finish the output and release everything; may be called twice."""

    def abandon(self) -> None:
        """Release inherited descriptors in a forked child, writing nothing: the values are the parent's."""

    def reject(self, series: Series, count: int, why: str) -> None:
        """Count *count* values of *series* that this output cannot represent; reported once per key."""
        before = self.rejected.get(series.full_key, (0, why))
        self.rejected[series.full_key] = (before[0] + count, why)
