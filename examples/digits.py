"""A small network learns to read handwritten digits: what does its training leave behind?

Run it with ``python digits.py [logdir]``. The network is plain numpy. Each part has a logger of its own and logs all it
knows, down to every single neuron; one configuration in `main` decides what is kept, and where. A child process tests
the network while the training goes on, and logs like everybody else. In the end the program reads its own run back,
compares it with what it remembers, and draws the learning curves.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

import allogger

Floats: TypeAlias = NDArray[np.float64]
Weights: TypeAlias = list[tuple[Floats, Floats]]

HYPERPARAMETERS = {
    "hidden neurons": 64,
    "learning rate": 0.004,
    "decay per epoch": 0.95,
    "momentum": 0.9,
    "variance": 0.999,
    "batch size": 32,
    "epochs": 30,
    "seed": 1,
}
# Nobody reads 74 curves of neurons at every run. They cost next to nothing until somebody takes this out.
SPAM = "^neuron/"

# Loggers may be made before anything is configured, so modules can do it when they are imported.
data_log = allogger.get_logger("data")
train_log = allogger.get_logger("train")
eval_log = allogger.get_logger("eval")


# ----------------------------------------------------------------------------------------------------------------- data


class Digits(NamedTuple):
    """Pictures as rows of 64 pixels from 0 to 1, and the digits that they show."""

    pixels: Floats
    digit: NDArray[np.int64]


def load(random: np.random.Generator) -> tuple[Digits, Digits]:
    """Return what to train with, and what to test with."""
    # Not at the top: the child imports this module too, and needs no scikit-learn.
    from sklearn.datasets import load_digits

    pixels, digit = load_digits(return_X_y=True)
    order = random.permutation(len(digit))
    pixels, digit = pixels[order] / 16, digit[order].astype(np.int64)
    train, test = Digits(pixels[360:], digit[360:]), Digits(pixels[:360], digit[:360])
    for name, digits in (("train", train), ("test", test)):
        data_log.log(digits.digit, f"{name}/digits")
        data_log.log(sheet(digits.pixels[:60], columns=10), f"{name}/pictures")
        data_log.info("%d pictures to %s with", len(digits.digit), name)
    return train, test


def sheet(pictures: Floats, columns: int, scale: int = 6) -> NDArray[np.uint8]:
    """Return pictures of 8 x 8 pixels side by side, enlarged: an image of shape (height, width, 1)."""
    rows = -(-len(pictures) // columns)
    cells = np.full((rows * columns, 9, 9), 0.25)
    cells[: len(pictures), :8, :8] = pictures.reshape(-1, 8, 8)
    whole = cells.reshape(rows, columns, 9, 9).swapaxes(1, 2).reshape(rows * 9, columns * 9)
    return np.kron(np.rint(255 * whole).astype(np.uint8), np.ones((scale, scale), np.uint8))[:, :, None]


# ---------------------------------------------------------------------------------------------------------------- model


class Layer:
    """A linear layer with or without a ReLU behind it; it keeps what it needs to learn."""

    def __init__(self, name: str, n_inputs: int, n_outputs: int, has_relu: bool, random: np.random.Generator) -> None:
        self.logger = allogger.get_logger(f"model.{name}")
        self.weight = random.normal(0, np.sqrt(2 / n_inputs), (n_inputs, n_outputs))
        self.bias = np.zeros(n_outputs)
        self.has_relu = has_relu

    def forward(self, inputs: Floats) -> Floats:
        self.inputs = inputs
        outputs = inputs @ self.weight + self.bias
        self.is_active = (outputs > 0) | (not self.has_relu)
        self.log_neurons(outputs)
        return outputs * self.is_active

    def backward(self, gradient: Floats) -> Floats:
        gradient = gradient * self.is_active
        self.weight_gradient = self.inputs.T @ gradient
        self.bias_gradient = gradient.sum(0)
        self.logger.log(np.linalg.norm(self.weight_gradient), "gradient/norm")
        return gradient @ self.weight.T

    def log_neurons(self, outputs: Floats) -> None:
        for number, (mean, active) in enumerate(zip(outputs.mean(0), self.is_active.mean(0), strict=True)):
            self.logger.log(mean, f"neuron/{number}/mean")
            self.logger.log(active, f"neuron/{number}/active")

    def log_weights(self) -> None:
        """Once an epoch. A 1-d array is a histogram, a 2-d one an array: HDF5 keeps the values of both."""
        self.logger.log(self.weight.ravel(), "weights")
        self.logger.log(self.weight_gradient.ravel(), "gradient/values")
        self.logger.log(self.weight, "weight_matrix")
        self.logger.log(float((self.is_active.any(0) == 0).mean()), "dead_neurons")


class Network:
    """Two layers, from 64 pixels to a probability for each of the 10 digits."""

    def __init__(self, n_hidden: int, random: np.random.Generator) -> None:
        self.layers = [Layer("layer1", 64, n_hidden, True, random), Layer("layer2", n_hidden, 10, False, random)]

    def probabilities(self, pixels: Floats) -> Floats:
        for layer in self.layers:
            pixels = layer.forward(pixels)
        powers = np.exp(pixels - pixels.max(1, keepdims=True))
        found: Floats = powers / powers.sum(1, keepdims=True)
        return found

    def learn(self, pixels: Floats, digit: NDArray[np.int64]) -> tuple[float, float]:
        """Leave the gradients of a batch in the layers; return the loss and the accuracy on it."""
        probabilities = self.probabilities(pixels)
        loss, accuracy = score(probabilities, digit)
        gradient = (probabilities - np.eye(10)[digit]) / len(digit)
        for layer in reversed(self.layers):
            gradient = layer.backward(gradient)
        return loss, accuracy

    @property
    def weights(self) -> Weights:
        return [(layer.weight, layer.bias) for layer in self.layers]

    @weights.setter
    def weights(self, weights: Weights) -> None:
        for layer, (weight, bias) in zip(self.layers, weights, strict=True):
            layer.weight, layer.bias = weight, bias


def score(probabilities: Floats, digit: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean cross-entropy in nats, and the part of the pictures that are read correctly."""
    loss = -np.log(np.maximum(probabilities[np.arange(len(digit)), digit], 1e-12)).mean()
    return float(loss), float((probabilities.argmax(1) == digit).mean())


class Adam:
    """Changes the weights of a network by its gradients."""

    def __init__(self, network: Network, rate: float, momentum: float, variance: float) -> None:
        self.logger = allogger.get_logger("optim")
        self.network, self.rate, self.decays = network, rate, (momentum, variance)
        self.moments = [[np.zeros_like(each) for each in pair for _ in range(2)] for pair in network.weights]
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        one, two = self.decays
        changes = []
        for layer, (first_w, second_w, first_b, second_b) in zip(self.network.layers, self.moments, strict=True):
            for value, gradient, first, second in (
                (layer.weight, layer.weight_gradient, first_w, second_w),
                (layer.bias, layer.bias_gradient, first_b, second_b),
            ):
                first += (1 - one) * (gradient - first)
                second += (1 - two) * (gradient**2 - second)
                mean, spread = first / (1 - one**self.steps), np.sqrt(second / (1 - two**self.steps))
                change = self.rate * mean / (spread + 1e-8)
                value -= change
                changes.append(np.abs(change).mean())
        # A dict is one series for each of its values.
        self.logger.log({"rate": self.rate, "mean_change": np.mean(changes)}, "adam")


# ----------------------------------------------------------------------------------------------------------- evaluation


def evaluate(mail: Connection, n_hidden: int, test: Digits) -> None:
    """Test each network that comes by mail. Runs in a process of its own, and needs no configuration there."""
    network = Network(n_hidden, np.random.default_rng(0))
    while (letter := mail.recv()) is not None:
        epoch, network.weights = letter
        probabilities = network.probabilities(test.pixels)
        loss, accuracy = score(probabilities, test.digit)
        answer = probabilities.argmax(1)
        wrong = np.flatnonzero(answer != test.digit)
        confusion = np.zeros((10, 10), np.int64)
        np.add.at(confusion, (test.digit, answer), 1)

        eval_log.log({"loss": loss, "accuracy": accuracy}, "test", step=epoch)
        eval_log.log(confusion, "confusion", step=epoch)
        eval_log.log(probabilities.max(1), "confidence", step=epoch)
        if len(wrong):
            eval_log.log(sheet(test.pixels[wrong[:30]], columns=6), "wrong_digits", step=epoch)
        mail.send((loss, accuracy, confusion))
    eval_log.info("%d of %d pictures are still read wrong", len(wrong), len(test.digit))


# ------------------------------------------------------------------------------------------------------------- training


class Memory(NamedTuple):
    """What the program remembers of a training, to compare it with what was logged."""

    losses: list[float]
    tests: list[tuple[float, float, NDArray[np.int64]]]
    weights: Weights
    hyperparameters: str


def train() -> Memory:
    """Train a network and have it tested after each epoch."""
    p = HYPERPARAMETERS
    table = "| name | value |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in p.items())
    allogger.get_root().log(table, "hyperparameters")

    random = np.random.default_rng(int(p["seed"]))
    digits, test = load(random)
    network = Network(int(p["hidden neurons"]), random)
    adam = Adam(network, p["learning rate"], p["momentum"], p["variance"])
    context = multiprocessing.get_context("spawn")
    mail, other_end = context.Pipe()
    child = context.Process(target=evaluate, args=(other_end, int(p["hidden neurons"]), test), name="evaluator")
    child.start()

    losses: list[float] = []
    for epoch in range(1, int(p["epochs"]) + 1):
        began = time.perf_counter()
        accuracies = []
        for batch in np.array_split(random.permutation(len(digits.digit)), len(digits.digit) // int(p["batch size"])):
            loss, accuracy = network.learn(digits.pixels[batch], digits.digit[batch])
            adam.step()
            losses.append(loss)
            accuracies.append(accuracy)
            train_log.log(loss, "loss")
        train_log.log(np.mean(accuracies), "accuracy")
        train_log.log(time.perf_counter() - began, "seconds")
        for layer in network.layers:
            layer.log_weights()
        mail.send((epoch, network.weights))
        adam.rate *= p["decay per epoch"]
    tests = [mail.recv() for _ in range(int(p["epochs"]))]
    mail.send(None)
    child.join()
    train_log.info("done after %d batches, test accuracy %.1f %%", len(losses), 100 * tests[-1][1])
    return Memory(losses, tests, network.weights, table)


# -------------------------------------------------------------------------------------------------------- after the run


def compare(run: allogger.Run, memory: Memory) -> list[str]:
    """Return what was read back; raises `AssertionError` if anything of it is not exactly as it was."""
    losses, tests = run["train/loss"], run["eval/test/accuracy"]
    assert losses.value.tolist() == memory.losses
    assert losses.step.tolist() == list(range(1, len(memory.losses) + 1))
    assert tests.value.tolist() == [accuracy for _, accuracy, _ in memory.tests]
    assert set(tests.process) == {"evaluator"}
    assert np.array_equal(run["eval/confusion"].value, [confusion for _, _, confusion in memory.tests])
    for number, (weight, _) in enumerate(memory.weights, 1):
        assert np.array_equal(run[f"model.layer{number}/weight_matrix"].value[-1], weight)
    assert run["root/hyperparameters"].value.tolist() == [memory.hyperparameters]
    assert not run.keys(SPAM.replace("^", "/"))
    matrices = run["model.layer1/weight_matrix"].value
    return [
        f"{len(losses):,} training losses, to the last bit",
        f"{len(tests)} test accuracies and confusion matrices, logged by the process {tests.process[0]}",
        f"{len(matrices)} weight matrices of {' x '.join(map(str, matrices.shape[1:]))}",
        "the table of hyperparameters",
    ]


def draw(run: allogger.Run, path: Path) -> None:
    """Draw the learning curves, and what the network makes of the digits, from nothing but the run."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    loss = run["train/loss"].to_pandas()
    batches = len(loss) // len(run["train/accuracy"])
    loss.index = loss.index / batches
    figure, ((left, right), (below, corner)) = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    left.plot(loss, color="tab:blue", alpha=0.25, label="training, each batch")
    left.plot(loss.rolling(batches, min_periods=1).mean(), color="tab:blue", label="training, mean of an epoch")
    left.plot(run["eval/test/loss"].to_pandas(), color="tab:orange", label="test")
    left.set(title="Loss", xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    right.plot(100 * run["train/accuracy"].to_pandas(), color="tab:blue", label="training")
    right.plot(100 * run["eval/test/accuracy"].to_pandas(), color="tab:orange", label="test")
    right.set(title="Accuracy", xlabel="epoch", ylabel="read correctly (%)", ylim=(88, 100.5))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    confusion = run["eval/confusion"].value[-1]
    below.imshow(np.log1p(confusion), cmap="Blues")
    for (digit, answer), count in np.ndenumerate(confusion):
        if count:
            below.text(answer, digit, str(count), ha="center", va="center", color="w" if count > 8 else "k", fontsize=8)
    below.set(title="Test pictures", xlabel="read as", ylabel="digit", xticks=range(10), yticks=range(10))
    wrong = run["eval/wrong_digits"]
    corner.imshow(wrong.value[-1][:, :, 0], cmap="gray")
    corner.set(title=f"Read wrong after epoch {wrong.step[-1]}", xticks=[], yticks=[])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(logdir: Path) -> None:
    began = time.perf_counter()
    root = allogger.basic_configure(
        logdir,
        default_outputs=["hdf", "tensorboard", "csv", "console"],
        default_path_exists="unique",
        hdf_writer_params={"exclude": SPAM},
        tensorboard_writer_params={"exclude": SPAM},
        csv_writer_params={"filter": "loss|accuracy|rate|hyperparameters"},
        console_writer_params={"filter": "^loss$|^test/", "scope": "train|eval"},
        basic_logging_params={"level": "INFO", "formatter": {"fmt": "%(asctime)s %(name)s: %(message)s"}},
    )
    allogger.utils.report_env()
    # There may be a run of that name already; `unique` has then chosen another.
    logdir = Path(os.path.relpath(root.logdir or logdir))
    memory = train()
    allogger.close()
    seconds = time.perf_counter() - began

    run = allogger.open_run(logdir)
    picture = logdir / "learning_curves.png"
    print(f"\nRead back and found exactly as it was, out of {len(run)} keys:")
    for what in compare(run, memory):
        print(f"  {what}")
    draw(run, picture)
    _, accuracy, _ = memory.tests[-1]
    neurons = sum(len(bias) for _, bias in memory.weights)
    print(f"Logged and filtered out: {2 * neurons * len(memory.losses):,} values of single neurons")
    # The first file is that of the process which began first.
    h5 = min(logdir.glob("events/*.h5"))
    print(WHERE_TO_LOOK.format(logdir=logdir, picture=picture, h5=h5))
    print(f"Read correctly: {100 * accuracy:.1f} % of the test pictures. Training and logging took {seconds:.1f} s.")
    assert accuracy > 0.95


WHERE_TO_LOOK = """
Where to look:
  picture   {picture}
  terminal  allogger plot {logdir} -k loss
  curves    tensorboard --logdir {logdir}          (pip install tensorboard)
  h5py      h5py.File("{h5}")["scalar/train/loss"]["value"]
  pandas    allogger.open_run("{logdir}").wide("accuracy")
  tables    {logdir}/events/*.csv
  messages  {logdir}/*.log
"""

if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/digits"))
