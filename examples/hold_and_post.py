"""Hold what a training computes, post it in windows, draw it and save the best weights: an autoencoder of digits.

    pip install 'allogger[examples]'
    python examples/hold_and_post.py

It takes three seconds and then shows where to look.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import allogger
from allogger.holding import Observed

Array = NDArray[np.float64]
UNITS, EPOCHS, RATE = 12, 20, 0.02


def batches(images: Array, random: np.random.Generator) -> Iterator[Array]:
    order = random.permutation(len(images))
    for rows in np.array_split(order, len(order) // 50):
        yield images[rows]


def decoded(images: Array, weights: Array) -> Array:
    """Return the images again, from the few numbers that each was encoded in."""
    return images @ weights @ weights.T


def loss_of(images: Array, weights: Array) -> float:
    return float(((decoded(images, weights) - images) ** 2).sum(1).mean())


def gradient(images: Array, weights: Array) -> Array:
    error = decoded(images, weights) - images
    found: Array = 2 / len(images) * (images.T @ error + error.T @ images) @ weights
    return found


def draw_filters(figure: Figure, weights: Observed) -> None:
    """A plot of our own: what each unit looks for, after the latest epoch."""
    for axes, unit in zip(figure.subplots(2, UNITS // 2).flat, weights.value[-1].T, strict=True):
        axes.imshow(unit.reshape(8, 8), cmap="coolwarm")
        axes.set_axis_off()


def train(images: Array, test: Array) -> tuple[Array, list[Array]]:
    """Return the weights, and what is remembered of each step to compare it with what was logged."""
    random = np.random.default_rng(1)
    weights = random.normal(0, 0.1, (64, UNITS))
    remembered = []

    holder = allogger.HoldingLogger(
        "autoencoder",
        post_every=10,
        write_blacklist=["input"],  # held for the plots only
        plots={
            "loss_curve": ["train/loss", "test/loss"],
            "weight_histogram": ["weights"],
            "panels": ["input", "output"],
        },
        checkpoint_every=5,
        state=lambda: {"weights": weights, **holder.state_dict()},
        metric="test/loss",
        keep_last=2,
    )
    holder.register_plot("filters", draw_filters, inputs=["weights"])
    holder.hold(images.mean(0), "mean digit", stride="static", shape_key=["pixels"])

    with holder.training():
        for _ in holder.epochs(EPOCHS):
            for batch in holder.steps(batches(images, random)):
                change = gradient(batch, weights)
                weights -= RATE * change
                holder.summarize(holder.step, [("loss", loss_of(batch, weights)), ("rate", RATE)])
                norms = np.sqrt((change**2).sum(0))
                holder.hold(norms, "gradient", description="the norm for each unit", shape_key=["units"])
                remembered.append(norms)
            holder.summarize(holder.step, [("loss", loss_of(test, weights))], writer="test")
            holder.hold(weights, "weights", stride="epoch")
            holder.hold(test[0].reshape(8, 8), "input", stride="epoch")
            holder.hold(decoded(test[:1], weights).reshape(8, 8), "output", stride="epoch")
    return weights, remembered


def main(logdir: Path) -> None:
    images = load_digits().data / 16
    images, test = images[:1500], images[1500:]
    with allogger.run(logdir, ["hdf", "tensorboard"], default_path_exists="clear"):
        weights, remembered = train(images, test)

    run = allogger.open_run(logdir)
    windows = run["autoencoder/gradient"]
    steps = len(remembered) // EPOCHS
    assert windows.step.tolist() == [10, 20]
    assert windows.value.shape == (2, 10 * steps, UNITS)
    assert np.array_equal(np.concatenate(windows.value), remembered)
    assert windows.meta == {"stride": "step", "description": "the norm for each unit", "shape_key": ["units"]}
    assert run["autoencoder/step"].value.ravel().tolist() == list(range(1, EPOCHS * steps + 1))
    assert np.array_equal(run["autoencoder/mean digit"].value, [images.mean(0)])
    assert "autoencoder/input" not in run

    best = next(one for one in run.checkpoints() if "best" in one.aliases)
    saved = best.load()["weights"]
    assert np.array_equal(saved, np.concatenate(run["autoencoder/weights"].value)[best.step - 1])
    assert loss_of(test, saved) <= loss_of(test, weights) < 8 < test.var() * 64

    print(f"The loss on new digits is {loss_of(test, saved):.2f}; without a model it is {test.var(0).sum():.2f}.")
    print(f"windows      allogger show {logdir} autoencoder/gradient")
    print(f"checkpoint   {best.path}")
    for picture in sorted((logdir / "plots").glob("*20.png")):
        print(f"plot         {picture}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/hold_and_post"))
