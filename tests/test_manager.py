"""Do settings reach every scope at any time, does each run get its own values, and does everything end in order?"""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import allogger
from allogger.errors import ConfigError, UnknownName, WriteFailed
from allogger.intake import PACK
from allogger.manager import manager
from allogger.record import FLOAT, Batch
from allogger.registry import writers
from allogger.rundir import Shard
from allogger.writer import Writer
from tests.conftest import keys_in_hdf


class Memory(Writer):
    """Keeps what it gets, and fails or hangs where a test says so."""

    needs_logdir = False
    got: ClassVar[list[tuple[str, int, Any]]] = []
    made: ClassVar[list[Memory]] = []
    write_error: ClassVar[Exception | None] = None
    close_error: ClassVar[Exception | None] = None
    hangs: ClassVar[threading.Event | None] = None

    def __init__(self, shard: Shard, *, size: int = 1) -> None:
        super().__init__(shard)
        if size < 1:
            raise ConfigError(f"size must be 1 or more, not {size!r}")

    def write(self, batch: Batch) -> None:
        if Memory.write_error is not None:
            raise Memory.write_error
        Memory.got.extend((record.full_key, record.step, record.payload) for record in batch)

    def close(self) -> None:
        if Memory.hangs is not None:
            Memory.hangs.wait(60)
        if Memory.close_error is not None:
            raise Memory.close_error


@pytest.fixture
def memory() -> Iterator[type[Memory]]:
    """The output ``memory``."""
    Memory.got.clear()
    Memory.write_error = Memory.close_error = Memory.hangs = None
    allogger.register_writer("memory", Memory)
    yield Memory
    if Memory.hangs is not None:
        Memory.hangs.set()
    Memory.write_error = Memory.close_error = None
    manager.reset()
    writers.remove("memory")


def keys(logdir: Path) -> list[str]:
    allogger.flush()
    return keys_in_hdf(logdir)


def csv_keys(logdir: Path) -> set[str]:
    allogger.flush()
    lines = [line for path in logdir.rglob("*.csv") for line in path.read_text().splitlines()]
    return {line.partition(",")[0] for line in lines} - {"key"}


# ---------------------------------------------------------------------------------------------------------- inheritance


@pytest.mark.parametrize("depth", [1, 2, 5, 40])
def test_a_scope_at_any_depth_logs_where_the_root_does(tmp_path: Path, depth: int) -> None:
    scope = ".".join(f"s{n}" for n in range(depth))
    logger = allogger.get_logger(scope)
    allogger.basic_configure(tmp_path / "run")

    logger.log(1.0, "loss")

    assert keys(tmp_path / "run") == [f"{scope}/loss"]


# Each setting with a value for the root, and a value for a scope below, false or empty where there is such a value.
INHERITED: list[tuple[str, Any, Any]] = [
    ("default_outputs", ["csv"], []),
    ("log_only_main_process", True, False),
    ("log_on_workers", [0], []),
    ("rank", 3, 0),
    ("log_freq", 7, "epoch"),
    ("default_path_exists", "abort", "c"),
    ("manual_flush", True, False),
    ("flush_seconds", 5.0, 0),
    ("basic_logging_params", {"level": "INFO"}, {}),
    ("strict", True, False),
    ("debug", True, False),
]


@pytest.mark.parametrize(("name", "of_root", "of_scope"), INHERITED, ids=[each[0] for each in INHERITED])
def test_each_setting_comes_from_the_nearest_scope_above_that_sets_it(
    tmp_path: Path, name: str, of_root: Any, of_scope: Any
) -> None:
    before = allogger.get_logger("a.b.c.d")
    allogger.basic_configure(tmp_path / "run", **{name: of_root})
    in_root = getattr(allogger.get_root().settings, name)
    assert getattr(before.settings, name) == in_root

    # `a.b` is configured, `a` and `a.b.c` never exist.
    in_scope = getattr(allogger.get_logger("a.b", **{name: of_scope}).settings, name)

    assert in_scope != in_root
    for scope in ("a.b.c.d", "a.b.later", "a.b.x.y.z"):
        assert getattr(allogger.get_logger(scope).settings, name) == in_scope
    for scope in ("a", "a.c", "ab", "a.bc.d"):
        assert getattr(allogger.get_logger(scope).settings, name) == in_root


@pytest.mark.parametrize(("name", "of_root", "of_scope"), INHERITED, ids=[each[0] for each in INHERITED])
def test_a_setting_that_is_changed_later_reaches_the_scopes_that_exist(
    tmp_path: Path, name: str, of_root: Any, of_scope: Any
) -> None:
    allogger.basic_configure(tmp_path / "run")
    leaf = allogger.get_logger("a.b.c")
    changed = getattr(allogger.get_logger("a", **{name: of_root}).settings, name)
    assert getattr(leaf.settings, name) == changed

    own = getattr(allogger.get_logger("a.b", **{name: of_scope}).settings, name)
    assert getattr(leaf.settings, name) == own

    allogger.get_logger("a", **{name: of_root})
    assert getattr(leaf.settings, name) == own


def test_what_a_scope_keeps_and_drops_follows_every_change_at_once(tmp_path: Path) -> None:
    run = tmp_path / "run"
    allogger.basic_configure(run, ["csv"])
    log = allogger.get_logger("a.b").log
    log(1.0, "first")

    allogger.get_logger("a", csv_writer_params={"exclude": "loss"})
    log(1.0, "loss")
    log(1.0, "second")
    allogger.get_logger("a.b", default_outputs=[])
    log(1.0, "third")
    allogger.get_logger("a.b", default_outputs=["csv"])
    log(1.0, "fourth")
    allogger.get_logger("a", csv_writer_params={"exclude": None})
    log(1.0, "loss")

    assert csv_keys(run) == {"a.b/first", "a.b/second", "a.b/fourth", "a.b/loss"}
    assert sum(path.read_text().count("a.b/loss") for path in run.rglob("*.csv")) == 1


def test_the_writers_parameters_are_merged_key_by_key_down_the_scopes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    allogger.basic_configure(run, ["csv"], csv_writer_params={"filter": "loss", "exclude": "debug"})
    allogger.get_logger("a", csv_writer_params={"filter": "acc"})
    allogger.get_logger("b", csv_writer_params={"exclude": None})
    for scope, key in itertools.product(["a", "b"], ["loss", "acc", "loss_debug", "acc_debug"]):
        allogger.get_logger(scope).log(1.0, key)

    assert csv_keys(run) == {"a/acc", "b/loss", "b/loss_debug"}


def test_settings_given_to_a_scope_before_the_root_is_configured_hold_afterwards(tmp_path: Path) -> None:
    logger = allogger.get_logger("agent", default_outputs=["csv"], csv_writer_params={"filter": "loss"})
    allogger.basic_configure(tmp_path / "run", ["hdf"], csv_writer_params={"filter": "acc", "exclude": "old"})

    for key in ("loss", "acc", "old_loss"):
        logger.log(1.0, key)

    assert csv_keys(tmp_path / "run") == {"agent/loss"}
    assert keys(tmp_path / "run") == []


def test_configuring_the_root_again_sets_everything_else_back_to_its_default(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run", ["csv"], log_freq=7)

    root = allogger.basic_configure(tmp_path / "run")

    assert root.settings.log_freq == 1
    assert root.default_outputs == ["hdf"]


def test_arguments_to_get_logger_are_added_to_those_that_the_scope_has(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run")
    logger = allogger.get_logger("a", log_freq=3, csv_writer_params={"filter": "x"})

    assert allogger.get_logger("a", debug=True, csv_writer_params={"exclude": "y"}) is logger

    assert logger.settings.log_freq == 3
    assert logger.settings.debug is True
    assert logger.settings.writer_params["csv"] == {"filter": "x", "exclude": "y"}


def test_a_reconfigured_run_goes_on_in_the_same_files(tmp_path: Path) -> None:
    log = allogger.basic_configure(tmp_path / "run", ["hdf", "csv"]).log
    log(1.0, "loss")

    allogger.get_logger("a", log_freq=2)
    allogger.basic_configure(tmp_path / "run", ["hdf", "csv"], flush_seconds=5)
    log(2.0, "loss")
    allogger.close()

    series = allogger.open_run(tmp_path / "run")["root/loss"]
    assert series.value.tolist() == [1.0, 2.0]
    assert series.step.tolist() == [1, 2]
    assert len(list(tmp_path.rglob("*.h5"))) == len(list(tmp_path.rglob("*.csv"))) == 1


def test_many_reconfigurations_leave_one_outlet_for_each_output(tmp_path: Path) -> None:
    log = allogger.basic_configure(tmp_path / "run", ["hdf", "csv"]).log
    for step in range(20):
        log(1.0, "loss")
        allogger.get_logger("a", log_freq=step + 1)

    assert [len(lane.outlets) for lane in manager.dispatch.lanes.values()] == [2]


def test_a_plug_in_with_parameters_can_be_reconfigured(memory: type[Memory]) -> None:
    log = allogger.basic_configure(default_outputs=["memory"], memory_writer_params={"size": 3}).log
    log(1.0, "loss")

    allogger.get_logger("a", log_freq=2)
    log(2.0, "loss")
    allogger.flush()

    assert memory.got == [("root/loss", 1, 1.0), ("root/loss", 2, 2.0)]


def test_scopes_with_different_parameters_of_a_writer_get_writers_of_their_own(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run", ["tensorboard"], tensorboard_writer_params={"use_hdf_hook": False})
    allogger.get_logger("a", tensorboard_writer_params={"bins": 5}).log(1.0, "loss")
    allogger.get_logger("b").log(1.0, "loss")

    allogger.close()

    assert len(list(tmp_path.rglob("events.out.tfevents.*"))) == 2


# ------------------------------------------------------------------------------------------------------- wrong settings


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"log_frequency": 3}, UnknownName, "did you mean 'log_freq'"),
        ({"default_outputs": ["tensorbord"]}, UnknownName, "did you mean 'tensorboard'"),
        ({"csv_writer_params": {"fliter": "x"}}, UnknownName, "did you mean 'filter'"),
        ({"tensorboard_writer_params": {"use_hdf_hok": True}}, UnknownName, "did you mean 'use_hdf_hook'"),
        ({"tensorboard_writer_params": {"bins": 0}}, ConfigError, "bins must be a positive whole number, not 0"),
        ({"hdf_writer_params": {"filter": "("}}, ConfigError, r"\n  \(\n  \^"),
        ({"basic_logging_params": {"levl": 3}}, UnknownName, "did you mean 'level'"),
        ({"log_freq": 0}, ConfigError, "int of 1 or more, 'batch' or 'epoch', not 0"),
        ({"enable": "no"}, ConfigError, "enable must be True or False, not 'no'"),
        ({"enable": None}, ConfigError, "enable must be True or False, not None"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_work_raises_at_once_and_changes_nothing(
    tmp_path: Path, given: dict[str, Any], error: type[Exception], words: str
) -> None:
    root = allogger.basic_configure(tmp_path / "run", ["hdf", "tensorboard"], log_freq=3)
    before = root.settings

    with pytest.raises(error, match=words):
        allogger.basic_configure(**{"logdir": tmp_path / "other", "default_outputs": ["tensorboard"], **given})
    if "enable" not in given:
        with pytest.raises(error, match=words):
            allogger.get_logger("a.b", **given)

    assert root.settings == before
    assert allogger.get_logger("a.b").settings == before
    assert not (tmp_path / "other").exists()
    root.log(1.0, "loss")
    assert keys(tmp_path / "run") == ["root/loss"]


@pytest.mark.parametrize("name", ["max_buffer_bytes", "when_full"])
def test_settings_of_the_whole_process_are_for_the_root_alone(tmp_path: Path, name: str) -> None:
    value = {"max_buffer_bytes": 2**24, "when_full": "drop"}[name]
    allogger.basic_configure(tmp_path / "run", **{name: value})

    with pytest.raises(ConfigError, match=f"{name} holds for the whole process"):
        allogger.get_logger("a", **{name: value})


def test_an_output_without_a_logdir_is_told_once_and_hinders_no_other(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logger = allogger.basic_configure(default_outputs=["hdf", "console"])

    logger.log(0.5, "loss")
    logger.log(0.25, "accuracy")
    allogger.close()

    assert "loss 0.5" in capsys.readouterr().out
    assert len([text for text in caplog.messages if "output 'hdf' has no logdir" in text]) == 1


def test_an_output_without_a_logdir_makes_no_files_where_the_program_happens_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    logger = allogger.basic_configure(default_outputs=["console", "hdf"])

    # The console is in use before HDF5 is asked for its place.
    logger.log(0.5, "loss")
    logger.log(np.zeros((2, 2)), "weights")
    allogger.close()

    assert list(tmp_path.iterdir()) == []
    assert "output 'hdf' has no logdir" in caplog.text


def test_values_without_any_logdir_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    logger = allogger.basic_configure()
    for key in ("a", "b"):
        logger.log(1.0, key)
        logger.log(np.zeros(3), key)

    allogger.close()

    assert len([text for text in caplog.messages if "output 'hdf' has no logdir" in text]) == 1
    assert "4 values were not stored: 'root/a' 2, 'root/b' 2" in caplog.text


# --------------------------------------------------------------------------------------------------------------- enable


def use_everything(logger: allogger.Logger) -> None:
    for value in (1.0, 2, "text", np.zeros(3), {"a": 1}):
        logger.log(value, "key", to_csv=True)
    logger.log(1.0, "key", 5, batch_idx=3)
    for say in (logger.debug, logger.info, logger.warning, logger.error):
        say("a message %d", 3)
    try:
        raise ValueError("on purpose")
    except ValueError:
        logger.exception("it failed")
    logger.flush(children=True)
    logger.load_state_dict(logger.state_dict())
    allogger.get_root().step_per_key = dict(allogger.get_root().step_per_key)
    assert not logger.isEnabledFor("key")
    assert logger.scope
    assert logger.default_outputs is not None
    assert logger.logdir is None
    allogger.get_logger(logger.scope + ".below", log_freq=2).log(1.0, "key")
    allogger.flush()


def test_disabled_everything_works_and_does_nothing(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    threads = threading.active_count()
    root = allogger.basic_configure(tmp_path / "run", ["hdf", "csv", "console", "tensorboard"], enable=False)

    use_everything(root)
    use_everything(allogger.get_logger("agent.critic"))
    assert threading.active_count() == threads
    allogger.close()
    allogger.close()

    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []


def test_disabling_ends_a_run_in_order_and_enabling_begins_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = allogger.get_logger("agent").log
    allogger.basic_configure(tmp_path / "one")
    log(1.0, "loss")
    allogger.basic_configure(tmp_path / "two", enable=False)
    log(2.0, "loss")
    allogger.basic_configure(tmp_path / "three")
    log(3.0, "loss")
    allogger.close()

    assert [path.name for path in sorted(tmp_path.iterdir())] == ["one", "three"]
    assert allogger.open_run(tmp_path / "one")["agent/loss"].value.tolist() == [1.0]
    assert allogger.open_run(tmp_path / "three")["agent/loss"].value.tolist() == [3.0]
    assert caplog.messages == []


def test_a_scope_that_got_its_logdir_while_disabled_has_it_when_enabled(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run", enable=False)
    logger = allogger.get_logger("agent", logdir=tmp_path / "own", log_freq=2)
    assert not (tmp_path / "own").exists()

    allogger.basic_configure(tmp_path / "run")
    logger.log(1.0, "loss")
    allogger.close()

    assert allogger.open_run(tmp_path / "own").keys() == ["agent/loss"]


# ----------------------------------------------------------------------------------------------------------- own logdir


def test_a_scope_with_its_own_logdir_has_its_own_run_and_so_have_those_below(tmp_path: Path) -> None:
    below = allogger.get_logger("agent.critic.head")
    allogger.basic_configure(tmp_path / "run")
    allogger.get_logger("agent.critic", logdir=tmp_path / "own")
    for scope in ("root", "agent", "agent.critic", "agent.critic.head", "agent.critic.new"):
        allogger.get_logger(scope).log(1.0, "loss")

    assert below.logdir == tmp_path / "own"
    assert keys(tmp_path / "run") == ["agent/loss", "root/loss"]
    assert keys(tmp_path / "own") == ["agent.critic.head/loss", "agent.critic.new/loss", "agent.critic/loss"]
    allogger.close()
    assert allogger.open_run(tmp_path / "run").keys() == ["agent/loss", "root/loss"]
    assert len(allogger.open_run(tmp_path / "own").keys()) == 3


def test_a_scope_that_is_given_another_logdir_moves_there_with_steps_from_one(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run")
    logger = allogger.get_logger("agent")
    logger.log(1.0, "loss")
    allogger.get_logger("agent", logdir=tmp_path / "own")
    logger.log(2.0, "loss")

    allogger.close()

    run, own = (allogger.open_run(tmp_path / name)["agent/loss"] for name in ("run", "own"))
    assert (run.value.tolist(), run.step.tolist()) == ([1.0], [1])
    assert (own.value.tolist(), own.step.tolist()) == ([2.0], [1])


def test_a_scope_whose_logdir_is_none_stores_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    allogger.basic_configure(tmp_path / "run")
    logger = allogger.get_logger("agent", logdir=None)
    logger.log(1.0, "loss")
    allogger.get_logger("other").log(1.0, "loss")

    assert logger.logdir is None
    assert keys(tmp_path / "run") == ["other/loss"]
    assert "has no logdir" in caplog.text


def test_a_run_that_no_scope_uses_any_more_is_finished(tmp_path: Path) -> None:
    log = allogger.basic_configure(tmp_path / "one").log
    log(1.0, "loss")

    allogger.basic_configure(tmp_path / "two")
    log(2.0, "loss")

    assert not list((tmp_path / "one").rglob("*.journal"))
    assert allogger.open_run(tmp_path / "one")["root/loss"].value.tolist() == [1.0]
    assert keys(tmp_path / "two") == ["root/loss"]


def test_changing_a_setting_of_a_run_that_began_with_clear_keeps_its_values(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run", default_path_exists="clear")
    root.log(1.0, "loss")
    allogger.flush()

    allogger.get_logger("root", log_freq=2)
    allogger.get_logger("agent", log_freq=2)
    root.log(2.0, "loss")
    allogger.close()

    assert allogger.open_run(tmp_path / "run")["root/loss"].value.tolist() == [1.0, 2.0]


def test_configuring_again_with_clear_begins_anew(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        root = allogger.basic_configure(tmp_path / "run", default_path_exists="clear")
        root.log(value, "loss")
    allogger.close()

    series = allogger.open_run(tmp_path / "run", attempts="all")["root/loss"]
    assert series.value.tolist() == [2.0]
    assert series.step.tolist() == [1]


def test_with_unique_a_run_that_is_closed_and_begun_again_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    names = []
    for value in (1.0, 2.0, 3.0):
        root = allogger.basic_configure(tmp_path / "run", default_path_exists="unique")
        root.log(value, "loss")
        assert root.logdir is not None
        names.append(root.logdir.name)
        allogger.get_logger("agent", log_freq=2)
        assert root.logdir.name == names[-1]
        allogger.close()

    assert names == ["run", "run_1", "run_2"]
    stored = [allogger.open_run(tmp_path / name)["root/loss"].value.tolist() for name in names]
    assert stored == [[1.0], [2.0], [3.0]]


# ---------------------------------------------------------------------------------------------------------------- close


def test_closing_twice_and_closing_nothing_does_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    allogger.close()
    allogger.basic_configure(tmp_path / "run").log(1.0, "loss")
    allogger.close()
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    allogger.close()
    allogger.close(timeout=1)

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files
    assert caplog.messages == []


def test_closing_ends_the_threads(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    allogger.basic_configure(tmp_path / "run", ["hdf", "console"]).log(1.0, "loss")
    started = set(threading.enumerate()) - before
    assert started

    allogger.close()

    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


def test_several_threads_may_close_at_the_same_time(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    for value in range(1000):
        root.log(value, "loss")
    start = threading.Barrier(4)
    errors: list[BaseException] = []

    def close() -> None:
        start.wait()
        try:
            allogger.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert errors == []
    assert len(allogger.open_run(tmp_path / "run")["root/loss"]) == 1000


def test_a_with_block_configures_and_closes(tmp_path: Path) -> None:
    with allogger.run(tmp_path / "run", ["csv"], log_freq=3) as logger:
        assert logger is allogger.get_root()
        assert logger.settings.log_freq == 3
        logger.log(1.0, "loss")

    assert csv_keys(tmp_path / "run") == {"root/loss"}
    assert not manager.settings


def test_an_exception_leaves_a_with_block_after_everything_is_on_disk(tmp_path: Path) -> None:
    def work() -> None:
        with allogger.run(tmp_path / "run") as logger:
            logger.log(1.0, "loss")
            raise KeyError("on purpose")

    with pytest.raises(KeyError, match="on purpose"):
        work()

    assert not list(tmp_path.rglob("*.journal"))
    assert allogger.open_run(tmp_path / "run")["root/loss"].value.tolist() == [1.0]


def test_with_blocks_may_follow_each_other(tmp_path: Path) -> None:
    for number in range(3):
        with allogger.run(tmp_path / f"run{number}") as logger:
            logger.log(number, "loss")
            allogger.get_logger("agent").log(number, "loss")

    for number in range(3):
        run = allogger.open_run(tmp_path / f"run{number}")
        assert [run[key].value.tolist() for key in ("root/loss", "agent/loss")] == [[number], [number]]
        assert run["root/loss"].step.tolist() == [1]


def test_close_returns_in_time_when_an_output_hangs(
    tmp_path: Path, memory: type[Memory], caplog: pytest.LogCaptureFixture
) -> None:
    root = allogger.basic_configure(tmp_path / "run", ["hdf", "memory"])
    root.log(1.0, "loss")
    memory.hangs = threading.Event()

    allogger.close(timeout=0.3)

    assert "output 'memory' was not finished in time" in caplog.text
    assert allogger.open_run(tmp_path / "run")["root/loss"].value.tolist() == [1.0]
    assert not list(tmp_path.rglob("*.journal"))


def test_an_output_that_fails_while_the_logdir_changes_blocks_nobody(
    tmp_path: Path, memory: type[Memory], caplog: pytest.LogCaptureFixture
) -> None:
    allogger.basic_configure(tmp_path / "one", ["hdf", "memory"])
    allogger.get_logger("agent", logdir=tmp_path / "agent").log(1.0, "loss")
    allogger.get_root().log(1.0, "loss")
    memory.close_error = RuntimeError("cannot close")

    def reconfigure() -> None:
        allogger.basic_configure(tmp_path / "two", ["hdf", "memory"])
        allogger.get_logger("agent", logdir=tmp_path / "agent2").log(2.0, "loss")
        allogger.basic_configure(enable=False)

    thread = threading.Thread(target=reconfigure, daemon=True)
    thread.start()
    thread.join(20)

    assert not thread.is_alive()
    assert "could not be finished" in caplog.text
    memory.close_error = None


def test_a_broken_plug_in_is_reported_once_and_the_other_outputs_have_everything(
    tmp_path: Path, memory: type[Memory], caplog: pytest.LogCaptureFixture
) -> None:
    memory.write_error = RuntimeError("broken")
    root = allogger.basic_configure(tmp_path / "run", ["hdf", "memory"])
    for value in range(100):
        root.log(value, "loss")
        root.log("text", "note")
        allogger.flush() if value % 30 == 0 else None

    allogger.close()

    assert allogger.open_run(tmp_path / "run")["root/loss"].value.tolist() == list(range(100))
    assert len([text for text in caplog.messages if "loses values" in text]) == 1
    assert "output 'memory' lost 200 values: 'root/loss' 100, 'root/note' 100" in caplog.text


def test_an_output_that_fails_for_a_while_gets_everything_when_it_is_back(
    memory: type[Memory], caplog: pytest.LogCaptureFixture
) -> None:
    root = allogger.basic_configure(default_outputs=["memory"], flush_seconds=0.01)
    memory.write_error = OSError("no connection")
    for value in range(10):
        root.log(value, "loss")
    allogger.flush()
    assert memory.got == []

    memory.write_error = None
    root.log(10, "loss")
    allogger.flush()

    assert memory.got == [("root/loss", value + 1, value) for value in range(11)]
    assert len([text for text in caplog.messages if "cannot write" in text]) == 1
    assert len([text for text in caplog.messages if "writes again" in text]) == 1


def test_with_strict_a_failure_is_raised_by_flush_and_by_close(memory: type[Memory]) -> None:
    memory.write_error = RuntimeError("broken")
    root = allogger.basic_configure(default_outputs=["memory"], strict=True)
    root.log(1.0, "loss")

    with pytest.raises(WriteFailed, match="memory: 1 lost"):
        allogger.flush()
    root.log(1.0, "loss")
    with pytest.raises(WriteFailed, match="could not store everything"):
        allogger.close()
    allogger.close()


def test_without_strict_a_failure_is_only_reported(memory: type[Memory], caplog: pytest.LogCaptureFixture) -> None:
    memory.write_error = RuntimeError("broken")
    allogger.basic_configure(default_outputs=["memory"]).log(1.0, "loss")

    allogger.flush()
    allogger.close()

    assert "output 'memory' lost 1 values: 'root/loss' 1" in caplog.text


# --------------------------------------------------------------------------------------------------------------- memory


class Slow(Memory):
    """Writes when it is let."""

    lane: ClassVar[str] = "disk"
    gate: ClassVar[threading.Event] = threading.Event()

    def write(self, batch: Batch) -> None:
        Slow.gate.wait(60)
        super().write(batch)


@pytest.fixture
def slow(memory: type[Memory]) -> Iterator[type[Slow]]:
    """The output ``slow``, which waits at its gate."""
    Slow.gate.clear()
    allogger.register_writer("slow", Slow)
    yield Slow
    Slow.gate.set()
    manager.reset()
    writers.remove("slow")


@pytest.mark.parametrize("value", [0.5, np.zeros(1000)], ids=["numbers", "arrays"])
def test_with_drop_what_does_not_fit_into_the_buffer_is_counted_and_memory_is_bounded(
    slow: type[Slow], caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    limit, count = 2**20, 5000 if isinstance(value, np.ndarray) else 100_000
    root = allogger.basic_configure(default_outputs=["slow"], max_buffer_bytes=limit, when_full="drop")
    most = 0
    for _ in range(count):
        root.log(value, "loss")
        most = max(most, manager.intake.nbytes)

    slow.gate.set()
    allogger.close()

    assert most < 2 * limit
    assert 0 < len(slow.got) < count
    assert len(slow.got) + counted(caplog.messages) == count
    assert [step for _, step, _ in slow.got] == list(range(1, len(slow.got) + 1))


def test_with_wait_a_log_call_waits_until_there_is_room_and_nothing_is_lost(
    slow: type[Slow], caplog: pytest.LogCaptureFixture
) -> None:
    count = 200_000
    root = allogger.basic_configure(default_outputs=["slow"], max_buffer_bytes=2**20, when_full="wait")
    timer = threading.Timer(0.3, slow.gate.set)
    timer.start()
    most = 0
    for number in range(count):
        root.log(number, "loss")
        most = max(most, manager.intake.nbytes)
    timer.join()
    allogger.close()

    assert most < 2**21
    assert [value for _, _, value in slow.got] == list(range(count))
    assert caplog.messages == []


# -------------------------------------------------------------------------------------------------------------- threads


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(work: Callable[[int], None], count: int) -> None:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert errors == []


def test_eight_threads_lose_nothing_and_count_each_step_once(tmp_path: Path) -> None:
    count = 5000
    root = allogger.basic_configure(tmp_path / "run", flush_seconds=0.01)

    def work(number: int) -> None:
        own = allogger.get_logger(f"thread{number}")
        for value in range(count):
            root.log(number * count + value, "shared")
            own.log(value, "own")

    in_threads(work, 8)
    allogger.close()

    run = allogger.open_run(tmp_path / "run")
    assert run["root/shared"].step.tolist() == list(range(1, 8 * count + 1))
    assert sorted(run["root/shared"].value.tolist()) == list(range(8 * count))
    for number in range(8):
        assert run[f"thread{number}/own"].value.tolist() == list(range(count))
        assert run[f"thread{number}/own"].step.tolist() == list(range(1, count + 1))


def test_threads_that_flush_the_same_held_back_values_write_each_once(tmp_path: Path, switching: None) -> None:
    root = allogger.basic_configure(tmp_path / "run", manual_flush=True)

    def work(number: int) -> None:
        for value in range(150):
            root.log(number * 150 + value, "loss")
            root.flush()

    in_threads(work, 4)

    assert sorted(allogger.open_run(tmp_path / "run")["root/loss"].value.tolist()) == list(range(600))


def test_new_keys_from_many_threads_disturb_no_counter(tmp_path: Path, switching: None) -> None:
    root = allogger.basic_configure(tmp_path / "run", ["csv"], flush_seconds=0.001)

    def work(number: int) -> None:
        for value in range(400):
            root.log(value, "shared")
            root.log(value, f"{number}/{value}")

    in_threads(work, 6)
    allogger.close()

    (file,) = tmp_path.rglob("*.csv")
    rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
    assert sorted(int(row[1]) for row in rows if row[0] == "root/shared") == list(range(1, 2401))
    assert [row for row in rows if row[0] != "root/shared" and row[1] != "1"] == []
    assert len(rows) == 4800


def counted(messages: list[str]) -> int:
    """Return how many values the warnings say were not stored."""
    pattern = re.compile(r"(?:^allogger: |lost )(\d+) values(?: were not stored|:)")
    return sum(int(found[1]) for text in messages if (found := pattern.search(text)))


@pytest.mark.parametrize("how", ["close", "reconfigure"])
def test_every_value_logged_during_changes_is_stored_under_its_key_or_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, switching: None, how: str
) -> None:
    stop = threading.Event()
    logged = [0] * 4
    rounds = 15

    def work(number: int) -> None:
        logger = allogger.get_logger(f"t{number}")
        while not stop.wait(0.0005):
            for _ in range(20):
                n = logged[number] = logged[number] + 1
                logger.log(float(n * 4 + number), f"k{number}/{n % 7}")

    def change(_: int) -> None:
        for each in range(rounds):
            allogger.basic_configure(tmp_path / f"run{each}")
            for _ in range(5):
                allogger.flush()
            if how == "close":
                allogger.close()
        stop.set()

    in_threads(lambda number: change(number) if number == 4 else work(number), 5)
    allogger.close()

    stored = 0
    for each in range(rounds):
        run = allogger.open_run(tmp_path / f"run{each}")
        for key in run:
            number = int(key[1])
            assert key.startswith(f"t{number}/k{number}/")
            values = run[key].value.astype(int)
            assert (values % 4 == number).all()
            assert (values // 4 % 7 == int(key[-1])).all()
            assert (np.diff(values) > 0).all()
            stored += len(values)
    assert stored > 0
    assert stored + counted(caplog.messages) == sum(logged)


@pytest.mark.parametrize("how", ["close", "reconfigure"])
@pytest.mark.parametrize("value", [3.0, np.zeros(2)], ids=["number", "array"])
def test_a_value_that_was_on_its_way_when_its_run_was_closed_is_counted_and_goes_nowhere_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str, value: Any
) -> None:
    root = allogger.basic_configure(tmp_path / "one")
    root.log(1.0, "loss")
    # What a log call has found out when another thread comes in between.
    slot = root._slots["loss"]
    assert slot is not None
    if how == "close":
        allogger.close()
    allogger.basic_configure(tmp_path / "two")
    root.log(2.0, "other")
    if isinstance(value, np.ndarray):
        manager.intake.put_object(manager.intake.buffer, slot, 0.0, None, "histogram", value, {})
    else:
        manager.intake.buffer.extend(PACK[FLOAT](slot, 0.0, value))
    root.log(4.0, "other")
    allogger.close()

    assert "1 values were not stored: 'root/loss' 1" in caplog.text
    assert len(caplog.messages) == 1
    assert allogger.open_run(tmp_path / "one")["root/loss"].value.tolist() == [1.0]
    assert allogger.open_run(tmp_path / "two").keys() == ["root/other"]
    assert allogger.open_run(tmp_path / "two")["root/other"].value.tolist() == [2.0, 4.0]


def test_a_value_that_comes_between_the_last_look_and_the_end_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    root.log(1.0, "loss")
    slot = root._slots["loss"]
    assert slot is not None
    allogger.close()
    manager.intake.buffer.extend(PACK[FLOAT](slot, 0.0, 3.0))

    allogger.close()

    assert "1 values were not stored: 'root/loss' 1" in caplog.text


def test_a_signal_handler_may_log_while_its_thread_logs(tmp_path: Path) -> None:
    import signal

    root = allogger.basic_configure(tmp_path / "run", ["hdf", "csv"])
    numbers = itertools.count(1)

    def handle(number: int, frame: object) -> None:
        # New keys too: a handler comes back in the middle of what a first call decides.
        mine = next(numbers)
        root.log(mine, "signal")
        root.log(mine, f"signal{mine}")
        root.log(np.zeros(2), f"array{mine % 50}")

    old = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.002)
        for value in range(10_000):
            root.log(value, "loop")
            root.log(value, f"loop{value}") if value % 10 == 0 else None
            root.log(np.zeros(2), "array") if value % 10 == 0 else None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    allogger.close()

    run = allogger.open_run(tmp_path / "run")
    seen = next(numbers) - 1
    assert seen > 0
    # A handler can interrupt another one before that has logged.
    assert sorted(run["root/signal"].value.tolist()) == list(range(1, seen + 1))
    assert [run[f"root/signal{n}"].value.tolist() for n in range(1, seen + 1)] == [[n] for n in range(1, seen + 1)]
    assert [run[f"root/loop{n}"].value.tolist() for n in range(0, 10_000, 10)] == [[n] for n in range(0, 10_000, 10)]
    assert run["root/loop"].value.tolist() == list(range(10_000))
    assert len(run["root/array"]) == 1000


def test_importing_allogger_starts_nothing_even_when_the_environment_configures_it(
    tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    code = """
        import os, threading
        import allogger
        allogger.get_logger("agent").isEnabledFor("loss")
        assert threading.active_count() == 1
        assert not os.path.exists(os.environ["ALLOGGER_LOGDIR"])
        """

    result = run_python(code, env={"ALLOGGER_LOGDIR": str(tmp_path / "run"), "ALLOGGER_OUTPUTS": "hdf"})

    assert result.returncode == 0, result.stderr
    assert os.listdir(tmp_path) == ["script.py"]


def test_debug_notes_in_the_text_log_where_each_key_goes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for debug in (True, False):
        allogger.basic_configure(tmp_path / f"{debug}", ["hdf", "csv"], csv_writer_params={"exclude": "b"}, debug=debug)
        for key in ("a", "b", "a"):
            allogger.get_logger("main").log(1.0, key)
        allogger.close()

    (log,) = (tmp_path / "True").glob("*.log")
    notes = re.findall("'main/.' .*", log.read_text())
    assert notes == ["'main/a' (scalar) goes to hdf, csv", "'main/b' (scalar) goes to hdf"]
    assert not [*(tmp_path / "False").glob("*.log")]
    assert "goes to" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("when_full", ["wait", "drop"])
def test_log_calls_wait_for_a_lane_that_has_fallen_behind(
    tmp_path: Path, memory: type[Memory], monkeypatch: pytest.MonkeyPatch, when_full: str
) -> None:
    root = allogger.basic_configure(tmp_path / "run", ["memory", "csv"], flush_seconds=0.01, when_full=when_full)
    root.log(0.0, "loss")
    allogger.flush()
    dispatch, hand_out = manager.dispatch, manager.dispatch._hand_out
    others: list[threading.Thread] = []
    waits: list[bool] = []

    def log_twice() -> None:
        # The first call finds out, the next one waits.
        for _ in range(2):
            root.log(-1.0, "loss")

    def hand_out_while_another_thread_logs(taken: Any) -> None:
        if not others:
            others.append(threading.Thread(target=log_twice))
            others[0].start()
            others[0].join(0.2)
            waits.append(others[0].is_alive())
        hand_out(taken)

    release = threading.Event()
    stopped = dispatch.lanes["disk"].submit(release.wait)
    begin = time.monotonic()
    count = 400_000
    for _ in range(count):
        root.log(1.0, "loss")
    # What waits now is older than values may become.
    while time.monotonic() < begin + 0.1:
        root.log(1.0, "loss")
        count += 1
    monkeypatch.setattr(dispatch, "_hand_out", hand_out_while_another_thread_logs)
    release.set()
    assert dispatch.lanes["disk"].wait(stopped, 30)
    allogger.flush()
    others[0].join(30)

    assert waits == [when_full == "wait"]
    allogger.close()
    assert len(memory.got) == count + 3
