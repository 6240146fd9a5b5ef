"""A network of nested modules: what has each of them logged, and how does all of it leave through the head?

Run it with ``python logging_mixin.py [logdir]``; it needs torch and scikit-learn. Each module registers what it logs
and names its children. The training loop knows the model only: it may read the running means at any time, and after
each epoch it collects everything into the run. Tests of the network log nothing.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import allogger
from allogger.integrations.torch import log_outputs
from allogger.mixin import Latest, LatestArray, LoggingMixin, Max, Mean

EPOCHS, BATCH = 6, 64


class Loss(LoggingMixin, nn.Module):
    """The mean distance from the right digits, and what keeps the weights small."""

    def __init__(self) -> None:
        super().__init__(log_key="loss")
        # The key "" is the module itself: it reads back as "model/loss".
        self.logging_buffer.update({"": Mean(), "distance": Mean(), "decay": Mean()})

    def forward(self, scores: Tensor, digits: Tensor, weights: list[Tensor]) -> Tensor:
        distance = nn.functional.cross_entropy(scores, digits)
        decay = 1e-4 * torch.stack([weight.pow(2).sum() for weight in weights]).sum()
        # The last batch of an epoch is smaller, and counts for less.
        self.log("distance", distance, weight=len(digits))
        self.log("decay", decay, weight=len(digits))
        self.log("", distance + decay, weight=len(digits))
        return distance + decay


class Noise(LoggingMixin, nn.Module):
    """Disturbs the pictures, more and more."""

    def __init__(self) -> None:
        super().__init__(log_key="noise")
        self.logging_buffer.update(level=Latest(), pictures=LatestArray())
        self.level = 0.0

    def forward(self, pictures: Tensor) -> Tensor:
        if not self.training:
            return pictures
        self.level = min(0.2, self.level + 0.001)
        disturbed = pictures + self.level * torch.randn_like(pictures)
        self.log("level", self.level)
        self.log("pictures", disturbed[:4].view(4, 8, 8))
        return disturbed


class Model(LoggingMixin, nn.Module):
    """The head of the tree."""

    def __init__(self) -> None:
        super().__init__(log_key="model")
        self.noise, self.loss = Noise(), Loss()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.logging_buffer.update(accuracy=Mean(), worst=Max())
        self.logging_children += [self.noise, self.loss]

    def forward(self, pictures: Tensor, digits: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.layers(self.noise(pictures))
        loss = self.loss(scores, digits, [layer.weight for layer in self.layers if isinstance(layer, nn.Linear)])
        is_right = scores.argmax(1) == digits
        self.log("accuracy", is_right.float().mean(), weight=len(digits))
        self.log("worst", loss)
        return loss, is_right


@contextlib.contextmanager
def metrics_of(model: LoggingMixin, logger: allogger.Logger, epoch: int) -> Iterator[Callable[[], dict[str, float]]]:
    """Give a function for the metrics so far, as a trainer shows them after each batch; in the end all is logged."""
    yield partial(model.get_all, reset=False, type_=(Mean, Max))
    # One call for the whole tree, and all of it begins anew.
    model.collect(logger, step=epoch)


def batches(pictures: Tensor, digits: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for chosen in torch.split(torch.randperm(len(digits)), BATCH):
        yield pictures[chosen], digits[chosen]


def train(model: Model, pictures: Tensor, digits: Tensor, logger: allogger.Logger) -> list[float]:
    """Return the mean loss of each epoch, computed by hand."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    remembered = []
    for epoch in range(1, EPOCHS + 1):
        losses: list[tuple[float, int]] = []
        with metrics_of(model, logger, epoch) as metrics:
            for some, their_digits in batches(pictures, digits):
                optimizer.zero_grad()
                loss, _ = model(some, their_digits)
                loss.backward()
                optimizer.step()
                losses.append((loss.item(), len(some)))
            print(f"epoch {epoch}: " + ", ".join(f"{name} {value:.3f}" for name, value in metrics().items()))
        remembered.append(math.fsum(loss * n for loss, n in losses) / sum(n for _, n in losses))
    return remembered


def main(logdir: Path) -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)  # the network is too small for more
    all_pictures, all_digits = load_digits(return_X_y=True)
    pictures, digits = torch.tensor(all_pictures / 16, dtype=torch.float32), torch.tensor(all_digits)
    model = Model()
    # How much the ReLU lets through joins the tree as "model/outputs/1/zeros", until the hooks are removed.
    with (
        allogger.run(logdir, ["hdf", "tensorboard"], default_path_exists="unique") as root,
        log_outputs(model.layers, model, only="^1$", statistics=["zeros"], every_n=5),
    ):
        place = root.logdir
        remembered = train(model, pictures[360:], digits[360:], allogger.get_logger("train"))

        model.eval()
        with model.no_logging(), torch.no_grad():
            _, is_right = model(pictures[:360], digits[:360])
        assert model.get_all() == {}
        accuracy = is_right.float().mean().item()
        allogger.get_logger("test").log(accuracy, "accuracy")

    run = allogger.open_run(place or logdir)
    print(*run.keys(), sep="\n")
    loss = run["train/model/loss"]
    assert loss.step.tolist() == list(range(1, EPOCHS + 1))
    assert np.allclose(loss.value, remembered)
    assert np.allclose(loss.value, run["train/model/loss/distance"].value + run["train/model/loss/decay"].value)
    assert run["train/model/noise/pictures"].value.shape == (EPOCHS, 4, 8, 8)
    assert 0 < run["train/model/outputs/1/zeros"].value[-1] < 1
    # Nothing of this is part of the state of the model.
    assert all(name.startswith("layers.") for name in model.state_dict())
    print(f"Read correctly: {100 * accuracy:.1f} % of the test pictures.")
    assert accuracy > 0.9


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/logging_mixin"))
