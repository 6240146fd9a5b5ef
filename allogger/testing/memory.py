"""Memory: how does a test see what was logged, without a file?"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from allogger.errors import ConfigError, NoSuchKey, UnknownName
from allogger.logger import get_root
from allogger.manager import manager
from allogger.record import Batch, Record
from allogger.registry import Registry, kinds, writers
from allogger.writer import Writer

__all__ = ["Captured", "MemoryWriter", "Values", "capture", "registered"]

T = TypeVar("T")


class MemoryWriter(Writer):
    """Keeps every value in the list ``records`` of its class, in the order written; makes no file.

    allogger makes the objects, so it is the class that a test can reach. Each subclass has a list of its own::

        class Seen(MemoryWriter):
            pass

        allogger.register_writer("seen", Seen)
        allogger.basic_configure(default_outputs=["seen"]).log(0.5, "loss")
        allogger.flush()
        assert Seen.records[0].full_key == "root/loss"
    """

    needs_logdir: ClassVar[bool] = False
    records: ClassVar[list[Record]] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.records = []

    def write(self, batch: Batch) -> None:
        """Keep the values of the batch."""
        self.records.extend(list(batch))

    def abandon(self) -> None:
        """Forget, in a forked child, what the parent has kept."""
        self.records.clear()


@dataclass(frozen=True)
class Values:
    """The values of one key: lists of equal length. ``time`` is in Unix seconds, ``value`` is what a reader shows."""

    kind: str
    step: list[int]
    time: list[float]
    value: list[Any]

    def __len__(self) -> int:
        return len(self.step)


class Captured:
    """What was logged inside a `capture` block. To ask is to wait until all of it has arrived."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records
        self.is_over = False

    @property
    def records(self) -> list[Record]:
        """All values in the order logged."""
        if not self.is_over:
            manager.flush()
        return list(self._records)

    def keys(self, pattern: str | None = None) -> list[str]:
        """Return the full keys, in alphabetical order, in which the regular expression *pattern* is found."""
        regex = re.compile(pattern or "")
        return sorted({record.full_key for record in self.records if regex.search(record.full_key)})

    def __getitem__(self, key: str) -> Values:
        """Return the values of a full key; raises `NoSuchKey`."""
        found = [record for record in self.records if record.full_key == key]
        if not found:
            raise NoSuchKey(str(UnknownName.of("key among the captured ones:", key, self.keys())))
        names = {record.kind for record in found}
        return Values(
            names.pop() if len(names) == 1 else "mixed",
            [record.step for record in found],
            [record.time for record in found],
            [_shown(record) for record in found],
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __repr__(self) -> str:
        return f"<Captured: {len(self.records)} values of {len(self)} keys>"


@contextlib.contextmanager
def capture(**settings: Any) -> Iterator[Captured]:
    """Keep everything that is logged inside a ``with`` block in memory, and make no file.

    What was configured before is set aside and holds again afterwards; a run goes on as if nothing had happened. The
    environment and the settings of single scopes are set aside too. *settings* are those of `allogger.basic_configure`
    without ``logdir`` and ``default_outputs``; the output is called ``memory``, as in ``memory_writer_params``. What
    the code inside configures itself goes where it says.

    Threads of the program must not log while the block begins or ends.

    >>> import allogger
    >>> with capture(memory_writer_params={"exclude": "^debug/"}) as captured:
    ...     logger = allogger.get_logger("agent")
    ...     for loss in (0.5, 0.25):
    ...         logger.log(loss, "loss")
    ...     logger.log(1, "debug/calls")
    >>> captured.keys()
    ['agent/loss']
    >>> captured["agent/loss"].step, captured["agent/loss"].value
    ([1, 2], [0.5, 0.25])
    """
    for name in ("logdir", "default_outputs"):
        if name in settings:
            raise ConfigError(f"capture takes no {name}: it keeps everything in memory")

    class Captor(MemoryWriter):
        """Has a list of its own, which goes with the block."""

    captured = Captured(Captor.records)
    with manager.set_aside(), registered(writers, "memory", Captor):
        # Not basic_configure, which asks the environment.
        manager.configure(get_root().scope, {**settings, "default_outputs": ["memory"]}, replace=True)
        try:
            yield captured
        finally:
            manager.flush()
            captured.is_over = True


@contextlib.contextmanager
def registered(registry: Registry[T], name: str, cls: type[T]) -> Iterator[None]:
    """Have *cls* under *name* for the length of a ``with`` block, whatever is called so otherwise."""
    # A registry is no mapping, and has no get.
    before = registry[name] if name in registry else None  # noqa: SIM401
    registry.add(name, cls)
    try:
        yield
    finally:
        registry.remove(name)
        if before is not None:
            registry.add(name, before)


def _shown(record: Record) -> Any:
    """Return what a reader shows for a record; a single number as Python's own."""
    if not isinstance(record.payload, np.ndarray | str):
        return record.payload
    value: Any = record.payload
    if record.kind in kinds:
        value = manager.kind(record.kind).decode(value, record.attrs)
    return value.item() if record.kind == "scalar" else value
