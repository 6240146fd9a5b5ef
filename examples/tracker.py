"""One call for everything: how does a training log metrics, figures and models to two trackers at once?

Run it with ``python tracker.py [folder]``. It teaches a small network of torch to read digits. One tracker keeps
everything in HDF5 and TensorBoard, the other a table of each fifth batch in CSV.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import allogger


@dataclass
class Config:
    seed: int = 1
    epochs: int = 6
    batch_size: int = 64
    learning_rate: float = 0.01


class Trainer:
    """Trains a network and logs with ``self.log``; it does not know where to."""

    def __init__(self, config: Config, tracker: allogger.Tracker | allogger.TrackerCollection) -> None:
        self.log = tracker.log
        torch.manual_seed(config.seed)
        digits = load_digits()
        pictures = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)
        data = TensorDataset(pictures, torch.tensor(digits.target))
        self.train_data, self.test_data = random_split(data, [0.8, 0.2])
        self.loader = DataLoader(self.train_data, config.batch_size, shuffle=True)
        self.model = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 64), nn.ReLU(), nn.Linear(64, 10)
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), config.learning_rate)
        self.log(data, "digits", kind="dataset", params={"for_tests": len(self.test_data)})
        self.log(pictures[0], "zero", kind="image")
        self.log((self.model, self.loader), "flops_per_epoch", kind="flops_pe")
        self.log(self.model, "network", kind="watch", every_n=20)

    def train(self, epoch: int) -> None:
        """Learn from each batch once; ``batch_idx`` is what the trackers' ``log_freq`` is about."""
        for batch_idx, (pictures, labels) in enumerate(self.loader):
            loss = nn.functional.cross_entropy(self.model(pictures), labels)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            step = (epoch - 1) * len(self.loader) + batch_idx
            self.log(loss, "loss", step=step, batch_idx=batch_idx, context="train")

    def test(self, epoch: int) -> float:
        """Return which part of the test pictures is read correctly."""
        pictures, labels = next(iter(DataLoader(self.test_data, len(self.test_data))))
        with torch.no_grad():
            scores = self.model(pictures)
        loss = nn.functional.cross_entropy(scores, labels)
        accuracy = float((scores.argmax(1) == labels).float().mean())
        self.log([loss, accuracy], ["loss", "accuracy"], step=epoch, context="test")
        self.log(self.model, "best", kind="best_model", step=epoch, metric=accuracy, mode="max")
        return accuracy


def learning_curve(accuracies: list[float]) -> Figure:
    figure, axes = plt.subplots()
    axes.plot(range(1, len(accuracies) + 1), accuracies, "o-")
    axes.set(xlabel="epoch", ylabel="read correctly")
    return figure


def main(folder: Path) -> None:
    config = Config()
    # For a network this small, threads cost more than they give.
    torch.set_num_threads(1)
    # The parameters of the root are those of the run.
    everything = allogger.Tracker(folder / "everything", ["hdf", "tensorboard"], scope="root")
    table = allogger.Tracker(folder / "table", ["csv"], log_freq=5, csv_writer_params={"filter": "loss|accuracy"})
    trackers = allogger.TrackerCollection([everything, table])

    with trackers.start_logging():
        trackers.save_hyperparameters(config)
        trackers.log(Path(__file__), "program", kind="artifact")
        trainer = Trainer(config, trackers)
        accuracies = []
        for epoch in range(1, config.epochs + 1):
            with everything.timing("seconds_per_epoch", step=epoch):
                trainer.train(epoch)
            accuracies.append(trainer.test(epoch))
        figure = learning_curve(accuracies)
        trackers.log(figure, "accuracies", kind="figure")
        trackers.log(trainer.model, "trained", kind="model")
        trackers.log(None, "seconds", kind="execution_time")
        trackers.log(None, "provenance", kind="prov_documents")
        plt.close(figure)

    run = allogger.open_run(folder / "everything")
    batches = len(trainer.loader)
    assert len(run["root/train/loss"]) == config.epochs * batches
    assert run["root/test/accuracy"].value.tolist() == accuracies
    assert asdict(config).items() <= run.params.items()
    assert run.params["root/digits"]["length"] == 1797
    best = run.checkpoint("best")
    assert best is not None
    assert best.metric == max(accuracies) > 0.9
    (trained,) = run.artifacts("/trained$")
    trainer.model.load_state_dict(trained.load("torch"))
    made = json.loads(run.text("root/provenance").value[0])["wasGeneratedBy"]

    (file,) = (folder / "table/events").glob("*.csv")
    with file.open(newline="") as lines:
        steps = [int(row["step"]) for row in csv.DictReader(lines) if row["key"] == "tracker2/train/loss"]
    assert steps == [step for step in range(config.epochs * batches) if step % batches % 5 == 0]

    print(f"Read correctly after each epoch: {', '.join(f'{accuracy:.1%}' for accuracy in accuracies)}")
    print(f"{len(run)} keys in {run.logdir}; the document of provenance names {len(made)} of them")
    print(f"The best network: {best.path}")
    print(f"{len(steps)} of {config.epochs * batches} losses in {file}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/tracker"))
