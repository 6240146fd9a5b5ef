from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allogger.errors import DamagedFile
from allogger.reader import SeriesId
from allogger.readers.mlflow import MlflowDatabaseReader, MlflowReader, runs_in_database

META = "run_id: abc\nrun_name: first\nstart_time: 1700000000000\nend_time: 1700000009500\nstatus: 3\n"
LOSS = SeriesId("scalar", "root", "loss")


def run_folder(folder: Path) -> Path:
    """Write the folder of a run as MLflow's file store does."""
    run = folder / "abc"
    for name, content in {
        "meta.yaml": META,
        "metrics/loss": "1700000000250 0.1 0\n1700000001500 nan 2\n1700000001500 0.25 2 data digest\n",
        "metrics/train/acc": "1700000000250 1 0\n",
        "params/lr": "0.1",
        "params/a/b": "x",
    }.items():
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return run


def database(path: Path) -> Path:
    """Write the tables of MLflow that matter."""
    with sqlite3.connect(path) as base:
        base.executescript("""
            CREATE TABLE runs (run_uuid TEXT, name TEXT, start_time INT, end_time INT, lifecycle_stage TEXT);
            CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
            CREATE TABLE metrics (key TEXT, value REAL, timestamp INT, run_uuid TEXT, step INT, is_nan INT,
                                  PRIMARY KEY (key, timestamp, step, run_uuid, value, is_nan));
            INSERT INTO runs VALUES ('b', 'second', 1700000001000, NULL, 'active');
            INSERT INTO runs VALUES ('a', 'first', 1700000000000, 1700000009500, 'active');
            INSERT INTO runs VALUES ('c', 'gone', 1700000000000, NULL, 'deleted');
            INSERT INTO params VALUES ('lr', '0.1', 'a');
            INSERT INTO metrics VALUES ('loss', 0.5, 1700000000250, 'a', 3, 0);
            INSERT INTO metrics VALUES ('loss', 0.25, 1700000000500, 'a', 1, 0);
            INSERT INTO metrics VALUES ('loss', 0, 1700000000500, 'a', 2, 1);
            INSERT INTO metrics VALUES ('loss', 9, 1700000000500, 'b', 2, 0);
        """)
    base.close()
    return path


def test_the_folder_of_a_run_is_read(tmp_path: Path) -> None:
    reader = MlflowReader(run_folder(tmp_path))
    loss = reader.read(LOSS)
    assert loss.step.tolist() == [0, 2, 2]
    assert loss.time.tolist() == [1700000000.25, 1700000001.5, 1700000001.5]
    np.testing.assert_array_equal(loss.value, [0.1, np.nan, 0.25])
    assert reader.read(SeriesId("scalar", "root", "train/acc")).value.tolist() == [1.0]
    assert reader.params == {"lr": "0.1", "a/b": "x"}
    assert (reader.about["label"], reader.about["start"], reader.about["end"]) == ("first", 1.7e9, 1700000009.5)


def test_a_line_that_is_none_is_told(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    (run / "metrics/loss").write_text("1700000000250 0.1 0\nx y z\n1 2 99999999999999999999\n1700000000250 0.2 1\n17")
    reader = MlflowReader(run)
    assert reader.read(LOSS).value.tolist() == [0.1, 0.2]
    assert len(reader.damage) == 2


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    run = run_folder(tmp_path)
    (tmp_path / "secret").write_text("1 2 3\n")
    os.symlink(tmp_path / "secret", run / "metrics/secret")
    os.symlink(tmp_path, run / "metrics/above")
    assert [series.key for series in MlflowReader(run).keys()] == ["loss", "train/acc"]  # noqa: SIM118


def test_the_runs_of_a_database_are_read_and_it_stays_as_it_is(tmp_path: Path) -> None:
    path = database(tmp_path / "mlflow.db")
    before = path.read_bytes()
    path.chmod(0o444)
    assert runs_in_database(path) == ["a", "b"]
    reader = MlflowDatabaseReader(path, "a")
    loss = reader.read(LOSS)
    assert loss.step.tolist() == [3, 1, 2]
    np.testing.assert_array_equal(loss.value, [0.5, 0.25, np.nan])
    assert reader.params == {"lr": "0.1"}
    assert reader.last_time() == 1700000000.5
    with pytest.raises(KeyError):
        reader.read(SeriesId("scalar", "root", "other"))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["mlflow.db"]


def test_another_or_a_damaged_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE runs (x)")
        # A view could make the reader compute whatever it says.
        base.execute("CREATE VIEW metrics AS SELECT 1")
    base.close()
    with pytest.raises(DamagedFile, match="no database of MLflow"):
        runs_in_database(path)
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 4000)
    with pytest.raises(DamagedFile):
        runs_in_database(path)


def test_what_mlflow_itself_recorded_is_what_its_client_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs mlflow to record a run")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for uri in (f"sqlite:///{tmp_path}/mlflow.db", f"file://{tmp_path}/mlruns"):
        mlflow.set_tracking_uri(uri)
        with mlflow.start_run() as run:
            mlflow.log_param("lr", 0.1)
            for n in range(100):
                mlflow.log_metric("train/loss", 1 / (n + 1), step=2 * n)
            mlflow.log_metric("train/loss", float("nan"), step=0)
        expected = mlflow.tracking.MlflowClient(uri).get_metric_history(run.info.run_id, "train/loss")
        if uri.startswith("sqlite"):
            reader: MlflowDatabaseReader | MlflowReader = MlflowDatabaseReader(tmp_path / "mlflow.db", run.info.run_id)
        else:
            reader = MlflowReader(tmp_path / "mlruns" / run.info.experiment_id / run.info.run_id)
        got = reader.read(SeriesId("scalar", "root", "train/loss"))
        np.testing.assert_array_equal(got.value, [metric.value for metric in expected])
        assert got.step.tolist() == [metric.step for metric in expected]
        assert got.time.tolist() == [metric.timestamp / 1000 for metric in expected]
        assert reader.params == {"lr": "0.1"}


def test_a_python_without_sqlite_goes_on_with_everything_else(run_python: Callable[..., Any]) -> None:
    result = run_python("""
        import sys
        sys.modules["sqlite3"] = None
        import allogger
        for _ in range(2):
            with allogger.run("run", ["csv", "tensorboard"]) as root:
                root.checkpoint({"a": 1}, keep_last=1)
        print([one.is_removed for one in allogger.open_run("run").checkpoints()], allogger.utils.verify("run").ok)
    """)

    assert result.stdout == "[True, False] True\n"
