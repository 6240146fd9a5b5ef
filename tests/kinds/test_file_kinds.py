"""Are artifacts, models and checkpoints files of the run, stored as they were when they were logged?"""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import allogger
from allogger.api.hdf import list_keys, read_from_key
from allogger.files import Files
from allogger.kind import FileKind
from allogger.kinds.artifact import ArtifactKind
from allogger.kinds.checkpoint import CheckpointKind
from allogger.kinds.model import ModelKind
from allogger.rundir import is_stored_path
from allogger.states import write_state
from allogger.testing import KindContract

DATA: list[Any] = [
    {"name": "notes.txt", "data": b"some notes"},
    {"name": "../hidden", "data": bytearray()},
    b"bytes",
]
STATES: list[Any] = [
    {},
    {"weights": np.arange(6.0).reshape(2, 3), "bias": np.zeros(0), "nested": {"step": 3, "names": ["a", None]}},
    [np.float32(0.5), (1, 2.5, True)],
]


class TestArtifactKind(KindContract):
    def make_kind(self) -> ArtifactKind:
        return ArtifactKind()

    def values(self) -> Iterable[Any]:
        yield from DATA
        yield from (Path(__file__), __file__, Path(__file__).parents[1] / "api")

    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* is the record of a file like *value*."""
        size = len(value if isinstance(value, bytes) else value["data"]) if not isinstance(value, str | Path) else None
        return _is_record(shown) and size in (None, shown["size"])


class TestModelKind(KindContract):
    def make_kind(self) -> FileKind:
        return ModelKind()

    def values(self) -> Iterable[Any]:
        yield from STATES

    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* is the record of a file as large as *value* needs, or such a state."""
        if isinstance(shown, dict) and "path" in shown:
            return _is_record(shown) and shown["size"] == len(_written(value))
        return _written(shown) == _written(value)


class TestCheckpointKind(TestModelKind):
    def make_kind(self) -> FileKind:
        return CheckpointKind()


def _written(state: Any) -> bytes:
    file = io.BytesIO()
    write_state(file, state)
    return file.getvalue()


def _is_record(shown: Any) -> bool:
    return isinstance(shown, dict) and is_stored_path(shown.get("path", "")) and len(shown["sha256"]) == 64


def test_what_is_logged_is_what_the_file_held_at_that_moment(tmp_path: Path) -> None:
    original = tmp_path / "results.csv"
    original.write_text("first")
    weights = np.zeros(3)
    with allogger.run(tmp_path / "run") as root:
        root.log(original, "results", data_type="artifact")
        root.log({"weights": weights}, "net", data_type="model")
        original.write_text("second")
        weights += 1
        root.log(str(original), "results", data_type="artifact")
    original.unlink()

    first, second = allogger.open_run(tmp_path / "run").artifacts("results")
    (net,) = allogger.open_run(tmp_path / "run").artifacts("net")

    assert [one.path.read_text() for one in (first, second)] == ["first", "second"]
    assert net.load()["weights"].tolist() == [0, 0, 0]


def test_what_no_output_keeps_does_not_touch_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with allogger.run(tmp_path / "run", ["csv", "console"], csv_writer_params={"filter": "kept"}) as root:
        root.log(tmp_path / "not there", "dropped", data_type="artifact", to_console=False)
        assert not caplog.text
        # The console keeps it, and does not take the kind.
        root.log(tmp_path / "not there", "printed", data_type="artifact")

    assert "none of its outputs (console) takes values of the kind 'artifact'" in caplog.text
    assert not (tmp_path / "run" / "artifacts").exists()


def test_what_cannot_be_stored_is_counted_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with allogger.run(tmp_path / "run") as root:
        for value in ("not there", "", "\0", 3.5, {"name": "a"}, {"name": 1, "data": b""}, None, "/dev/zero"):
            root.log(value, "file", data_type="artifact")
        root.log({"hook": print}, "model", data_type="model")

    assert "not stored: FileNotFoundError" in caplog.text
    assert "'hook' is a value of type builtin_function_or_method, which cannot be stored" in caplog.text
    assert "9 values were not stored: 'root/file' 8, 'root/model' 1" in caplog.text
    assert allogger.open_run(tmp_path / "run").artifacts() == []


def test_without_a_logdir_a_file_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    with allogger.testing.capture() as captured:
        allogger.get_root().log(__file__, "file", data_type="artifact")

    assert len(captured) == 0
    assert "are files of the logdir, and there is none" in caplog.text


@pytest.mark.parametrize(
    ("kind", "value"),
    [("artifact", DATA[0]), ("model", STATES[1]), ("checkpoint", STATES[1])],
    ids=lambda value: str(value)[:9],
)
def test_every_output_and_reader_shows_the_record(tmp_path: Path, kind: str, value: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with allogger.run(tmp_path, ["hdf", "tensorboard", "csv"]) as root:
        root.log(value, "file", data_type=kind)
        allogger.flush()
        live = allogger.open_run(tmp_path)["root/file"]

    run = allogger.open_run(tmp_path)
    (one,) = [*run.artifacts(), *run.checkpoints()]
    record = run["root/file"].last

    assert live.value.tolist() == run["root/file"].value.tolist()
    assert tmp_path / record["path"] == one.path
    assert run.kinds == {"root/file": kind}
    assert list_keys(tmp_path) == [f"{kind}/root/file"]
    assert read_from_key(tmp_path, f"{kind}/root/file")["value"][0] == record
    assert [shown["sha256"] for shown in run.frame()["value"]] == [one.sha256]
    events = EventAccumulator(str(tmp_path / "events" / "MainProcess"))
    events.Reload()
    text = events.Tensors("root/file")[0].tensor_proto.string_val[0].decode()
    assert text.startswith(f"{one.name}, {one.size} bytes, SHA-256 {one.sha256}, artifacts/")
    (table,) = (tmp_path / "events").glob("*.csv")
    assert one.sha256 in table.read_text()


def _log_in_a_child(value: Any) -> None:
    allogger.get_logger("worker").log(value, "file", data_type="artifact")


def test_children_scopes_attempts_and_unique_runs_have_files(tmp_path: Path) -> None:
    for _ in range(2):
        with allogger.run(tmp_path / "run", default_path_exists="unique") as root:
            assert root.logdir is not None
            for _ in range(2):
                root.log(DATA[0], "file", data_type="artifact")
            own = allogger.get_logger("own", logdir=root.logdir / "own")
            own.log(DATA[0], "file", data_type="artifact")
            context: Any = multiprocessing.get_context("fork")
            child = context.Process(target=_log_in_a_child, args=(DATA[0],), name="child")
            child.start()
            child.join()
    with allogger.run(tmp_path / "run_1") as root:
        root.log(DATA[2], "file", data_type="artifact")

    for name, count in (("run", 3), ("run_1", 4), ("run/own", 1), ("run_1/own", 1)):
        found = allogger.open_run(tmp_path / name).artifacts()
        assert len(found) == count
        assert [what for one in found for what in one.verify()] == []
    assert [one.process for one in allogger.open_run(tmp_path / "run").artifacts("worker")] == ["child"]


class BackwardsKind(FileKind):
    """Somebody's own kind: the content of a file, backwards."""

    name = "backwards"

    def store(self, value: Any, files: Files) -> Mapping[str, Any]:
        return {**files.put_bytes(bytes(value)[::-1], "backwards.bin").about(), "length": len(value)}


def test_a_plug_in_stores_files_too(tmp_path: Path) -> None:
    allogger.register_kind("backwards", BackwardsKind)
    try:
        with allogger.run(tmp_path) as root:
            root.log(b"abc", "word", data_type="backwards")
        run = allogger.open_run(tmp_path)
        (one,) = run.artifacts()
        last = run["root/word"].last
    finally:
        allogger.registry.kinds.remove("backwards")

    assert one.path.read_bytes() == b"cba"
    assert last["length"] == 3
