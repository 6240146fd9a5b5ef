"""Is an existing logdir treated as the user said, and does nobody lose a file that allogger did not make?"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import allogger
from allogger import rundir
from allogger.errors import ConfigError, LogdirExists
from allogger.rundir import EVENTS, RUN_FILE, is_live, new_shard, prepare, shard_names, shard_of


def make_run(logdir: Path, value: float = 1.0) -> None:
    """Make a finished run with files of every output."""
    with allogger.run(logdir, ["hdf", "csv", "tensorboard"]) as logger:
        logger.log(value, "loss")
        logger.log(np.zeros(3), "array")
        logger.info("a message")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def loss(logdir: Path) -> list[float]:
    found: list[float] = allogger.open_run(logdir, attempts="all")["root/loss"].value.tolist()
    return found


# ------------------------------------------------------------------------------------------------- an existing logdir


@pytest.mark.parametrize("spelling", ["continue", "c", "Continue"])
def test_continue_adds_to_what_is_there(tmp_path: Path, spelling: str) -> None:
    make_run(tmp_path / "run")
    before = files(tmp_path / "run")

    root = allogger.basic_configure(tmp_path / "run", default_path_exists=spelling)
    root.log(2.0, "loss")
    allogger.close()

    assert loss(tmp_path / "run") == [1.0, 2.0]
    after = files(tmp_path / "run")
    assert {name: after.get(name) for name in before if name != RUN_FILE} == {
        name: content for name, content in before.items() if name != RUN_FILE
    }


@pytest.mark.parametrize("spelling", ["clear", "cl"])
def test_clear_removes_everything_that_allogger_made(tmp_path: Path, spelling: str) -> None:
    make_run(tmp_path / "run")
    make_run(tmp_path / "run")
    before = files(tmp_path / "run")

    root = allogger.basic_configure(tmp_path / "run", default_path_exists=spelling)
    assert set(files(tmp_path / "run")) == {RUN_FILE}
    root.log(2.0, "loss")
    allogger.close()

    assert loss(tmp_path / "run") == [2.0]
    assert set(files(tmp_path / "run")) & set(before) == {RUN_FILE}


def test_clear_leaves_the_files_of_strangers(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run)
    shard = next(shard_names(run / EVENTS, ".h5"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.h5").write_text("precious")
    strangers = [
        "checkpoint.pt",
        "train.log",
        ".hidden",
        "code/model.py",
        "events/notes.txt",
        "events/mine.h5",
        f"events/{shard} copy.h5",
        f"events/{shard}-analysis.ipynb",
        "events/MainProcess/notes.txt",
        "events/other/events.out.tfevents.1700000000.host",
        "events/other/deep/events.out.tfevents.1700000000.host",
        "run.json.bak",
    ]
    for name in strangers:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    (run / "link").symlink_to(elsewhere)
    (run / "events" / "link").symlink_to(elsewhere)

    allogger.basic_configure(run, default_path_exists="clear")

    assert {name: (run / name).read_text() for name in strangers} == {name: name for name in strangers}
    assert (elsewhere / "precious.h5").read_text() == "precious"
    assert not list(shard_names(run / EVENTS, ".h5"))
    assert not [name for name in files(run) if name not in strangers and name != RUN_FILE]


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"run.json": "{}"},
        {"run.json": "not json"},
        {"run.json": '{"name": "of another tool"}'},
        {"events/data.h5": "x"},
    ],
    ids=str,
)
def test_clear_refuses_a_folder_that_allogger_did_not_make(tmp_path: Path, content: dict[str, str]) -> None:
    content = {"precious.txt": "precious", **content}
    for name, text in content.items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text(text)
    before = files(tmp_path / "run")

    with pytest.raises(ConfigError, match=r"was not made by allogger .* so it is not cleared"):
        allogger.basic_configure(tmp_path / "run", default_path_exists="clear")

    assert files(tmp_path / "run") == before


def test_clear_takes_an_empty_folder_and_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        allogger.basic_configure(tmp_path / name, default_path_exists="clear").log(1.0, "loss")

    allogger.close()

    assert loss(tmp_path / "empty") == loss(tmp_path / "new") == [1.0]


def test_clear_refuses_a_run_that_a_live_process_writes(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    run = tmp_path / "run"
    root = allogger.basic_configure(run)
    root.log(1.0, "loss")
    allogger.flush()

    result = run_python(
        """
        import os, allogger
        try:
            allogger.basic_configure(os.environ["RUN"], default_path_exists="clear")
        except allogger.ConfigError as error:
            print(error)
        """,
        env={"RUN": str(run)},
    )

    assert f"is being written by process {os.getpid()} on" in result.stdout
    assert loss(run) == [1.0]


@pytest.mark.parametrize("spelling", ["abort", "a"])
@pytest.mark.parametrize("is_run", [True, False], ids=["a run", "an empty folder"])
def test_abort_raises_and_touches_nothing(tmp_path: Path, spelling: str, is_run: bool) -> None:
    make_run(tmp_path / "run") if is_run else (tmp_path / "run").mkdir()
    before = files(tmp_path / "run")

    with pytest.raises(LogdirExists, match="exists; choose another one") as caught:
        allogger.basic_configure(tmp_path / "run", default_path_exists=spelling)

    assert isinstance(caught.value, FileExistsError)
    assert files(tmp_path / "run") == before


def test_abort_makes_a_logdir_that_is_not_there(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "a" / "b", default_path_exists="abort").log(1.0, "loss")

    allogger.close()

    assert loss(tmp_path / "a" / "b") == [1.0]


def test_unique_appends_the_first_free_number(tmp_path: Path) -> None:
    (tmp_path / "run_2").mkdir()
    (tmp_path / "run_3").write_text("a file")

    names = []
    for _ in range(4):
        root = allogger.basic_configure(tmp_path / "run", default_path_exists="unique")
        root.log(1.0, "loss")
        assert root.logdir is not None
        names.append(root.logdir.name)
        allogger.close()

    assert names == ["run", "run_1", "run_4", "run_5"]
    assert all(loss(tmp_path / name) == [1.0] for name in names)


@pytest.mark.parametrize("policy", ["unique", "abort"])
def test_two_that_come_at_the_same_time_never_get_the_same_folder(tmp_path: Path, policy: str) -> None:
    for number in range(20):
        start = threading.Barrier(6)
        found: list[Path] = []

        def work(logdir: Path, start: threading.Barrier = start, found: list[Path] = found) -> None:
            start.wait()
            with contextlib.suppress(LogdirExists):
                found.append(prepare(logdir, policy))

        threads = [threading.Thread(target=work, args=(tmp_path / f"run{number}",)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(set(found)) == len(found) == (6 if policy == "unique" else 1)


class Terminal:
    """A terminal as stdin, into which answers have been typed."""

    opened: ClassVar[list[int]] = []

    def __init__(self, answers: str) -> None:
        self.master, slave = pty.openpty()
        os.write(self.master, answers.encode())
        self.stdin = os.fdopen(slave, "r")


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that puts answers on the keyboard."""
    terminals: list[Terminal] = []

    def put(answers: str) -> None:
        terminals.append(Terminal(answers))
        monkeypatch.setattr("sys.stdin", terminals[-1].stdin)

    yield put
    for terminal in terminals:
        terminal.stdin.close()
        os.close(terminal.master)


@pytest.mark.parametrize(
    ("answers", "stored"),
    [
        ("c\n", [1.0, 2.0]),
        ("\n", [1.0, 2.0]),
        ("continue\n", [1.0, 2.0]),
        ("cl\n", [2.0]),
        ("CLEAR\n", [2.0]),
        ("what?\nno\ncl\n", [2.0]),
    ],
    ids=repr,
)
def test_ask_does_what_is_typed(
    tmp_path: Path,
    typed: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    answers: str,
    stored: list[float],
) -> None:
    make_run(tmp_path / "run")
    typed(answers)

    allogger.basic_configure(tmp_path / "run", default_path_exists="ask").log(2.0, "loss")
    allogger.close()

    assert loss(tmp_path / "run") == stored
    assert f"{tmp_path / 'run'} exists" in capsys.readouterr().out


@pytest.mark.parametrize("answers", ["a\n", "abort\n", "x\na\n", "\x04"], ids=repr)
def test_ask_aborts_when_told_so_or_when_the_input_ends(
    tmp_path: Path, typed: Callable[[str], None], answers: str
) -> None:
    make_run(tmp_path / "run")
    before = files(tmp_path / "run")
    typed(answers)

    with pytest.raises(LogdirExists):
        allogger.basic_configure(tmp_path / "run", default_path_exists="ask")

    assert files(tmp_path / "run") == before


def test_ask_offers_a_new_folder(tmp_path: Path, typed: Callable[[str], None]) -> None:
    make_run(tmp_path / "run")
    typed("u\n")

    root = allogger.basic_configure(tmp_path / "run", default_path_exists="ask")

    assert root.logdir == tmp_path / "run_1"


@pytest.mark.parametrize("stdin", ["none", "no terminal"])
def test_ask_aborts_where_there_is_nobody_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stdin: str) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "input").write_text("c\n")
    with open(tmp_path / "input") as file:
        monkeypatch.setattr("sys.stdin", None if stdin == "none" else file)

        with pytest.raises(LogdirExists):
            allogger.basic_configure(tmp_path / "run", default_path_exists="ask")


def test_ask_asks_nothing_where_there_is_no_logdir(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run", default_path_exists="ask").log(1.0, "loss")

    allogger.close()

    assert loss(tmp_path / "run") == [1.0]


@pytest.mark.parametrize("policy", ["continue", "clear", "abort", "unique"])
def test_ranks_above_zero_join_what_rank_zero_made(
    tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "run")
    before = files(tmp_path / "run")
    monkeypatch.setenv("RANK", "1")

    if policy == "unique":
        with pytest.raises(ConfigError, match="cannot agree between ranks"):
            allogger.basic_configure(tmp_path / "run", default_path_exists=policy)
        return
    allogger.basic_configure(tmp_path / "run", default_path_exists=policy)

    assert files(tmp_path / "run") == before


@pytest.mark.parametrize("policy", ["continue", "clear", "abort", "ask", "unique"])
def test_a_logdir_that_is_a_file_or_leads_nowhere_is_refused(tmp_path: Path, policy: str) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")

    for name in ("file", "dangling"):
        with pytest.raises(ConfigError, match="is not a folder"):
            allogger.basic_configure(tmp_path / name, default_path_exists=policy)

    assert (tmp_path / "file").read_text() == "precious"


def test_a_logdir_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="cannot be written"):
        allogger.basic_configure(tmp_path / "file" / "run")


# ---------------------------------------------------------------------------------------------------- names and records


def test_each_shard_has_a_name_of_its_own_that_says_where_it_comes_from(tmp_path: Path) -> None:
    shards = [new_shard(tmp_path) for _ in range(1000)]

    assert len({shard.name for shard in shards}) == 1000
    start, host, pid = shard_of(shards[0].name)
    assert abs(start - shards[0].start) < 1e-5
    assert pid == os.getpid()
    assert host in shards[0].name
    assert re.fullmatch(r"[A-Za-z0-9._@+=%~-]+", shards[0].name)


def test_shards_are_listed_in_the_order_of_their_start_and_strangers_are_not(tmp_path: Path) -> None:
    names = [new_shard(tmp_path).name for _ in range(5)]
    for name in reversed(names):
        (tmp_path / f"{name}.h5").touch()
    for stranger in ("x.h5", f"{names[0]}x.h5", f"{names[0]}.journal", "20240101-host-1-1.h5"):
        (tmp_path / stranger).touch()

    assert list(shard_names(tmp_path, ".h5")) == names
    assert list(shard_names(tmp_path / "nowhere", ".h5")) == []


def test_a_process_that_is_gone_is_not_live(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    result = run_python("import allogger.rundir, pathlib; print(allogger.rundir.new_shard(pathlib.Path('.')).name)")

    assert not is_live(tmp_path, result.stdout.strip())
    assert is_live(tmp_path, new_shard(tmp_path).name)


def test_each_attempt_is_recorded_in_run_json(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    make_run(tmp_path / "run")

    about = json.loads((tmp_path / "run" / RUN_FILE).read_text())

    assert about["allogger_format"] == 1
    assert len(about["attempts"]) == 2
    assert len({attempt["attempt"] for attempt in about["attempts"]}) == 2
    assert all(attempt["pid"] == os.getpid() for attempt in about["attempts"])
    assert about["created"] == about["attempts"][0]["start"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"attempts": 3}', '{"attempts": [1]}', "\x00"], ids=repr)
def test_a_damaged_run_json_hinders_nobody(tmp_path: Path, content: str) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "run" / RUN_FILE).write_text(content)

    make_run(tmp_path / "run", 2.0)

    assert loss(tmp_path / "run") == [1.0, 2.0]
    assert len(json.loads((tmp_path / "run" / RUN_FILE).read_text())["attempts"]) == 1


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    (tmp_path / "folder").mkdir()

    rundir.atomic_write(path, b"new")
    with pytest.raises(OSError, match="directory"):
        rundir.atomic_write(tmp_path / "folder", b"new")

    assert path.read_bytes() == b"new"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]
