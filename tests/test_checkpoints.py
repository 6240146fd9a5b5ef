"""Are the right checkpoints kept, is the last one always there, and does a program go on from it?"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allogger
from allogger.checkpoints import Kept, Rule
from allogger.utils import verify
from tests.kill import shim


def steps_kept(run: allogger.Run) -> list[int]:
    found = run.checkpoints()
    assert [what for one in found for what in one.verify()] == []
    assert all(one.path.is_file() != one.is_removed for one in found)
    return [one.step for one in found if not one.is_removed]


def test_the_last_and_the_best_are_kept_and_the_others_say_that_they_were_removed(tmp_path: Path) -> None:
    with allogger.run(tmp_path) as root:
        for step, loss in enumerate([9.0, 1.0, 4.0, 0.5, 3.0, 2.0, 7.0, float("nan"), None]):
            root.checkpoint({"step": step}, step=step, metric=loss, keep_last=2, keep_best=2)
        live = allogger.open_run(tmp_path)
        assert steps_kept(live) == [1, 3, 7, 8]

    run = allogger.open_run(tmp_path)

    assert run.checkpoints() == live.checkpoints()
    assert steps_kept(run) == [1, 3, 7, 8]
    assert [one.metric for one in run.checkpoints()] == [9.0, 1.0, 4.0, 0.5, 3.0, 2.0, 7.0, None, None]
    best, latest = run.checkpoint("best"), run.checkpoint()
    assert (best and best.step, best and best.load()) == (3, {"step": 3})
    assert (latest and latest.step, latest and latest.load()) == (8, {"step": 8})
    with pytest.raises(allogger.DamagedFile, match="removed by the program"):
        run.checkpoints()[0].load()
    assert verify(tmp_path).ok


def test_links_for_people_lead_to_the_latest_and_the_best(tmp_path: Path) -> None:
    with allogger.run(tmp_path) as root:
        for step, score in enumerate([0.5, 0.9, 0.1]):
            root.checkpoint({"step": step}, step=step, metric=score, mode="max", keep_last=1)

    run = allogger.open_run(tmp_path)

    for alias in ("latest", "best"):
        one = run.checkpoint(alias)
        assert one is not None
        assert os.path.samefile(one.path.with_name(f"{alias}.safetensors"), one.path)
    assert steps_kept(run) == [1, 2]


def test_a_link_to_what_is_removed_goes_with_it(tmp_path: Path) -> None:
    with allogger.run(tmp_path) as root:
        root.checkpoint({"a": 1}, metric=1, keep_last=1, keep_best=0)
        root.checkpoint({"a": 2}, keep_last=1, keep_best=0)

    links = [path for path in (tmp_path / "artifacts").rglob("*") if path.is_symlink()]
    assert [(link.name, link.exists()) for link in links] == [("latest.safetensors", True)]


metrics = st.none() | st.integers(0, 5).map(float)


@settings(max_examples=200)
@given(st.lists(metrics, max_size=12), st.integers(1, 4), st.integers(0, 3), st.sampled_from(["min", "max"]))
def test_the_rule_keeps_the_last_and_the_best_of_all(
    told: list[float | None], keep_last: int, keep_best: int, mode: str
) -> None:
    rule = Rule.of(mode, keep_last, keep_best)
    kept: list[Kept] = []
    for number, metric in enumerate(told):
        obsolete = rule.obsolete(kept, metric)
        kept = [one for one in [*kept, Kept(str(number), metric)] if one not in obsolete]

    everything = [Kept(str(number), metric) for number, metric in enumerate(told)]
    sign = 1 if mode == "min" else -1
    measured = [one for one in everything if one.metric is not None]
    best = sorted(measured, key=lambda one: sign * (one.metric or 0.0))[:keep_best]
    assert kept == [one for one in everything if one in everything[-keep_last:] or one in best]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "maximum"}, "did you mean 'max'"),
        ({"keep_last": 0}, "from 1, or None"),
        ({"keep_last": 2.0}, "from 1, or None"),
        ({"keep_best": -1}, "from 0"),
        ({"keep_best": True}, "from 0"),
    ],
)
def test_an_impossible_rule_raises_at_once(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(allogger.ConfigError, match=message):
        allogger.get_root().checkpoint({}, **wrong)


def test_whatever_else_is_wrong_raises_nothing_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with allogger.run(tmp_path) as root:
        root.checkpoint({"a": 1}, step="x", metric="low")  # type: ignore[arg-type]
        root.checkpoint({"a": lambda: 0}, "model", metric=np.float32(0.5))
        root.checkpoint({"a": 2}, 3)  # type: ignore[arg-type]
    root.checkpoint({"a": 3}, "late")

    found = allogger.open_run(tmp_path).checkpoints()

    assert [(one.key, one.metric) for one in found] == [("root/3", None), ("root/checkpoint", None)]
    told = caplog.text
    assert "a metric is a number" in told
    assert "'a' is a value of type function" in told
    assert "after allogger was closed" in told


def test_what_no_output_keeps_is_not_touched(tmp_path: Path) -> None:
    class Untouchable:
        def state_dict(self) -> None:
            raise AssertionError("nobody wants it")

    with allogger.run(tmp_path, hdf_writer_params={"exclude": "checkpoint"}) as root:
        root.checkpoint(Untouchable())
        root.log(Untouchable(), "model", data_type="model", to_hdf=False)

    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("output", ["hdf", "csv"])
def test_a_requeued_program_goes_on_with_what_there_is(tmp_path: Path, output: str) -> None:
    for attempt in range(3):
        with allogger.run(tmp_path, [output]) as root:
            for number in range(3):
                root.checkpoint({"n": 10 * attempt + number}, metric=abs(10 * attempt + number - 1), keep_last=2)

    run = allogger.open_run(tmp_path)

    assert steps_kept(run) == [2, 8, 9]
    best, latest = run.checkpoint("best"), run.checkpoint("latest")
    assert [one and one.load() for one in (best, latest)] == [{"n": 1}, {"n": 22}]
    assert not verify(tmp_path).notes
    assert latest is not None
    latest.path.write_bytes(b"x")
    assert len(verify(tmp_path).damage) == 1


@pytest.mark.parametrize("step_type", [None, int, np.int64, float])
def test_an_attempt_that_begins_again_has_a_best_of_its_own(tmp_path: Path, step_type: Any) -> None:
    for losses in ([0.1, 0.2, 0.3, 0.3, 0.3], [5.0, 4.0, 9.0, 9.0]):
        with allogger.run(tmp_path) as root:
            if step_type is None:
                root.load_state_dict({"step_per_key": {"root-MainProcess": {"checkpoint": 1}}})
            for step, loss in enumerate(losses, 1):
                root.checkpoint({"loss": loss}, step=step_type and step_type(step), metric=loss, keep_last=1)

    best = allogger.open_run(tmp_path).checkpoint("best")

    assert best is not None
    assert (best.step, best.load()) == (2, {"loss": 4.0})
    assert verify(tmp_path).ok


def test_what_is_gone_without_a_reason_is_damage(tmp_path: Path) -> None:
    with allogger.run(tmp_path) as root:
        for number in range(3):
            root.checkpoint({"n": number})
    one, other, _ = allogger.open_run(tmp_path).checkpoints()
    one.path.unlink()
    other.path.write_bytes(b"x" * other.size)

    damage = verify(tmp_path).damage

    assert len(damage) == 2
    assert f"{one.path} is gone" in damage[0]
    assert "holds something else than was logged" in damage[1]
    with pytest.raises(allogger.DamagedFile, match="something else"):
        other.load()


def _save(number: int) -> None:
    allogger.get_logger("worker").checkpoint({"process": number}, keep_last=1)
    allogger.get_logger("worker").checkpoint({"process": number, "again": True}, keep_last=1)


def test_each_process_keeps_its_own(tmp_path: Path, start_method: str) -> None:
    with allogger.run(tmp_path) as root:
        context: Any = multiprocessing.get_context(start_method)
        children = [context.Process(target=_save, args=(n,), name=f"worker-{n}") for n in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        _save(2)
        root.log(1.0, "loss")

    found = [one for one in allogger.open_run(tmp_path).checkpoints() if not one.is_removed]

    assert {one.process: one.load() for one in found} == {
        name: {"process": n, "again": True} for n, name in enumerate(["worker-0", "worker-1", "MainProcess"])
    }


_ANOTHER = """
import sys
import allogger

root = allogger.basic_configure(sys.argv[1])
for number in range(2):
    root.checkpoint({"number": number}, keep_last=1)
print("stored", flush=True)
sys.stdin.read()
"""


def test_the_checkpoint_of_another_program_stays_while_that_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _ANOTHER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with allogger.run(tmp_path) as root:
            root.checkpoint({"mine": 1}, keep_last=1)
            root.checkpoint({"mine": 2}, keep_last=1)
        process.kill()

    states = [one.load() for one in allogger.open_run(tmp_path, attempts="all").checkpoints() if not one.is_removed]
    assert states == [{"number": 1}, {"mine": 2}]
    with allogger.run(tmp_path) as root:
        root.checkpoint({"mine": 3}, keep_last=1)
    assert [one.load() for one in allogger.open_run(tmp_path).checkpoints() if not one.is_removed] == [{"mine": 3}]


_TRAINING = """
import sys
import numpy as np
import allogger

root = allogger.basic_configure(sys.argv[1])
latest = allogger.open_run(sys.argv[1]).checkpoint()
number = latest.load()["number"] + 1 if latest else 0
while True:
    root.checkpoint({"number": number, "weights": np.full(200_000, number)}, metric=abs(number - 3), keep_last=1)
    print(number, flush=True)
    number += 1
"""


def test_a_kill_at_any_moment_leaves_the_last_complete_checkpoint(tmp_path: Path) -> None:
    last = -1
    for trial in range(2):
        with subprocess.Popen([sys.executable, "-c", _TRAINING, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(3 + trial):
                number = int(process.stdout.readline())
                assert number > last
                last = number
            process.kill()

        run = allogger.open_run(tmp_path)
        latest = run.checkpoint()

        assert latest is not None
        state = latest.load()
        # The one that was being stored may be complete, too.
        assert state["number"] >= last
        last = state["number"]
        np.testing.assert_array_equal(state["weights"], np.full(200_000, last))
        best = run.checkpoint("best")
        assert last < 3 or (best and best.load()["number"]) == 3
        # What is obsolete was removed, or will be by the next start.
        assert len([one for one in run.checkpoints() if one.path.is_file()]) <= 4
        assert verify(tmp_path).ok


_FOUR = """
import sys
import numpy as np
import allogger

root = allogger.basic_configure(sys.argv[1], flush_seconds=0.01)
for number in range(4):
    root.checkpoint({"number": number, "weights": np.full(1000, number)}, metric=-number, keep_last=1)
    print(number, flush=True)
"""


@pytest.mark.parametrize("call", [20, 32, 44, 56])
def test_a_kill_inside_of_a_call_leaves_the_last_complete_checkpoint(tmp_path: Path, library: Path, call: int) -> None:
    logdir = tmp_path / "run"
    env = {**os.environ, **shim.environment(library, logdir, "kill", call)}
    command = [sys.executable, "-c", _FOUR, str(logdir)]
    # The whole group of the program is killed, and this one is to go on.
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, check=False, start_new_session=True)
    done = [int(line) for line in result.stdout.split()]

    run = allogger.open_run(logdir)

    assert result.returncode == -9
    latest = run.checkpoint()
    assert (latest.load()["number"] if latest else -1) >= max(done, default=-1)
    assert [what for one in run.checkpoints() for what in one.verify()] == []
    assert verify(logdir).ok


def test_nothing_is_removed_before_its_successor_is_in_the_journal(tmp_path: Path) -> None:
    with allogger.run(tmp_path, manual_flush=True) as root:
        for number in range(4):
            root.checkpoint({"number": number}, keep_last=1)
        stored = list((tmp_path / "artifacts" / "checkpoints").rglob("2*"))
        assert len(stored) == 4
        root.flush()
        root.checkpoint({"number": 4}, keep_last=1)
        assert len(list((tmp_path / "artifacts" / "checkpoints").rglob("2*"))) == 2

    assert [one.load() for one in allogger.open_run(tmp_path).checkpoints()[-1:]] == [{"number": 4}]


def test_nothing_is_removed_while_the_journal_cannot_be_written(tmp_path: Path) -> None:
    events = tmp_path / "run" / "events"
    with allogger.run(tmp_path / "run") as root:
        root.checkpoint({"number": 0}, keep_last=1)
        events.rename(tmp_path / "moved")
        events.touch()
        for number in range(1, 4):
            root.checkpoint({"number": number}, keep_last=1)
        assert len(list((tmp_path / "run" / "artifacts" / "checkpoints").rglob("2*"))) == 4
        events.unlink()
        (tmp_path / "moved").rename(events)
        root.checkpoint({"number": 4}, keep_last=1)

    run = allogger.open_run(tmp_path / "run")

    assert [one.load() for one in run.checkpoints() if not one.is_removed] == [{"number": 4}]
    assert len(run.checkpoints()) == 5
    assert verify(tmp_path / "run").ok


def test_of_several_keys_one_has_to_be_chosen(tmp_path: Path) -> None:
    with allogger.run(tmp_path) as root:
        assert allogger.open_run(tmp_path).checkpoint() is None
        for key in ("actor", "critic"):
            root.checkpoint({"key": key}, key)

    run = allogger.open_run(tmp_path)

    with pytest.raises(allogger.ConfigError, match=r"'root/actor', 'root/critic'.*pattern="):
        run.checkpoint()
    with pytest.raises(allogger.UnknownName, match="did you mean 'latest'"):
        run.checkpoint("lates")
    critic = run.checkpoint(pattern="critic")
    assert critic is not None
    assert critic.load() == {"key": "critic"}


def test_a_hostile_record_removes_nothing_of_others(tmp_path: Path) -> None:
    victim = tmp_path / "victim.safetensors"
    victim.write_bytes(b"theirs")
    with allogger.run(tmp_path / "run") as root:
        root.checkpoint({"a": 0})
        root.checkpoint({"a": 0}, "other")
    other = allogger.open_run(tmp_path / "run").checkpoints("other")[0].path
    stranger = "artifacts/checkpoints/root%2Fcheckpoint/mine.txt"
    (tmp_path / "run" / stranger).write_bytes(b"theirs")
    paths = ["../victim.safetensors", str(victim), f"artifacts/checkpoints/root%2Fother/{other.name}", stranger, 7]
    told: dict[str, Any] = {
        "path": paths[0],
        "name": "x",
        "size": 1,
        "sha256": "x",
        "media_type": "x",
        "replaces": paths,
    }
    with allogger.run(tmp_path / "run") as root:
        # As a file that somebody else has written may have it.
        root._put_object("checkpoint", None, "checkpoint", (json.dumps(told), {}), (), 0.0)
    with allogger.run(tmp_path / "run") as root:
        root.checkpoint({"a": 1}, keep_last=1)

    assert victim.read_bytes() == b"theirs"
    assert (tmp_path / "run" / stranger).read_bytes() == b"theirs"
    assert other.exists()


def test_nothing_is_removed_behind_a_link(tmp_path: Path) -> None:
    with allogger.run(tmp_path / "run") as root:
        root.checkpoint({"a": 0})
        (one,) = allogger.open_run(tmp_path / "run").checkpoints()
        told = {"path": "x", "replaces": [str(one.path.relative_to(tmp_path / "run"))]}
        root._put_object("checkpoint", None, "checkpoint", (json.dumps(told), {}), (), 0.0)
    (tmp_path / "run" / "artifacts").rename(tmp_path / "theirs")
    (tmp_path / "run" / "artifacts").symlink_to(tmp_path / "theirs")
    with allogger.run(tmp_path / "run") as root:
        for number in range(2):
            root.checkpoint({"a": number}, keep_last=1)

    assert one.path.exists()


def test_a_disabled_library_stores_no_checkpoint(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path, enable=False)
    try:
        root.checkpoint({"a": 1})
    finally:
        allogger.close()
        allogger.get_root().manager.reset()

    assert list(tmp_path.iterdir()) == []
