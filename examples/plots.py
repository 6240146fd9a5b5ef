"""Which pictures does allogger draw? Makes those of docs/plots.md in the folder that is given (default: ./plots)."""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

import matplotlib.figure
import numpy as np
from numpy.typing import NDArray

import allogger
from allogger.plotting import plot_runs, plot_series


def train(logdir: Path, seed: int, steps: int = 400) -> allogger.Run:
    """Log what a small training would."""
    random = np.random.default_rng(seed)
    with allogger.run(logdir, ["hdf"]):
        main = allogger.get_logger("main")
        for step in range(steps):
            progress = step / steps
            loss = 2 * math.exp(-5 * progress) + 0.1
            main.log(loss * random.lognormal(0, 0.25), "train/loss", step)
            main.log(20 * step * (1 + 0.3 * progress), "samples", step)
            if step % 10 == 0:
                main.log(loss * 1.2 + 0.3 * progress**2 + 0.02 * random.normal(), "valid/loss", step)
                main.log(1 / (1 + math.exp(3 - 8 * progress)) + 0.01 * random.normal(), "valid/accuracy", step)
                main.log(random.normal(0, 0.3 + progress, 2000) + 0.8 * progress, "weights", step)
            if step % 50 == 0:
                main.log(picture(progress, random), "sample", step, data_type="image")
    return allogger.open_run(logdir)


def picture(progress: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a disc that comes out of the noise."""
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    disc = np.exp(-3 * (x**2 + y**2))
    rgb = np.stack([disc, disc**2, 1 - disc], axis=-1)
    noise = random.integers(0, 4, rgb.shape) / 4
    return (255 * (progress * rgb + (1 - progress) * noise)).astype(np.uint8)


def reward(logdir: Path, lr: float, seed: int) -> allogger.Run:
    """Log one run of a comparison."""
    random = np.random.default_rng(seed + int(1000 * lr))
    with allogger.run(logdir, ["hdf"]):
        logger = allogger.get_logger("agent")
        pace, luck = (0.02 if lr > 0.05 else 0.008), random.normal(1, 0.08)
        for step in range(0, 500, 5):
            logger.log(200 * luck * (1 - math.exp(-pace * step)) + random.normal(0, 6), "reward", step)
    return allogger.open_run(logdir)


def long_run(logdir: Path) -> allogger.Run:
    """Log a million values, one of which is a spike."""
    values = np.cumsum(np.random.default_rng(0).normal(size=1_000_000)) / 300
    values[700_000] += 12
    with allogger.run(logdir, ["hdf"]):
        log = allogger.get_logger("sensor").log
        for value in values.tolist():
            log(value, "drift")
    return allogger.open_run(logdir)


def learning_rate(run: allogger.Run) -> str:
    """Return which runs belong together."""
    return run.logdir.name.partition("-")[0]


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "plots")
    folder.mkdir(parents=True, exist_ok=True)

    def save(axes: object, name: str) -> None:
        figure = getattr(np.ravel(np.asarray(axes, object))[0], "figure", None)
        assert isinstance(figure, matplotlib.figure.Figure)
        figure.savefig(folder / f"{name}.png", dpi=80, pil_kwargs={"optimize": True})
        print(folder / f"{name}.png")

    with tempfile.TemporaryDirectory() as place:
        run = train(Path(place) / "digits", 0)
        save(run.plot("loss|accuracy|weights|sample$"), "run")
        save(run.plot("train/loss", smooth=0.95, logy=True), "smooth")
        save(run.plot("valid/accuracy", x="samples"), "over-samples")
        save(plot_series(run["main/train/loss"], smooth=50), "series")
        save(run.plot("weights"), "histogram")
        save(run.plot("sample$"), "images")
        save(long_run(Path(place) / "long").plot("drift"), "million")
        runs = [reward(Path(place) / f"lr{lr}-{seed}", lr, seed) for lr in (0.01, 0.1) for seed in range(5)]
        save(plot_runs(runs, "agent/reward", by=learning_rate, band="std"), "seeds")
        save(plot_runs(runs, "agent/reward", by=learning_rate, band="iqr", smooth=0.7), "quartiles")
        save(plot_runs(runs[:3], "agent/reward"), "runs")


if __name__ == "__main__":
    main()
