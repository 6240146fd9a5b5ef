"""Attempts: a program that is killed and started again leaves one curve, whatever way it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

import allogger
from allogger.rundir import RUN_FILE

RunPython = Callable[..., CompletedProcess[str]]

PROGRAM = """
    import json, os, signal, sys
    import allogger

    logger = allogger.basic_configure("run")
    {begin}
    for _ in range({count}):
        logger.log({value!r}, "loss")
    {more}
    {end}
"""
KILL = "allogger.flush(); os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def start(tmp_path: Path, run_python: RunPython) -> Callable[..., CompletedProcess[str]]:
    """Start the program once: ``start(count, value, begin="", more="", end="", env=None)``; *end* is how it ends."""

    def once(count: int, value: float, *, begin: str = "", more: str = "", end: str = "", env: Any = None) -> Any:
        code = PROGRAM.format(count=count, value=value, begin=begin, more=more, end=end)
        done = run_python(code, cwd=tmp_path, env=env)
        assert done.returncode == (-9 if end == KILL else 0), done.stderr
        return done

    return once


def curve(tmp_path: Path, attempts: Any = "last") -> list[tuple[int, float]]:
    series = allogger.open_run(tmp_path / "run", attempts=attempts)["root/loss"]
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


@pytest.mark.parametrize("end", [KILL, ""], ids=["killed", "finished"])
def test_a_run_goes_on_after_the_last_recorded_step(tmp_path: Path, start: Any, end: str) -> None:
    start(5000, 1.0, end=end)
    start(10, 2.0, end=end)

    expected = [*((n, 1.0) for n in range(1, 5001)), *((n, 2.0) for n in range(5001, 5011))]
    assert curve(tmp_path) == curve(tmp_path, "all") == expected


@pytest.mark.parametrize("end", [KILL, ""], ids=["killed", "finished"])
def test_a_run_goes_on_at_the_step_of_its_checkpoint(tmp_path: Path, start: Any, end: str) -> None:
    save = 'json.dump(logger.state_dict(), open("state.json", "w")); [logger.log(1.0, "loss") for _ in range(1000)]'
    start(4000, 1.0, more=save, end=end)
    assert len(curve(tmp_path)) == 5000

    start(10, 2.0, begin='logger.load_state_dict(json.load(open("state.json")))', end=end)

    assert curve(tmp_path) == [*((n, 1.0) for n in range(1, 4001)), *((n, 2.0) for n in range(4001, 4011))]
    steps = [step for step, _ in curve(tmp_path, "all")]
    assert steps == [*range(1, 5001), *range(4001, 4011)]


def test_each_of_three_attempts_goes_on_after_the_one_before_it(tmp_path: Path, start: Any) -> None:
    start(50, 1.0, end=KILL)
    start(10, 2.0, begin="logger.step_per_key = {('root-MainProcess', 'loss'): 41}", end=KILL)
    start(5, 3.0)

    expected = [
        *((n, 1.0) for n in range(1, 41)),
        *((n, 2.0) for n in range(41, 51)),
        *((n, 3.0) for n in range(51, 56)),
    ]
    assert curve(tmp_path) == expected


def test_keys_of_one_attempt_stay_and_explicit_steps_that_go_back_are_data(tmp_path: Path, start: Any) -> None:
    back = "[logger.log(float(step), 'epoch', step=step) for step in (10, 20, 5)]; logger.log(1.0, 'first')"
    start(3, 1.0, more=back, end=KILL)
    start(3, 2.0, more="logger.log(1.0, 'second')")

    run = allogger.open_run(tmp_path / "run")
    assert run["root/epoch"].step.tolist() == [10, 20, 5]
    assert run["root/first"].step.tolist() == run["root/second"].step.tolist() == [1]
    assert [step for step, _ in curve(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_two_programs_at_the_same_time_keep_all_their_values(tmp_path: Path, run_python: RunPython) -> None:
    done = run_python(
        """
        import subprocess, sys
        import allogger

        logger = allogger.basic_configure("run")
        for n in range(20):
            logger.log(1.0, "loss")
        allogger.flush()
        # It sees our values and goes on after them, unless it is told otherwise.
        code = (
            "import allogger; logger = allogger.basic_configure('run')\\n"
            "for n in range(20): logger.log(2.0, 'loss', step=n + 1)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        assert allogger.open_run("run")["root/loss"].value.tolist() == [1.0, 2.0] * 20
        """,
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert curve(tmp_path) == [(step, value) for step in range(1, 21) for value in (1.0, 2.0)]


def test_children_of_one_name_in_one_attempt_are_both_shown(tmp_path: Path, run_python: RunPython) -> None:
    done = run_python(
        """
        import multiprocessing as mp
        import allogger

        def work(value):
            for _ in range(3):
                allogger.get_root().log(value, "loss")

        if __name__ == "__main__":
            allogger.basic_configure("run")
            for value in (1.0, 2.0):
                child = mp.get_context("spawn").Process(target=work, args=(value,), name="worker")
                child.start()
                child.join()
                assert child.exitcode == 0
        """,
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    series = allogger.open_run(tmp_path / "run")["root/loss"]
    assert series.step.tolist() == [1, 1, 2, 2, 3, 3]
    assert series.value.tolist() == [1.0, 2.0] * 3
    assert set(series.process.tolist()) == {"worker"}


def test_a_child_of_the_next_attempt_goes_on_where_the_one_of_its_name_ended(
    tmp_path: Path, run_python: RunPython
) -> None:
    code = """
        import multiprocessing as mp
        import allogger

        def work():
            for _ in range(3):
                allogger.get_root().log(1.0, "loss")

        if __name__ == "__main__":
            allogger.basic_configure("run")
            child = mp.get_context("spawn").Process(target=work, name="worker")
            child.start()
            child.join()
        """
    for _ in range(2):
        done = run_python(code, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    assert [step for step, _ in curve(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_run_json_has_an_entry_for_each_attempt_and_says_how_often_slurm_has_requeued_it(
    tmp_path: Path, start: Any
) -> None:
    start(1, 1.0, end=KILL)
    start(1, 2.0, env={"SLURM_RESTART_COUNT": "1"}, end=KILL)
    start(1, 3.0, env={"SLURM_RESTART_COUNT": "2"})

    attempts = json.loads((tmp_path / "run" / RUN_FILE).read_text())["attempts"]

    assert [entry.get("restart_count") for entry in attempts] == [None, "1", "2"]
    assert [entry["start"] for entry in attempts] == sorted(entry["start"] for entry in attempts)
    names = {shard.attempt for shard in allogger.open_run(tmp_path / "run")._shards}
    assert names == {entry["attempt"] for entry in attempts}
    assert dict(allogger.open_run(tmp_path / "run").about)["attempts"] == attempts


@pytest.mark.parametrize("text", ["", "[]", "null", '{"about": 5}', '{"about": {}, "series": [{}]}', "[" * 10**5, "\0"])
def test_a_damaged_index_is_not_needed_to_go_on(tmp_path: Path, start: Any, text: str) -> None:
    start(5, 1.0)
    (index,) = (tmp_path / "run" / "events").glob("*.index.json")
    index.write_text(text)

    start(5, 2.0)

    assert [step for step, _ in curve(tmp_path)] == list(range(1, 11))


def in_tensorboard(tmp_path: Path, key: str, process: str = "MainProcess") -> list[tuple[int, float]]:
    reader = EventAccumulator(str(tmp_path / "run/events" / process), size_guidance={"tensors": 0})
    reader.Reload()
    values = ((event.step, float(make_ndarray(event.tensor_proto))) for event in reader.Tensors(key))
    return list(values)


@pytest.mark.parametrize("end", [KILL, ""], ids=["killed", "finished"])
def test_tensorboard_shows_each_step_once_after_a_requeue(
    tmp_path: Path, run_python: RunPython, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    # The counters of the two keys are far apart, as those of batches and epochs are.
    program = """
    import os, signal
    import allogger

    logger = allogger.basic_configure("run", ["hdf", "tensorboard"])
    for step in range({begin}, {stop}):
        logger.log(float({value}), "loss", step=step)
        if step % 100 == 0:
            logger.log(float({value}), "epochs/loss", step=step // 100)
    logger.log(float({value}), "only/{value}", step=1)
    {end}
    """
    for begin, stop, value in ((0, 5000, 1), (4000, 4500, 2), (4200, 4300, 3)):
        done = run_python(program.format(begin=begin, stop=stop, value=value, end=end), cwd=tmp_path)
        assert done.returncode == (-9 if end else 0), done.stderr

    shown = [*((n, 1.0) for n in range(4000)), *((n, 2.0) for n in range(4000, 4200))]
    shown += [(n, 3.0) for n in range(4200, 4300)]
    assert in_tensorboard(tmp_path, "root/loss") == curve(tmp_path) == shown
    epochs = [*((n, 1.0) for n in range(40)), (40, 2.0), (41, 2.0), (42, 3.0)]
    assert in_tensorboard(tmp_path, "root/epochs/loss") == epochs
    # What later attempts do not log stays.
    assert in_tensorboard(tmp_path, "root/only/1") == [(1, 1.0)]
    assert in_tensorboard(tmp_path, "root/only/3") == [(1, 3.0)]


def test_tensorboard_shows_all_values_of_one_attempt(tmp_path: Path, run_python: RunPython) -> None:
    # Processes of one name that follow one another, and steps that go back, are no attempts.
    done = run_python(
        """
        import multiprocessing
        import allogger

        def work(first):
            for step in range(first, 0, -1):
                allogger.get_root().log(float(first), "loss", step=step)

        logger = allogger.basic_configure("run", ["tensorboard"])
        context = multiprocessing.get_context("fork")
        for first in (3, 2):
            child = context.Process(target=work, args=(first,), name="worker")
            child.start()
            child.join()
        """,
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    shown = in_tensorboard(tmp_path, "root/loss", "worker")
    assert shown == [(3, 3.0), (2, 3.0), (1, 3.0), (2, 2.0), (1, 2.0)]
