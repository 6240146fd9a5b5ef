"""Watching: are gradients and parameters logged when and as promised, and is the training left alone?"""

from __future__ import annotations

import copy
import gc
import io
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import allogger
from allogger.errors import ConfigError, UnknownName
from allogger.testing import capture
from tests.conftest import Result

BATCH = torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.25, -1.0]])


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture
def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def backward(model: Callable[[Any], Any]) -> None:
    model(BATCH).square().mean().backward()


# ------------------------------------------------------------------------------------------------------- what is logged


def test_every_nth_step_of_a_training_is_logged_as_it_was(tmp_path: Path, model: nn.Module) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    seen: dict[str, list[np.ndarray[Any, Any]]] = {}

    with allogger.run(tmp_path):
        allogger.watch(model, every_n=3)
        for step in range(1, 8):
            optimizer.zero_grad()
            if step % 3 == 0:
                for name, parameter in model.named_parameters():
                    seen.setdefault(f"parameters/{name}", []).append(parameter.detach().numpy().copy())
            backward(model)
            if step % 3 == 0:
                for name, parameter in model.named_parameters():
                    seen.setdefault(f"gradients/{name}", []).append(parameter.grad.numpy().copy())
            optimizer.step()

    run = allogger.open_run(tmp_path)
    assert run.keys() == sorted(f"root/{name.replace('.', '/')}" for name in seen)
    for name, expected in seen.items():
        series = run[f"root/{name.replace('.', '/')}"]
        assert series.kind == "histogram"
        assert series.step.tolist() == [3, 6]
        assert all(np.array_equal(one, other) for one, other in zip(series.value, expected, strict=True))


def test_the_training_is_the_same_with_and_without(model: nn.Module) -> None:
    def train(model: nn.Module, watched: bool) -> list[torch.Tensor]:
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        if watched:
            allogger.watch(model, every_n=1, norms=True)
        for _ in range(5):
            optimizer.zero_grad()
            backward(model)
            optimizer.step()
        return list(model.parameters())

    other = copy.deepcopy(model)
    with capture():
        watched, plain = train(model, True), train(other, False)

    assert all(torch.equal(one, two) for one, two in zip(watched, plain, strict=True))


def test_only_what_was_asked_for_is_logged(model: nn.Module) -> None:
    logger = allogger.get_logger("agent")
    with capture() as captured:
        with allogger.watch(model, logger, every_n=1, what=["parameters"], prefix="critic"):
            backward(model)
        with allogger.watch(model, logger, every_n=1, what={"gradients"}, prefix="actor/"):
            backward(model)

    assert set(captured) == {
        f"agent/{what}/{name}"
        for what in ("critic/parameters", "actor/gradients")
        for name in ("0/weight", "0/bias", "2/weight", "2/bias")
    }


def test_norms_are_scalars_and_survive_half_precision() -> None:
    model = nn.Linear(3, 1, bias=False).to(torch.float16)
    with torch.no_grad():
        model.weight.fill_(300)  # squared it is infinite

    with capture() as captured:
        allogger.watch(model, every_n=1, norms=True)
        (model.weight * 2).sum().backward()

    assert captured["root/parameters/weight/norm"].kind == "scalar"
    assert captured["root/parameters/weight/norm"].value == pytest.approx([300 * 3**0.5])
    assert captured["root/gradients/weight/norm"].value == pytest.approx([2 * 3**0.5])


def test_a_gradient_that_is_not_finite_is_stored_and_its_norm_says_so() -> None:
    model = nn.Linear(2, 1, bias=False)
    with capture() as captured:
        allogger.watch(model, every_n=1, norms=True)
        (model.weight * torch.tensor([[float("nan"), float("inf")]])).sum().backward()

    assert np.isnan(captured["root/gradients/weight/norm"].value).all()
    assert np.array_equal(captured["root/gradients/weight"].value[0], [[np.nan, np.inf]], equal_nan=True)


def test_filters_decide_before_anything_is_touched(model: nn.Module) -> None:
    with capture(memory_writer_params={"filter": "^gradients/.*/norm$", "exclude": "bias"}) as captured:
        allogger.watch(model, every_n=1, norms=True)
        backward(model)

    assert captured.keys() == ["root/gradients/0/weight/norm", "root/gradients/2/weight/norm"]


# ------------------------------------------------------------------------------------------------------ what a step is


def test_each_backward_pass_is_a_step_also_when_gradients_accumulate(model: nn.Module) -> None:
    with capture() as captured, allogger.watch(model, every_n=2) as watched:
        for _ in range(4):
            backward(model)

    assert watched.step == 4
    first, second = captured["root/gradients/0/bias"].value
    assert captured["root/gradients/0/bias"].step == [2, 4]
    assert np.allclose(second, 2 * first)


def test_a_pass_through_a_part_of_a_model_is_a_step_of_that_part(model: nn.Module) -> None:
    one, other = model[0], model[2]  # type: ignore[index]
    with capture() as captured, allogger.watch(model, every_n=1) as watched:
        one(BATCH).sum().backward()
        other(torch.ones(1, 4)).sum().backward()
        backward(model)
        one(BATCH).sum().backward()

    assert watched.step == 4
    assert captured["root/gradients/0/bias"].step == [1, 3, 4]
    assert captured["root/gradients/2/bias"].step == [2, 3]
    assert captured["root/parameters/2/bias"].step == [1, 2, 3, 4]


def test_with_an_optimizer_a_step_is_one_of_its_steps_and_gradients_are_those_it_was_given(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    norms = []
    with capture() as captured:
        allogger.watch(model, every_n=2, norms=True, optimizer=optimizer)
        for _ in range(4):
            optimizer.zero_grad()
            for _ in range(3):
                backward(model)
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            norms.append(float(model[0].weight.grad.norm()))  # type: ignore[index]
            optimizer.step()

    assert captured["root/gradients/0/weight/norm"].step == [2, 4]
    assert captured["root/gradients/0/weight/norm"].value == pytest.approx(norms[1::2])
    assert np.array_equal(captured["root/parameters/0/weight"].value[-1], model[0].weight.detach())  # type: ignore[index]


def test_with_an_optimizer_gradients_are_those_that_a_scaler_has_unscaled() -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with capture() as captured:
        allogger.watch(model, every_n=1, prefix="passes")
        allogger.watch(model, every_n=1, prefix="steps", optimizer=optimizer)
        scaler.scale(model(BATCH).sum()).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)

    assert captured["root/passes/gradients/bias"].value[0] == 2048
    assert captured["root/steps/gradients/bias"].value[0] == 2


def test_with_an_optimizer_a_closure_may_make_the_gradients(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = model(BATCH).square().mean()
        loss.backward()
        return loss

    with capture() as captured:
        allogger.watch(model, every_n=1, optimizer=optimizer)
        optimizer.step(closure)  # type: ignore[arg-type]

    assert np.array_equal(captured["root/gradients/2/bias"].value[0], model[2].bias.grad)  # type: ignore[index]


def test_steps_go_on_behind_a_checkpoint(model: nn.Module) -> None:
    with capture() as captured:
        allogger.watch(model, every_n=10).step = 1000
        for _ in range(10):
            backward(model)

    assert captured["root/gradients/0/bias"].step == [1010]


# ---------------------------------------------------------------------------------------------------- odd parameters


def test_a_shared_parameter_is_logged_once_with_its_whole_gradient() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    with capture() as captured, allogger.watch(model, every_n=1) as watched:
        backward(model)
        backward(model)

    assert watched.step == 2
    assert captured.keys() == ["root/gradients/0/weight", "root/parameters/0/weight"]
    assert np.array_equal(captured["root/gradients/0/weight"].value[1], model[0].weight.grad)


def test_a_frozen_parameter_has_no_gradients_until_it_is_thawed(model: nn.Module) -> None:
    model[0].requires_grad_(False)  # type: ignore[index]
    with capture() as captured:
        allogger.watch(model, every_n=1)
        backward(model)
        assert "root/parameters/0/weight" in captured
        assert "root/gradients/0/weight" not in captured
        model[0].requires_grad_(True)  # type: ignore[index]
        for _ in range(2):
            backward(model)

    assert captured["root/gradients/0/weight"].step[-1] == 3


def test_a_module_that_is_added_or_replaced_is_found_at_the_next_step_that_is_logged(model: nn.Module) -> None:
    with capture() as captured:
        allogger.watch(model, every_n=2)
        backward(model)
        model[2] = nn.Linear(4, 2)  # type: ignore[index]
        model.add_module("head", nn.Linear(2, 1))
        for _ in range(3):
            backward(model)

    # The first such step finds it, perhaps after it has got its gradient.
    assert captured["root/gradients/head/weight"].step[-1] == 4
    assert captured["root/gradients/2/weight"].value[-1].shape == (2, 4)


def test_a_model_that_is_moved_or_converted_stays_watched(model: nn.Module) -> None:
    with capture() as captured:
        allogger.watch(model, every_n=1)
        backward(model)
        model.to(torch.float64)
        model(BATCH.double()).sum().backward()

    assert [value.dtype for value in captured["root/gradients/0/weight"].value] == [np.float32, np.float64]


def test_a_lazy_module_is_watched_from_its_first_batch_on() -> None:
    model = nn.Sequential(nn.LazyLinear(2), nn.Linear(2, 1))
    with capture() as captured:
        allogger.watch(model, every_n=1)
        backward(model)

    assert captured["root/gradients/0/weight"].value[0].shape == (2, 3)


def test_of_a_sparse_gradient_the_elements_that_it_has_are_logged_and_that_is_said_once(tmp_path: Path) -> None:
    model = nn.Embedding(1000, 2, sparse=True)
    with allogger.run(tmp_path):
        allogger.watch(model, every_n=1, norms=True)
        for _ in range(3):
            model.zero_grad()
            model(torch.tensor([7, 7, 9])).sum().backward()

    run = allogger.open_run(tmp_path)
    assert all(np.array_equal(value, [[2, 2], [1, 1]]) for value in run["root/gradients/weight"].value)
    assert run["root/gradients/weight/norm"].value == pytest.approx([10**0.5] * 3)
    log = next(tmp_path.glob("*.log")).read_text()
    assert log.count("is sparse") == 1


def test_bfloat16_and_complex_parameters_are_stored_exactly() -> None:
    for dtype, stored in ((torch.bfloat16, np.float32), (torch.complex64, np.complex64)):
        model = nn.Linear(3, 1, dtype=dtype)
        with capture() as captured:
            allogger.watch(model, every_n=1, norms=True)
            model(BATCH.to(dtype)).abs().sum().backward()

        (value,) = captured["root/parameters/weight"].value
        assert value.dtype == stored
        assert np.array_equal(value, model.weight.detach().to(torch.from_numpy(value).dtype))
        assert captured["root/gradients/weight/norm"].value[0] > 0


def test_a_graph_of_gradients_is_not_kept(model: nn.Module) -> None:
    with capture():
        allogger.watch(model, every_n=1, norms=True)
        output = model(BATCH)
        in_graph = weakref.ref(output)
        with pytest.warns(UserWarning, match="create_graph"):
            output.square().mean().backward(create_graph=True)
        del output
        assert in_graph() is not None
        model.zero_grad()
        gc.collect()
        assert in_graph() is None


# --------------------------------------------------------------------------------------------------------- life and end


def test_nothing_is_logged_after_remove_or_the_with_block(model: nn.Module) -> None:
    with capture() as captured:
        with allogger.watch(model, every_n=1) as watched:
            backward(model)
        backward(model)
        watched.remove()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with allogger.watch(model, every_n=1, prefix="b", optimizer=optimizer):
            optimizer.step()
        optimizer.step()

    assert captured["root/gradients/0/bias"].step == [1]
    assert captured["root/b/parameters/0/bias"].step == [1]


@pytest.mark.parametrize("with_optimizer", [False, True])
def test_a_watched_model_dies_when_nobody_needs_it(model: nn.Module, with_optimizer: bool) -> None:
    alone = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with capture() as captured:
        watched = allogger.watch(alone, every_n=1, optimizer=optimizer if with_optimizer else None)
        backward(alone)
        gone = weakref.ref(alone)
        del alone
        assert gone() is None
        optimizer.step()
        assert watched.step == (0 if with_optimizer else 1)
        captured.keys()


def test_two_watchings_of_the_same_keys_are_told_of_once(tmp_path: Path, model: nn.Module) -> None:
    with allogger.run(tmp_path) as root:
        allogger.watch(model, root, what=["gradients"]).remove()
        allogger.watch(model, root, what=["gradients"])
        allogger.watch(model, root, what=["parameters"])
        allogger.watch(model, root, what=["parameters"], prefix="again")
        allogger.watch(nn.Linear(1, 1), allogger.get_logger("other"))
        told = lambda: "".join(file.read_text() for file in tmp_path.glob("*.log"))  # noqa: E731
        assert told() == ""
        for _ in range(2):
            allogger.watch(model, root, what=["gradients"])

    assert told().count("'root/gradients/0/bias': is logged by two watchings") == told().count("watchings") == 1


def test_a_wrapper_that_nobody_keeps_ends_the_watching_and_that_is_said(tmp_path: Path, model: nn.Module) -> None:
    with allogger.run(tmp_path) as root:
        allogger.watch(nn.DataParallel(model), root, every_n=1)
        for _ in range(3):
            backward(model)
        root.log(1.0, "loss")

    assert allogger.open_run(tmp_path).keys() == ["root/loss"]
    assert next(tmp_path.glob("*.log")).read_text().count("the model is gone") == 1


def test_a_gradient_that_an_earlier_hook_has_taken_is_counted_and_the_way_out_is_told(tmp_path: Path) -> None:
    model = nn.Linear(3, 1, bias=False)
    model.weight.register_post_accumulate_grad_hook(lambda parameter: setattr(parameter, "grad", None))
    with allogger.run(tmp_path):
        allogger.watch(model, every_n=1)
        backward(model)

    assert allogger.open_run(tmp_path).keys() == ["root/parameters/weight"]
    log = next(tmp_path.glob("*.log")).read_text()
    assert "watch the model before" in log
    assert "'root/gradients/weight' 1" in log


def test_parameters_whose_names_become_the_same_key_are_hooked_once_each() -> None:
    model = nn.ModuleDict({"a/b": nn.Linear(3, 1, bias=False), "a": nn.ModuleDict({"b": nn.Linear(3, 1, bias=False)})})
    with capture() as captured:
        allogger.watch(model, every_n=1)
        for _ in range(3):
            (model["a/b"](BATCH) + model["a"]["b"](BATCH)).sum().backward()  # type: ignore[index]

    assert captured["root/gradients/a/b/weight"].step == [1, 1, 2, 2, 3, 3]


def test_a_watched_model_can_be_copied_and_saved(model: nn.Module) -> None:
    with capture() as captured:
        watched = allogger.watch(model, every_n=1)
        backward(copy.deepcopy(model))
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        backward(torch.load(file, weights_only=False))

        assert watched.step == 0
        assert len(captured) == 0


def test_wrapped_models_are_watched_under_the_same_names(model: nn.Module) -> None:
    with capture() as captured:
        compiled = torch.compile(model, backend="eager")
        with allogger.watch(compiled, every_n=1):
            backward(compiled)
        parallel = nn.DataParallel(model)
        with allogger.watch(model, every_n=1, prefix="parallel"):
            backward(parallel)

    assert "root/gradients/0/weight" in captured
    assert "root/parallel/gradients/0/weight" in captured


def test_recomputed_segments_are_one_step(model: nn.Module) -> None:
    from torch.utils.checkpoint import checkpoint

    with capture(), allogger.watch(model, every_n=1) as watched:
        for _ in range(2):
            hidden = checkpoint(model[0], BATCH, use_reentrant=False)  # type: ignore[index]
            checkpoint(model[2], hidden, use_reentrant=False).sum().backward()  # type: ignore[index]

    assert watched.step == 2


def test_what_goes_wrong_while_logging_does_not_end_the_training(tmp_path: Path, model: nn.Module) -> None:
    class Hostile(nn.Linear):
        broken = False

        def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
            if self.broken:
                raise RuntimeError("on purpose")
            return super().named_parameters(*args, **kwargs)

    hostile = Hostile(3, 1)
    with allogger.run(tmp_path):
        allogger.watch(hostile, every_n=1)
        hostile.broken = True
        for _ in range(3):
            backward(hostile)

    assert hostile.weight.grad is not None
    assert next(tmp_path.glob("*.log")).read_text().count("on purpose") == 1


def test_before_the_configuration_and_when_disabled_training_goes_on(model: nn.Module) -> None:
    allogger.watch(model, every_n=1, norms=True)
    backward(model)
    allogger.basic_configure(enable=False)
    backward(model)


# ------------------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"every_n": 0}, "every_n.*1 or more.*0"),
        ({"every_n": True}, "every_n.*True"),
        ({"every_n": 2.5}, "every_n.*2.5"),
        ({"what": "gradients"}, r"\('gradients',\)"),
        ({"what": 3}, "what"),
        ({"logger": "agent"}, "get_logger.*'agent'"),
        ({"optimizer": "sgd"}, "Optimizer, not str"),
    ],
    ids=str,
)
def test_a_mistake_is_refused_and_said(model: nn.Module, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        allogger.watch(model, **given)


def test_a_misspelt_thing_to_watch_is_refused_with_the_one_that_was_meant(model: nn.Module) -> None:
    with pytest.raises(UnknownName, match="did you mean 'gradients'"):
        allogger.watch(model, what=["gradient"])


@pytest.mark.parametrize("odd", [None, 3, [nn.Linear(1, 1)], torch.ones(2)], ids=lambda odd: type(odd).__name__)
def test_what_is_no_module_is_refused(odd: Any) -> None:
    with pytest.raises(ConfigError, match="a torch"):
        allogger.watch(odd)


@pytest.mark.parametrize("model", [nn.Tanh(), nn.Linear(1, 1).requires_grad_(False), nn.LazyLinear(2)], ids=str)
def test_a_module_without_gradients_is_refused_unless_its_optimizer_is_given(model: nn.Module) -> None:
    with pytest.raises(ConfigError, match="no parameter"):
        allogger.watch(model)

    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)
    with capture():
        allogger.watch(model, every_n=1, optimizer=optimizer)
        optimizer.step()


def test_torch_is_not_imported_for_it(run_python: Callable[..., Result]) -> None:
    result = run_python(
        """
        import sys
        import allogger
        try:
            allogger.watch("model")
        except allogger.ConfigError as error:
            print(error, "torch" in sys.modules)
        """
    )

    assert result.stdout == "watch takes a torch.nn.Module, not str False\n", result.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_a_model_on_a_device_is_watched_too(tmp_path: Path, model: nn.Module) -> None:
    model = model.to("cuda")
    with allogger.run(tmp_path):
        allogger.watch(model, every_n=2, norms=True)
        for _ in range(2):
            model(BATCH.to("cuda")).square().mean().backward()

    run = allogger.open_run(tmp_path)
    assert np.array_equal(run["root/gradients/0/weight"].value[0], model[0].weight.grad.cpu())  # type: ignore[index]
    assert run["root/gradients/0/weight/norm"].value[0] == pytest.approx(float(model[0].weight.grad.norm()))  # type: ignore[index]
