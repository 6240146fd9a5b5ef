"""api.hdf: files, folders and runs give the same names and rows, whether live, killed or finished."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import allogger
from allogger.api.hdf import list_keys, read_from_key
from allogger.errors import DamagedFile, NoSuchKey, NotARun, UnknownName

KEYS = [
    "array/root/m",
    "histogram/agent.critic/w",
    "image/root/picture",
    "scalar/agent.critic/train/loss",
    "scalar/root/loss",
    "text/root/note",
]


def log_everything(logdir: Path) -> None:
    root = allogger.basic_configure(logdir, ["hdf"], hdf_writer_params={"snapshot_seconds": None})
    critic = allogger.get_logger("agent.critic")
    for step in range(3):
        root.log(step / 2, "loss")
        critic.log(step, "train/loss", step=10 - step)
        critic.log(np.arange(step + 2), "w")
        root.log(np.eye(2) * step, "m")
        root.log(np.zeros((4, 4, 3), np.uint8), "picture")
        root.log(f"note {step}", "note")
    allogger.flush()


@pytest.fixture(params=["live", "killed", "finished"])
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A run in that state."""
    log_everything(tmp_path / "run")
    if request.param == "killed":
        # What a kill leaves behind is what is on disk.
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        allogger.close()
        yield tmp_path / "copy"
        return
    if request.param == "finished":
        allogger.close()
    yield tmp_path / "run"
    allogger.close()


def places(run: Path) -> list[Path]:
    (file,) = [path for path in (run / "events").iterdir() if path.suffix in (".journal", ".h5")]
    return [run, run / "events", file]


def test_the_keys_are_the_paths_of_the_datasets(run: Path) -> None:
    for place in places(run):
        assert list_keys(place) == list_keys(str(place)) == KEYS


def test_rows_have_step_time_walltime_and_value(run: Path) -> None:
    for place in places(run):
        rows = read_from_key(place, "scalar/agent.critic/train/loss")

        assert rows.dtype == [("step", "i8"), ("time", "f8"), ("walltime", "f8"), ("value", "i8")]
        assert rows["step"].tolist() == [10, 9, 8]
        assert rows["value"].tolist() == [0, 1, 2]
        assert (np.diff(rows["time"]) >= 0).all()
        assert (rows["walltime"] >= 0).all()
        assert (rows["walltime"] < 60).all()
        assert np.allclose(rows["time"] - rows["walltime"], rows["time"][0] - rows["walltime"][0])


def test_arrays_of_one_shape_are_one_field_and_others_are_objects(run: Path) -> None:
    for place in places(run):
        matrices = read_from_key(place, "array/root/m")
        assert matrices["value"].dtype == float
        assert matrices["value"].tolist() == [(np.eye(2) * step).tolist() for step in range(3)]
        weights = read_from_key(place, "histogram/agent.critic/w")
        assert [value.tolist() for value in weights["value"]] == [[0, 1], [0, 1, 2], [0, 1, 2, 3]]
        assert read_from_key(place, "text/root/note")["value"].tolist() == ["note 0", "note 1", "note 2"]
        assert read_from_key(place, "image/root/picture")["value"].dtype == np.uint8


def test_a_key_that_is_not_there_is_an_error_with_a_suggestion(run: Path) -> None:
    for place in places(run):
        with pytest.raises(NoSuchKey, match="did you mean 'scalar/root/loss'"):
            read_from_key(place, "scalar/root/los")
        with pytest.raises(UnknownName, match="choice of attempts"):
            read_from_key(place, "scalar/root/loss", "first")  # type: ignore[arg-type]


def test_what_a_run_gives_is_what_h5py_finds(tmp_path: Path) -> None:
    log_everything(tmp_path / "run")
    allogger.close()
    (file,) = (tmp_path / "run" / "events").glob("*.h5")

    with h5py.File(file) as raw:
        for key in ("scalar/root/loss", "scalar/agent.critic/train/loss", "array/root/m"):
            found, rows = raw[key][:], read_from_key(file, key)
            for name in ("step", "time", "walltime", "value"):
                assert found[name].tobytes() == rows[name].tobytes()


def test_attempts_are_told_apart(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        root = allogger.basic_configure(tmp_path)
        root.step_per_key = {("root-MainProcess", "loss"): int(value)}
        for _ in range(3):
            root.log(value, "loss")
        allogger.close()

    last = read_from_key(tmp_path, "scalar/root/loss")
    assert (last["step"].tolist(), last["value"].tolist()) == ([1, 2, 3, 4], [1.0, 2.0, 2.0, 2.0])
    both = read_from_key(tmp_path, "scalar/root/loss", "all")
    assert both["step"].tolist() == [1, 2, 3, 2, 3, 4]
    # Of each attempt since it began itself.
    assert (both["walltime"] < (both["time"] - both["time"][0]) + 5).all()
    assert both["walltime"].max() < 5


def test_what_is_no_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.h5").write_text("no HDF5")

    for path in ("empty", "nowhere", "nowhere.h5"):
        with pytest.raises(NotARun, match="holds nothing"):
            list_keys(tmp_path / path)
        with pytest.raises(NotARun):
            read_from_key(tmp_path / path, "scalar/root/loss")
    with pytest.raises(DamagedFile):
        list_keys(tmp_path / "text.h5")


def test_a_run_that_has_only_just_begun_has_no_keys(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "run")

    assert list_keys(tmp_path / "run") == list_keys(tmp_path / "run" / "events") == []
    with pytest.raises(NoSuchKey):
        read_from_key(tmp_path / "run", "scalar/root/loss")


def test_keys_that_need_escapes_are_found_under_their_paths(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path)
    names = ["a", "a/b", "..", "", "%", "lr0.001", "é\0\ud800"]
    for key in names:
        root.log(1.0, key)
    allogger.flush()
    live = list_keys(tmp_path)
    allogger.close()

    assert list_keys(tmp_path) == live
    assert len(live) == len(names)
    assert {"scalar/root/a", "scalar/root/a/b", "scalar/root/%2E%2E", "scalar/root/%_"} <= set(live)
    assert all(len(read_from_key(tmp_path, key)) == 1 for key in live)


def test_values_that_are_no_field_of_a_row_come_as_objects(tmp_path: Path) -> None:
    values = [np.zeros((1,) * 62, np.int8), np.zeros(2, [("a", "i4"), ("b", "U3")]), np.zeros((2, 0, 3))]
    root = allogger.basic_configure(tmp_path)
    for n, value in enumerate(values):
        root.log(value, str(n), data_type="array")
        root.log(value, str(n), data_type="array")
    allogger.close()

    for n, value in enumerate(values):
        rows = read_from_key(tmp_path, f"array/root/{n}")
        assert [(v.dtype, v.shape) for v in map(np.asarray, rows["value"])] == [(value.dtype, value.shape)] * 2


def test_damage_is_said_and_what_is_left_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log_everything(tmp_path / "run")
    (path,) = (tmp_path / "run" / "events").glob("*.journal")
    copy: Any = shutil.copytree(tmp_path / "run", tmp_path / "copy") / "events" / path.name
    copy.write_bytes(copy.read_bytes().replace(b"note 1", b"NOTE 1"))

    with caplog.at_level(logging.WARNING):
        notes = read_from_key(tmp_path / "copy", "text/root/note")["value"].tolist()

    assert notes == ["note 0", "note 2"]
    assert "wrong checksum" in caplog.text
    caplog.clear()
    assert list_keys(tmp_path / "copy") == KEYS
    assert "wrong checksum" in caplog.text
