"""What a run tells about itself: scopes, starts, state, environment, messages and images."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest

import allogger
from allogger.errors import ConfigError, NoSuchKey
from allogger.readers.hdf import HdfReader
from allogger.readers.journal import JournalReader
from allogger.rundir import RUN_FILE
from allogger.store import open_run, open_runs
from allogger.testing import Row
from allogger.textlog import Message
from tests.test_store import a_shard, losses, write

RunPython = Callable[..., CompletedProcess[str]]


def test_scopes_kinds_and_processes(tmp_path: Path) -> None:
    rows = [
        Row("root", "loss", 1, 1.0),
        Row("agent.critic", "train/loss", 1, 1.0),
        Row("agent.critic", "note", 1, "a", "text"),
        Row("agent.critic", "both", 1, "a", "text"),
        Row("agent.critic", "both", 2, 1.0),
    ]
    main = write(a_shard(tmp_path), rows)
    write(a_shard(tmp_path, 1.0, "Process-1", main), losses([1]))
    run = open_run(tmp_path)

    assert run.scopes() == ["agent.critic", "main", "root"]
    assert run.processes == ["MainProcess", "Process-1"]
    assert run.kinds == {
        "agent.critic/both": "mixed",
        "agent.critic/note": "text",
        "agent.critic/train/loss": "scalar",
        "main/loss": "scalar",
        "root/loss": "scalar",
    }


# --------------------------------------------------------------------------------------------------------------- starts


def test_the_starts_of_the_program_and_what_became_of_them(tmp_path: Path, run_python: RunPython) -> None:
    code = """
        import os, signal, sys
        import allogger
        logger = allogger.basic_configure("run")
        logger.log(1.0, "loss")
        allogger.flush()
        run = allogger.open_run("run")
        print(run.state, [start["state"] for start in run.starts])
        {end}
        """
    killed = run_python(code.format(end="os.kill(os.getpid(), signal.SIGKILL)"), cwd=tmp_path)
    assert killed.stdout == "live ['live']\n", killed.stderr
    assert open_run(tmp_path / "run").state == "killed"
    finished = run_python(code.format(end=""), cwd=tmp_path)
    assert finished.stdout == "live ['killed', 'live']\n", finished.stderr

    run = open_run(tmp_path / "run")

    assert run.state == "finished"
    assert [start["state"] for start in run.starts] == ["killed", "finished"]
    first, second = run.starts
    assert first["end"] is None
    assert first["start"] < second["start"] < second["end"] <= time.time()
    assert first["host"] == second["host"] == os.uname().nodename
    assert first["pid"] != second["pid"]
    assert second["processes"] == ["MainProcess"]


def test_a_run_that_has_only_just_begun_is_live(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run")
    try:
        run = open_run(tmp_path / "run")
        assert run.state == "live"
        assert run.keys() == []
        assert list(run.follow(until=lambda: True)) == []
    finally:
        allogger.close()


def test_a_process_that_has_closed_its_run_and_goes_on_has_finished(tmp_path: Path) -> None:
    with allogger.run(tmp_path / "run") as logger:
        logger.log(1.0, "loss")

    assert open_run(tmp_path / "run").state == "finished"


NONSENSE: list[Any] = ["", "[]", '{"attempts": 5}', '{"attempts": [5, null, {}]}', '{"attempts": [{"attempt": []}]}']


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_about_the_starts_harms_nobody(tmp_path: Path, text: str) -> None:
    write(a_shard(tmp_path), losses([1]), 5.0)
    (tmp_path / RUN_FILE).write_text(text)
    run = open_run(tmp_path)

    assert run.starts[-1]["state"] == "finished"
    assert run.state == "finished"
    assert run.meta == {}
    assert run.params == {}


def test_the_environment_is_in_meta(tmp_path: Path) -> None:
    from allogger.utils import report_env

    with allogger.run(tmp_path / "run"):
        found = report_env()
    run = open_run(tmp_path / "run")

    assert {name: run.meta[name] for name in found} == found
    assert run.meta["created"] == run.about["created"]
    assert run.began == run.about["created"] or np.isnan(run.began)


# ---------------------------------------------------------------------------------------------------------------- texts


def test_messages_are_read_back_with_time_level_scope_and_all_of_their_lines(tmp_path: Path) -> None:
    before = time.time()
    with allogger.run(tmp_path / "run") as logger:
        logger.info("begins\n  in two lines\u2028")
        allogger.get_logger("agent.critic").warning("odd: %s", 0.5)
        logger.log(1.0, "loss")
    messages = open_run(tmp_path / "run").text()

    assert [message[1:] for message in messages] == [
        ("INFO", "root", "begins\n  in two lines\u2028"),
        ("WARNING", "agent.critic", "odd: 0.5"),
    ]
    assert all(before - 1 < message.time < time.time() + 1 for message in messages)


def test_lines_in_a_format_of_their_own_are_given_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "20240101T010101.000001-host-7-8.log").write_text("my own\nformat\n")
    (tmp_path / "20240101T010102.000001-host-7-8.log").write_bytes(
        b"\xff\n2024-13-01 00:00:00,000 (INFO) [a] > bad time"
    )
    (tmp_path / "20240101T010103.000001-host-7-8.log").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "20240101T010104.000001-host-7-8.log")
    (tmp_path / RUN_FILE).write_text("{}")

    messages = open_run(tmp_path).text()

    assert [message.text for message in messages] == ["my own", "format", "\ufffd", "bad time"]
    assert all(np.isnan(message.time) for message in messages)
    assert isinstance(messages[0], Message)


def test_texts_that_were_logged_are_a_series(tmp_path: Path) -> None:
    write(a_shard(tmp_path), [*losses([1]), Row("main", "note", 1, "a", "text")])
    run = open_run(tmp_path)

    assert run.text("main/note").value.tolist() == ["a"]
    with pytest.raises(ConfigError, match="'main/loss' is of kind scalar, not text"):
        run.text("main/loss")
    with pytest.raises(NoSuchKey):
        run.text("main/x")


# --------------------------------------------------------------------------------------------------------------- images


def pictures(steps: range, shape: tuple[int, ...] = (4, 5, 3), time: float = 0.0) -> list[Row]:
    return [Row("main", "img", n, np.full(shape, n, np.uint8), "image", time + n / 100) for n in steps]


@pytest.mark.parametrize("end", [None, 99.0], ids=["killed", "finished"])
def test_images_are_read_one_by_one(tmp_path: Path, end: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    main = write(a_shard(tmp_path), pictures(range(1, 60)), end)
    write(a_shard(tmp_path, 1.0, "Process-1", main), pictures(range(1, 4), (6, 6), 0.5), end)
    run = open_run(tmp_path)
    expected = run["main/img"]
    for reader in (HdfReader, JournalReader):
        monkeypatch.setattr(reader, "read", lambda self, series: pytest.fail("all of them were read"))

    images = run.images("main/img")

    assert len(images) == len(expected) == 62
    assert images.step.tolist() == expected.step.tolist()
    assert images.time.tolist() == expected.time.tolist()
    assert images.process.tolist() == expected.process.tolist()
    assert all(np.array_equal(one, other) for one, other in zip(images, expected.value, strict=True))
    assert images[-1].shape == (4, 5, 3)
    assert [image.max() for image in images[-2:]] == [58, 59]
    assert {images.attrs(n)["layout"] for n in range(4)} == {"HWC", "HW"}
    with pytest.raises(IndexError):
        images[62]


def test_images_of_an_attempt_that_was_replaced_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(a_shard(tmp_path), pictures(range(1, 6)), 9.0)
    write(a_shard(tmp_path, 10.0), pictures(range(4, 8), time=10.0), 19.0)
    run = open_run(tmp_path)
    monkeypatch.setattr(HdfReader, "read", lambda self, series: pytest.fail("all of them were read"))

    assert run.images("main/img").step.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert [image.max() for image in run.images("main/img")] == [1, 2, 3, 4, 5, 6, 7]


def test_images_of_several_shapes_are_read(tmp_path: Path) -> None:
    write(a_shard(tmp_path), [*pictures(range(1, 3)), *pictures(range(3, 5), (7, 7, 1))], 9.0)
    images = open_run(tmp_path).images("main/img")

    assert [image.shape for image in images] == [(4, 5, 3)] * 2 + [(7, 7, 1)] * 2


def test_what_is_no_image_is_not_looked_at_as_one(tmp_path: Path) -> None:
    write(a_shard(tmp_path), losses([1]))

    with pytest.raises(ConfigError, match="'main/loss' is of kind scalar, not image"):
        open_run(tmp_path).images("main/loss")


# ----------------------------------------------------------------------------------------------------------- other axes


def test_a_key_is_drawn_over_another_one_of_its_scope(tmp_path: Path) -> None:
    rows = [*losses([1, 2, 3, 4]), *(Row("main", "samples", n, 100 * n) for n in (2, 4, 6)), Row("b", "n", 3, 7.0)]
    write(a_shard(tmp_path), [*rows, Row("main", "late", 99, 1.0)], 9.0)
    run = open_run(tmp_path)

    curve = run.curve("main/loss", "samples")
    assert (curve.x.tolist(), curve.y.tolist(), curve.x_name, curve.count) == ([200, 400], [2, 4], "samples", 2)
    assert run.curve("main/loss", "b/n").x.tolist() == [7.0]
    assert run.curve("main/loss", "samples", points=3).x.tolist() == [200, 400]
    with pytest.raises(ConfigError, match="no step in common"):
        run.curve("main/loss", "late")
    with pytest.raises(NoSuchKey, match="did you mean"):
        run.curve("main/loss", "sampels")


# ------------------------------------------------------------------------------------------------------ files of others


def test_what_csv_alone_has_is_read(tmp_path: Path) -> None:
    with allogger.run(tmp_path / "run", ["csv"]) as logger:
        for n in range(5):
            logger.log(n / 10, "loss")
    run = open_run(tmp_path / "run")

    assert run["root/loss"].value.tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert run.summary("root/loss").max == 0.4
    assert run.curve("root/loss", points=3).high is not None


def test_where_the_hdf5_file_cannot_be_read_the_table_is(tmp_path: Path) -> None:
    with allogger.run(tmp_path / "run", ["hdf", "csv"]) as logger:
        logger.log(0.1, "loss")
    (path,) = (tmp_path / "run").glob("events/*.h5")
    path.write_bytes(b"no HDF5")
    os.utime(path)

    run = open_run(tmp_path / "run")

    assert run["root/loss"].value.tolist() == [0.1]
    assert any(str(path) in what for what in run.damage)


def test_a_table_of_another_system_is_a_run(tmp_path: Path) -> None:
    (tmp_path / "lightning").mkdir()
    (tmp_path / "lightning" / "metrics.csv").write_text("epoch,step,loss\n0,10,0.5\n0,20,0.25\n")
    for run in (open_run(tmp_path / "lightning"), *open_runs(tmp_path / "*")):
        (key,) = [key for key in run.keys() if key.endswith("loss")]  # noqa: SIM118  # no mapping

        assert run[key].value.tolist() == [0.5, 0.25]
        assert run[key].step.tolist() == [10, 20]
        assert run.summary(key).last == 0.25
        assert run.state == "finished"


def test_a_run_that_cannot_be_opened_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(a_shard(tmp_path / "good"), losses([1]))
    (tmp_path / "bad" / "events").mkdir(parents=True)
    (tmp_path / "bad").chmod(0o000)
    (tmp_path / "none").mkdir()

    try:
        with caplog.at_level(logging.WARNING):
            runs = open_runs(tmp_path / "*")
    finally:
        (tmp_path / "bad").chmod(0o700)

    assert "good" in [run.logdir.name for run in runs]
    assert "none" not in [run.logdir.name for run in runs]
