"""WriterContract: does a writer keep the promises of `allogger.Writer`?"""

# The name of a test is the sentence that a docstring would repeat.
# ruff: noqa: D102

from __future__ import annotations

import contextlib
import copy
import gc
import inspect
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from allogger.errors import ConfigError
from allogger.lane import Outlet
from allogger.record import Batch, Record, Series
from allogger.registry import kinds, parameters
from allogger.rundir import Shard, new_shard, prepare
from allogger.testing.rows import ODD_NAMES, ODD_VALUES, PLAIN_ROWS, Row, batch_of, same
from allogger.testing.system import PATIENCE_SECONDS, files, in_a_forked_child, in_a_thread, open_files, skip
from allogger.writer import Writer

__all__ = ["Stored", "WriterContract"]

Stored = tuple[str, int, Any]


class WriterContract(ABC):
    """Tests of the promises of `allogger.Writer`, for every writer to inherit::

        class TestMyWriter(WriterContract):
            def make_writer(self, shard, **params):
                return MyWriter(shard, **params)

            def read_back(self, shard):
                return [(line["key"], line["step"], line["value"]) for line in my_lines(shard.path(".mine"))]

    Without `read_back` only those are tested that need no look at what was stored.
    """

    #: Parameters that the writer must refuse with `ConfigError`.
    bad_params: ClassVar[Sequence[Mapping[str, Any]]] = ()

    @abstractmethod
    def make_writer(self, shard: Shard, **params: Any) -> Writer:
        """Return the writer to be tested."""

    def read_back(self, shard: Shard) -> list[Stored]:
        """Return ``(full key, step, value)`` of everything stored for *shard*, each key's values in their order.

        Nothing at all may have been stored. Called while the writer is open, after a flush, and when it is closed.
        """
        raise NotImplementedError

    def same(self, record: Record, stored: Any) -> bool:
        """Return whether *stored*, from `read_back`, is right for *record*: by default, the same value and shape."""
        return same(record.payload, stored)

    @contextlib.contextmanager
    def unwritable(self, shard: Shard) -> Iterator[None]:
        """Let the output fail with `OSError` for the length of a ``with`` block; by default, the disk is full."""
        try:
            import resource
        except ImportError:
            skip("this system has no limits that look like a full disk")
        sizes = [path.stat().st_size for path in shard.logdir.rglob("*") if path.is_file()]
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        # A little room, so that something is written and has to be taken back.
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes, default=0) + 10, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    # --------------------------------------------------------------------------------------------- from making to close

    def test_making_a_writer_opens_nothing(self, tmp_path: Path) -> None:
        shard = _a_shard(tmp_path)
        before = files(tmp_path), threading.active_count()

        writer = self.make_writer(shard)

        assert (files(tmp_path), threading.active_count()) == before, "__init__ opens nothing"
        assert not open_files(tmp_path), "__init__ opens nothing"
        assert writer.shard is shard, "__init__ passes the shard on to Writer.__init__"

    def test_parameters_are_keyword_only(self, tmp_path: Path) -> None:
        cls = type(self.make_writer(_a_shard(tmp_path)))

        _, shard, *others = inspect.signature(cls.__init__).parameters.values()

        assert shard.kind is not shard.KEYWORD_ONLY, "the first parameter is the shard"
        wrong = [parameter.name for parameter in others if parameter.name not in parameters(cls)]
        assert not wrong, f"parameters are keyword-only, or <output>_writer_params cannot give them: {wrong}"
        needed = [parameter.name for parameter in others if parameter.default is parameter.empty]
        assert not needed, f"parameters have defaults, or the output needs <output>_writer_params to be used: {needed}"

    def test_bad_parameters_raise_a_config_error(self, tmp_path: Path) -> None:
        accepted = []
        for params in self.bad_params:
            with contextlib.suppress(ConfigError):
                self.make_writer(_a_shard(tmp_path), **params)
                accepted.append(params)

        assert not accepted, f"bad parameters raise ConfigError: {accepted}"

    def test_it_says_of_every_kind_whether_it_takes_it(self, tmp_path: Path) -> None:
        writer = self.make_writer(_a_shard(tmp_path))

        for kind in [*kinds.names(), "a_kind_of_somebody_else"]:
            assert isinstance(writer.accepts(kind), bool), f"accepts({kind!r}) is a bool"
            assert writer.accepts(kind) == writer.accepts(kind), f"accepts({kind!r}) is asked once and must not change"

    def test_closing_without_a_value_leaves_no_trace(self, tmp_path: Path) -> None:
        shard = _a_shard(tmp_path)
        before = files(tmp_path)

        writer = self.make_writer(shard)
        writer.flush()
        writer.sync()
        writer.close()
        writer.close()

        assert files(tmp_path) == before, "files come with the first batch"

    def test_close_releases_everything_and_may_be_called_twice(self, tmp_path: Path) -> None:
        threads = set(threading.enumerate())
        writer = self.make_writer(_a_shard(tmp_path))
        writer.write(self._batch(writer))

        writer.close()
        after = files(tmp_path)
        writer.close()

        assert files(tmp_path) == after, "the second close does nothing"
        assert not open_files(tmp_path), "close releases all files"
        for thread in set(threading.enumerate()) - threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive(), f"close ends the thread {thread.name!r}"

    def test_a_writer_without_need_of_a_logdir_puts_nothing_there(self, tmp_path: Path) -> None:
        writer = self.make_writer(_a_shard(tmp_path))
        if writer.needs_logdir:
            skip("it needs a logdir")
        before = files(tmp_path)

        writer.write(self._batch(writer))
        writer.close()

        assert files(tmp_path) == before

    def test_it_is_made_in_one_thread_and_used_in_others(self, tmp_path: Path) -> None:
        writer = self.make_writer(_a_shard(tmp_path))

        for step in (lambda: writer.write(self._batch(writer)), writer.flush, writer.sync, writer.close):
            in_a_thread(step)

    # ----------------------------------------------------------------------------------------------------------- values

    def test_an_empty_batch_is_no_value(self, tmp_path: Path) -> None:
        writer = self.make_writer(_a_shard(tmp_path))
        rows = self._rows(writer)

        with self._checked(writer, batch_of(rows)):
            for batch in (batch_of([]), batch_of(rows), batch_of([])):
                writer.write(batch)

    def test_values_are_there_when_flush_has_returned(self, tmp_path: Path) -> None:
        writer = self.make_writer(_a_shard(tmp_path))
        self._needs_read_back()
        batch = self._batch(writer)

        writer.write(batch)
        writer.flush()

        self._check(writer, batch)
        writer.close()

    def test_values_keep_the_order_in_which_they_were_logged(self, tmp_path: Path) -> None:
        writer = self.make_writer(_a_shard(tmp_path))
        # Numbers and objects are in different parts of a batch; under one key their order is seen.
        values = [0.5, np.longdouble("1.1"), 1, 2 + 1j, True] * 3
        steps = [3, 3, 2, 9, -1, 0, 2**63 - 1, -(2**63), *range(7)]
        rows = [Row("main", "loss", step, value) for step, value in zip(steps, values, strict=True)]

        self._store(writer, rows[:4], rows[4:9], rows[9:])

    def test_names_of_every_kind_come_back(self, tmp_path: Path) -> None:
        writer = self.make_writer(_a_shard(tmp_path))
        rows = [Row("main", name, 1, 0.5 + n) for n, name in enumerate(ODD_NAMES)]
        rows += [Row(name, "loss", 1, 0.5 + n) for n, name in enumerate(ODD_NAMES)]

        self._store(writer, [row for row in rows if writer.accepts(row.kind)])

    def test_series_may_come_at_any_time(self, tmp_path: Path) -> None:
        writer = self.make_writer(_a_shard(tmp_path))
        rows = [Row(f"scope{n % 7}", f"key{n}", step, n + 0.5) for step in (1, 2) for n in range(0, 500, 3)]

        # Not every series of the table is one of this writer's.
        self._store(writer, rows[:1], rows[1:2], rows[2:], names=[Series(0, "root", "for others")])

    def test_odd_values_are_stored_or_counted(self, tmp_path: Path) -> None:
        writer = self.make_writer(_a_shard(tmp_path))
        rows = [Row("main", f"value{n}", 1, value, kind) for n, (kind, value) in enumerate(ODD_VALUES)]

        self._store(writer, [row for row in rows if writer.accepts(row.kind)])

    def test_values_of_a_kind_that_it_has_never_heard_of_are_stored_or_counted(self, tmp_path: Path) -> None:
        writer = self.make_writer(_a_shard(tmp_path))
        kind = "a_kind_of_somebody_else"
        if not writer.accepts(kind):
            skip("it takes certain kinds only")
        rows = [
            Row("main", f"value{n}", 1, value, kind) for n, value in enumerate((np.arange(4).reshape(2, 2), "text"))
        ]

        self._store(writer, rows)

    def test_any_batch_is_stored_or_counted(self, tmp_path_factory: Any) -> None:
        # First, because it says what to do where Hypothesis is missing.
        from allogger.testing import strategies  # isort: skip
        from hypothesis import given, settings

        @settings(max_examples=25, deadline=None)
        @given(strategies.rows())
        def check(rows: list[Row]) -> None:
            writer = self.make_writer(_a_shard(tmp_path_factory.mktemp("any")))
            self._store(writer, [row for row in rows if writer.accepts(row.kind)])

        check()

    def test_a_batch_is_left_as_it_is(self, tmp_path: Path) -> None:
        writer = self.make_writer(_a_shard(tmp_path))
        batch = self._batch(writer)
        before = copy.deepcopy(batch)
        for column in _columns(batch):
            column.flags.writeable = False

        writer.write(batch)
        writer.close()

        # Other writers get the same batch.
        assert all(map(np.array_equal, _columns(batch), _columns(before))), "a batch never changes"

    # ---------------------------------------------------------------------------------------------------- when it fails

    def test_a_batch_is_stored_once_or_not_at_all_where_nothing_can_be_written(self, tmp_path: Path) -> None:
        writer = self.make_writer(_a_shard(tmp_path))
        names: list[Series] = []
        rows = self._rows(writer)
        # More than there is room for, and one value that many an output has to reject.
        large = [*rows, Row("main", "odd", 1, complex("nanj")), *(Row("main", "many", n, n / 3) for n in range(2000))]
        batches = [batch_of(part, names) for part in (large, rows, large)]

        with self._checked(writer, batch_of([*large, *rows, *large])):
            for batch in batches:
                with self.unwritable(writer.shard):
                    is_done = _write_once(writer, batch)
                if not is_done:
                    writer.write(batch)

    def test_a_value_that_cannot_be_written_takes_no_other_along(self, tmp_path: Path) -> None:
        writer = self.make_writer(_a_shard(tmp_path))
        names: list[Series] = []
        good = [Row("main", "loss", n, n / 3) for n in range(20)]
        # A payload that breaks a promise, as a faulty kind might make it.
        broken = Record(Series(1, "root.main", "broken"), "scalar", 1, 0.0, np.array([object()], object))
        batch = batch_of(good, names)
        names.append(broken.series)
        batch = replace(batch, objects=(broken,), at=(7,))

        with self._checked(writer, batch):
            self._as_a_lane(writer, [batch])

    # ------------------------------------------------------------------------------------------------------------ forks

    def test_a_forked_child_lets_go_and_changes_nothing(self, tmp_path: Path) -> None:
        if not hasattr(os, "fork"):
            skip("this system does not fork")
        writer = self.make_writer(_a_shard(tmp_path))
        rows = self._rows(writer)
        names: list[Series] = []

        with self._checked(writer, batch_of([*rows, *rows])):
            writer.write(batch_of(rows, names))
            before = files(tmp_path)
            in_a_forked_child(lambda: _let_go(writer, tmp_path))
            assert files(tmp_path) == before, "abandon writes nothing: the values are the parent's"
            writer.write(batch_of(rows, names))

    # -------------------------------------------------------------------------------------------------------- machinery

    def _rows(self, writer: Writer) -> list[Row]:
        return [row for row in PLAIN_ROWS if writer.accepts(row.kind)]

    def _batch(self, writer: Writer) -> Batch:
        return batch_of(self._rows(writer))

    def _store(self, writer: Writer, *parts: Sequence[Row], names: list[Series] | None = None) -> None:
        """Write the values as a lane would, and check what became of them."""
        table = [] if names is None else names
        with self._checked(writer, batch_of(row for part in parts for row in part)):
            # One by one: the table grows while the writer is at work.
            self._as_a_lane(writer, (batch_of(part, table) for part in parts))

    def _as_a_lane(self, writer: Writer, batches: Iterable[Batch]) -> None:
        outlet = Outlet("contract", writer, 0.0, 1 << 40, lambda text: None)
        for batch in batches:
            outlet.offer(batch)
            outlet.pump(time.monotonic(), force=True)
        self._lost = outlet.lost

    _lost: Mapping[str, int] = {}

    @contextlib.contextmanager
    def _checked(self, writer: Writer, batch: Batch) -> Iterator[None]:
        """Close the writer at the end of the block, and check that each value of *batch* is stored or counted."""
        self._lost = {}
        yield
        writer.close()
        if self._can_read_back():
            self._check(writer, batch)

    def _check(self, writer: Writer, batch: Batch) -> None:
        given: dict[str, list[Record]] = defaultdict(list)
        for record in batch:
            given[record.full_key].append(record)
        found: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        for key, step, value in self.read_back(writer.shard):
            found[key].append((step, value))
        counted = Counter({key: count for key, (count, _) in writer.rejected.items()}) + Counter(self._lost)
        unknown = found.keys() - given.keys()
        assert not unknown, f"stored under keys that were never logged: {sorted(unknown)!r:.500}"
        for key, records in given.items():
            stored, refused = len(found[key]), counted[key]
            assert stored + refused == len(records), (
                f"{key!r}: of {len(records)} values {stored} are stored and {refused} are counted as not stored"
            )
            self._check_series(key, records, found[key])

    def _check_series(self, key: str, records: Sequence[Record], found: Sequence[tuple[int, Any]]) -> None:
        """Check that *found* are *records*, in their order, of which some may be missing."""
        rest = iter(records)
        for step, value in found:
            is_there = any(step == record.step and self.same(record, value) for record in rest)
            assert is_there, f"{key!r}: {value!r:.200} at step {step} is stored, which was not logged (there)"

    def _can_read_back(self) -> bool:
        return type(self).read_back is not WriterContract.read_back

    def _needs_read_back(self) -> None:
        if not self._can_read_back():
            skip("there is no read_back")


def _a_shard(folder: Path) -> Shard:
    return new_shard(prepare(folder / "logdir", "continue"))


def _columns(batch: Batch) -> tuple[NDArray[Any], ...]:
    return batch.series, batch.code, batch.step, batch.time, batch.bits


def _write_once(writer: Writer, batch: Batch) -> bool:
    """Write and flush; return whether the batch was accepted: if not, it comes again."""
    try:
        writer.write(batch)
    except OSError:
        return False
    # What it has accepted it has to keep until this works.
    with contextlib.suppress(OSError):
        writer.flush()
    return True


def _let_go(writer: Writer, folder: Path) -> None:
    writer.abandon()
    assert not open_files(folder), "abandon releases the inherited files"
    # What Python collects as garbage may have buffers, which it writes.
    getattr(writer, "__dict__", {}).clear()
    gc.collect()
