"""Following: every value that comes into a run is given once, whatever becomes of the process that logs it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import allogger
from allogger.follow import Event
from allogger.rundir import JOURNAL
from tests.conftest import ROOT
from tests.test_live_readers import programs

POLL_SECONDS = 0.01


def values(events: list[Event], key: str) -> list[Any]:
    return [event.value for event in events if event.key == key]


def followed(run: allogger.Run, **options: Any) -> tuple[threading.Thread, list[Event]]:
    """Follow a run in a thread, from now on."""
    found: list[Event] = []
    events = run.follow(poll_seconds=POLL_SECONDS, **options)
    thread = threading.Thread(target=lambda: found.extend(events))
    thread.start()
    return thread, found


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[allogger.Logger]:
    yield allogger.basic_configure(tmp_path / "run", hdf_writer_params={"snapshot_seconds": None})
    allogger.close()


def test_what_came_after_the_run_was_opened_is_given_and_nothing_else(tmp_path: Path, logger: allogger.Logger) -> None:
    logger.log(1.0, "loss")
    allogger.flush()
    run = allogger.open_run(tmp_path / "run")
    logger.log(2.0, "loss")
    logger.log(7, "count", step=-3)
    logger.log(True, "flag")
    logger.log("a\nb", "note")
    logger.log(np.arange(3), "w")
    logger.log(1 + 2j, "mixed")
    logger.log(3.0, "mixed")
    allogger.flush()

    events = list(run.follow(until=lambda: True))

    assert [(event.key, event.step) for event in events] == [
        ("root/loss", 2),
        ("root/count", -3),
        *((f"root/{key}", 1) for key in ("flag", "note", "w", "mixed")),
        ("root/mixed", 2),
    ]
    assert [type(event.value) for event in events] == [float, int, bool, str, np.ndarray, complex, float]
    assert values(events, "root/note") == ["a\nb"]
    assert values(events, "root/w")[0].tolist() == [0, 1, 2]
    assert {event.process for event in events} == {"MainProcess"}
    assert all(abs(event.time - run.began) < 60 for event in events)


def test_a_pattern_chooses_the_keys(tmp_path: Path, logger: allogger.Logger) -> None:
    logger.log(1.0, "first")
    allogger.flush()
    run = allogger.open_run(tmp_path / "run")
    for key in ("train/loss", "eval/loss", "lr"):
        logger.log(1.0, key)
    allogger.flush()

    assert [event.key for event in run.follow("^root/.*loss", until=lambda: True)] == [
        "root/train/loss",
        "root/eval/loss",
    ]
    with pytest.raises(allogger.ConfigError):
        run.follow("(")


def test_it_ends_with_the_run_and_has_everything(tmp_path: Path, logger: allogger.Logger) -> None:
    logger.log(0, "n")
    allogger.flush()
    thread, events = followed(allogger.open_run(tmp_path / "run"))

    for n in range(1, 5000):
        logger.log(n, "n")
        if n % 700 == 0:
            allogger.flush()
            logger.log(f"text {n}", "note")
    allogger.close()
    thread.join(30)

    assert not thread.is_alive()
    assert values(events, "root/n") == list(range(1, 5000))
    assert values(events, "root/note") == [f"text {n}" for n in range(700, 5000, 700)]


def test_a_journal_that_became_an_hdf5_file_between_two_looks_is_gone_on_with(
    tmp_path: Path, logger: allogger.Logger
) -> None:
    logger.log(1.0, "loss")
    logger.log("one", "note")
    allogger.flush()
    run = allogger.open_run(tmp_path / "run")
    logger.log(1.5, "loss")
    allogger.flush()
    looks: list[int] = []

    def until() -> bool:
        # Between the first look and the second the process finishes.
        looks.append(len(looks))
        if len(looks) == 1:
            for n in (2.0, 3.0):
                logger.log(n, "loss")
            logger.log("two", "note")
            logger.log(5.0, "new")
            allogger.close()
            assert not list(tmp_path.glob(f"run/events/*{JOURNAL}"))
        return False

    events = list(run.follow(poll_seconds=POLL_SECONDS, until=until))

    assert [(event.key, event.value) for event in events] == [
        ("root/loss", 1.5),
        ("root/loss", 2.0),
        ("root/loss", 3.0),
        ("root/note", "two"),
        ("root/new", 5.0),
    ]


def test_what_a_process_logs_just_before_it_ends_is_given(
    tmp_path: Path, logger: allogger.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger.log(1.0, "loss")
    allogger.flush()
    run = allogger.open_run(tmp_path / "run")

    def may_run(*_: Any) -> bool:
        # It lives no more when one asks, but until then it has logged.
        logger.log(2.0, "loss")
        allogger.close()
        return False

    monkeypatch.setattr("allogger.follow.may_run", may_run)

    assert [event.value for event in run.follow()] == [2.0]


def test_a_finished_run_has_nothing_new(tmp_path: Path, logger: allogger.Logger) -> None:
    logger.log(1.0, "loss")
    allogger.close()

    assert list(allogger.open_run(tmp_path / "run").follow()) == []


def test_nothing_is_read_twice(tmp_path: Path, logger: allogger.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    from allogger.formats import journal

    for n in range(5000):
        logger.log(n, "n")
    allogger.flush()
    run = allogger.open_run(tmp_path / "run")
    frames: list[int] = []
    really = journal.scan

    def scan(*args: Any) -> Any:
        for frame in really(*args):
            frames.append(frame.number)
            yield frame

    monkeypatch.setattr(journal, "scan", scan)
    left = iter(range(20))

    def until() -> bool:
        logger.log(1, "n")
        allogger.flush()
        return next(left, None) is None

    events = list(run.follow(poll_seconds=0.0, until=until))

    assert len(events) == 20
    assert len(frames) == len(set(frames)) == 20


def test_processes_and_attempts_that_come_later_are_followed_and_no_value_is_missing_or_double(tmp_path: Path) -> None:
    logdir = tmp_path / "run"
    logdir.mkdir()
    (logdir / "events").mkdir()
    with programs(tmp_path, names=1, rounds=3, count=100) as done:
        run = allogger.open_run(logdir)
        found: set[tuple[Any, ...]] = set()
        is_last = False
        while not is_last:
            # It ends where no program runs between two of them; from the beginning once more when all have ended.
            is_last = done.is_set()
            events = [(*event[:4], str(event.value)) for event in run.follow(poll_seconds=POLL_SECONDS)]
            assert len(events) == len(set(events))
            found |= set(events)
    run = allogger.open_run(logdir, attempts="all")
    expected = [
        (key, step, time, process, str(value))
        for key in run
        for step, time, process, value in zip(
            *(getattr(run[key], name).tolist() for name in ("step", "time", "process")), run[key].value, strict=True
        )
    ]

    assert len(expected) > 1000
    assert found == set(expected)
    assert set(events) == found


def test_it_ends_when_the_process_is_killed(tmp_path: Path) -> None:
    code = """
        import sys, allogger
        logger = allogger.basic_configure("run")
        for line in sys.stdin:
            logger.log(float(line), "loss")
            allogger.flush()
            print("logged", flush=True)
        """
    script = tmp_path / "program.py"
    script.write_text("\n".join(line.strip() if i < 2 else line[8:] for i, line in enumerate(code.split("\n"))))
    process = subprocess.Popen(
        [sys.executable, script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def log(value: float) -> None:
        print(value, file=process.stdin, flush=True)
        assert process.stdout.readline() == "logged\n"  # type: ignore[union-attr]

    log(1.0)
    run = allogger.open_run(tmp_path / "run")
    assert run.state == "live"
    thread, events = followed(run)
    log(2.0)
    process.kill()
    process.wait()
    thread.join(30)

    assert not thread.is_alive()
    assert [event.value for event in events] == [2.0]
    run.refresh()
    assert run.state == "killed"
    process.stdin.close()
    process.stdout.close()
