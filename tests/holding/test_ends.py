"""Is what is held stored at every end of the program, and what does kill -9 cost?"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import allogger
from tests.conftest import Result

PRELUDE = """
import multiprocessing, os, signal, sys, threading, time
import allogger
from allogger.holding import HoldingLogger

def work(count=3):
    holder = HoldingLogger("w")
    holder.on_epoch_begin()
    for number in range(count):
        holder.on_step_begin()
        holder.hold(number, "x")
        holder.on_step_end()
    return holder

if __name__ == "__main__":
    root = allogger.basic_configure("run")
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("raise ValueError('the end')", 1),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", -signal.SIGTERM),
        ("os.execlp('true', 'true')", 0),
        ("holder.post(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", -signal.SIGTERM),
    ],
)
def test_nothing_held_is_lost_when_the_program_ends_by(
    tmp_path: Path, run_python: Callable[..., Result], end: str, status: int
) -> None:
    result = run_python(PRELUDE + f"    holder = work()\n    {end}\n")

    assert result.returncode == status, result.stderr
    assert "allogger:" not in result.stderr
    run = allogger.open_run(tmp_path / "run")
    assert run.keys() == ["w/step", "w/sw_epoch", "w/x"]
    assert run["w/x"].value.tolist() == [[0, 1, 2]]
    assert run["w/x"].step.tolist() == [1]


def test_sigterm_in_the_midst_of_holding_and_posting_saves_all_of_it(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        PRELUDE
        + """
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    holder = HoldingLogger("w")
    for number in range(10**9):
        holder.hold(number, "x")
        if number % 5000 == 0:
            holder.post()
"""
    )

    assert result.returncode == -signal.SIGTERM, result.stderr
    found = list(itertools.chain(*allogger.open_run(tmp_path / "run")["w/x"].value))
    assert found == list(range(len(found)))
    assert len(found) > 1000


def test_kill_costs_what_was_held_since_the_last_post_and_nothing_else(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        PRELUDE
        + """
    holder = work()
    holder.hold("red", "colour", stride="static")
    holder.summarize(None, [("loss", 0.5)])
    holder.post()
    holder.hold(3, "x")
    allogger.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    )

    assert result.returncode == -signal.SIGKILL
    run = allogger.open_run(tmp_path / "run")
    assert run["w/x"].value.tolist() == [[0, 1, 2]]
    assert run["w/colour"].value.tolist() == ["red"]
    assert run["w/train/loss"].value.tolist() == [0.5]


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_children_write_their_own_and_not_their_parents(
    tmp_path: Path, run_python: Callable[..., Result], start_method: str
) -> None:
    result = run_python(
        PRELUDE
        + f"""
    holder = work(2)
    context = multiprocessing.get_context({start_method!r})
    children = [context.Process(target=work, name=f"child-{{n}}") for n in range(2)]
    [child.start() for child in children]
    [child.join() for child in children]
"""
    )

    assert result.returncode == 0, result.stderr
    series = allogger.open_run(tmp_path / "run")["w/x"]
    found = {process: value.tolist() for process, value in zip(series.process, series.value, strict=True)}
    assert found == {"MainProcess": [0, 1], "child-0": [0, 1, 2], "child-1": [0, 1, 2]}


def test_a_forked_child_holds_with_the_holder_of_its_parent(tmp_path: Path, run_python: Callable[..., Result]) -> None:
    result = run_python(
        PRELUDE
        + """
    holder = work(2)
    child = os.fork()
    holder.hold(7 if child else 8, "y")
    if not child:
        allogger.close()
        os._exit(0)
    os.waitpid(child, 0)
"""
    )

    assert result.returncode == 0, result.stderr
    run = allogger.open_run(tmp_path / "run")
    assert sorted(run["w/y"].value.ravel().tolist()) == [7, 8]
    assert run["w/x"].value.tolist() == [[0, 1]]
