"""Fit a model with Keras, log all of it with one callback, and go on from the best checkpoint.

    pip install 'allogger[examples]' keras torch
    python examples/keras_fit.py

It takes ten seconds, most of them for the import of Keras.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

# Before Keras is imported. Any other backend logs the same.
os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
from sklearn.datasets import load_digits

import allogger
from allogger.integrations.keras import KerasCallback


def new_model() -> Any:
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    )
    model.compile(keras.optimizers.Adam(0.02), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main(logdir: Path) -> None:
    keras.utils.set_random_seed(1)
    pixels, digits = load_digits(return_X_y=True)
    pixels = pixels / 16
    model = new_model()

    with allogger.run(logdir, ["hdf", "tensorboard"], default_path_exists="clear"):
        callback = KerasCallback(
            log_freq=2,  # each second batch; the epochs in any case
            histograms_every=4,
            checkpoint_every=1,
            metric="val/loss",
            plots={"loss_curve": ["train/loss", "val/loss"]},
            post_every=4,
        )
        fit = model.fit(pixels, digits, batch_size=256, epochs=8, validation_split=0.2, verbose=0, callbacks=[callback])

    run = allogger.open_run(logdir)
    for name, values in fit.history.items():
        key = f"root/val/{name[4:]}" if name.startswith("val_") else f"root/train/{name}"
        assert run[key].value.tolist() == values  # to the last bit

    best = next(one for one in run.checkpoints() if "best" in one.aliases)
    again = new_model()
    again.set_weights(best.load()["weights"])
    assert best.metric == min(fit.history["val_loss"])

    accuracy = again.evaluate(pixels, digits, verbose=0)[1]
    print(f"Epoch {best.step} was the best; its weights read {100 * accuracy:.1f} % of the digits correctly.")
    print(f"allogger plot {logdir} -k accuracy")
    assert accuracy > 0.9


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/keras_fit"))
