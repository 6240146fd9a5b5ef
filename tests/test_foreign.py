"""Files of other systems, and of our other outputs, opened as runs."""

from __future__ import annotations

import csv
import importlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import h5py
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

import allogger
from allogger.api.hdf import list_keys, read_from_key
from allogger.errors import DamagedFile, NotARun
from allogger.foreign import foreign_shards, holds_foreign
from allogger.formats.csv import HEADER


def scalars(folder: Path, values: dict[str, list[float]]) -> None:
    with SummaryWriter(str(folder)) as writer:
        for tag, numbers in values.items():
            for step, number in enumerate(numbers):
                writer.add_scalar(tag, number, step)


def old_run(logdir: Path, begun: int, datasets: dict[str, list[float]], first: int = 1) -> None:
    path = logdir / "events" / f"{begun}_node.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            rows = np.zeros(len(values), [("step", "i4"), ("time", "f4"), ("walltime", "f4"), ("value", "f4")])
            rows["step"] = np.arange(first, first + len(values))
            rows["walltime"] = np.arange(len(values))
            rows["time"] = begun + rows["walltime"]
            rows["value"] = values
            file[name] = rows


# ---------------------------------------------------------------------------------------------------------- tensorboard


def test_a_folder_of_tensorboard_opens_like_a_run_of_ours(tmp_path: Path) -> None:
    scalars(tmp_path, {"train/loss": [1.0, 0.5, 0.25], "lr": [0.1] * 3})
    run = allogger.open_run(tmp_path)
    assert run.keys() == ["root/lr", "root/train/loss"]
    loss = run["root/train/loss"]
    assert loss.value.tolist() == [1.0, 0.5, 0.25]
    assert loss.step.tolist() == [0, 1, 2]
    assert run.wide("loss").index.tolist() == [0, 1, 2]
    assert len(run.frame()) == 6
    assert run.kinds == {"root/lr": "scalar", "root/train/loss": "scalar"}
    assert run.last["root/train/loss"] == 0.25
    assert run.summary("root/train/loss").min == 0.25
    assert run.curve("root/train/loss", x="relative").x.max() < 600
    assert [start["end"] for start in run.starts] == [None]
    assert run.state == "finished"


def test_the_hyperparameters_of_lightning_are_params(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="hparams.yaml is read with PyYAML")
    scalars(tmp_path, {"train/loss": [1.0]})
    (tmp_path / "hparams.yaml").write_text("lr: 0.001\n")
    assert allogger.open_run(tmp_path).params == {"lr": 0.001}


def test_folders_below_are_scopes_as_they_are_runs_in_tensorboard(tmp_path: Path) -> None:
    scalars(tmp_path / "train", {"epoch_loss": [1.0]})
    scalars(tmp_path / "validation", {"epoch_loss": [2.0]})
    scalars(tmp_path, {"epoch_loss": [3.0]})
    run = allogger.open_run(tmp_path)
    assert {key: run[key].value.tolist() for key in run} == {
        "root/epoch_loss": [3.0],
        "train/epoch_loss": [1.0],
        "validation/epoch_loss": [2.0],
    }
    assert run["train/epoch_loss"].process.tolist() == ["train"]


def test_a_pattern_finds_each_folder_that_holds_event_files_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        scalars(tmp_path / name, {"loss": [1.0]})
    with allogger.run(tmp_path / "ours", ["hdf", "tensorboard", "csv"]) as logger:
        logger.log(1.0, "loss")
    old_run(tmp_path / "old", 1_600_000_000, {"scalar/main/loss": [1.0]})
    runs = allogger.open_runs(tmp_path / "**")
    assert [run.logdir.name for run in runs] == ["a", "b", "old", "ours"]
    assert [len(run) for run in runs] == [1, 1, 1, 1]
    assert not holds_foreign(tmp_path)


def test_images_and_texts_of_tensorboard_are_read_one_by_one(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
    with SummaryWriter(str(tmp_path)) as writer:
        for step, image in enumerate(pixels):
            writer.add_image("picture", image, step, dataformats="HWC")
        writer.add_text("note", "hello", 0)
    run = allogger.open_run(tmp_path)
    images = run.images("root/picture")
    assert len(images) == 3
    np.testing.assert_array_equal(images[1], pixels[1])
    assert images.step.tolist() == [0, 1, 2]
    assert run.text("root/note/text_summary").value.tolist() == ["hello"]


def test_a_restart_of_the_program_replaces_what_it_has_done_again(tmp_path: Path) -> None:
    for start, steps, value in ((1_600_000_000, range(10), 1.0), (1_600_001_000, range(5, 12), 2.0)):
        with SummaryWriter(str(tmp_path)) as writer:
            for step in steps:
                writer.add_scalar("loss", value, step, walltime=start + step)
        (path,) = (path for path in tmp_path.iterdir() if ".node." not in path.name)
        path.rename(tmp_path / f"events.out.tfevents.{start}.node.{start}")
    run = allogger.open_run(tmp_path)
    assert run["root/loss"].value.tolist() == [1.0] * 5 + [2.0] * 7
    assert len(run.series("root/loss", attempts="all")) == 17


# ---------------------------------------------------------------------------------------------------- our other outputs


@pytest.mark.parametrize("output", ["csv", "tensorboard"])
def test_a_run_that_wrote_no_hdf5_has_its_values(tmp_path: Path, output: str) -> None:
    how: dict[str, Any] = {"tensorboard_writer_params": {"use_hdf_hook": False}}
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal(1000).astype(np.float32).astype(float).tolist()
    with allogger.run(tmp_path, [output], **how):
        logger = allogger.get_logger("agent.critic")
        for number in numbers:
            logger.log(number, "train/loss")
        allogger.get_root().log("a text", "note", step=7)
    run = allogger.open_run(tmp_path)
    assert run.keys() == ["agent.critic/train/loss", "root/note"]
    loss = run["agent.critic/train/loss"]
    assert loss.step.tolist() == list(range(1, 1001))
    assert loss.value.tolist() == numbers
    assert (np.diff(loss.time) >= 0).all()
    assert run["root/note"].value.tolist() == ["a text"]
    assert set(loss.process) == {"MainProcess"}
    assert not run.damage


def test_no_value_is_double_where_several_outputs_have_it(tmp_path: Path) -> None:
    for outputs in (["hdf", "csv", "tensorboard"], ["csv", "tensorboard"]):
        logdir = tmp_path / "-".join(outputs)
        with allogger.run(logdir, outputs, tensorboard_writer_params={"use_hdf_hook": False}) as logger:
            for step in range(10):
                logger.log(0.1 * step, "loss")
            logger.log(np.zeros((4, 4, 3), np.uint8), "picture")
        run = allogger.open_run(logdir)
        assert run["root/loss"].value.tolist() == [0.1 * step for step in range(10)]
        assert run["root/picture"].value.shape == (1, 4, 4, 3)
        assert len(run) == 2


CHILDREN = """
import multiprocessing
import allogger

def work(number):
    allogger.get_logger("worker").log(number, "value")

if __name__ == "__main__":
    how = {"tensorboard_writer_params": {"use_hdf_hook": False}}
    with allogger.run("run", ["OUTPUT"], **how):
        allogger.get_logger("worker").log(0, "value")
        for number in (1, 2):
            process = multiprocessing.get_context("fork").Process(target=work, args=(number,), name=f"Process-{number}")
            process.start()
            process.join()
"""


@pytest.mark.parametrize("output", ["csv", "tensorboard"])
def test_the_processes_of_a_run_without_hdf5_are_told_apart(
    tmp_path: Path, run_python: Callable[..., CompletedProcess[str]], output: str
) -> None:
    assert run_python(CHILDREN.replace("OUTPUT", output)).returncode == 0
    series = allogger.open_run(tmp_path / "run")["worker/value"]
    found = dict(zip(series.process.tolist(), series.value.tolist(), strict=True))
    assert found == {"MainProcess": 0, "Process-1": 1, "Process-2": 2}


AGAIN = """
import multiprocessing
import allogger

def work(number):
    for _ in range(3):
        allogger.get_logger("worker").log(number, "value")

if __name__ == "__main__":
    how = {"tensorboard_writer_params": {"use_hdf_hook": False}}
    with allogger.run("run", ["OUTPUT"], **how) as logger:
        logger.log(0, "begun")
        for number in (1, 2):
            process = multiprocessing.get_context("fork").Process(target=work, args=(number,), name="again")
            process.start()
            process.join()
"""


@pytest.mark.parametrize("output", ["csv", "tensorboard"])
def test_a_process_that_is_started_again_within_an_attempt_replaces_nothing(
    tmp_path: Path, run_python: Callable[..., CompletedProcess[str]], output: str
) -> None:
    code = AGAIN.replace("OUTPUT", output)
    for first in (0, 6):
        assert run_python(code).returncode == 0
        run = allogger.open_run(tmp_path / "run")
        starts = 1 + first // 6
        assert sorted(run["worker/value"].value.tolist()) == [1] * 3 * starts + [2] * 3 * starts
        assert len(run.series("worker/value", attempts="all")) == 6 + first
        assert len(run.starts) == starts


# --------------------------------------------------------------------------------------------------------- ALLogger 0.2


def test_a_run_of_allogger_02_goes_on_in_its_next_file(tmp_path: Path) -> None:
    old_run(tmp_path, 1_600_000_000, {"scalar/main/loss": [1, 2, 3], "scalar/worker/Process5/loss": [9]})
    old_run(tmp_path, 1_600_009_999, {"scalar/main/loss": [4, 5]}, first=4)
    run = allogger.open_run(tmp_path)
    assert run["main/loss"].value.tolist() == [1, 2, 3, 4, 5]
    assert run["main/loss"].step.tolist() == [1, 2, 3, 4, 5]
    assert run["main/loss"].time[3] == 1_600_009_999
    assert run["worker/loss"].process.tolist() == ["Process5"]


def test_the_functions_of_allogger_02_read_its_folders(tmp_path: Path) -> None:
    old_run(tmp_path, 1_600_000_000, {"scalar/main/loss": [1, 2, 3]})
    old_run(tmp_path, 1_600_009_999, {"scalar/main/loss": [4, 5]}, first=4)
    for path in (tmp_path, tmp_path / "events"):
        assert list_keys(path) == ["scalar/main/loss"]
        rows = read_from_key(path, "scalar/main/loss")
        assert rows["value"].tolist() == [1, 2, 3, 4, 5]
        assert rows["walltime"].tolist() == [0, 1, 2, 0, 1]


def test_a_damaged_file_of_several_costs_only_itself(tmp_path: Path) -> None:
    old_run(tmp_path, 1_600_000_000, {"scalar/main/loss": [1, 2, 3]})
    (tmp_path / "events" / "1600000500_node.h5").write_bytes(b"no HDF5")
    run = allogger.open_run(tmp_path)
    assert run["main/loss"].value.tolist() == [1, 2, 3]
    assert "1600000500_node.h5" in run.damage[0]


# --------------------------------------------------------------------------------------------------------------- tables


def test_a_run_of_stable_baselines3_has_everything_once(tmp_path: Path) -> None:
    gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium to train something")
    stable_baselines3 = pytest.importorskip("stable_baselines3", reason="needs stable-baselines3")
    # Its modules of these names come with stable-baselines3.
    logger = importlib.import_module("stable_baselines3.common.logger")
    monitor = importlib.import_module("stable_baselines3.common.monitor")
    env = monitor.Monitor(gymnasium.make("CartPole-v1"), str(tmp_path / "monitor.csv"))
    model = stable_baselines3.PPO("MlpPolicy", env, n_steps=64, batch_size=32, n_epochs=1, device="cpu", seed=1)
    model.set_logger(logger.configure(str(tmp_path), ["csv", "tensorboard"]))
    model.learn(320)
    model.logger.close()
    env.close()

    run = allogger.open_run(tmp_path)
    with open(tmp_path / "progress.csv") as file:
        rows = list(csv.DictReader(file))
    for key in ("train/loss", "rollout/ep_rew_mean"):
        filled = [row for row in rows if row[key]]
        assert run[f"root/{key}"].value.tolist() == [float(row[key]) for row in filled]
        assert run[f"root/{key}"].step.tolist() == [int(row["time/total_timesteps"]) for row in filled]
    results = monitor.load_results(str(tmp_path))
    assert run["root/r"].value.tolist() == results.r.tolist()
    assert run["root/r"].step.tolist() == results.l.cumsum().tolist()
    events = EventAccumulator(str(tmp_path), {"scalars": 0})
    events.Reload()
    assert {f"root/{tag}" for tag in events.Tags()["scalars"]} <= set(run)


def test_a_single_file_opens_too(tmp_path: Path) -> None:
    (tmp_path / "training.log").write_text("epoch,loss\n0,0.5\n1,0.25\n")
    (tmp_path / "long.csv").write_bytes(HEADER + b"agent/loss,3,1700000000.25,Process-1,scalar,0.1\n")
    scalars(tmp_path / "tb", {"loss": [1.0, 2.0]})
    old_run(tmp_path / "old", 1_600_000_000, {"scalar/main/loss": [1.0]})
    (events,) = (tmp_path / "tb").iterdir()
    (old,) = (tmp_path / "old/events").iterdir()
    assert allogger.open_run(tmp_path / "training.log")["root/loss"].value.tolist() == [0.5, 0.25]
    assert allogger.open_run(tmp_path / "long.csv")["agent/loss"].process.tolist() == ["Process-1"]
    assert allogger.open_run(events)["root/loss"].value.tolist() == [1.0, 2.0]
    assert allogger.open_run(old)["main/loss"].value.tolist() == [1.0]


def test_a_single_file_of_ours_keeps_its_process(
    tmp_path: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    assert run_python(CHILDREN.replace("OUTPUT", "hdf")).returncode == 0
    files = sorted((tmp_path / "run" / "events").glob("*.h5"))
    found = [allogger.open_run(file)["worker/value"] for file in files]
    assert [series.process.tolist() for series in found] == [["MainProcess"], ["Process-1"], ["Process-2"]]


def test_a_run_file_that_says_anything_does_not_hurt(tmp_path: Path) -> None:
    with allogger.run(tmp_path, ["csv"]) as logger:
        logger.log(1.0, "loss")
    for attempts in (
        '[{"start": 1' + "0" * 400 + "}]",
        '[{"start": "x"}, 3, null]',
        '{"start": 1}',
        '[{"start": NaN}]',
    ):
        (tmp_path / "run.json").write_text(f'{{"attempts": {attempts}}}')
        assert allogger.open_run(tmp_path)["root/loss"].value.tolist() == [1.0]


def test_tables_of_the_same_columns_in_one_folder_stay_apart(tmp_path: Path) -> None:
    for fold in (1, 2):
        (tmp_path / f"fold{fold}.csv").write_text(f"epoch,loss\n0,{fold}\n1,{fold}\n")
    series = allogger.open_run(tmp_path)["root/loss"]
    assert sorted(zip(series.process, series.value, strict=True)) == [("fold1", 1)] * 2 + [("fold2", 2)] * 2


# ---------------------------------------------------------------------------------------------------------- W&B, MLflow


def test_the_runs_of_a_store_of_mlflow_are_told_apart_by_their_names(tmp_path: Path) -> None:
    for number, name in enumerate(["same", "same", "other"]):
        run = tmp_path / "mlruns" / "0" / (f"{number}" * 16)
        (run / "metrics").mkdir(parents=True)
        (run / "meta.yaml").write_text(f"run_name: {name}\nstart_time: 1700000000000\n")
        (run / "metrics" / "loss").write_text(f"170000000{number}000 {number} {number}\n")
    (tmp_path / "mlruns" / "0" / "meta.yaml").write_text("experiment_id: '0'\n")
    series = allogger.open_run(tmp_path / "mlruns")["root/loss"]
    assert series.process.tolist() == ["same@00000000", "same@11111111", "other"]
    assert series.value.tolist() == [0, 1, 2]
    runs = allogger.open_runs(tmp_path / "mlruns/**")
    assert [run["root/loss"].value.tolist() for run in runs] == [[0], [1], [2]]


# --------------------------------------------------------------------------------------------------------- what is not


def test_what_nobody_knows_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.csv").write_text("a,b\n1,2\n")
    (tmp_path / "other" / "model.h5").write_bytes(b"weights")
    (tmp_path / "other" / "notes.txt").write_text("hello\n")
    os.mkfifo(tmp_path / "pipe")
    for name in ("empty", "other", "missing", "other/notes.txt", "pipe"):
        with pytest.raises(NotARun):
            allogger.open_run(tmp_path / name)
        assert foreign_shards(tmp_path / name) is None


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "b.db").write_bytes(b"SQLite format 3\0" + bytes(100))
    with sqlite3.connect(tmp_path / "c.db") as base:
        base.execute("CREATE TABLE other (x)")
    base.close()
    for name in ("a.h5", "b.db", "c.db"):
        with pytest.raises(DamagedFile, match=name):
            allogger.open_run(tmp_path / name)


def test_runs_of_ours_below_a_folder_do_not_make_it_a_run(tmp_path: Path) -> None:
    with allogger.run(tmp_path / "one", ["tensorboard"]) as logger:
        logger.log(1.0, "loss")
    with pytest.raises(NotARun):
        allogger.open_run(tmp_path)


def test_a_folder_that_cannot_be_read_is_told_and_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    for _ in range(2):
        with allogger.run(tmp_path, ["csv", "tensorboard"], tensorboard_writer_params={"use_hdf_hook": False}) as root:
            root.log(0.5, "loss")
        # The superuser may read everything.
        monkeypatch.setattr(Path, "iterdir", refused)
    run = allogger.open_run(tmp_path)

    assert run["root/loss"].step.tolist() == [1, 2]
    assert ["MainProcess cannot be read" in what for what in run.damage] == [True]
