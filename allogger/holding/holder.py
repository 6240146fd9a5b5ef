"""HoldingLogger: what does a training loop say where its epochs and steps begin and end, and what follows from it?"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Never, TypeVar

import numpy as np

from allogger.checkpoints import Rule
from allogger.errors import ConfigError, UnknownName, words_of
from allogger.holding.buffer import Buffer, Clock, write_array
from allogger.holding.plots import PlotFunction, Plots
from allogger.holding.windows import Lists, json_of
from allogger.logger import Logger, get_logger
from allogger.manager import manager
from allogger.plain import Unstorable, copied

__all__ = ["Actions", "HoldingLogger", "count", "options"]

#: What a hook asks of the training loop.
Actions = dict[str, bool]
T = TypeVar("T")

#: The numbers of the steps, the epoch of each of them, and the numbers of the epochs.
_INDEX: Final = ("step", "sw_epoch", "ew_epoch")
# Another thread that posts has got stuck, or was stopped where nobody could see it.
_PATIENCE_SECONDS: Final = 60.0
_numbers = itertools.count()


class HoldingLogger:
    """Holds values of a training loop, posts them in windows, and does what is due at the ends of epochs.

    *logger*: a `Logger`, a scope, or None for the root. Lists of exact labels decide what of the held values is
    collected at all, and what of that is written; a black list wins over a white one. At most *max_hold_bytes* are held
    in memory; what is more makes windows before the post.

    *post_every*: so many epochs; None: at the end of the training only. *checkpoint_every*: so many epochs; then a hook
    returns ``{"save_weights": True}``, and what *state* returns is saved by `Logger.checkpoint`, with *keep_last* and
    *keep_best* by *metric*, a label such as ``"test/loss"``, of which the *mode* ``"min"`` or ``"max"`` is best.

    *plots*: inputs for ``"loss_curve"``, ``"weight_histogram"`` and ``"panels"``; see `register_plot`. *plot_files*:
    whether plots are also saved as ``<logdir>/plots/*.png``.
    """

    def __init__(
        self,
        logger: Logger | str | None = None,
        *,
        post_every: int | None = 1,
        collect_whitelist: Iterable[str] | None = None,
        collect_blacklist: Iterable[str] | None = None,
        write_whitelist: Iterable[str] | None = None,
        write_blacklist: Iterable[str] | None = None,
        checkpoint_every: int | None = None,
        state: Callable[[], Any] | None = None,
        metric: str | None = None,
        mode: Literal["min", "max"] = "min",
        keep_last: int | None = 5,
        keep_best: int = 1,
        plots: Mapping[str, Sequence[str]] | None = None,
        plot_files: bool = True,
        max_hold_bytes: int = 64 * 2**20,
        **unknown: Never,
    ) -> None:
        for name in unknown:
            raise UnknownName.of("option of HoldingLogger", name, options())
        Rule.of(mode, keep_last, keep_best)
        for name, given in (("state", state), ("metric", metric)):
            if given is not None and checkpoint_every is None:
                raise ConfigError(f"{name} is for checkpoints, every so many epochs: say checkpoint_every=")
        self.logger = logger if isinstance(logger, Logger) else get_logger(logger or "root")
        self._post_every = count("post_every", post_every)
        self._collects = Lists.of("collect", collect_whitelist, collect_blacklist)
        self._writes = Lists.of("write", write_whitelist, write_blacklist)
        self._seen: set[str] = set()
        self._checkpoint_every = count("checkpoint_every", checkpoint_every)
        #: Returns what is saved; may be assigned later, when the model exists.
        self.state = state
        self._checkpoint_options: dict[str, Any] = {"mode": mode, "keep_last": keep_last, "keep_best": keep_best}
        self._metric = metric
        #: How many numbers of the metric there were at the last checkpoint.
        self._measured = 0
        self._saved_epoch = 0
        self._max_hold_bytes = count("max_hold_bytes", max_hold_bytes or 0) or 0
        self._clock = Clock()
        self._posts = 0
        # No key begins like that.
        self._name = f"\0held by {next(_numbers)}"
        #: Which static values are written where.
        self._written: dict[tuple[Path | None, str | None, str], tuple[object, ...]] = {}
        #: For ``model.fit(callbacks=...)`` of Keras, see `add_callback`.
        self.callbacks: list[Any] = []
        self._plots = Plots(self.logger, plot_files)
        if metric is not None:
            self._plots.remember(metric)
        for name, inputs in (plots or {}).items():
            self._plots.add_known(name, inputs)

    @property
    def epoch(self) -> int:
        """The number of the current epoch, 0 before the first."""
        return self._clock.epoch

    @property
    def step(self) -> int:
        """The number of the current step, over all epochs, 0 before the first."""
        return self._clock.step

    # ----------------------------------------------------------------------------------------------- summarize and hold

    def summarize(
        self, step: int | None, items: Iterable[tuple[str, Any]] | Mapping[str, Any], writer: str = "train"
    ) -> None:
        """Log numbers, given as (label, value) pairs, under ``<writer>/<label>`` at *step*; None: the current step.

        A bad item is counted and told once, and the others are logged.
        """
        at = self.step if step is None else step
        try:
            pairs = list(items.items() if isinstance(items, Mapping) else items)
        except Exception as error:
            self._refuse("?", f"summarize takes (label, value) pairs: {_words(error)}")
            return
        for pair in pairs:
            try:
                label, value = pair
                key = f"{writer}/{label}"
            except Exception:
                self._refuse("?", f"summarize takes (label, value) pairs, not a {type(pair).__name__}")
                continue
            if type(value) is float:
                self.logger.log(value, key, at)
            else:
                self.logger.log(value, key, at, data_type="scalar")
            self._plots.see(key, at, value)

    def hold(self, value: Any, key: str, *, stride: str = "step", **meta: Any) -> None:
        """Hold a copy of *value* until it is posted. Never raises; what cannot be stored is counted and told once.

        *stride*: ``"step"`` or ``"epoch"``, of which the key has one value each, or ``"static"`` for a value that is
        written at once, and only once. *meta*, such as ``description`` and ``shape_key``, is stored with the windows;
        that of the first call holds.
        """
        self._hold_checked(value, key, stride, meta)

    def log(self, label: str, data: Any, meta: Mapping[str, Any] | None = None) -> None:
        """Hold *data*: `hold` in the order label, data, meta, with the stride among the meta-data."""
        given: Any = meta or {}
        if not isinstance(given, Mapping):
            manager.accounts.tell_once(f"meta-data are a dict, not a {type(given).__name__}; ignored")
            given = {}
        others = dict(given)
        self._hold_checked(data, label, others.pop("stride", "step"), others)

    def _hold_checked(self, value: Any, key: Any, stride: Any, meta: Mapping[str, Any]) -> None:
        if not isinstance(key, str):
            self._refuse("?", f"a key is a str, not a {type(key).__name__}")
            return
        if key in _INDEX:
            self._refuse(key, "is the name of an index column of HoldingLogger; choose another")
            return
        self._seen.add(key)
        if self._collects.lets(key):
            self._hold(value, key, stride, meta, self._writes.lets(key))

    def _hold(self, value: Any, key: str, stride: Any, meta: Mapping[str, Any], is_written: bool = True) -> None:
        try:
            stride = str(stride)
            buffer = self._buffer(key)
            is_shown = self._plots.want(key) or not is_written
            if buffer is None or not (is_shown or self.logger.isEnabledFor(key)):
                return
            if stride == "static":
                self._hold_static(copied(value), key, json_of(meta), is_written)
            else:
                buffer.add(value, key, stride, meta, is_written)
        except Exception as error:
            self._refuse(key, str(error) if isinstance(error, Unstorable) else _words(error))

    def _hold_static(self, array: Any, key: str, meta: Mapping[str, Any], is_written: bool) -> None:
        if self._plots.want(key):
            self._plots.see_static(key, array)
        run = manager.runs.get(manager.logdir(self.logger.scope))
        # A folder that was cleared has a new attempt.
        which = (self.logger.logdir, None if run is None else run.attempt, key)
        # Of the bytes, because no NaN is equal to another.
        content = (array.shape, array.dtype, hashlib.blake2b(array.tobytes()).digest())
        if not is_written or self._written.get(which) == content:
            return
        if which in self._written:
            manager.accounts.note(self.logger.scope, key, "is static, but has another value now; both are stored")
        self._written[which] = content
        # At step 0, where a program that is started again replaces it instead of adding to it.
        write_array(self.logger, array, key, 0, {"stride": "static", **meta})

    def _buffer(self, key: str | None = None) -> Buffer | None:
        """Return where values are held; None where nothing is configured, which counts a value of *key*."""
        found = self.logger._aggregates.gatherings.get(self._name)
        if found is None and key is not None:
            with manager.lock:
                if manager.is_ready():
                    manager.see_the_end()
                    made = Buffer(self.logger, self._clock, self._max_hold_bytes)
                    found = self.logger._aggregates.gatherings.setdefault(self._name, made)
            if found is None and manager.enabled:
                manager.accounts.not_configured(self.logger.scope, key, manager.was_closed)
        return found if isinstance(found, Buffer) else None

    # ------------------------------------------------------------------------------------------------------------- post

    def post(self) -> None:
        """Write what is held as windows, arrays with the values along their first axis; then draw the plots.

        Neighbours of different shape or dtype are in different windows. The step of a window is the current epoch,
        or counted where there are no epochs.
        """
        self._posts += 1
        inputs = self._plots.inputs({})
        if (buffer := self._buffer()) is not None:
            with buffer.turn(_PATIENCE_SECONDS, insists=True) as is_mine:
                if not is_mine:
                    return  # in a signal handler that has interrupted the same
                inputs = self._plots.inputs(buffer.held)
                buffer.write()
                buffer.forget_unwritten()
        if manager.enabled and not manager.is_muted(self.logger.settings):
            self._plots.draw(inputs, self.epoch or None, self.epoch or self._posts)

    def register_plot(self, name: str, function: PlotFunction, inputs: Sequence[str]) -> None:
        """Have ``function(figure, *inputs)`` draw at each post, on a figure of matplotlib that pyplot does not know.

        Each input is an `Observed`: the window of a held key, the value of a static one, or all numbers of a label such
        as ``"train/loss"`` that `summarize` has logged since. The picture is logged under ``plots/<name>`` and, with
        *plot_files*, saved. What fails is told once, and does no other harm.
        """
        self._plots.add(name, function, inputs)

    # ------------------------------------------------------------------------------------------------------------ hooks

    def on_train_begin(self, *, epoch: int | None = None, step: int | None = None) -> Actions:
        """Begin, or go on behind *epoch* and *step*, as after a checkpoint."""
        self._go_on(self.epoch if epoch is None else epoch, self.step if step is None else step)
        return {"save_weights": False}

    def on_epoch_begin(self) -> Actions:
        """Count an epoch."""
        self._clock.epoch += 1
        return {"save_weights": False}

    def on_step_begin(self) -> Actions:
        """Count a step."""
        self._clock.step += 1
        return {"save_weights": False}

    def on_step_end(self) -> Actions:
        """Note the step in the index columns ``step`` and ``sw_epoch``."""
        self._hold(self.step, "step", "step", {})
        self._hold(self.epoch, "sw_epoch", "step", {})
        return {"save_weights": False}

    def on_epoch_end(self) -> Actions:
        """Note the epoch in the index column ``ew_epoch``; post and save if that is due."""
        self._hold(self.epoch, "ew_epoch", "epoch", {})
        if self._post_every and self.epoch % self._post_every == 0:
            self.post()
        is_due = self._checkpoint_every is not None and self.epoch % self._checkpoint_every == 0
        return self._save() if is_due else {"save_weights": False}

    def on_train_end(self) -> Actions:
        """Post the rest, and save what was trained since the last checkpoint."""
        self.post()
        if idle := sorted({*self._collects.labels, *self._writes.labels} - self._seen):
            what = f"white and black lists name {', '.join(map(repr, idle))}, which nobody has held"
            manager.accounts.tell_once(what)
        is_due = self._checkpoint_every is not None and self.epoch > self._saved_epoch
        return self._save() if is_due else {"save_weights": False}

    def _save(self) -> Actions:
        self._saved_epoch = self.epoch
        if self.state is not None:
            try:
                self.logger.checkpoint(
                    self.state(), step=self.epoch, metric=self._last_metric(), **self._checkpoint_options
                )
            except Exception as error:
                manager.accounts.tell_once(f"there is no checkpoint of epoch {self.epoch}: {_words(error)}")
        return {"save_weights": True}

    def _last_metric(self) -> float | None:
        if self._metric is None:
            return None
        history = self._plots.history(self._metric)
        if not history.count:
            manager.accounts.tell_once(f"no checkpoint is the best by {self._metric!r}: nobody has summarized it")
        if history.count == self._measured:
            return None  # what there is was measured for another checkpoint
        self._measured = history.count
        return history.last

    @contextlib.contextmanager
    def training(self, *, epoch: int | None = None, step: int | None = None) -> Iterator[HoldingLogger]:
        """Call `on_train_begin` and `on_train_end` around a ``with`` block, also of one that raises."""
        self.on_train_begin(epoch=epoch, step=step)
        try:
            yield self
        finally:
            self.on_train_end()

    def epochs(self, last: int) -> Iterator[int]:
        """Yield the number of each epoch up to *last*, with the hooks called around it."""
        while self.epoch < last:
            self.on_epoch_begin()
            yield self.epoch
            self.on_epoch_end()

    def steps(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield *batches*, with the hooks of a step called around each."""
        for batch in batches:
            self.on_step_begin()
            yield batch
            self.on_step_end()

    def add_callback(self, callback: Any) -> None:
        """Add a callback of Keras, or a list of them, to ``callbacks``."""
        self.callbacks += list(callback) if isinstance(callback, list | tuple) else [callback]

    def state_dict(self) -> dict[str, int]:
        """Return the numbers of epoch and step, for a checkpoint."""
        return {"epoch": self.epoch, "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind the epoch and step of `state_dict`; raises `ConfigError` for anything else."""
        try:
            self._go_on(state["epoch"], state["step"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"this is no state that state_dict() returned: {state!r:.200}") from error

    def _go_on(self, epoch: int, step: int) -> None:
        self._clock.begin(int(epoch), int(step))
        self._saved_epoch = self.epoch

    def _refuse(self, key: str, why: str) -> None:
        manager.accounts.not_stored(self.logger.scope, key, why)

    def __repr__(self) -> str:
        return f"<HoldingLogger {self.logger.scope!r} epoch={self.epoch} step={self.step}>"


def options() -> list[str]:
    """Return the names of the options of `HoldingLogger`."""
    found = inspect.signature(HoldingLogger).parameters.values()
    return [each.name for each in found if each.kind is each.KEYWORD_ONLY]


def count(name: str, given: object) -> int | None:
    """Return the option *name* if it is a whole number of 1 or more, or None; raises `ConfigError`."""
    if given is None:
        return None
    if isinstance(given, int | np.integer) and not isinstance(given, bool) and given >= 1:
        return int(given)
    raise ConfigError(f"{name} is a whole number of 1 or more, or None, not {given!r:.80}")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {words_of(error)}"
