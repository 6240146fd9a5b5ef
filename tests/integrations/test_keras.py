"""Does the callback log what Keras itself remembers of a training, to the last bit?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import allogger
from allogger.holding import HoldingLogger
from allogger.integrations import keras as integration
from tests.conftest import Result

# Keras itself hears that from numpy.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
EPOCHS, BATCHES = 4, 5


@pytest.fixture(scope="module")
def keras() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "torch")
        yield pytest.importorskip("keras", reason="Keras is not installed, so its callback cannot be tried")


class Fitted(NamedTuple):
    run: allogger.Run
    history: dict[str, list[float]]
    evaluation: list[float]
    model: Any
    data: tuple[Any, Any]


def a_model(keras: Any, units: int = 8) -> Any:
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


def the_data() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    return pixels[:100] / 16, digits[:100]


@pytest.fixture(scope="module")
def fitted(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    keras.utils.set_random_seed(1)
    logdir = tmp_path_factory.mktemp("run")
    (x, y), model = the_data(), a_model(keras)
    with allogger.run(logdir):
        callback = integration.KerasCallback(
            "fit", log_freq=2, histograms_every=2, checkpoint_every=2, metric="val/loss", keep_last=1
        )
        history = model.fit(x, y, 16, EPOCHS, validation_split=0.2, verbose=0, callbacks=[callback])
        evaluation = model.evaluate(x, y, verbose=0, callbacks=[callback])
    return Fitted(allogger.open_run(logdir), history.history, evaluation, model, (x, y))


def test_it_is_a_callback_of_the_keras_that_is_imported(keras: Any) -> None:
    assert issubclass(integration.KerasCallback, keras.callbacks.Callback)
    assert integration._keras() is keras


def test_the_metrics_of_epochs_are_those_of_the_history(fitted: Fitted) -> None:
    assert set(fitted.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    for name, values in fitted.history.items():
        series = fitted.run["fit/val/" + name[4:] if name.startswith("val_") else f"fit/train/{name}"]
        assert series.value.tolist() == values
        assert series.step.tolist() == [1, 2, 3, 4]
    logged = [fitted.run[f"fit/test/{name}"].value.tolist() for name in ("loss", "accuracy")]
    assert logged == [[value] for value in fitted.evaluation]


def test_the_metrics_of_batches_are_logged_as_often_as_wanted(fitted: Fitted) -> None:
    # Of the batches 0, 1, 2, 3, 4 of each epoch.
    steps = [BATCHES * epoch + batch + 1 for epoch in range(EPOCHS) for batch in (0, 2, 4)]
    series = fitted.run["fit/train/batch/loss"]
    assert series.step.tolist() == steps
    # What Keras says of a batch is the mean of the epoch so far.
    assert series.value[2::3].tolist() == fitted.history["loss"]
    assert fitted.run["fit/step"].value.ravel().tolist() == list(range(1, BATCHES * EPOCHS + 1))


def test_the_model_its_learning_rate_and_its_weights_are_logged(fitted: Fitted) -> None:
    about = fitted.run.params["fit/keras"]
    assert about["parameters"] == 610
    assert about["fit"]["epochs"] == EPOCHS
    assert about["optimizer"]["class"] == "Adam"
    np.testing.assert_allclose(fitted.run["fit/optimizer/learning_rate"].value, 0.1 * 0.5 ** np.arange(1, 5), 1e-5)
    kernel = fitted.run[next(fitted.run[key].key for key in fitted.run.keys("weights/.*/dense(_\\d+)?/kernel"))]
    assert (kernel.kind, kernel.step.tolist()) == ("histogram", [2, 4])


def test_a_checkpoint_brings_the_weights_back(keras: Any, fitted: Fitted) -> None:
    [saved] = [one for one in fitted.run.checkpoints() if "latest" in one.aliases]
    state = saved.load()
    assert saved.metric == fitted.history["val_loss"][-1]
    assert (state["epoch"], state["step"]) == (EPOCHS, BATCHES * EPOCHS)

    model = a_model(keras)
    model.set_weights(state["weights"])

    x, y = fitted.data
    assert model.evaluate(x, y, verbose=0) == fitted.evaluation
    assert len(state["optimizer"]) == len(fitted.model.optimizer.variables)


def test_callbacks_of_a_holder_call_its_hooks_in_their_order(keras: Any, tmp_path: Path) -> None:
    calls = []

    class Told(HoldingLogger):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_"):
                calls.append(name.removeprefix("on_"))
            return super().__getattribute__(name)

    allogger.basic_configure(tmp_path)
    holder = Told()
    holder.add_callback([integration.KerasCallback(holder, log_freq="epoch")])
    x, y = the_data()
    model = a_model(keras)
    for _ in range(2):
        model.fit(x, y, 100, 1, verbose=0, callbacks=holder.callbacks)
    allogger.close()

    one = ["train_begin", "epoch_begin", "step_begin", "step_end", "epoch_end", "train_end"]
    assert calls == one * 2
    run = allogger.open_run(tmp_path)
    assert run["root/train/loss"].step.tolist() == [1, 2]
    assert not run.keys("batch")


def test_an_evaluation_after_a_fit_that_has_failed_is_none_of_its_epochs(keras: Any, tmp_path: Path) -> None:
    def fail(batch: int, logs: Any) -> None:
        raise RuntimeError("diverged")

    x, y = the_data()
    model, callback = a_model(keras), integration.KerasCallback()
    failing = keras.callbacks.LambdaCallback(on_train_batch_end=fail)
    with allogger.run(tmp_path):
        with pytest.raises(RuntimeError, match="diverged"):
            model.fit(x, y, 100, 1, verbose=0, callbacks=[callback, failing])
        evaluation = model.evaluate(x, y, verbose=0, callbacks=[callback])
        fit = model.fit(x, y, 100, 1, verbose=0, validation_split=0.2, callbacks=[callback])

    run = allogger.open_run(tmp_path)
    assert run["root/test/loss"].value.tolist() == evaluation[:1]
    assert run["root/val/loss"].value.tolist() == fit.history["val_loss"]
    assert run["root/val/batch/loss"].step.tolist() == [1]
    assert run["root/train/batch/loss"].step.tolist() == [1, 2]


def test_checkpoints_are_those_of_the_model_that_is_fitted(keras: Any, tmp_path: Path) -> None:
    class Model(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = keras.layers.Dense(10)

        def call(self, x: Any) -> Any:
            return self.layer(x)

    models = [a_model(keras), Model()]
    models[1].compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with allogger.run(tmp_path):
        holder = HoldingLogger(checkpoint_every=1)
        for model in models:
            model.fit(*the_data(), 100, 1, verbose=0, callbacks=[integration.KerasCallback(holder)])

    saved = [one.load()["weights"] for one in allogger.open_run(tmp_path).checkpoints()]
    for model, weights in zip(models, saved, strict=True):
        for one, other in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(one, other)


def test_of_several_batches_that_are_executed_at_once_the_last_is_told(keras: Any, tmp_path: Path) -> None:
    callback = integration.KerasCallback(log_freq=10)
    with allogger.run(tmp_path):
        # As Keras does it with steps_per_execution=4, which its backend torch has not.
        for first in range(0, 40, 4):
            callback.on_train_batch_begin(first)
            callback.on_train_batch_end(first + 3, {"loss": float(first + 3)})
            callback.on_test_batch_begin(first)
            callback.on_test_batch_end(first + 3, {"loss": float(first + 3)})

    run = allogger.open_run(tmp_path)
    assert run["root/train/batch/loss"].value.tolist() == [3, 11, 23, 31]
    assert run["root/test/batch/loss"].value.tolist() == [3, 11, 23, 31]


def test_a_training_goes_on_behind_its_initial_epoch(keras: Any, tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path)
    callback = integration.KerasCallback()
    a_model(keras).fit(*the_data(), epochs=7, initial_epoch=5, verbose=0, callbacks=[callback])
    allogger.flush()

    assert allogger.open_run(tmp_path)["root/train/loss"].step.tolist() == [6, 7]
    assert callback.actions == {"save_weights": False}


@pytest.mark.parametrize(
    "options", [{"log_freq": 0}, {"log_freq": []}, {"log_freq": "epochs"}, {"histograms_every": True}, {"plot": {}}]
)
def test_impossible_options_are_errors(keras: Any, options: dict[str, Any]) -> None:
    with pytest.raises(allogger.ConfigError):
        integration.KerasCallback(**options)
    with pytest.raises(allogger.ConfigError, match="give these to the HoldingLogger: post_every"):
        integration.KerasCallback(HoldingLogger(), post_every=2)


def test_keras_is_imported_when_the_callback_is_asked_for(run_python: Callable[..., Result]) -> None:
    result = run_python("import sys, allogger.integrations.keras; assert 'keras' not in sys.modules")

    assert result.returncode == 0, result.stderr


def test_without_keras_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("keras", "tf_keras", "tensorflow"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(allogger.MissingDependency, match="pip install keras"):
        integration._keras()
