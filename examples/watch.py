"""A network learns digits: what do its gradients, its weights and the machine do meanwhile?

Run it with ``python watch.py [logdir]``. It needs torch, scikit-learn and psutil.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import allogger

EPOCHS = 12


def train(model: nn.Module) -> int:
    """Train with batches of 64 pictures and return the number of steps."""
    pixels, digits = load_digits(return_X_y=True)
    pictures = TensorDataset(torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(digits))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    logger, steps = allogger.get_logger("train"), 0
    with allogger.watch(model, logger, every_n=50, norms=True, optimizer=optimizer):
        for _ in range(EPOCHS):
            for batch, digit in DataLoader(pictures, batch_size=64, shuffle=True):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(batch), digit)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                logger.log(loss, "loss")
                steps += 1
    return steps


def main(logdir: Path) -> None:
    torch.manual_seed(1)
    torch.set_num_threads(1)  # more would only wait for each other
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    with allogger.run(logdir, ["hdf", "tensorboard"], default_path_exists="clear", system_metrics_seconds=0.2):
        steps = train(model)

    run = allogger.open_run(logdir)
    weights, norms = run["train/parameters/0/weight"], run["train/gradients/0/weight/norm"]
    assert weights.kind == "histogram"
    assert weights.step.tolist() == norms.step.tolist() == list(range(50, steps + 1, 50))
    assert abs(weights.value[-1]).mean() > abs(weights.value[0]).mean()
    print(f"{len(weights)} times the {weights.value[0].size:,} weights of the first layer, from their mean of")
    print(f"  {abs(weights.value[0]).mean():.3f} to {abs(weights.value[-1]).mean():.3f}")
    print(f"the norm of their gradient: {norms.value[0]:.3f} to {norms.value[-1]:.3f}")
    for key in run.keys("^system/"):
        values = run[key].value
        assert values.min() >= 0
        print(f"{key:42} {values.mean():18,.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/watch"))
