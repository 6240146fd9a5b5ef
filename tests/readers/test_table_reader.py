from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from allogger.errors import DamagedFile
from allogger.reader import Columns, SeriesId
from allogger.readers.table import TableReader

CHANGED = 1_700_000_000.5

# What PyTorch Lightning's CSVLogger writes: the metrics that were not logged at a step are empty.
LIGHTNING = "epoch,step,train_loss,val/acc\n0,49,0.5,\n0,99,0.25,\n0,99,,0.75\n1,149,0.125,\n"
# What Keras's CSVLogger writes, also with another separator; "NA" after an early stop.
KERAS = 'epoch,accuracy,loss,note,learning_rate\r\n0,0.5,nan,"[1, 2]",0.001\r\n1,0.75,1e-3,x,NA\r\n'


def table(folder: Path, content: str, name: str = "metrics.csv") -> TableReader:
    path = folder / name
    path.write_bytes(content.encode())
    os.utime(path, (CHANGED, CHANGED))
    return TableReader(path)


def read(reader: TableReader, key: str, kind: str = "scalar") -> Columns:
    return reader.read(SeriesId(kind, "root", key))


def test_the_table_of_lightning_has_values_where_cells_are_filled(tmp_path: Path) -> None:
    reader = table(tmp_path, LIGHTNING)
    assert [series.key for series in reader.keys()] == ["epoch", "train_loss", "val/acc"]  # noqa: SIM118
    loss = read(reader, "train_loss")
    assert (loss.step.tolist(), loss.value.tolist()) == ([49, 99, 149], [0.5, 0.25, 0.125])
    assert read(reader, "val/acc").step.tolist() == [99]
    assert read(reader, "epoch").value.tolist() == [0, 0, 0, 1]
    assert read(reader, "epoch").value.dtype == np.int64
    assert loss.time.tolist() == [CHANGED] * 3
    assert reader.last_time() == CHANGED
    assert not reader.damage


def test_the_hyperparameters_beside_the_table_are_params(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="hparams.yaml is read with PyYAML")
    (tmp_path / "hparams.yaml").write_text("lr: 0.001\nlayers: [1, 2]\n")
    assert table(tmp_path, LIGHTNING).params == {"lr": 0.001, "layers": [1, 2]}


def test_hyperparameters_that_would_run_code_are_told_and_not_run(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="hparams.yaml is read with PyYAML")
    (tmp_path / "hparams.yaml").write_text(f"a: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    reader = table(tmp_path, LIGHTNING)
    assert reader.params == {}
    assert "hparams.yaml cannot be read" in reader.damage[0]
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_table_of_keras_counts_epochs(tmp_path: Path, separator: str) -> None:
    content = KERAS if separator == "," else KERAS.replace('"[1, 2]"', "[1 2]").replace(",", separator)
    reader = table(tmp_path, content, "training.log")
    assert read(reader, "accuracy").step.tolist() == [0, 1]
    np.testing.assert_array_equal(read(reader, "loss").value, [np.nan, 1e-3])
    assert read(reader, "learning_rate").step.tolist() == [0]
    assert len(read(reader, "note", "text").value) == 2
    assert "epoch" not in [series.key for series in reader.keys()]  # noqa: SIM118


def test_progress_of_stable_baselines3_has_its_times_before_the_last_change(tmp_path: Path) -> None:
    reader = table(tmp_path, "time/total_timesteps,time/time_elapsed,rollout/ep_rew_mean\n128,3,20.5\n256,7,30.25\n")
    reward = read(reader, "rollout/ep_rew_mean")
    assert reward.step.tolist() == [128, 256]
    assert reward.time.tolist() == [CHANGED - 4, CHANGED]


def test_a_monitor_file_counts_time_steps_and_knows_the_time(tmp_path: Path) -> None:
    head = json.dumps({"t_start": 1.6e9, "env_id": "CartPole-v1"})
    reader = table(tmp_path, f"#{head}\nr,l,t\n10.0,10,0.5\n30.0,30,1.25\n", "0.monitor.csv")
    reward = read(reader, "r")
    assert (reward.step.tolist(), reward.value.tolist()) == ([10, 40], [10.0, 30.0])
    assert reward.time.tolist() == [1.6e9 + 0.5, 1.6e9 + 1.25]
    assert reader.about["start"] == 1.6e9


def test_the_download_of_tensorboard_has_its_times(tmp_path: Path) -> None:
    reader = table(tmp_path, "Wall time,Step,Value\n1600000000.5,1,0.5\n1600000001.5,2,0.25\n")
    assert read(reader, "Value").time.tolist() == [1600000000.5, 1600000001.5]
    assert read(reader, "Value").step.tolist() == [1, 2]


def test_a_long_table_has_the_numbers_that_pandas_reads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"step": np.arange(20_000), "a": rng.standard_normal(20_000), "b": rng.integers(0, 9, 20_000)})
    frame.to_csv(tmp_path / "frame.csv", index=False)
    reader = TableReader(tmp_path / "frame.csv")
    assert read(reader, "a").value.tolist() == frame.a.tolist()
    assert read(reader, "b").value.tolist() == frame.b.tolist()


def test_what_is_no_row_is_told_and_left_out(tmp_path: Path) -> None:
    reader = table(tmp_path, "step,a\n1,0.5\nx,1\n2.5,1\n3,1,9\nstep,a\n4,2\ninf,3\n5,0.")
    assert read(reader, "a").step.tolist() == [1, 4]
    told = "\n".join(reader.damage)
    assert all(f"row {row} " in told for row in (2, 3, 4, 7))
    assert "row 5" not in told  # the head, once more
    assert "the last row has no end" in told


@pytest.mark.parametrize(
    "content", ["", "a,b\n1,2\n", "step\n1\n", "step,a,a\n1,2,3\n", "x" * 5_000_000, "\0\1\2\n", "#{bad\n", "#{}\n"]
)
def test_what_is_no_such_table_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DamagedFile):
        table(tmp_path, content)


def test_a_far_too_long_line_ends_the_table(tmp_path: Path) -> None:
    reader = table(tmp_path, "step,a\n1,2\n" + "9" * 5_000_000 + "\n3,4\n")
    assert read(reader, "a").step.tolist() == [1]
    assert "nothing behind it is read" in reader.damage[0]
