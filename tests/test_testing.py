"""Does `capture` keep what is logged and nothing else, and do the contracts catch what breaks a promise?"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import Phase, given, settings

import allogger
from allogger.errors import ConfigError, NoSuchKey, UnknownName
from allogger.kind import Kind
from allogger.manager import manager
from allogger.plain import Unstorable
from allogger.record import Batch, Payload
from allogger.registry import writers
from allogger.rundir import Shard, new_shard
from allogger.testing import KindContract, MemoryWriter, Row, Stored, WriterContract, batch_of, capture, strategies
from allogger.testing.memory import registered
from allogger.testing.rows import same

# ------------------------------------------------------------------------------------------------------------- capture


def test_capture_keeps_values_and_steps_of_all_scopes() -> None:
    with capture() as captured:
        allogger.get_logger("agent").log(0.5, "loss")
        allogger.get_logger("agent").log(0.25, "loss", step=10)
        allogger.get_root().log(True, "done")

    assert captured.keys() == ["agent/loss", "root/done"]
    assert captured.keys("agent") == ["agent/loss"]
    assert captured["agent/loss"].step == [1, 10]
    assert captured["agent/loss"].value == [0.5, 0.25]
    assert captured["agent/loss"].kind == "scalar"
    assert captured["root/done"].value == [True]
    assert [record.full_key for record in captured.records] == ["agent/loss", "agent/loss", "root/done"]
    assert list(captured) == captured.keys()
    assert (len(captured), "root/done" in captured, "done" in captured) == (2, True, False)


def test_capture_shows_values_as_a_reader_does() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    with capture() as captured:
        for key, value in {"z": 1 + 2j, "note": "a text", "weights": [1, 2, 3], "picture": pixels}.items():
            allogger.get_root().log(value, key)

    assert captured["root/z"].value == [1 + 2j]
    assert type(captured["root/z"].value[0]) is complex
    assert captured["root/note"].value == ["a text"]
    assert captured["root/weights"].value[0].tolist() == [1, 2, 3]
    assert captured["root/picture"].value[0].tolist() == pixels.tolist()
    assert captured["root/picture"].kind == "image"


def test_capture_can_be_asked_while_it_goes_on() -> None:
    logger = allogger.get_logger("agent")

    with capture() as captured:
        logger.log(1.0, "loss")
        assert captured["agent/loss"].value == [1.0]
        logger.log(2.0, "loss")
        assert captured["agent/loss"].value == [1.0, 2.0]
        assert repr(captured) == "<Captured: 2 values of 1 keys>"


def test_a_key_that_was_not_logged_is_answered_with_a_suggestion() -> None:
    with capture() as captured:
        allogger.get_root().log(1.0, "loss")

    with pytest.raises(NoSuchKey, match="did you mean 'root/loss'"):
        captured["root/los"]


def test_capture_makes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLOGGER_LOGDIR", str(tmp_path / "of the environment"))
    monkeypatch.setenv("ALLOGGER_FILTER", "nothing")
    monkeypatch.setenv("ALLOGGER_ENABLE", "0")

    with capture() as captured:
        allogger.get_root().log(1.0, "loss")
        allogger.get_root().info("a message")

    assert captured["root/loss"].value == [1.0]
    assert list(tmp_path.iterdir()) == []


def test_a_call_for_an_output_that_needs_a_logdir_is_captured_all_the_same() -> None:
    with capture() as captured:
        allogger.get_root().log(1.0, "loss", to_csv=True)

    assert captured["root/loss"].value == [1.0]


def test_capture_takes_settings_but_no_places() -> None:
    with capture(log_freq=2, memory_writer_params={"exclude": "debug"}) as captured:
        for batch in range(4):
            allogger.get_root().log(batch, "loss", batch_idx=batch)
            allogger.get_root().log(batch, "debug")

    assert captured.keys() == ["root/loss"]
    assert captured["root/loss"].value == [0, 2]
    for name in ("logdir", "default_outputs"):
        with pytest.raises(ConfigError, match=name), capture(**{name: "x"}):
            pass
    with pytest.raises(UnknownName, match="did you mean 'log_freq'"), capture(log_frq=2):
        pass


def test_a_run_goes_on_after_capture_as_if_nothing_had_happened(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path)
    agent = allogger.get_logger("agent", csv_writer_params={"filter": "loss"}, default_outputs=["hdf", "csv"])
    agent.log(1.0, "loss")

    with capture() as captured:
        agent.log(100.0, "loss")
        root.log(100.0, "other")
    agent.log(2.0, "loss")
    root.log(np.arange(3), "weights")
    allogger.close()

    assert captured["agent/loss"].step == [1]
    run = allogger.open_run(tmp_path)
    assert run.keys() == ["agent/loss", "root/weights"]
    assert run["agent/loss"].value.tolist() == [1.0, 2.0]
    assert run["agent/loss"].step.tolist() == [1, 2]
    assert len(run.about["attempts"]) == 1
    assert len(list(tmp_path.glob("events/*.h5"))) == len(list(tmp_path.glob("events/*.csv"))) == 1


def test_a_run_writes_what_it_has_during_capture_and_what_it_gets_afterwards(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path, flush_seconds=0.01)

    def values_on_disk() -> list[float]:
        run = allogger.open_run(tmp_path)
        return run["root/loss"].value.tolist() if "root/loss" in run else []

    root.log(1.0, "loss")
    with capture():
        root.log(100.0, "loss")
        _until(lambda: values_on_disk() == [1.0])
    root.log(2.0, "loss")
    _until(lambda: values_on_disk() == [1.0, 2.0])


def test_the_thread_of_a_run_that_is_set_aside_takes_nothing_of_what_is_captured(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path, flush_seconds=0.0)
    root.log(0, "n")

    with capture(flush_seconds=0.0) as captured:
        for n in range(200_000):
            root.log(n, "n")

    assert captured["root/n"].value == [*range(200_000)]
    assert captured["root/n"].step == [*range(1, 200_001)]


def test_to_ask_after_the_block_does_not_flush_the_run_outside(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path, flush_seconds=1000.0)
    with capture() as captured:
        root.log(1.0, "loss")
    # The first values are written when the thread next looks, later ones wait for their time or a flush.
    root.log(2.0, "loss")
    allogger.flush()
    root.log(3.0, "loss")

    assert captured["root/loss"].value == [1.0]

    assert allogger.open_run(tmp_path)["root/loss"].value.tolist() == [2.0]


def test_what_was_not_stored_outside_is_said_when_the_run_outside_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = allogger.basic_configure(tmp_path)
    root.log(None, "outside")
    with capture():
        root.log(None, "inside")

    assert "1 values were not stored: 'root/inside' 1" in caplog.text
    caplog.clear()
    allogger.close()
    assert "1 values were not stored: 'root/outside' 1" in caplog.text


def test_nothing_is_configured_after_capture_if_nothing_was_before(tmp_path: Path) -> None:
    threads = set(threading.enumerate())

    with capture():
        allogger.get_root().log(1.0, "loss")

    assert not manager.is_ready()
    assert not set(threading.enumerate()) - threads
    assert "memory" not in allogger.valid_outputs


def test_capture_restores_what_was_there_when_the_block_raises(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path)

    with pytest.raises(KeyError), capture():
        raise KeyError

    assert root.logdir == tmp_path


def test_captures_may_be_nested() -> None:
    logger = allogger.get_logger("agent")

    with capture() as outer:
        logger.log(1, "loss")
        with capture() as inner:
            logger.log(2, "loss")
        logger.log(3, "loss")

    assert outer["agent/loss"].value == [1, 3]
    assert outer["agent/loss"].step == [1, 2]
    assert inner["agent/loss"].value == [2]


def test_code_that_configures_and_closes_inside_of_capture_leaves_the_run_outside_alone(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "outside")
    root.log(1.0, "loss")

    with capture() as captured:
        root.log(2.0, "loss")
        with allogger.run(tmp_path / "inside") as logger:
            logger.log(3.0, "loss")
        allogger.close()
    root.log(4.0, "loss")
    allogger.close()

    assert captured["root/loss"].value == [2.0]
    assert allogger.open_run(tmp_path / "inside")["root/loss"].value.tolist() == [3.0]
    assert allogger.open_run(tmp_path / "outside")["root/loss"].value.tolist() == [1.0, 4.0]


def test_the_thread_of_what_was_closed_takes_nothing_from_what_comes_next(tmp_path: Path) -> None:
    for number in range(50):
        with allogger.run(tmp_path / str(number)) as logger:
            logger.log(number, "number")
        assert "allogger-disk" not in [thread.name for thread in threading.enumerate()]

    for number in range(50):
        assert allogger.open_run(tmp_path / str(number))["root/number"].value.tolist() == [number]


def test_values_that_are_held_back_outside_come_neither_into_capture_nor_away(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path, manual_flush=True)
    root.log(1.0, "loss")
    root.log([1.0, 2.0], "weights")

    with capture() as captured:
        root.log(100.0, "loss")
    root.flush()
    root.log(2.0, "loss")
    root.flush()
    allogger.close()

    assert captured.keys() == ["root/loss"]
    run = allogger.open_run(tmp_path)
    assert run["root/loss"].value.tolist() == [1.0, 2.0]
    assert run["root/weights"].value.tolist() == [[1.0, 2.0]]


def test_step_counters_are_set_aside_too(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path)
    root.load_state_dict({"step_per_key": {"root-MainProcess": {"loss": 41}}})

    with capture() as captured:
        root.log(1.0, "loss")
    root.log(1.0, "loss")

    assert captured["root/loss"].step == [1]
    assert root.state_dict() == {"step_per_key": {"root-MainProcess": {"loss": 42}}}


def test_capture_from_many_threads_loses_nothing() -> None:
    logger = allogger.get_logger("agent")

    with capture() as captured:
        threads = [threading.Thread(target=lambda: [logger.log(n, "n") for n in range(1000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert captured["agent/n"].step == list(range(1, 4001))
    assert sorted(captured["agent/n"].value) == sorted([*range(1000)] * 4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_a_capture_of_its_own_and_leaves_the_run_outside_alone(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path)
    root.log(1.0, "loss")
    seen: list[Any] = []
    with capture() as captured:
        root.log(2.0, "loss")
        captured.keys()
        read, write = os.pipe()
        if not (pid := os.fork()):
            with contextlib.suppress(BaseException):
                root.log(3.0, "loss")
                os.write(write, repr(captured["root/loss"].value).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        seen = [os.read(read, 100).decode(), captured["root/loss"].value]
    root.log(4.0, "loss")
    allogger.close()

    assert seen == ["[3.0]", [2.0]]
    assert allogger.open_run(tmp_path)["root/loss"].value.tolist() == [1.0, 4.0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_that_leaves_capture_does_not_come_back_to_the_run_of_its_parent(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path)
    root.log(1.0, "loss")
    pid = -1
    try:
        with capture():
            pid = os.fork()
            if not pid:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        root.log(2.0, "loss")
        allogger.flush()
        os._exit(0)
    os.waitpid(pid, 0)
    root.log(3.0, "loss")
    allogger.close()

    assert allogger.open_run(tmp_path)["root/loss"].value.tolist() == [1.0, 3.0]


def test_each_class_of_memory_writers_has_a_list_of_its_own(tmp_path: Path) -> None:
    class One(MemoryWriter):
        pass

    class Other(MemoryWriter):
        pass

    with registered(writers, "one", One), registered(writers, "other", Other):
        root = allogger.basic_configure(default_outputs=["one", "other"])
        root.log(1.0, "both")
        root.log("text", "one", to_other=False)
        allogger.close()

    assert [(record.full_key, record.payload) for record in One.records] == [("root/both", 1.0), ("root/one", "text")]
    assert [record.full_key for record in Other.records] == ["root/both"]
    assert MemoryWriter.records == []


# ------------------------------------------------------------------------------------------------------------- batches


def test_a_batch_of_rows_has_its_values_in_their_order_and_a_table_that_grows() -> None:
    names: list[Any] = []

    first = batch_of([Row("a", "x", 1, 0.5), Row("a", "note", 2, "t", "text"), Row("root.a", "x", 3, True)], names)
    second = batch_of([Row("b", "x", 4, 7), Row("a", "x", 5, 1j)], names)

    assert [(r.full_key, r.step, r.payload) for r in first] == [("a/x", 1, 0.5), ("a/note", 2, "t"), ("a/x", 3, True)]
    assert [(r.full_key, r.step, r.payload) for r in second] == [("b/x", 4, 7), ("a/x", 5, np.array(1j))]
    assert [(series.index, series.full_key) for series in names] == [(0, "a/x"), (1, "a/note"), (2, "b/x")]
    assert first.names is second.names


@given(strategies.rows())
def test_rows_become_batches_without_a_change(rows: list[Row]) -> None:
    batch = batch_of(rows)

    assert len(batch) == len(rows)
    for record, row in zip(batch, rows, strict=True):
        assert (record.kind, record.step, record.time) == (row.kind, row.step, row.time)
        assert same(record.payload, row.value)


@given(strategies.batches(kinds=["text"], max_size=3))
def test_batches_can_be_of_one_kind(batch: Batch) -> None:
    assert len(batch) <= 3
    assert {record.kind for record in batch} <= {"text"}


def test_a_strategy_for_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="did you mean 'array'"):
        strategies.values("arrays")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (1, 1.0, True),
        (2**53 + 1, float(2**53 + 1), False),
        (float("nan"), np.array(np.nan), True),
        (np.zeros(2), np.zeros((2, 1)), False),
        ("a", "a", True),
        ("1", 1, False),
        (np.array(["a"]), np.array(["b"]), False),
        (np.array([1, 2**53 + 1]), np.array([1, 2.0**53]), False),
        ([1, 2], np.array([1, 2]), True),
        (np.array(["NaT"], "M8[s]"), np.array(["NaT"], "M8[s]"), True),
    ],
)
def test_values_are_the_same_only_if_nothing_was_rounded(one: Any, other: Any, is_same: bool) -> None:
    assert same(one, other) is same(other, one) is is_same


@pytest.mark.parametrize(
    ("library", "use"),
    [
        ("hypothesis", "from allogger.testing import strategies"),
        ("hypothesis", "allogger.testing.strategies.rows()"),
        ("pytest", "from allogger.testing.system import skip; skip('no reason')"),
    ],
)
def test_a_missing_library_is_named_where_it_is_needed_and_not_before(
    library: str, use: str, run_python: Callable[..., Any]
) -> None:
    result = run_python(f"""
        import sys
        sys.modules[{library!r}] = None
        import allogger, allogger.testing
        with allogger.testing.capture() as captured:
            allogger.get_root().log(1.0, "loss")
        assert captured["root/loss"].value == [1.0]
        try:
            {use}
        except allogger.MissingDependency as error:
            print(error)
    """)

    assert result.returncode == 0, result.stderr
    assert f"pip install {library}" in result.stdout
    assert result.stdout.count("\n") == 1


# ----------------------------------------------------------------------------------------------- writers that are wrong


class LinesWriter(allogger.Writer):
    """A small writer that is right: a line for each value."""

    def __init__(self, shard: Shard, *, mark: str = "|") -> None:
        super().__init__(shard)
        if len(mark) != 1:
            raise ConfigError(f"mark must be one character, not {mark!r}")
        self.mark = mark
        self.path = shard.path(".lines")
        self.file: Any = None

    def lines(self, batch: Batch) -> str:
        return "".join(f"{(r.full_key, r.step, r.payload)!a}\n" for r in batch if isinstance(r.payload, float | int))

    def write(self, batch: Batch) -> None:
        if not len(batch):
            return
        self.put(self.lines(batch).encode())
        for record in batch.objects:
            self.reject(record.series, 1, "no number")

    def put(self, data: bytes) -> None:
        if self.file is None:
            self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115
        end = self.file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[self.file.write(data) :]
        except OSError:
            self.file.truncate(end)
            raise

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def abandon(self) -> None:
        self.close()


class OpensTooSoon(LinesWriter):
    def __init__(self, shard: Shard) -> None:
        super().__init__(shard)
        self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115


class StartsAThread(LinesWriter):
    def __init__(self, shard: Shard) -> None:
        super().__init__(shard)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.stop.wait, args=(5,), daemon=True)
        self.thread.start()

    def __del__(self) -> None:
        self.stop.set()


class ForgetsTheShard(LinesWriter):
    def __init__(self, shard: Shard) -> None:
        super().__init__(shard)
        self.shard = new_shard(shard.logdir)


class TakesPositions(LinesWriter):
    def __init__(self, shard: Shard, mark: str = "|") -> None:
        super().__init__(shard, mark=mark)


class NeedsAParameter(LinesWriter):
    def __init__(self, shard: Shard, *, url: str = "") -> None:
        super().__init__(shard)


NeedsAParameter.__init__.__kwdefaults__ = {}


class ChecksNothing(LinesWriter):
    def __init__(self, shard: Shard, *, mark: str = "|") -> None:
        super().__init__(shard)


class AnswersNone(LinesWriter):
    def accepts(self, kind: str) -> bool:
        return None  # type: ignore[return-value]


class LeavesATrace(LinesWriter):
    def close(self) -> None:
        self.path.touch()
        super().close()


class LeavesTheFileOpen(LinesWriter):
    def close(self) -> None:
        pass


class ClosesOnce(LinesWriter):
    def close(self) -> None:
        self.file.close()


class WritesItsEndTwice(LinesWriter):
    def close(self) -> None:
        if self.path.exists():
            with open(self.path, "ab") as file:
                file.write(b"# the end\n")
        super().close()


class WritesWithoutNeed(LinesWriter):
    needs_logdir: ClassVar[bool] = False


class OneThreadOnly(LinesWriter):
    def __init__(self, shard: Shard) -> None:
        super().__init__(shard)
        self.thread = threading.get_ident()

    def put(self, data: bytes) -> None:
        if threading.get_ident() != self.thread:
            raise RuntimeError("wrong thread")
        super().put(data)


class ChokesOnNothing(LinesWriter):
    def write(self, batch: Batch) -> None:
        self.newest = next(iter(batch)).step
        super().write(batch)


class KeepsTheLast(LinesWriter):
    last = b""

    def put(self, data: bytes) -> None:
        super().put(self.last)
        self.last = data

    def close(self) -> None:
        super().put(self.last)
        super().close()


class LosesTheLast(KeepsTheLast):
    def close(self) -> None:
        LinesWriter.close(self)


class Sorts(LinesWriter):
    def lines(self, batch: Batch) -> str:
        return "".join(sorted(super().lines(batch).splitlines(keepends=True)))


class StripsNames(LinesWriter):
    def lines(self, batch: Batch) -> str:
        return "".join(f"{(r.full_key.strip(), r.step, r.payload)!a}\n" for r in batch.numbers())


class RemembersTheFirstNames(LinesWriter):
    names: Any = None

    def lines(self, batch: Batch) -> str:
        self.names = self.names or [series.full_key for series in batch.names]
        return "".join(f"{(self.names[min(r.series.index, 1)], r.step, r.payload)!a}\n" for r in batch.numbers())


class Rounds(LinesWriter):
    def lines(self, batch: Batch) -> str:
        return "".join(f"{(r.full_key, r.step, float(r.payload))!a}\n" for r in batch.numbers())


class DropsSilently(LinesWriter):
    def reject(self, series: Any, count: int, why: str) -> None:
        pass


class ChangesTheBatch(LinesWriter):
    def write(self, batch: Batch) -> None:
        super().write(batch)
        batch.step.flags.writeable = True
        batch.step[:] = 0


class LeavesATornLine(LinesWriter):
    def put(self, data: bytes) -> None:
        if self.file is None:
            self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115
        while data:
            data = data[self.file.write(data) :]


class CountsTooSoon(LinesWriter):
    def write(self, batch: Batch) -> None:
        for record in batch.objects:
            self.reject(record.series, 1, "no number")
        self.put(self.lines(batch).encode())


class SwallowsErrors(LinesWriter):
    def put(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            super().put(data)


class StoresHalf(LinesWriter):
    """Raises for a value that it does not know, when those before it are stored."""

    def write(self, batch: Batch) -> None:
        for record in batch:
            if isinstance(record.payload, np.ndarray) and record.payload.dtype == object:
                raise TypeError("no")
            if isinstance(record.payload, float | int):
                self.put(f"{(record.full_key, record.step, record.payload)!a}\n".encode())
            else:
                self.reject(record.series, 1, "no number")


class FlushesInTheChild(LinesWriter):
    def put(self, data: bytes) -> None:
        if self.file is None:
            self.file = open(self.path, "ab")  # noqa: SIM115
        self.file.write(data)

    def flush(self) -> None:
        if self.file is not None:
            self.file.flush()


class HoldsOnInTheChild(LinesWriter):
    def abandon(self) -> None:
        pass


class LinesContract(WriterContract):
    bad_params: ClassVar[tuple[Mapping[str, Any], ...]] = ({"mark": "||"},)
    cls: type[allogger.Writer] = LinesWriter

    made: ClassVar[list[Any]] = []

    def make_writer(self, shard: Shard, **params: Any) -> allogger.Writer:
        writer = self.cls(shard, **params)
        self.made.append(writer)
        return writer

    def read_back(self, shard: Shard) -> list[Stored]:
        path = shard.path(".lines")
        lines = path.read_text().splitlines() if path.exists() else []
        return [eval(line, {"nan": np.nan, "inf": np.inf}) for line in lines]


class TestLinesWriter(LinesContract):
    """The writer that all the faulty ones are made of is right."""


@pytest.mark.parametrize(
    ("cls", "promise"),
    [
        (OpensTooSoon, "making_a_writer_opens_nothing"),
        (StartsAThread, "making_a_writer_opens_nothing"),
        (ForgetsTheShard, "making_a_writer_opens_nothing"),
        (TakesPositions, "parameters_are_keyword_only"),
        (ChecksNothing, "bad_parameters_raise_a_config_error"),
        (AnswersNone, "it_says_of_every_kind_whether_it_takes_it"),
        (LeavesATrace, "closing_without_a_value_leaves_no_trace"),
        (LeavesTheFileOpen, "close_releases_everything_and_may_be_called_twice"),
        (ClosesOnce, "closing_without_a_value_leaves_no_trace"),
        (WritesItsEndTwice, "close_releases_everything_and_may_be_called_twice"),
        (WritesWithoutNeed, "a_writer_without_need_of_a_logdir_puts_nothing_there"),
        (OneThreadOnly, "it_is_made_in_one_thread_and_used_in_others"),
        (ChokesOnNothing, "an_empty_batch_is_no_value"),
        (KeepsTheLast, "values_are_there_when_flush_has_returned"),
        (LosesTheLast, "series_may_come_at_any_time"),
        (Sorts, "values_keep_the_order_in_which_they_were_logged"),
        (StripsNames, "names_of_every_kind_come_back"),
        (RemembersTheFirstNames, "series_may_come_at_any_time"),
        (Rounds, "odd_values_are_stored_or_counted"),
        (DropsSilently, "odd_values_are_stored_or_counted"),
        (DropsSilently, "values_of_a_kind_that_it_has_never_heard_of_are_stored_or_counted"),
        (ChangesTheBatch, "a_batch_is_left_as_it_is"),
        (LeavesATornLine, "a_batch_is_stored_once_or_not_at_all_where_nothing_can_be_written"),
        (CountsTooSoon, "a_batch_is_stored_once_or_not_at_all_where_nothing_can_be_written"),
        (SwallowsErrors, "a_batch_is_stored_once_or_not_at_all_where_nothing_can_be_written"),
        (StoresHalf, "a_value_that_cannot_be_written_takes_no_other_along"),
        (FlushesInTheChild, "a_forked_child_lets_go_and_changes_nothing"),
        (HoldsOnInTheChild, "a_forked_child_lets_go_and_changes_nothing"),
    ],
)
def test_the_contract_catches_a_writer_that(cls: type[allogger.Writer], promise: str, tmp_path: Path) -> None:
    class Contract(LinesContract):
        made: ClassVar[list[Any]] = []

    Contract.cls = cls
    contract = Contract()
    test = getattr(contract, f"test_{promise}")

    with pytest.raises(Exception) as caught:  # noqa: PT011  # an assertion, or what the writer raises
        test(tmp_path)

    assert not isinstance(caught.value, pytest.skip.Exception)
    for writer in contract.made:
        LinesWriter.close(writer)


def test_the_contract_catches_a_writer_that_fails_at_a_batch_that_nobody_thought_of(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    class Contract(LinesContract):
        cls = DropsSilently
        made: ClassVar[list[Any]] = []

    # To find the smallest batch would take long.
    settings.register_profile("quick", deadline=None, phases=[Phase.generate], database=None)
    settings.load_profile("quick")
    try:
        with pytest.raises(AssertionError, match="counted as not stored"):
            Contract().test_any_batch_is_stored_or_counted(tmp_path_factory)
    finally:
        settings.load_profile("allogger")


def test_a_contract_without_read_back_says_what_it_skips(tmp_path: Path) -> None:
    class Contract(WriterContract):
        def make_writer(self, shard: Shard, **params: Any) -> LinesWriter:
            return LinesWriter(shard)

    with pytest.raises(pytest.skip.Exception, match="read_back"):
        Contract().test_values_are_there_when_flush_has_returned(tmp_path)


# ------------------------------------------------------------------------------------------------- kinds that are wrong


class RangeKind(Kind):
    """A small kind that is right: a range of integers as its three numbers."""

    name = "range"

    def accepts(self, value: Any) -> bool:
        return type(value) is range

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        if type(value) is not range:
            raise Unstorable("no range")
        return np.array([value.start, value.stop, value.step]), {"unit": "steps"}

    def decode(self, payload: Payload, attrs: Mapping[str, Any]) -> Any:
        return range(*np.asarray(payload).tolist())


class HasState(RangeKind):
    def __init__(self) -> None:
        self.count = 0


class NeedsArguments(RangeKind):
    def __init__(self, unit: str = "") -> None:
        if not unit:
            raise TypeError("unit")


class MakesLists(RangeKind):
    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        return list(value), {}  # type: ignore[return-value]


class MakesObjects(RangeKind):
    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        return np.array([value, None], object), {}


class OddAttributes(RangeKind):
    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        return super().encode(value)[0], {"unit": ("steps",)}


class ForgetsTheStep(RangeKind):
    def decode(self, payload: Payload, attrs: Mapping[str, Any]) -> Any:
        return range(*np.asarray(payload).tolist()[:2])


class Raises(RangeKind):
    def accepts(self, value: Any) -> bool:
        return bool(value.step)


class RaisesAnything(RangeKind):
    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        return np.array([value.start, value.stop, value.step]), {"unit": "steps"}


class NotItsName(RangeKind):
    name = "a range"


class RangeContract(KindContract):
    cls: type[Kind] = RangeKind

    def make_kind(self) -> Kind:
        return self.cls("x") if self.cls is NeedsArguments else self.cls()  # type: ignore[call-arg]

    def values(self) -> Iterator[Any]:
        yield from (range(3), range(10, 0, -2), range(-(2**63), 2**63 - 1))


class TestRangeKind(RangeContract):
    """The kind that all the faulty ones are made of is right."""


class ViewKind(Kind):
    """Gives the program's own memory away, and changes it."""

    name = "view"

    def accepts(self, value: Any) -> bool:
        return False

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        value *= 2
        return value[1:], {}


class ViewContract(KindContract):
    def make_kind(self) -> Kind:
        return ViewKind()

    def values(self) -> Iterator[Any]:
        yield np.arange(5)


@pytest.mark.parametrize(
    ("cls", "promise"),
    [
        (HasState, "it_has_a_name_and_no_state"),
        (NeedsArguments, "it_has_a_name_and_no_state"),
        (NotItsName, "it_has_a_name_and_no_state"),
        (MakesLists, "a_payload_is_an_array_or_a_text"),
        (MakesObjects, "a_payload_is_an_array_or_a_text"),
        (OddAttributes, "attributes_are_what_json_can_hold"),
        (ForgetsTheStep, "decode_gives_the_value_back"),
        (ForgetsTheStep, "values_survive_a_real_run"),
        (Raises, "accepts_answers_to_anything"),
        (RaisesAnything, "encode_refuses_with_unstorable_only"),
        (None, "a_payload_shares_no_memory_with_the_value"),
        (None, "encode_leaves_the_value_as_it_is"),
    ],
)
def test_the_contract_catches_a_kind_that(cls: type[Kind] | None, promise: str, tmp_path: Path) -> None:
    class Contract(RangeContract):
        pass

    if cls is not None:
        Contract.cls = cls
    contract = ViewContract() if cls is None else Contract()
    test = getattr(contract, f"test_{promise}")

    with pytest.raises(Exception) as caught:  # noqa: PT011  # an assertion, or what the kind raises
        test(*([tmp_path] if promise.endswith("run") else []))

    assert not isinstance(caught.value, pytest.skip.Exception)


def _until(claim: Callable[[], bool]) -> None:
    """Return as soon as *claim* is true."""
    pause = threading.Event()
    for _ in range(3000):
        if claim():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come true")
