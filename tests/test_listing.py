"""Do the small files of a run tell what the run itself tells, whatever has become of it?"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import allogger
from allogger.errors import NotARun
from allogger.listing import find_runs, list_runs, run_info, sizes

WRITE = """
import os, signal, sys
import allogger

logdir, end = {logdir!r}, {end!r}
with allogger.run(logdir, ["hdf", "csv"], flush_seconds=0.05) as root:
    for step in range(10):
        root.log(step / 2, "x")
        allogger.get_logger("a/b").log(step, "y")
    if end == "kill":
        allogger.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def write(run_python: Callable[..., Any]) -> Callable[..., None]:
    """Start a program on a logdir; it ends by itself or is killed."""

    def start(logdir: Path, end: str = "") -> None:
        result = run_python(WRITE.format(logdir=str(logdir), end=end))
        assert result.returncode == (-signal.SIGKILL if end else 0), result.stderr

    return start


def test_the_index_tells_what_the_values_tell(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "run")

    info, run = run_info(tmp_path / "run"), allogger.open_run(tmp_path / "run")
    assert sorted(info.keys) == run.keys()
    for key, found in info.keys.items():
        series = run[key]
        assert (found.count, found.last, found.last_step) == (len(series), series.value[-1], series.step[-1])
        assert (found.min, found.max) == (series.value.min(), series.value.max())
        assert (found.first_time, found.last_time) == (series.time[0], series.time[-1])
    assert (info.attempts, info.shards, info.last_step, info.is_complete) == (1, 1, 10, True)


def test_the_state_is_that_of_the_last_attempt(tmp_path: Path, write: Callable[..., None]) -> None:
    states = []
    for end in ("", "kill", "", "kill"):
        write(tmp_path / "run", end)
        states.append(run_info(tmp_path / "run").state)
        assert allogger.open_run(tmp_path / "run").state == states[-1]

    assert states == ["finished", "killed", "finished", "killed"]


def test_a_run_that_goes_on_is_live_and_knows_that_it_does_not_know_all(tmp_path: Path) -> None:
    with allogger.run(tmp_path / "run", ["hdf"]) as root:
        before = run_info(tmp_path / "run").state
        root.log(1.0, "x")
        allogger.flush()
        info = run_info(tmp_path / "run")

    assert before == info.state == "live"
    assert not info.is_complete
    assert info.journal_bytes > 0
    assert run_info(tmp_path / "run").state == "finished"


def test_sizes_count_every_file_of_a_run_and_none_of_others(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "run")
    expected = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"0" * 10_000)

    found = sizes(tmp_path / "run")

    assert sum(found.values()) == expected == run_info(tmp_path / "run").size
    assert found["csv"] == sum(path.stat().st_size for path in (tmp_path / "run").glob("events/*.csv"))


def test_runs_are_found_below_a_folder_and_inside_of_runs(tmp_path: Path) -> None:
    for name in ("b", "a", "a/inner", "deep/er/c", ".hidden/d"):
        (tmp_path / name / "events").mkdir(parents=True)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "loop").symlink_to(tmp_path)

    assert [path.relative_to(tmp_path).as_posix() for path in find_runs(tmp_path)] == ["a", "a/inner", "b", "deep/er/c"]
    assert [info.path.name for info in list_runs([tmp_path / "b", tmp_path / "nowhere"])] == ["b"]


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotARun, match=r"neither events/ nor run\.json"):
        run_info(tmp_path)


@pytest.mark.parametrize(
    "index",
    [b"", b"{", b"[]", b'{"series": 1}', b'{"series": [1]}', b'{"series": [{"scope": "root"}]}', b"[" * 100_000],
)
def test_a_damaged_index_is_told_and_costs_only_itself(
    index: bytes, tmp_path: Path, write: Callable[..., None]
) -> None:
    write(tmp_path / "run")
    (path,) = (tmp_path / "run" / "events").glob("*.index.json")
    path.write_bytes(index)

    info = run_info(tmp_path / "run")

    assert info.problems == [f"{path} is damaged: it is no index"]
    assert (info.state, info.is_complete, info.keys) == ("finished", False, {})


def test_files_of_others_are_no_reason_to_believe_that_all_is_known(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "run")
    (tmp_path / "run" / "events" / "old.h5").write_bytes(b"")

    assert not run_info(tmp_path / "run").is_complete


def test_numbers_beyond_all_bounds_do_no_harm(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "run")
    (path,) = (tmp_path / "run" / "events").glob("*.index.json")
    huge = "9" * 400
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**about, "created": int(huge)}))
    path.write_text(path.read_text().replace('"last": 4.5', f'"last": {huge}').replace('"count": 10', '"count": 1e999'))

    assert run_info(tmp_path / "run").problems == [f"{path} is damaged: it is no index"]


@pytest.mark.parametrize("about", ["{}", "[]", '{"attempts": 3}', '{"attempts": [1, {"name": 5}, {"name": "../x"}]}'])
def test_whatever_run_json_says_the_rest_is_shown(about: str, tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(about)

    info = run_info(tmp_path / "run")

    assert (info.state, sorted(info.keys)) == ("finished", ["a%2Fb/y", "root/x"])


def test_a_run_of_another_format_is_told(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "allogger_format": 2}))

    assert "written in format 2" in run_info(tmp_path / "run").problems[0]


def test_listing_needs_no_numpy(run_python: Callable[..., Any], tmp_path: Path) -> None:
    os.mkdir(tmp_path / "events")
    result = run_python(
        "import sys; from allogger.listing import list_runs; assert len(list(list_runs(['.']))) == 1;"
        "assert not {'numpy', 'h5py', 'pandas'} & set(sys.modules)"
    )

    assert result.returncode == 0, result.stderr
