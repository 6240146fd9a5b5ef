"""Keras: what does a callback log while a model is fitted or evaluated?

`KerasCallback` is made, and Keras imported, when it is first asked for: Keras takes seconds, and chooses its backend
then.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from allogger.errors import ConfigError, MissingDependency, words_of
from allogger.holding import Actions, HoldingLogger
from allogger.holding.holder import count
from allogger.logger import Logger

__all__ = ["KerasCallback"]

Logs = Mapping[str, Any] | None


class _Hooks:
    """Logs what Keras tells its callbacks, and calls the hooks of a `HoldingLogger`.

    *logger*: a `HoldingLogger`; or a `Logger`, a scope or None for the root, for which one is made with *options*.

    Metrics of epochs are ``train/<name>`` and ``val/<name>`` at the number of the epoch, from 1 on; those of batches,
    as Keras has them, ``train/batch/<name>`` and ``val/batch/<name>`` at that of the step. `evaluate` alone is
    ``test``.

    *log_freq*: each so many batches, ``"batch"`` for all, ``"epoch"`` for none; None: as the logger is configured.
    *histograms_every*: so many epochs for histograms of the weights; None for none.

    With ``checkpoint_every`` weights and optimizer are saved, unless the HoldingLogger has a ``state`` of its own.
    """

    params: Mapping[str, Any] | None
    model: Any

    def __init__(
        self,
        logger: HoldingLogger | Logger | str | None = None,
        *,
        log_freq: int | str | None = None,
        histograms_every: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if isinstance(logger, HoldingLogger) and options:
            raise ConfigError(f"give these to the HoldingLogger: {', '.join(options)}")
        self.holder = logger if isinstance(logger, HoldingLogger) else HoldingLogger(logger, **options)
        words = {"batch": 1, "epoch": 0}
        is_word = isinstance(log_freq, str) and log_freq in words
        self._log_freq = words[str(log_freq)] if is_word else count("log_freq", log_freq)
        self._histograms_every = count("histograms_every", histograms_every)
        self._phase = "test"
        self._tested = {"val": 0, "test": 0}
        self._first_batch = 0
        #: What the last hook asked for.
        self.actions: Actions = {"save_weights": False}

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Begin: `fit` calls this before `on_train_begin`, and so does an `evaluate` that is not part of it."""
        self.params = params
        self._phase = "test"

    # -- fit

    def on_train_begin(self, logs: Logs = None) -> None:
        """Log what the model is."""
        self._phase = "val"
        if self.holder.state is None or isinstance(getattr(self.holder.state, "__self__", None), _Hooks):
            # Also in place of that of another callback, with another model.
            self.holder.state = self._state
        self.holder.logger.log(self._about(), "keras", data_type="params")
        self.actions = self.holder.on_train_begin()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Count an epoch; behind ``initial_epoch`` where that is given."""
        if epoch > self.holder.epoch:
            self.holder.load_state_dict({"epoch": epoch, "step": self.holder.step})
        self.actions = self.holder.on_epoch_begin()

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Count a step."""
        self._first_batch = batch
        self.actions = self.holder.on_step_begin()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Log the metrics so far."""
        if self._is_due(batch):
            self.holder.summarize(None, logs or {}, "train/batch")
        self.actions = self.holder.on_step_end()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Log the metrics of the epoch, the learning rate, and the weights if they are due."""
        holder, now = self.holder, self.holder.epoch
        told = list((logs or {}).items())
        holder.summarize(now, [(name, value) for name, value in told if not name.startswith("val_")], "train")
        holder.summarize(now, [(name[4:], value) for name, value in told if name.startswith("val_")], "val")
        if getattr(self.model, "optimizer", None) is not None:
            with self._telling("the learning rate"):
                rate = _value(self.model.optimizer.learning_rate)
                holder.logger.log(rate, "optimizer/learning_rate", now, data_type="scalar")
        if self._histograms_every and now % self._histograms_every == 0:
            with self._telling("the weights"):
                for weight in self.model.weights:
                    name = getattr(weight, "path", weight.name)
                    holder.logger.log(_value(weight), f"weights/{name}", now, data_type="histogram")
        self.actions = holder.on_epoch_end()

    def on_train_end(self, logs: Logs = None) -> None:
        """Post the rest."""
        self._phase = "test"
        self.actions = self.holder.on_train_end()

    # -- evaluate

    def on_test_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Note where it begins."""
        self._first_batch = batch

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Log the metrics so far."""
        self._tested[self._phase] += 1
        if self._is_due(batch):
            self.holder.summarize(self._tested[self._phase], logs or {}, f"{self._phase}/batch")

    def on_test_end(self, logs: Logs = None) -> None:
        """Log the metrics, which `fit` gives at the end of the epoch."""
        if self._phase == "test":
            self.holder.summarize(self.holder.epoch, logs or {}, "test")

    # -- what is logged

    def _is_due(self, batch: int) -> bool:
        every = self.holder.logger.settings.log_freq if self._log_freq is None else self._log_freq
        # With `steps_per_execution` only the last of several batches is told.
        return isinstance(every, int) and every > 0 and batch // every * every >= self._first_batch

    def _state(self) -> dict[str, Any]:
        """Return what a checkpoint holds: `set_weights` takes the weights, and each variable is assigned."""
        variables = getattr(getattr(self.model, "optimizer", None), "variables", ())
        # A method in Keras 2.
        found: Iterable[Any] = variables() if callable(variables) else variables
        weights = [_value(weight) for weight in self.model.weights]
        return {"weights": weights, "optimizer": [_value(one) for one in found], **self.holder.state_dict()}

    def _about(self) -> dict[str, Any]:
        model = self.model
        optimizer, loss = getattr(model, "optimizer", None), getattr(model, "loss", None)
        about: dict[str, Any] = {"model": type(model).__name__, "fit": dict(self.params or {})}
        with self._telling("the model"):
            about |= {"name": model.name, "parameters": model.count_params()}
            about["loss"] = getattr(loss, "name", getattr(loss, "__name__", loss))
            if optimizer is not None:
                about["optimizer"] = {"class": type(optimizer).__name__, **optimizer.get_config()}
        return about

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Tell what fails instead of ending the training: models are often the user's own."""
        try:
            yield
        except Exception as error:
            why = f"{type(error).__name__}: {words_of(error)}"
            self.holder.logger.manager.accounts.tell_once(f"KerasCallback cannot log {what}: {why}")


def _value(variable: Any) -> Any:
    """Return the tensor of a variable of Keras; a method in Keras 2."""
    value = getattr(variable, "value", variable)
    return value() if callable(value) else value


if TYPE_CHECKING:

    class KerasCallback(_Hooks):
        """A callback of Keras, see `_Hooks`."""

else:

    def __getattr__(name: str) -> Any:
        if name != "KerasCallback":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        members = {"__doc__": _Hooks.__doc__, "__module__": __name__}
        made = globals()[name] = type(name, (_Hooks, _keras().callbacks.Callback), members)
        return made


def _keras() -> Any:
    """Return the Keras that the program uses."""
    for name in ("keras", "tf_keras", "tensorflow"):
        if (found := sys.modules.get(name)) is not None:
            return found.keras if name == "tensorflow" else found
    try:
        return importlib.import_module("keras")
    except ImportError as error:
        raise MissingDependency(
            "KerasCallback needs keras and a backend; install it with: pip install keras. "
            f"KERAS_BACKEND=torch, jax or tensorflow says which backend ({error})"
        ) from error
