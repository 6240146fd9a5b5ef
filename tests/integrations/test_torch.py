"""Do torch modules stay what they are when they log, and are their layers seen as they are?"""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import allogger
from allogger.integrations.torch import STATISTICS, log_output_gradients, log_outputs
from allogger.mixin import Latest, LatestArray, LoggingMixin, Mean

torch = pytest.importorskip("torch")
nn = torch.nn


class Loss(LoggingMixin, nn.Module):  # type: ignore[name-defined, misc]  # known when torch is
    def __init__(self) -> None:
        super().__init__(log_key="loss")
        self.logging_buffer[""] = Mean()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x: Any) -> Any:
        loss = (self.weight * x).sum()
        self.log("", loss, weight=len(x))
        return loss


class Model(nn.Module, LoggingMixin):  # type: ignore[name-defined, misc]
    def __init__(self) -> None:
        super().__init__()
        self.loss = Loss()
        self.logging_children += [self.loss, self]
        self.log_key = "model"
        self.logging_buffer.update(samples=LatestArray(), norm=Latest())


def net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))


# -------------------------------------------------------------------------------------------------------------- modules


def test_nothing_of_the_mixin_enters_the_state_of_a_module() -> None:
    model = Model()
    model.loss(torch.ones(3))
    model.log("norm", torch.tensor(2.0, requires_grad=True))

    assert list(model.state_dict()) == ["loss.weight"]
    assert [name for name, _ in model.named_modules()] == ["", "loss"]
    assert model.load_state_dict(Model().state_dict()).missing_keys == []
    assert model.get_all() == {"model.norm": 2.0, "model.loss": 3.0}


def test_modules_are_copied_and_pickled_with_what_they_have_logged() -> None:
    model = Model()
    model.loss(torch.ones(3))

    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin.loss(3 * torch.ones(3))
        assert twin.get_all() == {"model.loss": 6.0}
    assert model.get_all() == {"model.loss": 3.0}


def test_a_logged_tensor_keeps_no_graph_alive_and_is_a_copy() -> None:
    model = Model()
    x = torch.ones(3, requires_grad=True)
    samples = (2 * x).double()
    model.log("samples", samples)
    with torch.no_grad():
        samples += 1
    graph = weakref.ref(samples)
    del samples
    gc.collect()

    assert graph() is None
    assert model.get("samples").tolist() == [2.0, 2.0, 2.0]


# ---------------------------------------------------------------------------------------------------------------- hooks


def test_each_statistic_is_what_torch_finds_in_the_outputs_of_each_layer() -> None:
    module, tree, calls = net(), LoggingMixin("net"), [torch.randn(n, 3) for n in (5, 9)]
    with log_outputs(module, tree, statistics=STATISTICS):
        for x in calls:
            module(x)
    outputs = [module[:2](x) for x in calls]
    flat = torch.cat([output.flatten() for output in outputs])

    found = tree.get_all()
    assert found == {}  # with the hooks goes what they have registered

    hooks = log_outputs(module, tree, statistics=STATISTICS)
    for x in calls:
        module(x)
    found = tree.get_all(reset=False)
    assert len(found) == 3 * len(STATISTICS)
    assert found["net.outputs.1.mean"] == pytest.approx(flat.mean().item())
    assert found["net.outputs.1.min"] == flat.min().item()
    assert found["net.outputs.1.max"] == flat.max().item()
    assert found["net.outputs.1.zeros"] == pytest.approx((flat == 0).float().mean().item())
    mean_std = sum(o.std(correction=0).item() * o.numel() for o in outputs) / flat.numel()
    assert found["net.outputs.1.std"] == pytest.approx(mean_std)
    hooks.remove()
    hooks.remove()


def test_a_logger_gets_them_at_every_nth_call(tmp_path: Path) -> None:
    module, x = net(), torch.randn(4, 3)
    with allogger.run(tmp_path) as root:
        with log_outputs(module, root, every_n=2), log_output_gradients(module, root, every_n=2, only="^2$"):
            for _ in range(5):
                output = module(x)
                output.sum().backward()
        for _ in range(2):
            module(x).sum().backward()

    run = allogger.open_run(tmp_path)
    assert run["root/outputs/2/mean"].step.tolist() == [1, 3, 5]
    assert run["root/outputs/2/mean"].value.tolist() == pytest.approx([output.mean().item()] * 3)
    assert run["root/output_gradients/2/mean"].value.tolist() == [1.0] * 3
    assert run["root/output_gradients/2/std"].step.tolist() == [1, 3, 5]
    assert len(run.keys("gradients")) == 2


def test_a_module_that_is_a_mixin_takes_them_itself() -> None:
    class Net(LoggingMixin, nn.Linear):  # type: ignore[name-defined, misc]
        pass

    module = Net("", in_features=2, out_features=1)
    log_outputs(module, statistics="max", key="out")
    output = module(torch.ones(3, 2))

    assert module.get_all() == {"out.max": output.max().item()}


@pytest.mark.parametrize("log", [log_outputs, log_output_gradients])
def test_the_program_computes_the_same_and_no_graph_is_kept(
    log: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    expected, module, x = net(), net(), torch.randn(4, 3)
    tree = LoggingMixin()
    log(module, tree, only="")

    output = module(x)
    output.pow(2).sum().backward()
    reference = expected(x)
    reference.pow(2).sum().backward()
    assert torch.equal(output, reference)
    for own, other in zip(module.parameters(), expected.parameters(), strict=True):
        assert torch.equal(own.grad, other.grad)

    graph = weakref.ref(output)
    del output
    gc.collect()
    assert graph() is None
    with torch.no_grad():
        module(x)
    assert len(tree.get_all()) == 8
    assert caplog.text == ""


def test_outputs_may_be_nested_and_of_any_dtype() -> None:
    class Odd(nn.Module):  # type: ignore[name-defined, misc]
        def forward(self, x: Any) -> Any:
            return {"half": x.bfloat16(), "ints": x.long(), "all": [x, (2 * x, None)], "none": torch.empty(0)}

    module, tree = Odd(), LoggingMixin()
    log_outputs(module, tree, statistics=["mean", "max"])
    module(torch.ones(2))

    assert tree.get_all() == {"outputs.mean": pytest.approx(4 / 3), "outputs.max": 2.0}


def test_what_cannot_be_looked_at_is_told_and_does_not_disturb(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(torch.Tensor):  # type: ignore[name-defined, misc]
        @classmethod
        def __torch_function__(cls, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("there is no such function")

    module, x = nn.Identity(), torch.ones(2).as_subclass(Broken)
    log_outputs(module, LoggingMixin("net"))
    for _ in range(2):
        assert module(x) is x

    assert caplog.text.count("outputs of a layer cannot be looked at: RuntimeError: there is no such function") == 1


def test_a_copied_module_has_hooks_and_values_of_its_own() -> None:
    module, tree = net(), LoggingMixin()
    log_outputs(module, tree)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        twin(torch.ones(1, 3))
    assert tree.get_all() == {}

    module(torch.ones(1, 3))
    assert len(tree.get_all()) == 6


def test_mistakes_are_told_at_once() -> None:
    tree = LoggingMixin()
    with pytest.raises(allogger.ConfigError, match="did you mean 'mean'"):
        log_outputs(net(), tree, statistics=["maen"])
    with pytest.raises(allogger.ConfigError, match="every_n is an int of 1 or more"):
        log_outputs(net(), tree, every_n=0)
    with pytest.raises(allogger.ConfigError, match="there is no layer in which is found 'convv'"):
        log_outputs(net(), tree, only="convv")
    with pytest.raises(allogger.ConfigError, match=r"for a torch\.nn\.Module"):
        log_outputs(print, tree)  # type: ignore[arg-type]
    with pytest.raises(allogger.ConfigError, match="into= must be"):
        log_outputs(net())
    assert tree.logging_children == []


@pytest.mark.filterwarnings("ignore")  # torch has remarks about what it compiles
def test_compiled_modules_log_what_the_others_do() -> None:
    class Scale(LoggingMixin, nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__("scale")
            self.logging_buffer.update(mean=Mean(), calls=Mean())

        def forward(self, x: Any) -> Any:
            self.log("mean", x.mean())
            self.log("calls", 1.0)
            return 2 * x

    module, x = nn.Sequential(nn.Linear(3, 4), Scale()), torch.randn(5, 3)
    compiled, tree = torch.compile(module, backend="eager"), LoggingMixin("net")
    tree.logging_children.append(torch.compile(module[1], backend="eager"))
    log_outputs(module, tree)
    log_output_gradients(module, tree)

    found = []
    for each in (module, compiled, compiled):
        each(x).sum().backward()
        found.append(tree.get_all())

    assert len(found[0]) == 10
    assert found == found[:1] * 3
