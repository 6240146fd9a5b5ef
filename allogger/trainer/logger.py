"""TrainerLogger: where does what a training loop has go, at each iteration and at the end of each epoch?"""

from __future__ import annotations

import json
import math
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from allogger import aggregates, messages, processes
from allogger.aggregates import Epoch, Named
from allogger.errors import ConfigError, words_of
from allogger.logger import Logger, basic_configure, get_logger, get_root
from allogger.manager import manager
from allogger.plain import leaves
from allogger.trainer.config import Config, Tracked, as_mapping
from allogger.trainer.facts import facts, parameter_counts
from allogger.trainer.items import Item, images, meshes, videos
from allogger.trainer.memory import gpu_memory
from allogger.trainer.phases import Metric, Phase, Place, number, whole
from allogger.trainer.progress import epoch_line, progress_line

__all__ = ["TrainerLogger"]

Clock = Callable[[], float]

_open: weakref.WeakSet[TrainerLogger] = weakref.WeakSet()
# By logger and phase: a logger that has gathered for an epoch goes on to do so, also for another TrainerLogger.
_epochs: weakref.WeakKeyDictionary[Logger, dict[str, Epoch]] = weakref.WeakKeyDictionary()


class TrainerLogger:
    """Logs what a training loop has: the `log_iter` of each iteration, the `log_epoch` at the end of each epoch.

    *config* is a dict, a DictConfig, or the path of a TOML, YAML or JSON file; keywords lie over it. The page
    docs/trainers.md lists its entries, among them allogger's own settings. What is impossible, and every unknown name,
    raises `ConfigError`; what is called while training never raises. *clock* gives seconds that only go forward.

    Used in a ``with`` block, it does `end_log` at the end of it.

    >>> import allogger
    >>> config = {"root_dir": "runs/trainer", "tracked_variables": {"metric": ["loss"]}}
    >>> with TrainerLogger(config, print_every_n_seconds=None) as logger:
    ...     for epoch in range(2):
    ...         for batch, loss in enumerate([1.0, 0.5]):
    ...             logger.log_iter({"epoch": epoch, "phase": "train", "total_iters": 2 * epoch + batch, "loss": loss})
    ...         logger.log_epoch()
    >>> allogger.open_run("runs/trainer")["default/Metric-EpochWise/loss/train"].value
    array([0.75, 0.75])
    """

    def __init__(self, config: Any = None, /, *, clock: Clock = time.monotonic, **settings: Any) -> None:
        self.config = Config.of({**({} if config is None else as_mapping(config)), **settings})
        scope = get_logger(self.config.name).scope
        if any(each.logger is get_logger(scope) for each in _open):
            raise ConfigError(f"there is a TrainerLogger named {self.config.name!r} already: give each its own name")
        #: What it logs with; log other values with it too.
        self.logger: Logger = _configured(self.config)
        self._clock = clock
        self._print_at = clock() + (self.config.print_every_n_seconds or 0)
        self._phases: dict[str, Phase] = {}
        self._names: dict[tuple[str, ...], str] = {}
        self._iterations = 0
        self._epoch: int | None = None
        self._told: set[str] = set()
        routines: dict[str, Callable[[str, Any, Phase], None]] = {
            "metric": self._log_metric,
            "hist": self._log_hist,
            "image": self._log_images,
            "mesh": self._log_meshes,
            "video": self._log_videos,
        }
        tracked = self.config.tracked_variables
        self._metrics = tracked.get("metric", Tracked("metric", ()))
        self._routines = [(routines[name], tracked[name]) for name in self.config.loggers if name in routines]
        if self.config.tags:
            self.logger.log(", ".join(self.config.tags), "tags")
        _open.add(self)
        # After a close nobody goes on with those there were.
        manager.collectors[__name__] = _open.clear

    @property
    def logdir(self) -> Path | None:
        """The folder of the run."""
        return self.logger.logdir

    # --------------------------------------------------------------------------------------------------- while training

    def log_iter(self, data: Mapping[str, Any]) -> None:
        """Log what ``tracked_variables`` names of the *data* of an iteration; what it has not, or as None, is left out.

        It says of itself: ``epoch``, ``phase``, ``total_iters`` (before this iteration), ``batch_size``, and for the
        progress lines ``batch_current`` (from 1), ``batch_total`` and ``max_epochs``. Never raises.
        """
        try:
            if manager.enabled:
                self._log_iter(data)
        except Exception as error:
            self._tell("log_iter cannot use what it was given:", error)

    def _log_iter(self, data: Mapping[str, Any]) -> None:
        place = self._place(data)
        self._epoch = place.epoch
        phase = self._phase(place.phase)
        if phase.is_pending and phase.epoch.step != place.epoch:
            # Nobody has said that the epoch is over, but it is.
            self._end_epochs([phase])
        phase.go_on(place, self._clock())
        for log, tracked in self._routines:
            for key, value in _chosen(data, tracked):
                try:
                    log(key, value, phase)
                except Exception as error:  # of a hostile value; the others are logged
                    self._tell(f"{key!r} cannot be logged:", error)
        self._show_progress(phase, data)

    def log_epoch(self, *, reduce: str | None = None) -> None:
        """Log the means and histograms of each phase since the last time, at the step of its epoch. Never raises.

        With ``reduce="ranks"`` the means are those of all ranks; then every rank has to make this call, see
        `Logger.emit`.
        """
        try:
            self._end_epochs([phase for phase in self._phases.values() if phase.is_pending], reduce)
        except Exception as error:
            self._tell("log_epoch failed:", error)

    def end_log(self) -> None:
        """Log what is pending, say which names were never there, and return when all is on disk.

        allogger stays open: `allogger.close`, or the end of the program, finishes its files. May be called twice, and
        what is logged afterwards is not lost.
        """
        self.log_epoch()
        if self._iterations:
            for routine in self.config.tracked_variables.keys() - {"hparams"}:
                self._tell_missed(routine, "no iteration had")
        _open.discard(self)
        self.logger.flush()

    def log_hyperparams(
        self, params: Any, metrics: Mapping[str, Any] | None = None, *, model: Any = None, seed: int | None = None
    ) -> None:
        """Log hyperparameters, nested as they are: of a dict, Namespace, dataclass, DictConfig or model of pydantic.

        They are `Run.params`. With them go the tags, the job of SLURM, the *seed* and how many parameters the *model*
        has. *metrics* are logged as numbers under ``hparams/``. Raises `ConfigError` without ``"hparams"`` in loggers.
        """
        if "hparams" not in self.config.loggers:
            raise ConfigError(f"log_hyperparams needs 'hparams' in loggers, which has {list(self.config.loggers)}")
        root = get_root()
        # Readers take those of the root for the parameters of the run.
        target = root if root.logdir == self.logger.logdir else self.logger
        try:
            payload, _ = manager.kind("params").encode(params)
            found = json.loads(str(payload))
        except Exception as error:
            self._tell("these hyperparameters cannot be logged:", error)
            found = {}
        if (tracked := self.config.tracked_variables.get("hparams")) is not None:
            found = _tracked_params(found, tracked)
            self._tell_missed("hparams", "is no hyperparameter")
        about = facts(seed=seed, tags=self.config.tags)
        if model is not None:
            try:
                about["model_parameters"] = parameter_counts(model)
            except Exception as error:  # a lazy layer that has seen nothing yet has none
                self._tell("the parameters of the model cannot be counted:", error)
        if about or found:
            target.log({**about, **found}, "params", data_type="params")
        if metrics is not None:
            try:
                self.logger.log(dict(metrics), "hparams")
            except Exception as error:
                self._tell("the metrics of log_hyperparams are a dict, and cannot be logged:", error)

    def checkpoint(
        self, state: Any, metric: Any = None, *, mode: str = "min", keep_last: int | None = 5, keep_best: int = 1
    ) -> None:
        """Store a *state* to go on from, at the epoch of the latest iteration, see `Logger.checkpoint`."""
        self.logger.checkpoint(
            state, step=self._epoch, metric=metric, mode=mode, keep_last=keep_last, keep_best=keep_best
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_log()

    def __getstate__(self) -> dict[str, Any]:
        # What is pending stays here; a copy, such as that for a spawned child, has nothing yet.
        return {**self.__dict__, "_phases": {}}

    def __repr__(self) -> str:
        return f"<TrainerLogger {self.config.name!r} loggers={list(self.config.loggers)}>"

    # --------------------------------------------------------------------------------------------------------- routines

    def _log_metric(self, key: str, value: Any, phase: Phase) -> None:
        place = phase.place
        for leaf, found in _leaves(value):
            metric = phase.metrics.get((key, leaf)) or self._metric(key, leaf, phase)
            self._put(found, metric.batch_wise, place)
            self.logger.mean(found, metric.mean, place.batch_size)
            self.logger.histogram_of(found, metric.histogram)

    def _log_hist(self, key: str, value: Any, phase: Phase) -> None:
        for leaf, numbers in _leaves(value):
            self.logger.histogram_of(numbers, Named(self._name("Hist", key, leaf, phase.place.phase), phase.epoch))

    def _log_images(self, key: str, value: Any, phase: Phase) -> None:
        self._put_items("Image", key, images(value), phase)

    def _log_meshes(self, key: str, value: Any, phase: Phase) -> None:
        self._put_items("Mesh", key, meshes(value), phase)

    def _log_videos(self, key: str, value: Any, phase: Phase) -> None:
        self._put_items("Video", key, videos(value, self.config.video_layout, self.config.video_fps), phase)

    def _put_items(self, what: str, key: str, items: Iterable[Item], phase: Phase) -> None:
        for parts, data_type, value in items:
            self._put(value, self._name(what, key, phase.place.phase, *parts), phase.place, data_type)

    def _put(self, value: Any, name: str, place: Place, data_type: str | None = None) -> None:
        if data_type is None and place.batch_idx is None:
            self.logger.log(value, name, place.step)
        else:
            self.logger.log(value, name, place.step, data_type=data_type, batch_idx=place.batch_idx)

    def _metric(self, key: str, leaf: str, phase: Phase) -> Metric:
        names = [
            self._name(f"Metric-{what}", key, leaf, phase.place.phase) for what in ("BatchWise", "EpochWise", "Hist")
        ]
        label = f"{key}/{leaf}" if leaf else key
        metric = Metric(label, names[0], Named(names[1], phase.epoch), Named(names[2], phase.epoch))
        phase.metrics[key, leaf] = metric
        return metric

    def _name(self, *parts: str) -> str:
        """Return a key for these parts that no others have, such as ``a/b`` and ``c``, or ``a`` and ``b/c``."""
        name = self._names.get(parts)
        if name is None:
            name = wanted = "/".join(part for part in parts if part)
            while name in self._names.values():
                name += "~"
            if name != wanted:
                self._tell(f"two things would be called {wanted!r}; the second one is {name!r}")
            self._names[parts] = name
        return name

    # ------------------------------------------------------------------------------------------------ where the loop is

    def _phase(self, name: str) -> Phase:
        phase = self._phases.get(name)
        if phase is None:
            epochs = _epochs.setdefault(self.logger, {})
            phase = self._phases[name] = Phase(epochs.setdefault(name, Epoch(self.logger.scope, None, name)))
        return phase

    def _place(self, data: Mapping[str, Any]) -> Place:
        self._iterations += 1
        found = {name: whole(data.get(name)) for name in _WHOLE_NUMBERS}
        phase = str(data.get("phase") or "train")
        epoch, done = found["epoch"], found["total_iters"]
        if epoch is None or done is None or not data.get("phase"):
            self._tell(
                "an iteration has epoch, phase and total_iters; what is missing is counted, and the phase 'train'"
            )
        if epoch is None:
            before, epoch = self._phases.get(phase), 0
            if before is not None and before.iterations:
                epoch = before.place.epoch + (not before.is_pending)
        batch, size = found["batch_current"], number(data.get("batch_size", 1))
        if size is None or not 0 <= size < math.inf:
            self._tell("a batch_size is a number of 0 or more; 1 is taken for what is none")
            size = 1
        return Place(
            phase=phase,
            epoch=epoch,
            step=self._iterations if done is None else done + 1,
            batch_size=size,
            batch=batch,
            batches=found["batch_total"],
            max_epochs=found["max_epochs"],
            batch_idx=None if batch is None or self.logger.settings.log_freq == 1 else batch - 1,
        )

    def _end_epochs(self, phases: list[Phase], reduce: str | None = None) -> None:
        for phase in phases:
            if self._prints():
                self._show_epoch(phase)
            phase.is_pending = False
        ended = {phase.epoch for phase in phases}
        # Also without any: other ranks may wait for this one.
        aggregates.emit(
            self.logger.scope, among=lambda found: found.epoch in ended, reduce=reduce, logger_of=get_logger
        )

    # ---------------------------------------------------------------------------------------------------- what is shown

    def _prints(self) -> bool:
        """Return whether this process prints: of all ranks the first, which may be a child of another process."""
        if self.config.print_every_n_seconds is None or not manager.enabled:
            return False
        number = processes.rank(self.logger.settings.rank)
        return manager.is_main_process() if number is None else number == 0

    def _show_progress(self, phase: Phase, data: Mapping[str, Any]) -> None:
        now = self._clock()
        if now < self._print_at or not self._prints():
            return
        self._print_at = now + (self.config.print_every_n_seconds or 0)
        messages.show(progress_line(phase.progress(now), dict(self._shown(data))))

    def _shown(self, data: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
        for key, value in _chosen(data, self._metrics):
            for leaf, value_of_leaf in _leaves(value):
                if (shown := number(value_of_leaf)) is not None:
                    yield f"{key}/{leaf}" if leaf else key, shown

    def _show_epoch(self, phase: Phase) -> None:
        means = {each.label: aggregates.so_far(self.logger, each.mean) for each in phase.metrics.values()}
        found = {label: mean for label, mean in means.items() if mean is not None}
        gpu = gpu_memory() if self.config.gpu_summarize else None
        messages.show(epoch_line(phase.progress(self._clock()), found, gpu))

    def _tell_missed(self, routine: str, why: str) -> None:
        if missed := self.config.tracked_variables[routine].missed():
            self._tell(f"tracked_variables[{routine!r}] names what {why}: {', '.join(missed)}")

    def _tell(self, what: str, error: Exception | None = None) -> None:
        """Tell once, with the first *error*: each of them may say something else."""
        if what not in self._told:
            self._told.add(what)
            self.logger.warning("%s", what if error is None else f"{what} {type(error).__name__}: {words_of(error)}")


_WHOLE_NUMBERS = ("epoch", "total_iters", "batch_current", "batch_total", "max_epochs")


def _configured(config: Config) -> Logger:
    """Return the logger of the scope; if nobody has configured allogger yet, it is configured as a whole."""
    settings = dict(config.settings)
    if config.logdir is not None:
        if manager.enabled and not manager.is_ready():
            basic_configure(config.logdir, **settings)
            return get_logger(config.name)
        settings["logdir"] = config.logdir
    return get_logger(config.name, **settings)


def _chosen(data: Mapping[Any, Any], tracked: Tracked) -> Iterator[tuple[str, Any]]:
    for key, value in list(data.items()):
        if value is not None and isinstance(key, str) and key in tracked:
            yield key, value


def _leaves(value: Any) -> Iterable[tuple[str, Any]]:
    return leaves(value) if isinstance(value, Mapping) else [("", value)]


def _tracked_params(params: Mapping[str, Any], tracked: Tracked, above: str = "") -> dict[str, Any]:
    """Return those of nested *params* whose name, or that of a branch above, such as ``model/size``, is tracked."""
    found: dict[str, Any] = {}
    for name, value in params.items():
        path = above + name
        if path in tracked:
            found[name] = value
        elif isinstance(value, Mapping) and (inner := _tracked_params(value, tracked, f"{path}/")):
            found[name] = inner
    return found
