"""ParamsKind: are the parameters of a program in every output, and read back with the run?"""

from __future__ import annotations

import argparse
import csv
import enum
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger
from allogger.kinds.params import ParamsKind
from tests.everywhere import series_of


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


# -------------------------------------------------------------------------------------------------------- of libraries

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
TREES = st.dictionaries(
    st.text(max_size=5),
    st.recursive(LEAVES, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=3), part)),
    max_size=4,
)


@settings(max_examples=10, deadline=None)
@given(st.lists(TREES, min_size=1, max_size=2))
def test_parameters_come_back_exactly(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    for series in series_of(tmp_path_factory.mktemp("run"), "params", values):
        assert series.value.tolist() == values


class Schedule(enum.Enum):
    COSINE = "cosine"


class Optimizer(pydantic.BaseModel):
    rate: float = 0.1


class Adam(Optimizer):
    betas: tuple[float, float] = (0.9, 0.999)


class Sizes(pydantic.RootModel[list[int]]):
    pass


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    # Declared as the parent, so that pydantic's own dump would drop the betas.
    optimizer: Optimizer = Adam()
    sizes: Sizes = Sizes([64, 32])
    schedule: Schedule = Schedule.COSINE
    token: pydantic.SecretStr = pydantic.SecretStr("secret")
    hidden: str = pydantic.Field(default="hidden", exclude=True)
    data: Path = Path("mnist")


@dataclass
class Program:
    model: Model
    config: Any
    unset: int = field(init=False)


MODEL_AS_READ = {
    "optimizer": {"rate": 0.1, "betas": [0.9, 0.999]},
    "sizes": [64, 32],
    "schedule": "cosine",
    "token": "**********",
    "data": "mnist",
}


def test_models_of_pydantic_are_parameters_with_all_that_they_hold(tmp_path: Path) -> None:
    with allogger.run(tmp_path) as root:
        root.log(Model(more={"seed": 1}), "params")

    run = allogger.open_run(tmp_path)
    assert run.kinds == {"root/params": "params"}
    assert run.params == {**MODEL_AS_READ, "more": {"seed": 1}}
    assert b"secret" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_configs_of_omegaconf_are_parameters_with_their_interpolations_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA", "mnist")
    config = OmegaConf.create(
        {
            "seed": 3,
            "net": {"seed": "${seed}", "missing": "???", "lost": "${nowhere}"},
            "list": ["${seed}", {"data": "${oc.env:DATA}"}, "???", None],
            "copy": "${net}",
            "none": None,
        }
    )
    before = OmegaConf.to_yaml(config)
    net = {"seed": 3, "missing": "???", "lost": "${nowhere}"}
    as_read = {"seed": 3, "net": net, "list": [3, {"data": "mnist"}, "???", None], "copy": net, "none": None}
    with allogger.run(tmp_path) as root:
        root.log(config, "params")
        root.log({"config": config, "loss": 0.5}, "more")
        root.log(OmegaConf.structured(Config), "structured")

    run = allogger.open_run(tmp_path)
    assert run.kinds == {
        "root/more/config": "params",
        "root/more/loss": "scalar",
        "root/params": "params",
        "root/structured": "params",
    }
    assert run.params == {**as_read, "root/more/config": as_read, "root/structured": AS_READ}
    assert OmegaConf.to_yaml(config) == before
    assert json.loads(str(ParamsKind().encode(OmegaConf.create({"a": {"b": "${a}"}}))[0])) == {"a": {"b": "${a}"}}


def test_dataclasses_models_configs_and_namespaces_hold_each_other(tmp_path: Path) -> None:
    program = Program(Model(extra=Config()), OmegaConf.create({"rate": 0.5, "inner": {"a.b": 1}}))
    with allogger.run(tmp_path) as root:
        root.log(argparse.Namespace(program=program), "params")

    run = allogger.open_run(tmp_path)
    model = {**MODEL_AS_READ, "extra": AS_READ}
    assert run.params == {"program": {"model": model, "config": {"rate": 0.5, "inner": {"a.b": 1}}}}
    (row,) = allogger.open_runs(tmp_path).table().to_dict("records")
    assert row["params.program.model.optimizer.rate"] == 0.1
    assert row["params.program.config.inner.a.b"] == 1


def test_a_dict_or_a_dataclass_is_no_parameters_unless_said_so(tmp_path: Path) -> None:
    with allogger.run(tmp_path) as root:
        root.log({"rate": math.pi}, "dict")
        root.log(Config(), "object")

    assert allogger.open_run(tmp_path).kinds == {"root/dict/rate": "scalar"}
