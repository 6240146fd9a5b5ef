"""Do nested states come back as they were, to the last bit, and is everything else refused by the name of its place?"""

from __future__ import annotations

import collections
import contextlib
import io
import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import allogger
from allogger.errors import DamagedFile
from allogger.plain import Unstorable
from allogger.states import As, read_state, write_state

BOTH: tuple[As, As] = ("numpy", "torch")


def stored(path: Path, state: Any) -> Path:
    with open(path, "wb") as file:
        write_state(file, state)
    return path


def round_trip(tmp_path: Path, state: Any, as_: As = "numpy") -> Any:
    return read_state(stored(tmp_path / "state.safetensors", state), as_)


def exact(value: Any) -> Any:
    """Return *value* in a form that equal values share to the last bit, NaN and types included."""
    if isinstance(value, dict):
        return "dict", [(exact(key), exact(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [exact(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return type(value).__name__, value.shape, value.dtype, np.asarray(value).tobytes()
    if isinstance(value, float | complex):
        return type(value).__name__, struct.pack(">dd", value.real, value.imag)
    return type(value).__name__, value


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(exclude_categories=()))
    | st.binary(max_size=9)
)
dtypes = npst.scalar_dtypes() | npst.unicode_string_dtypes(max_len=3) | npst.byte_string_dtypes(max_len=3)
arrays = npst.arrays(dtypes, npst.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3))
keys = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.tuples(inner, inner),
    max_leaves=3,
)
states = st.recursive(
    scalars | arrays | arrays.map(lambda array: array.reshape(-1)[0] if array.size else array),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(state=states)
def test_any_nested_state_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, state: Any) -> None:
    shown = round_trip(tmp_path_factory.getbasetemp(), state)

    assert exact(shown) == exact(state)


@settings(max_examples=20, deadline=None)
@given(state=states, name=st.text(st.characters(exclude_categories=()), max_size=300), data=st.binary(max_size=9))
def test_any_state_and_file_comes_back_from_a_run(
    tmp_path_factory: pytest.TempPathFactory, state: Any, name: str, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("run")
    with allogger.run(folder / "run") as root:
        root.log(state, "model", data_type="model")
        root.checkpoint(state)
        root.log({"name": name, "data": data}, "file", data_type="artifact")

    run = allogger.open_run(folder / "run")
    (model,), (checkpoint,), (file,) = run.artifacts("model"), run.checkpoints(), run.artifacts("file")
    assert exact(model.load()) == exact(checkpoint.load()) == exact(state)
    assert (file.name, file.copy_to(folder / "out").read_bytes()) == (name, data)


SPECIAL = {
    "bfloat16": torch.randn(3, 2).bfloat16(),
    "half": torch.randn(3).half(),
    "complex": torch.randn(3, dtype=torch.complex64),
    "empty": torch.zeros(0, 3),
    "0-d": torch.tensor(3.5),
    "bool": torch.tensor([True, False]),
    "transposed": torch.arange(6).reshape(2, 3).T,
    "conjugate": torch.tensor([1j]).conj(),
    "gradient": torch.ones(2, requires_grad=True),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "uint16": torch.arange(3).to(torch.uint16),
}


def test_tensors_of_every_dtype_come_back_as_tensors(tmp_path: Path) -> None:
    shown = round_trip(tmp_path, SPECIAL, "torch")

    for name, tensor in SPECIAL.items():
        assert shown[name].dtype == tensor.dtype, name
        assert shown[name].device.type == "cpu"
        assert torch.equal(shown[name], tensor), name


def test_tensors_come_back_as_arrays_where_nothing_else_is_asked_for(tmp_path: Path) -> None:
    shown = round_trip(tmp_path, SPECIAL)

    assert shown["bfloat16"].dtype == np.float32
    for name, tensor in SPECIAL.items():
        wide = tensor.detach().float() if name == "bfloat16" else tensor.detach().resolve_conj()
        np.testing.assert_array_equal(shown[name], wide.numpy(), err_msg=name)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_all_256_numbers_of_8_bits_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(dtype)

    np.testing.assert_array_equal(round_trip(tmp_path, every), every.float().numpy())
    assert torch.equal(round_trip(tmp_path, every, "torch").view(torch.uint8), every.view(torch.uint8))


def test_the_state_of_a_model_is_a_file_that_safetensors_reads(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2).bfloat16())

    found = safetensors.torch.load_file(stored(tmp_path / "state", model))

    assert list(found) != []
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


def test_a_file_of_safetensors_is_a_state(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(2, 3), "b": torch.arange(4), "c": torch.randn(3).bfloat16()}
    safetensors.torch.save_file(tensors, tmp_path / "theirs")

    shown = read_state(tmp_path / "theirs", "torch")

    assert shown.keys() == tensors.keys()
    assert all(torch.equal(shown[name], tensor) for name, tensor in tensors.items())


def test_random_generators_go_on_where_they_were(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    state = {"python": random.getstate(), "old": np.random.get_state(), "new": generator.bit_generator.state}
    shown = round_trip(tmp_path, state)
    expected = random.random(), generator.random()

    random.setstate(shown["python"])
    again = np.random.default_rng()
    again.bit_generator.state = shown["new"]

    assert (random.random(), again.random()) == expected
    np.random.set_state(shown["old"])


class Schedule:
    """An object that knows its state, as schedules of torch do."""

    def state_dict(self) -> dict[str, Any]:
        return {"last": 3}


class Network:
    """An object that knows its weights, as models of Keras do."""

    def get_weights(self) -> list[Any]:
        return [np.ones(2), np.zeros(3)]


def test_objects_stand_for_their_state(tmp_path: Path) -> None:
    logger = allogger.get_logger("states")
    state = {"schedule": Schedule(), "network": Network(), "logger": logger, "ordered": collections.OrderedDict(a=1)}

    shown = round_trip(tmp_path, state)

    assert shown["schedule"] == {"last": 3}
    assert [weights.tolist() for weights in shown["network"]] == [[1, 1], [0, 0, 0]]
    assert shown["logger"] == logger.state_dict()
    assert shown["ordered"] == {"a": 1}


class Weighted(torch.nn.Linear):
    """A module of torch with weights that are not its state."""

    def get_weights(self) -> list[float]:
        return [0.5]


def test_what_a_module_of_torch_calls_its_weights_is_not_taken_for_its_state(tmp_path: Path) -> None:
    of_keras = type("Model", (Weighted,), {"__module__": "keras.src.models"})

    assert round_trip(tmp_path, Weighted(2, 1)).keys() == {"weight", "bias"}
    assert round_trip(tmp_path, of_keras(2, 1)) == [0.5]


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"optimizer": [{"lr_lambda": lambda epoch: epoch}]}, "'optimizer/0/lr_lambda' is a value of type function"),
        ({"device": torch.device("cpu")}, "'device' is a value of type torch.device"),
        ({"sparse": torch.eye(3).to_sparse()}, "'sparse' is a value of type torch.Tensor"),
        ({"objects": np.array([object()])}, "'objects' is a value of type numpy.ndarray"),
        ({"masked": np.ma.array([1], mask=[True])}, "'masked' is a value of type numpy.ma"),
        ({"set": {1}}, "'set' is a value of type set"),
        ({Path("a"): 1}, "the state is a value of type pathlib"),
        (object(), "the state is a value of type object"),
    ],
)
def test_what_is_no_state_is_refused_by_the_name_of_its_place(state: Any, place: str) -> None:
    with pytest.raises(Unstorable, match=place):
        write_state(io.BytesIO(), state)


def test_a_state_that_holds_itself_is_refused() -> None:
    itself: list[Any] = []
    itself.append(itself)

    with pytest.raises(Unstorable, match="holds itself"):
        write_state(io.BytesIO(), itself)


def test_an_object_that_raises_is_refused() -> None:
    class Broken:
        def state_dict(self) -> None:
            raise RuntimeError("no state today")

    with pytest.raises(Unstorable, match=r"'a' .*no state today"):
        write_state(io.BytesIO(), {"a": Broken()})


def test_training_goes_on_bit_for_bit_from_a_stored_state(tmp_path: Path) -> None:
    x, y = torch.randn(32, 5), torch.randn(32, 1)

    def made() -> tuple[torch.nn.Module, torch.optim.Optimizer, Any]:
        model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, amsgrad=True)
        return model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20)

    def trained(parts: tuple[torch.nn.Module, torch.optim.Optimizer, Any]) -> list[float]:
        model, optimizer, schedule = parts
        losses = []
        for _ in range(5):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        return losses

    first = made()
    trained(first)
    names = ("model", "optimizer", "schedule")
    state = round_trip(tmp_path, dict(zip(names, first, strict=True)), "torch")
    second = made()
    for name, part in zip(names, second, strict=True):
        part.load_state_dict(state[name])

    assert trained(second) == trained(first)
    for one, other in zip(first[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(one, other)


# -------------------------------------------------------------------------------------------------------- hostile files


def file_of(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def of_skeleton(skeleton: Any) -> dict[str, Any]:
    return {
        "__metadata__": {"allogger": skeleton if isinstance(skeleton, str) else json.dumps(skeleton)},
        "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
    }


def place(dtype: Any = "U8", shape: Any = (4,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[",
        b"[" * 100_000,
        [1],
        {"__metadata__": 1},
        {"a": 1},
        place(dtype="F128"),
        place(dtype=["U8"]),
        place(shape=[5]),
        place(shape=[-4]),
        place(shape=[2.0, 2]),
        place(shape=[2**62, 4]),
        place(shape=[0, 2**62, 2**62], offsets=[0, 0]),
        place(shape=[1] * 1000, offsets=[0, 1]),
        place(offsets=[0, 5]),
        place(offsets=[4, 0]),
        place(offsets=[-4, 0]),
        place(offsets=[True, 5]),
        {**place(), "b": place()["a"]},
        of_skeleton("["),
        of_skeleton("[" * 100_000),
        of_skeleton({}),
        of_skeleton({"pickle": "a"}),
        of_skeleton({"array": "b"}),
        of_skeleton([{"array": "a"}, {"array": "a"}]),
        of_skeleton({"array": "a", "dtype": "|O", "shape": [1]}),
        place(dtype="BOOL"),
        of_skeleton({"array": "a", "dtype": "<M8[s]", "shape": [2**60]}),
        of_skeleton({"array": "a", "dtype": "<U1", "shape": [1]}),
        of_skeleton({"dict": [[["unhashable"], 1]]}),
        of_skeleton({"dict": 3}),
        of_skeleton({"float": "00"}),
        of_skeleton({"int": "x"}),
        of_skeleton({"complex": ["00"]}),
    ],
    ids=lambda header: str(header)[:60],
)
def test_a_hostile_file_is_damaged_and_nothing_worse(tmp_path: Path, header: Any) -> None:
    for as_ in BOTH:
        with pytest.raises(DamagedFile):
            read_state(file_of(tmp_path / "hostile", header, b"\xff\xff\xff\xff"), as_)


@pytest.mark.parametrize("length", [2**63, 2**32, 9, 10**9])
def test_a_header_that_is_longer_than_the_file_is_damage(tmp_path: Path, length: int) -> None:
    with pytest.raises(DamagedFile):
        read_state(file_of(tmp_path / "hostile", b"{}", length=length))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_file_with_changed_bytes_is_a_state_or_damaged(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = io.BytesIO()
    write_state(
        whole, {"a": np.arange(3.0), "b": [1, math.nan, "text", (2,)], "c": np.array(["x"]), 1: SPECIAL["half"]}
    )
    raw = bytearray(whole.getvalue())
    for at in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=3)):
        raw[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])

    for as_ in BOTH:
        with contextlib.suppress(DamagedFile):
            read_state(path, as_)


def test_an_unknown_library_is_named_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(allogger.UnknownName, match="did you mean 'torch'"):
        round_trip(tmp_path, {}, "torhc")  # type: ignore[arg-type]
