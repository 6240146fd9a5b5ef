"""Are steps counted, taken as given, saved, restored and continued as promised?"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import allogger
from allogger.errors import ConfigError

MAX, MIN = 2**63 - 1, -(2**63)


def steps(logdir: Path, key: str = "root/loss") -> list[int]:
    allogger.flush()
    found: list[int] = allogger.open_run(logdir)[key].step.tolist()
    return found


# ------------------------------------------------------------------------------------------------------------- counting


def test_steps_are_counted_from_one_for_each_scope_and_key(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    for logger in (root, allogger.get_logger("a"), allogger.get_logger("a.b")):
        for _ in range(3):
            logger.log(0.5, "loss")
        logger.log(0.5, "acc")

    for scope in ("root", "a", "a.b"):
        assert steps(tmp_path / "run", f"{scope}/loss") == [1, 2, 3]
        assert steps(tmp_path / "run", f"{scope}/acc") == [1]


def test_values_of_all_kinds_under_a_key_share_one_counter(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    for value in (0.5, 3, True, np.zeros(3), "text", 1j, np.zeros((2, 2)), 0.25):
        root.log(value, "loss")
    allogger.close()

    series = allogger.open_run(tmp_path / "run")["root/loss"]
    assert sorted(series.step.tolist()) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert series.kind == "mixed"


def test_a_value_that_is_dropped_or_refused_takes_no_step(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run", log_freq=2)
    for batch_idx in range(4):
        root.log(0.5, "loss", batch_idx=batch_idx)
        root.log(0.5, "loss", to_hdf=False)
        root.log(None, "loss")
        root.log(0.5, "loss", batch_idx="no number")

    assert steps(tmp_path / "run") == [1, 2]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ([5, 6, 7], [5, 6, 7]),
        ([5, 5, 5], [5, 5, 5]),
        ([9, 3, 7, 1], [9, 3, 7, 1]),
        ([-3, 0, -(10**12)], [-3, 0, -(10**12)]),
        ([MAX, MIN, 0], [MAX, MIN, 0]),
        ([None, 10, None, None], [1, 10, 11, 12]),
        ([None, -5, None, -5, None], [1, -5, 2, -5, 3]),
        ([10, 3, None], [10, 3, 11]),
        ([0, None], [0, 1]),
        ([-1, None], [-1, 1]),
        ([MAX - 1, None, None, None], [MAX - 1, MAX, MAX, MAX]),
        ([MAX, None, None, 5, None], [MAX, MAX, MAX, 5, MAX]),
        ([MIN, None], [MIN, 1]),
    ],
    ids=str,
)
@pytest.mark.parametrize("value", [0.5, 3, np.zeros(2)], ids=["float", "int", "array"])
@pytest.mark.parametrize("is_flushed", [False, True], ids=["at once", "one by one"])
def test_a_given_step_is_stored_as_it_is_and_moves_the_counter_on(
    tmp_path: Path, given: list[int | None], stored: list[int], value: Any, is_flushed: bool
) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    for step in given:
        root.log(value, "loss", step)
        root.log(value, "other")
        if is_flushed:
            allogger.flush()
    allogger.close()

    assert steps(tmp_path / "run") == stored
    assert steps(tmp_path / "run", "root/other") == list(range(1, len(given) + 1))


@pytest.mark.parametrize(
    "step",
    [7, np.int8(7), np.int64(7), np.uint64(7), np.array(7), 7.0, np.float32(7.0), np.array([7])],
    ids=lambda step: f"{type(step).__name__} {step!r}",
)
@pytest.mark.parametrize("value", [0.5, 3, "text", np.zeros(3)], ids=["float", "int", "text", "array"])
def test_a_step_may_be_any_whole_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, step: Any, value: Any
) -> None:
    root = allogger.basic_configure(tmp_path / "run")

    root.log(value, "loss", step)
    root.log(value, "loss", step)
    root.log(value, "loss")

    assert steps(tmp_path / "run") == [7, 7, 8]
    assert caplog.messages == []


class Hostile:
    """Cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __index__(self) -> int:
        raise RuntimeError("no index")


@pytest.mark.parametrize(
    "step",
    [
        2**63,
        MIN - 1,
        10**30,
        1.5,
        float("nan"),
        float("inf"),
        1e300,
        "7",
        b"7",
        [7, 8],
        (),
        {},
        1j,
        Hostile(),
        np.zeros(3),
    ],
    ids=lambda step: type(step).__name__ if isinstance(step, Hostile) else repr(step),
)
def test_a_step_that_is_no_int64_is_said_once_and_the_value_gets_the_next_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, step: Any
) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    for value in range(3):
        root.log(value, "loss", step)

    allogger.flush()
    series = allogger.open_run(tmp_path / "run")["root/loss"]
    assert series.value.tolist() == [0, 1, 2]
    assert series.step.tolist() == [1, 2, 3]
    assert len(caplog.messages) == 1
    assert "'root/loss'" in caplog.messages[0]
    assert "steps are counted instead" in caplog.messages[0]


def test_many_different_wrong_steps_are_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = allogger.basic_configure(tmp_path / "run")

    for number in range(100):
        root.log(number, "loss", number + 0.5)

    assert steps(tmp_path / "run") == list(range(1, 101))
    assert len(caplog.messages) == 1


def test_a_step_that_is_a_tensor_is_taken_as_its_number(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    root = allogger.basic_configure(tmp_path / "run")

    for step in (torch.tensor(4), torch.tensor([9])):
        root.log(0.5, "loss", step)

    assert steps(tmp_path / "run") == [4, 9]


# ------------------------------------------------------------------------------------------------------- the counters


def test_the_next_steps_can_be_looked_at_by_scope_process_and_key(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    for _ in range(3):
        root.log(0.5, "loss")
    allogger.get_logger("main").log(0.5, "train/acc", 41)

    assert dict(root.step_per_key) == {
        ("root-MainProcess", "loss"): 4,
        ("root.main-MainProcess", "train/acc"): 42,
    }
    assert root.step_per_key["root-MainProcess", "loss"] == 4
    assert len(root.step_per_key) == 2
    with pytest.raises(KeyError):
        root.step_per_key["root-MainProcess", "unknown"]


def test_dropped_calls_leave_no_counter(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run", hdf_writer_params={"filter": "loss"})
    root.log(0.5, "acc")
    root.log(0.5, "loss")

    assert list(root.step_per_key) == [("root-MainProcess", "loss")]


@pytest.mark.parametrize("is_known", [False, True], ids=["a new key", "a known key"])
def test_the_counters_can_be_assigned(tmp_path: Path, is_known: bool) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    if is_known:
        root.log(0.5, "loss")
    saved = {("root-MainProcess", "loss"): 100, ("root.main-MainProcess", "acc"): np.int64(7)}

    root.step_per_key = root.manager.dict(saved)
    root.log(0.5, "loss")
    allogger.get_logger("main").log(0.5, "acc")
    root.step_per_key["root-MainProcess", "loss"] = 50
    root.log(0.5, "loss")

    assert steps(tmp_path / "run") == [1, 100, 50][not is_known :]
    assert steps(tmp_path / "run", "main/acc") == [7]
    assert root.step_per_key["root-MainProcess", "loss"] == 51


def test_what_was_saved_from_the_counters_can_be_assigned_in_another_run(tmp_path: Path) -> None:
    with allogger.run(tmp_path / "one") as root:
        for _ in range(5):
            root.log(0.5, "loss")
        saved = dict(root.step_per_key)

    with allogger.run(tmp_path / "two") as root:
        root.step_per_key = root.manager.dict(saved)
        root.log(0.5, "loss")

    assert steps(tmp_path / "two") == [6]


def test_a_counter_that_was_set_holds_for_that_run_only(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "one")
    root.step_per_key = {("root-MainProcess", "loss"): 100}
    root.log(0.5, "loss")

    allogger.basic_configure(tmp_path / "two")
    root.log(0.5, "loss")

    assert steps(tmp_path / "one") == [100]
    assert steps(tmp_path / "two") == [1]


def test_a_counter_cannot_be_removed(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    root.log(0.5, "loss")

    with pytest.raises(TypeError, match="assign the next step instead"):
        del root.step_per_key["root-MainProcess", "loss"]


@pytest.mark.parametrize("step", [2**63, MIN - 1, 1.5, "7", None], ids=repr)
def test_a_counter_that_is_no_int64_is_refused_and_changes_nothing(tmp_path: Path, step: Any) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    root.log(0.5, "loss")
    who = ("root-MainProcess", "loss")

    with pytest.raises(ConfigError, match="a step is an int64, not"):
        root.step_per_key = {("root-MainProcess", "acc"): 9, who: step}
    with pytest.raises(ConfigError, match="a step is an int64, not"):
        root.step_per_key[who] = step
    with pytest.raises(ConfigError):
        root.load_state_dict({"step_per_key": {"root-MainProcess": {"loss": step}}})
    root.log(0.5, "loss")
    root.log(0.5, "acc")

    assert steps(tmp_path / "run") == [1, 2]
    assert steps(tmp_path / "run", "root/acc") == [1]


def test_the_state_of_a_scope_is_that_of_all_below_and_survives_json(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "one")
    for scope, count in (("root", 1), ("agent", 2), ("agent.critic", 3), ("agents", 4)):
        for _ in range(count):
            allogger.get_logger(scope).log(0.5, "loss")
    state = allogger.get_logger("agent").state_dict()
    whole = allogger.get_root().state_dict()
    allogger.close()

    allogger.basic_configure(tmp_path / "two")
    allogger.get_logger("agent").load_state_dict(json.loads(json.dumps(state)))
    for scope in ("root", "agent", "agent.critic", "agents"):
        allogger.get_logger(scope).log(0.5, "loss")
    found = {scope: steps(tmp_path / "two", f"{scope}/loss") for scope in ("root", "agent", "agent.critic", "agents")}
    assert found == {"root": [1], "agent": [3], "agent.critic": [4], "agents": [1]}
    allogger.close()

    allogger.basic_configure(tmp_path / "three").load_state_dict(json.loads(json.dumps(whole)))
    allogger.get_logger("agents").log(0.5, "loss")
    assert steps(tmp_path / "three", "agents/loss") == [5]


def test_a_state_can_be_loaded_before_the_configuration_and_while_values_wait(tmp_path: Path) -> None:
    state = {"step_per_key": {"root-MainProcess": {"loss": 10}}}
    allogger.get_root().load_state_dict(state)
    root = allogger.basic_configure(tmp_path / "run", flush_seconds=60)
    root.log(0.5, "loss")
    root.log(0.5, "loss")

    root.load_state_dict(state)
    root.log(0.5, "loss")

    assert steps(tmp_path / "run") == [10, 11, 10]


def test_a_state_says_what_the_next_step_is_also_when_nothing_was_logged_since(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    state = {"step_per_key": {"root-MainProcess": {"loss": 10}, "root-Process1": {"loss": 3}}}

    root.load_state_dict(state)

    assert root.state_dict() == state


@pytest.mark.parametrize(
    "state", [None, {}, {"step_per_key": 3}, {"step_per_key": {"a": 3}}, {"step_per_key": {"a": {"b": "c"}}}], ids=repr
)
def test_what_is_no_state_is_refused(state: Any) -> None:
    with pytest.raises(ConfigError, match=r"no state that state_dict\(\) returned|a step is an int64"):
        allogger.get_root().load_state_dict(state)


def test_a_state_holds_odd_names(tmp_path: Path) -> None:
    scope, key = "a-b.c@d", "k/\x00\ud800-é"
    allogger.basic_configure(tmp_path / "one")
    allogger.get_logger(scope).log(0.5, key)
    state = json.loads(json.dumps(allogger.get_logger(scope).state_dict()))
    allogger.close()
    allogger.basic_configure(tmp_path / "two")
    allogger.get_logger(scope).load_state_dict(state)

    allogger.get_logger(scope).log(0.5, key)

    assert steps(tmp_path / "two", f"{scope}/{key}") == [2]


# ----------------------------------------------------------------------------------------------------------- continuing


def log_everything(count: int) -> None:
    root = allogger.get_root()
    for number in range(count):
        root.log(number, "loss")
        root.log("text", "note")
        root.log(np.zeros(3), "array")
        allogger.get_logger("agent").log(0.5, "loss", 10 * number)


def test_a_logdir_is_continued_after_the_last_step_of_each_key(tmp_path: Path) -> None:
    for count in (5, 2, 3):
        allogger.basic_configure(tmp_path / "run")
        log_everything(count)
        allogger.get_root().log(0.5, f"new {count}")
        allogger.get_logger("agent").log(0.5, "loss")
        allogger.close()

    run = allogger.open_run(tmp_path / "run")
    for key in ("loss", "note", "array"):
        assert run[f"root/{key}"].step.tolist() == list(range(1, 11))
    assert run["root/loss"].value.tolist() == [0, 1, 2, 3, 4, 0, 1, 0, 1, 2]
    assert [run[f"root/new {count}"].step.tolist() for count in (5, 2, 3)] == [[1], [1], [1]]


KILLED = """
    import os, signal, sys
    import numpy as np
    import allogger
    root = allogger.basic_configure(sys.argv[1] if len(sys.argv) > 1 else os.environ["RUN"])
    for number in range(500):
        root.log(number, "loss")
        if number % 100 == 0:
            root.log("text", "note")
            root.log(np.zeros(3), "array")
    allogger.flush()
    os.kill(os.getpid(), signal.SIGKILL)
    """


def test_a_logdir_of_a_killed_program_is_continued_too(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    for _ in range(2):
        result = run_python(KILLED, env={"RUN": str(tmp_path / "run")})
        assert result.returncode == -signal.SIGKILL, result.stderr
    allogger.basic_configure(tmp_path / "run")
    log_everything(1)
    allogger.close()

    run = allogger.open_run(tmp_path / "run")
    assert run["root/loss"].step.tolist() == list(range(1, 1002))
    assert run["root/loss"].value.tolist() == [*range(500), *range(500), 0]
    for key in ("note", "array"):
        assert run[f"root/{key}"].step.tolist() == list(range(1, 12))


@pytest.mark.parametrize("outputs", [["csv"], ["tensorboard"], ["csv", "tensorboard"], ["console", "csv"]], ids=str)
@pytest.mark.parametrize("is_killed", [False, True])
def test_a_logdir_without_hdf5_is_continued_too(
    tmp_path: Path, run_python: Callable[..., Any], outputs: list[str], is_killed: bool
) -> None:
    program = f"""
import multiprocessing, os, signal
import allogger

def work():
    logger = allogger.get_logger("w.v")
    for _ in range(3):
        logger.log(0.5, "loss")
    logger.log(0.5, "acc", 10)
    allogger.flush()

if __name__ == "__main__":
    allogger.basic_configure("run", {outputs}, tensorboard_writer_params={{"use_hdf_hook": False}})
    child = multiprocessing.get_context("fork").Process(target=work, name="child")
    child.start()
    child.join()
    work()
    if {is_killed}:
        os.kill(os.getpid(), signal.SIGKILL)
"""
    for _ in range(2):
        result = run_python(program)
        assert result.returncode == (-signal.SIGKILL if is_killed else 0), result.stderr

    run = allogger.open_run(tmp_path / "run", attempts="all")
    for process in ("MainProcess", "child"):
        loss = run["w.v/loss"]
        assert loss.step[loss.process == process].tolist() == [1, 2, 3, 4, 5, 6]
    assert run["w.v/acc"].step.tolist() == [10, 10, 10, 10]


def test_a_state_from_a_checkpoint_goes_before_what_is_recorded(tmp_path: Path) -> None:
    with allogger.run(tmp_path / "run") as root:
        for number in range(10):
            root.log(number, "loss")
            root.log(number, "acc")
            if number == 4:
                state = root.state_dict()

    with allogger.run(tmp_path / "run") as root:
        root.load_state_dict(state)
        for number in range(5, 8):
            root.log(-number, "loss")
        root.log(0.5, "new")

    run = allogger.open_run(tmp_path / "run")
    assert run["root/loss"].step.tolist() == list(range(1, 9))
    assert run["root/loss"].value.tolist() == [0, 1, 2, 3, 4, -5, -6, -7]
    assert run["root/acc"].step.tolist() == list(range(1, 11))
    assert run["root/new"].step.tolist() == [1]
    every = allogger.open_run(tmp_path / "run", attempts="all")["root/loss"]
    assert len(every) == 13


def test_a_state_loaded_after_the_first_values_of_a_continued_run_still_counts(tmp_path: Path) -> None:
    with allogger.run(tmp_path / "run") as root:
        for _ in range(10):
            root.log(0.5, "loss")

    with allogger.run(tmp_path / "run") as root:
        root.log(0.5, "loss")
        root.step_per_key = {("root-MainProcess", "loss"): 3}
        root.log(0.5, "loss")

    run = allogger.open_run(tmp_path / "run", attempts="all")
    assert run["root/loss"].step.tolist()[10:] == [11, 3]


def test_scopes_with_a_run_of_their_own_continue_that_one(tmp_path: Path) -> None:
    for _ in range(2):
        allogger.basic_configure(tmp_path / "run")
        logger = allogger.get_logger("agent", logdir=tmp_path / "own")
        logger.log(0.5, "loss")
        logger.log(0.5, "loss")
        allogger.close()

    assert allogger.open_run(tmp_path / "own")["agent/loss"].step.tolist() == [1, 2, 3, 4]
