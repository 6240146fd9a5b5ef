"""A network learns to read handwritten digits: what does a `TrainerLogger` make of the training?

Run it with ``python trainer_logger.py [logdir]``. The loop hands over what it has, once per iteration and once per
epoch. The configuration decides what of it is logged, and as what; it could as well stand in a YAML file.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split

import allogger

CONFIG: dict[str, Any] = {
    "name": "digits",
    "tags": ["example"],
    "loggers": ["metric", "hist", "image", "hparams"],
    "tracked_variables": {
        "metric": ["loss", "accuracy"],
        "hist": ["confidence"],
        "image": ["hardest"],
        "hparams": ["re:."],
    },
    "print_every_n_seconds": 1.0,
    "default_outputs": ["hdf", "csv"],
}


@dataclass(frozen=True)
class Hyperparameters:
    hidden: int = 64
    rate: float = 0.01
    batch_size: int = 64
    epochs: int = 4
    seed: int = 1


def loaders(batch_size: int) -> dict[str, DataLoader[tuple[Tensor, ...]]]:
    """Return batches of pictures of 8 x 8 pixels and of the digits that they show, for each phase."""
    digits = load_digits()
    pictures = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    train, val = random_split(TensorDataset(pictures, torch.tensor(digits.target)), [1437, 360])
    return {"train": DataLoader(train, batch_size, shuffle=True), "val": DataLoader(val, batch_size)}


def scores(model: nn.Module, pictures: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return what there is to say of the answers to a batch: more than anybody tracks."""
    answers = model(pictures)
    is_right = answers.argmax(1) == targets
    return {
        "loss": cross_entropy(answers, targets),
        "accuracy": is_right.float().mean(),
        "confidence": answers.softmax(1).amax(1),
        "answers": answers,
        # The two pictures of whose digit it is least sure.
        "hardest": pictures[answers.softmax(1)[range(len(targets)), targets].argsort()[:2]],
    }


def train(logger: allogger.TrainerLogger, of: Hyperparameters) -> Iterator[tuple[str, int, float, int]]:
    """Train a network; yield the phase, epoch, loss and size of each batch, to compare with what was logged."""
    torch.manual_seed(of.seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, of.hidden), nn.ReLU(), nn.Linear(of.hidden, 10))
    optimizer = torch.optim.Adam(model.parameters(), of.rate)
    batches = loaders(of.batch_size)
    logger.log_hyperparams(of, model=model)
    done = itertools.count()
    for epoch in range(1, of.epochs + 1):
        for phase, loader in batches.items():
            for batch, (pictures, targets) in enumerate(loader, 1):
                with torch.set_grad_enabled(phase == "train"):
                    found = scores(model, pictures, targets)
                if phase == "train":
                    optimizer.zero_grad()
                    torch.autograd.backward(found["loss"])
                    optimizer.step()
                logger.log_iter(
                    {
                        "phase": phase,
                        "epoch": epoch,
                        "max_epochs": of.epochs,
                        "total_iters": next(done),
                        "batch_current": batch,
                        "batch_total": len(loader),
                        "batch_size": len(targets),
                        **found,
                    }
                )
                yield phase, epoch, found["loss"].item(), len(targets)
            logger.log_epoch()


def main(logdir: Path) -> None:
    of = Hyperparameters()
    with allogger.TrainerLogger(CONFIG, root_dir=logdir) as logger:
        remembered = list(train(logger, of))
    allogger.close()

    run = allogger.open_run(logdir)
    for phase in ("train", "val"):
        series = run[f"digits/Metric-EpochWise/loss/{phase}"]
        for epoch, mean in zip(series.step, series.value, strict=True):
            losses = np.array([(loss, size) for p, e, loss, size in remembered if (p, e) == (phase, epoch)])
            # Each picture counts the same, also those of the smaller last batch.
            assert np.isclose(mean, np.average(losses[:, 0], weights=losses[:, 1]))
        batches = run[f"digits/Metric-BatchWise/loss/{phase}"].value.tolist()
        assert batches == [loss for p, _, loss, _ in remembered if p == phase]
    assert [len(values) for values in run["digits/Hist/confidence/val"].value] == [360] * of.epochs
    assert run["digits/Image/hardest/val/0"].value.shape == (24, 1, 8, 8)
    assert run.params["model_parameters"]["total"] == 64 * 64 + 64 + 64 * 10 + 10
    assert not run.keys("answers")
    accuracy = run["digits/Metric-EpochWise/accuracy/val"].value[-1]
    print(
        f"Read back and found as it was: {len(run)} keys. Read correctly: {100 * accuracy:.1f} % of the val pictures."
    )
    assert accuracy > 0.9


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/trainer_logger"))
