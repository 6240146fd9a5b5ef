"""Acts: does each kind of a tracker store what it says, where readers and TensorBoard find it?"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger
from allogger import Tracker
from allogger.manager import manager
from allogger.record import full_key
from allogger.tracker.acts import KINDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _reset() -> Iterator[None]:
    manager.reset()
    yield
    manager.reset()


@pytest.fixture
def logged(tmp_path: Path) -> Callable[..., allogger.Run]:
    """Log one item: ``logged(item, kind, **options)`` under the key ``it``, and return the finished run."""

    def log(item: Any, kind: str, **options: Any) -> allogger.Run:
        with Tracker(tmp_path / "run", ["hdf", "tensorboard"]).start_logging() as tracker:
            tracker.log(item, "it", kind=kind, **options)
        return allogger.open_run(tmp_path / "run")

    return log


def last(run: allogger.Run, key: str = "root/it") -> Any:
    return run[key].value[-1]


def shown(run: allogger.Run) -> EventAccumulator:
    return EventAccumulator(
        str(run.logdir / "events/MainProcess"), {"images": 0, "tensors": 0, "histograms": 0}
    ).Reload()


def text_of(run: allogger.Run, tag: str = "root/it") -> str:
    return str(shown(run).Tensors(tag)[-1].tensor_proto.string_val[0].decode())


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.Dropout(),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 8 * 8, 10),
    )


# What one forward pass of `network` takes for one picture: two for each product of the convolution and the matrix.
FLOPS = 2 * (4 * 1 * 3 * 3 * 8 * 8) + 2 * (4 * 8 * 8 * 10)


def test_the_documentation_has_a_row_for_each_kind() -> None:
    rows = (ROOT / "docs/tracker.md").read_text(encoding="utf-8").splitlines()

    assert [kind for kind in KINDS if sum(row.startswith(f"| `{kind}` |") for row in rows) != 1] == []


# ------------------------------------------------------------------------------------------------- values and documents


def test_a_metric_is_a_number_or_a_dict_of_numbers(logged: Callable[..., allogger.Run]) -> None:
    assert last(logged(torch.tensor(0.5, requires_grad=True), "metric")) == 0.5
    run = logged({"loss": 0.25, "norm": {"in": 2}}, "metric")

    assert (last(run, "root/it/loss"), last(run, "root/it/norm/in")) == (0.25, 2)
    assert shown(run).Scalars("root/it/loss")[0].value == 0.25


def test_a_text_a_dict_and_a_parameter_read_back_as_they_were(tmp_path: Path) -> None:
    document = {"a": [1, 2.5, None, {"b": "ü"}], "c": {}}
    with Tracker(tmp_path, ["hdf", "tensorboard"]).start_logging() as tracker:
        tracker.log("a text", "text", kind="text")
        tracker.log(document, "it", kind="dict")
        tracker.log("adam", "optimizer", kind="param")

    run = allogger.open_run(tmp_path)
    assert last(run, "root/text") == "a text"
    assert last(run) == document
    assert run.params == {"optimizer": "adam", "root/it": document}
    assert "a text" in text_of(run, "root/text")
    assert '"b": "ü"' in text_of(run)
    assert '"optimizer": "adam"' in text_of(run, "root/params")


@pytest.mark.parametrize("make", [np.asarray, Image.fromarray, torch.from_numpy])
def test_an_image_keeps_its_pixels(logged: Callable[..., allogger.Run], make: Callable[[Any], Any]) -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)

    run = logged(make(pixels), "image")

    np.testing.assert_array_equal(last(run), pixels, strict=True)
    png = shown(run).Images("root/it")[0].encoded_image_string
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), pixels)


def test_a_figure_is_a_picture(logged: Callable[..., allogger.Run]) -> None:
    figure = Figure(figsize=(2, 1), dpi=50)
    figure.add_subplot().plot([1, 2])

    run = logged(figure, "figure")

    assert (run.kinds["root/it"], last(run).shape) == ("figure", (50, 100, 3))
    assert shown(run).Images("root/it")[0].width == 100


def test_kinds_of_allogger_are_kinds_of_a_tracker(logged: Callable[..., allogger.Run]) -> None:
    assert last(logged({"a": [1, 2]}, "table"))["a"].tolist() == [1, 2]
    assert last(logged([1.5, 2.5], "array")).tolist() == [1.5, 2.5]


# -------------------------------------------------------------------------------------------------------- files, models


def test_an_artifact_is_a_copy_of_a_file_or_folder(logged: Callable[..., allogger.Run], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "notes.txt").write_text("kept")

    run = logged(folder / "notes.txt", "artifact")
    run = logged(str(folder), "artifact")

    file, tree = run.artifacts()
    assert file.copy_to(tmp_path / "a").read_text() == "kept"
    assert (tree.copy_to(tmp_path / "b") / "notes.txt").read_text() == "kept"


@pytest.mark.parametrize("kind", ["model", "torch"])
def test_the_state_of_a_model_is_stored_exactly(logged: Callable[..., allogger.Run], kind: str) -> None:
    model = network()

    (artifact,) = logged(model, kind).artifacts()

    state = artifact.load("torch")
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert state.keys() == model.state_dict().keys()


@settings(max_examples=15, deadline=None)
@given(arrays.arrays(st.sampled_from(["f2", "f4", "f8", "i1", "i8", "?"]), arrays.array_shapes(min_dims=0, min_side=0)))
def test_any_tensor_comes_back_with_its_dtype(tmp_path_factory: pytest.TempPathFactory, array: Any) -> None:
    logdir = tmp_path_factory.mktemp("run")
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    with Tracker(logdir).start_logging() as tracker:
        tracker.log(tensor, "it", kind="torch")
        tracker.log({"low": tensor.to(torch.bfloat16), "rest": [1, None]}, "tree", kind="torch")

    (one,) = allogger.open_run(logdir).artifacts("/it$")
    (tree,) = allogger.open_run(logdir).artifacts("/tree$")

    assert one.load("torch").dtype == tensor.dtype
    assert torch.equal(torch.nan_to_num(one.load("torch")), torch.nan_to_num(tensor))
    assert tree.load("torch")["low"].dtype == torch.bfloat16
    assert tree.load("torch")["rest"] == [1, None]


def test_an_object_is_pickled_only_if_that_is_asked_for(
    logged: Callable[..., allogger.Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = network()
    assert not logged({"model": {1, 2}}, "torch").artifacts()
    assert any("cannot be stored" in record.getMessage() for record in caplog.records)

    (artifact,) = logged(model, "torch", pickle=True).artifacts()

    assert (artifact.name, artifact.kind) == ("it.pt", "artifact")
    restored = torch.load(artifact.copy_to(tmp_path), weights_only=False)
    assert torch.equal(restored[0].weight, model[0].weight)


def test_of_best_models_the_best_and_the_last_are_kept(tmp_path: Path) -> None:
    with Tracker(tmp_path).start_logging() as tracker:
        for epoch, accuracy in enumerate([0.5, 0.9, 0.7, 0.8], 1):
            tracker.log({"epoch": np.array(epoch)}, "it", kind="best_model", step=epoch, metric=accuracy, mode="max")
        for epoch in range(3):
            tracker.log({"epoch": np.array(epoch)}, "unrated", kind="best_model", step=epoch)

    run = allogger.open_run(tmp_path)
    best = run.checkpoint("best", "/it$")
    assert best is not None
    assert (best.step, best.metric, best.load()["epoch"]) == (2, 0.9, 2)
    assert [one.step for one in run.checkpoints("/it$") if not one.is_removed] == [2, 4]
    assert [one.step for one in run.checkpoints("unrated") if not one.is_removed] == [2]


# ------------------------------------------------------------------------------------------------------------- datasets


class Endless(torch.utils.data.IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


class Squares(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> int:
        raise AssertionError("a description must not run the code of the dataset")


def test_a_dataset_is_described_by_name_length_and_fingerprint(
    logged: Callable[..., allogger.Run], tmp_path: Path
) -> None:
    pictures = torch.arange(24.0).reshape(6, 4)
    tensors = torch.utils.data.TensorDataset(pictures, torch.arange(6))
    # Columns are attributes, too.
    frame = pd.DataFrame({"name": [1, 2], "dataset": ["a", None], "batch_size": [1, 1]})
    (tmp_path / "data.csv").write_text("x\n1\n")
    found = {
        name: last(logged(dataset, "dataset"))
        for name, dataset in {
            "tensors": tensors,
            "loader": torch.utils.data.DataLoader(tensors, batch_size=4),
            "frame": frame,
            "dict": {"x": np.arange(3), "y": [1, 2, 3]},
            "splits": {"train": np.arange(3), "test": [1, 2]},
            "path": tmp_path / "data.csv",
            "folder": tmp_path,
            "map": Squares(),
        }.items()
    }

    assert {name: about["length"] for name, about in found.items()} == {
        "tensors": 6,
        "loader": 6,
        "frame": 2,
        "dict": 3,
        "splits": None,
        "path": 1,
        "folder": found["folder"]["length"],
        "map": 7,
    }
    assert (found["loader"]["batch_size"], found["loader"]["batches"]) == (4, 2)
    assert found["loader"]["fingerprint"] == found["tensors"]["fingerprint"]
    assert (found["frame"]["name"], found["frame"]["columns"]) == ("DataFrame", ["name", "dataset", "batch_size"])
    assert found["splits"]["lengths"] == {"train": 3, "test": 2}
    assert (found["path"]["name"], found["path"]["bytes"]) == ("data.csv", 4)
    assert found["map"]["fingerprint"] is None
    assert [len(about["fingerprint"]) for name, about in found.items() if name != "map"] == [64] * 7


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.arange(4), np.arange(4.0)),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        ({"a": np.zeros(2)}, {"b": np.zeros(2)}),
        (pd.DataFrame({"x": [1, 2]}), pd.DataFrame({"x": [1, 3]})),
        (torch.utils.data.TensorDataset(torch.zeros(3)), torch.utils.data.TensorDataset(torch.ones(3))),
    ],
)
def test_fingerprints_of_different_datasets_differ_and_of_equal_ones_do_not(
    logged: Callable[..., allogger.Run], one: Any, other: Any
) -> None:
    prints = [last(logged(dataset, "dataset"))["fingerprint"] for dataset in (one, other, one)]

    assert prints[0] == prints[2] != prints[1]


def test_a_dataset_takes_a_name_parameters_and_a_copy(logged: Callable[..., allogger.Run], tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("x\n1\n")

    run = logged(file, "dataset", name="ones", params={"split": "train"}, artifact=True)

    assert (last(run)["name"], last(run)["split"]) == ("ones", "train")
    assert [artifact.key for artifact in run.artifacts()] == ["root/it/artifact"]


def test_what_has_neither_length_nor_content_is_no_dataset(
    logged: Callable[..., allogger.Run], caplog: pytest.LogCaptureFixture
) -> None:
    assert "root/it" not in logged(Endless(), "dataset")
    assert any("unlike" in record.getMessage() for record in caplog.records)


# ------------------------------------------------------------------------------------------------------------- measured


def test_watching_logs_gradients_and_parameters_of_a_training(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 1)
    with Tracker(tmp_path, ["hdf", "tensorboard"]).start_logging() as tracker:
        tracker.log(model, "net", kind="watch", every_n=2)
        for _ in range(4):
            model.zero_grad()
            model(torch.ones(3, 2)).sum().backward()

    run = allogger.open_run(tmp_path)
    assert run["root/net/gradients/weight"].step.tolist() == [2, 4]
    np.testing.assert_array_equal(run["root/net/gradients/weight"].value[0].ravel(), [3, 3])
    assert len(shown(run).Histograms("root/net/parameters/weight")) == 2


def test_flops_are_those_of_a_forward_pass_and_the_model_stays_as_it_is(logged: Callable[..., allogger.Run]) -> None:
    model = network()
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pictures = torch.rand(5, 1, 8, 8)
    random = torch.random.get_rng_state()

    run = logged((model, (pictures, torch.zeros(5))), "flops_pb")

    assert last(run) == 5 * FLOPS
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [part.training for part in model] == [True, True, False, True, True]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_flops_of_an_epoch_are_those_of_its_batches(tmp_path: Path) -> None:
    model, line = network(), torch.nn.Linear(4, 2)
    data = torch.utils.data.TensorDataset(torch.rand(12, 1, 8, 8), torch.zeros(12))
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    random = torch.random.get_rng_state()
    with Tracker(tmp_path).start_logging() as tracker:
        tracker.log((model, loader), "loader", kind="flops_pe")
        tracker.log((model, data), "dataset", kind="flops_pe")
        tracker.log((line, {"input": torch.zeros(3, 4)}), "named", kind="flops_pb")

    run = allogger.open_run(tmp_path)
    assert last(run, "root/loader") == last(run, "root/dataset") == 12 * FLOPS
    assert last(run, "root/named") == 2 * 3 * 4 * 2
    assert torch.equal(torch.random.get_rng_state(), random)


def test_the_machine_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("psutil")
    with Tracker(tmp_path).start_logging() as tracker:
        tracker.log(None, "system", kind="system")

    run = allogger.open_run(tmp_path)
    assert last(run, "root/system/memory/process_rss_bytes") > 2**20


def test_the_execution_time_is_that_since_the_beginning_or_the_given_one(logged: Callable[..., allogger.Run]) -> None:
    assert 0 < last(logged(None, "execution_time")) < 10
    assert last(logged(1.5, "execution_time")) == 1.5


@pytest.mark.skipif(os.path.exists("/sys/class/powercap/intel-rapl:0"), reason="this machine measures its processors")
def test_energy_that_nobody_measures_is_told_or_estimated_with_what_the_user_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, rates in {"no": {}, "yes": {"cpu_watts": 10.0, "grams_co2_per_kwh": 360.0}}.items():
        with Tracker(tmp_path / name, **rates).start_logging() as tracker:
            sum(range(200_000))
            tracker.log(None, "it", kind="carbon")

    assert "root/it/joules" not in allogger.open_run(tmp_path / "no")
    assert sum("does not measure energy" in record.getMessage() for record in caplog.records) == 1
    run = allogger.open_run(tmp_path / "yes")
    joules = last(run, "root/it/joules")
    assert 0 < joules < 100
    assert last(run, "root/it/kwh") == joules / 3.6e6
    assert last(run, "root/it/grams_co2") == pytest.approx(joules * 1e-4)


# ----------------------------------------------------------------------------------------------------------- provenance


# https://www.w3.org/submissions/prov-json/: what the relations that we use join.
RELATIONS = {
    "used": {"prov:activity": "activity", "prov:entity": "entity"},
    "wasGeneratedBy": {"prov:entity": "entity", "prov:activity": "activity"},
    "wasAssociatedWith": {"prov:activity": "activity", "prov:agent": "agent"},
}


def check_prov_json(document: dict[str, Any]) -> None:
    """Raise an AssertionError where a document is not what PROV-JSON says."""
    assert document.keys() <= {"prefix", "entity", "activity", "agent", *RELATIONS}
    known = {*document["prefix"], "prov", "xsd"}

    def check_name(name: str) -> None:
        prefix, colon, local = name.partition(":")
        assert colon
        assert prefix in known
        assert local
        assert not set(local) & set(" <>\"{}|\\^`'()=,;[]\n")

    def check_value(value: Any) -> None:
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                assert each.keys() == {"$", "type"}
                check_name(each["type"])
            else:
                assert isinstance(each, str | int | float | bool)

    for what in ("entity", "activity", "agent"):
        for name, attributes in document[what].items():
            check_name(name)
            for attribute, value in attributes.items():
                check_name(attribute)
                check_value(value)
    for activity in document["activity"].values():
        times = [datetime.fromisoformat(activity[name]) for name in ("prov:startTime", "prov:endTime")]
        assert times == sorted(times)
    for relation, joins in RELATIONS.items():
        for name, ends in document[relation].items():
            assert name.startswith("_:")
            assert ends.keys() == joins.keys()
            assert all(ends[end] in document[what] for end, what in joins.items())


def test_a_document_of_provenance_names_what_the_run_used_and_made(logged: Callable[..., allogger.Run]) -> None:
    logged({"rate": 0.1, "nan": float("nan"), "odd name (ü)": [1, [2], {"a": None}], "empty": []}, "dict")
    logged(np.zeros((4, 2)), "dataset", context="data")
    logged(0.5, "metric", context="odd scope, with spaces")

    document = json.loads(last(logged(None, "prov_documents", context="prov"), "root/prov/it"))

    check_prov_json(document)
    assert {about["prov:label"] for about in document["entity"].values()} == {
        "root/it",
        "root/data/it",
        "root/odd scope, with spaces/it",
    }
    made = {one["prov:entity"] for one in document["wasGeneratedBy"].values()}
    assert made == {"run:series/root/odd%20scope%2C%20with%20spaces/it"}
    assert document["entity"]["run:params/root/it"]["param:rate"] == 0.1
    assert len(document["used"]) == 2


@settings(max_examples=25, deadline=None)
@given(
    key=st.text(min_size=1, max_size=20),
    params=st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=4,
    ),
)
def test_documents_are_valid_whatever_names_and_parameters_are(
    tmp_path_factory: pytest.TempPathFactory, key: str, params: dict[str, Any]
) -> None:
    logdir = tmp_path_factory.mktemp("run")
    with Tracker(logdir).start_logging() as tracker:
        tracker.save_hyperparameters(params)
        tracker.log(1, key)
        tracker.log(None, "prov", kind="prov_documents")

    document = json.loads(last(allogger.open_run(logdir), "root/prov"))
    check_prov_json(document)
    # What was logged a moment ago is in it.
    assert full_key("root", key) in {about["prov:label"] for about in document["entity"].values()}
