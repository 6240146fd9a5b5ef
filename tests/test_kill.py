"""A few rounds of the kill loop; ``python -m tests.kill`` does hundreds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kill import shim
from tests.kill.__main__ import SETUPS, kill, table
from tests.kill.checker import check
from tests.kill.trial import Setup, run

RUNS = 20


def test_nothing_is_lost_double_or_wrong_after_a_kill_at_any_time(tmp_path: Path) -> None:
    trials = list(kill("time", RUNS, SETUPS["fork"], tmp_path))

    assert not any(trial.faults for trial in trials), table(trials)
    assert sum(trial.killed.counts["values that must be there"] for trial in trials) > 1000


def test_nothing_is_lost_double_or_wrong_after_a_kill_inside_a_flush(tmp_path: Path) -> None:
    try:
        trials = list(kill("flush", RUNS, SETUPS["fork"], tmp_path))
    except shim.NoCompiler as missing:
        pytest.skip(str(missing))

    assert not any(trial.faults for trial in trials), table(trials)
    assert any(" " in trial.where and trial.where != "not at all" for trial in trials), table(trials)


def _remove(run: Path) -> None:
    for file in run.glob("events/*.h5"):
        file.unlink()


def _repeat(run: Path) -> None:
    for file in run.glob("events/*.csv"):
        *_, last = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(file.read_bytes() + last)


def _swap(run: Path) -> None:
    for file in run.glob("events/*.csv"):
        header, *rows = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(header + b"".join(reversed([row for row in rows if b",scalar," in row])))


def _change(run: Path) -> None:
    for file in run.glob("events/*.csv"):
        file.write_bytes(file.read_bytes().replace(b".0\n", b".5\n", 1))


def _cut(run: Path) -> None:
    for file in run.glob("events/*/*tfevents*"):
        file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("harm", "fault"),
    [(_remove, "lost"), (_repeat, "double"), (_swap, "reordered"), (_change, "never logged"), (_cut, "lost")],
)
def test_the_kill_loop_sees_what_has_been_done_to_the_files(
    tmp_path: Path, harm: Callable[[Path], None], fault: str
) -> None:
    trial = run(Setup(1), tmp_path, seed=1)
    assert not trial.faults

    harm(tmp_path / "run")

    found = check(tmp_path / "run", tmp_path / "acks", trial.setup.outputs, {0: None, 1: None})
    assert found.counts[fault]
