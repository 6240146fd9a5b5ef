"""ParamsKind: are the parameters of a program in every output, and read back with the run?"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger


@dataclass
class Config:
    seed: int = 1
    rate: float = 1e-3
    layers: list[int] = field(default_factory=lambda: [64, 32])
    data: Path = Path("mnist")


AS_READ = {"seed": 1, "rate": 0.001, "layers": [64, 32], "data": "mnist"}


@pytest.mark.parametrize("is_closed", [False, True])
def test_parameters_are_read_back_from_a_live_and_from_a_finished_run(tmp_path: Path, is_closed: bool) -> None:
    root = allogger.basic_configure(tmp_path, ["hdf", "csv", "tensorboard"])
    root.log(Config(), "params", data_type="params")
    allogger.get_logger("agent").log({"gamma": 0.9}, "config", data_type="params")
    allogger.close() if is_closed else allogger.flush()

    run = allogger.open_run(tmp_path)
    assert run.params == {**AS_READ, "agent/config": {"gamma": 0.9}}
    assert run["root/params"].kind == "params"
    assert run["root/params"].value.tolist() == [AS_READ]
    assert run.kinds == {"agent/config": "params", "root/params": "params"}


def test_parameters_are_in_the_table_and_in_tensorboard(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path, ["csv", "tensorboard"])
    root.log(Config(), "params", data_type="params")
    allogger.close()

    with open(next(tmp_path.glob("events/*.csv")), newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["key"], row["kind"], json.loads(row["value"])) == ("root/params", "params", AS_READ)
    reader = EventAccumulator(str(tmp_path / "events/MainProcess")).Reload()
    (event,) = reader.Tensors("root/params")
    shown = event.tensor_proto.string_val[0].decode()
    # Four spaces are what Markdown shows as it is.
    assert all(line.startswith("    ") for line in shown.splitlines())
    assert json.loads(shown) == AS_READ


@pytest.mark.parametrize("value", [0.5, "text", [1, 2], None])
def test_what_is_no_parameters_is_counted_and_raises_nothing(
    tmp_path: Path, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    root = allogger.basic_configure(tmp_path)

    root.log(value, "params", data_type="params")
    allogger.close()

    assert "parameters have names" in caplog.text
    assert "1 values were not stored: 'root/params' 1" in caplog.text


def test_of_parameters_logged_again_the_last_count(tmp_path: Path) -> None:
    with allogger.run(tmp_path) as root:
        root.log({"rate": 0.1, "seed": 1}, "params", data_type="params")
        root.log({"rate": 0.2}, "params", data_type="params")

    assert allogger.open_run(tmp_path).params == {"rate": 0.2}
