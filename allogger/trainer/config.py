"""Config: what may a TrainerLogger be told, and what of it is impossible?"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from allogger.errors import ConfigError, UnknownName
from allogger.plain import is_config
from allogger.registry import writers
from allogger.settings import Filter, Settings
from allogger.sources import parse_file

__all__ = ["BOOKKEEPING", "ROUTINES", "Config", "Tracked", "as_mapping"]

#: What a TrainerLogger can do with the values of an iteration, and in ``hparams`` with those of the whole run.
ROUTINES: Final = ("metric", "hist", "image", "mesh", "video", "hparams")
VIDEO_LAYOUTS: Final = ("BFCHW", "BCFHW")

#: What an iteration says about itself; a regex takes none of it.
BOOKKEEPING: Final = frozenset(
    ["epoch", "phase", "batch_size", "max_epochs", "total_iters", "batch_current", "batch_total", "output_parser"]
)

_REGEX: Final = "re:"
_TRACKERS: Final = frozenset({"logint", "repo", "api_key", "workspace"})


class Tracked:
    """The names that a routine takes: exact ones, and regexes of the form ``re:^loss``, which are searched for."""

    def __init__(self, routine: str, names: Iterable[str]) -> None:
        given = list(names)
        what = f"tracked_variables[{routine!r}]"
        self._filters = {
            name: Filter(what, {"filter": name.removeprefix(_REGEX)}) for name in given if name.startswith(_REGEX)
        }
        self._untouched = frozenset() if routine == "hparams" else BOOKKEEPING
        self._exact = frozenset(name for name in given if not name.startswith(_REGEX))
        self._taken: dict[str, bool] = {}

    def __contains__(self, name: str) -> bool:
        if name not in self._taken:
            self._taken[name] = name in self._exact or (name not in self._untouched and self._is_found(name))
        return self._taken[name]

    def _is_found(self, name: str) -> bool:
        # All are asked, so that each knows whether it ever found anything.
        found = [each.keeps("root", name) for each in self._filters.values()]
        return any(found)

    def missed(self) -> list[str]:
        """Return the names and regexes that fitted nothing until now."""
        missed = [regex for regex, each in self._filters.items() if not any(each.hits.values())]
        return sorted(self._exact - self._taken.keys()) + missed


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A checked configuration; `of` makes one. *settings* are allogger's own."""

    name: str = "default"
    root_dir: Path | None = None
    run_name: str | None = None
    tags: tuple[str, ...] = ()
    loggers: tuple[str, ...] = ("metric",)
    tracked_variables: Mapping[str, Tracked] = field(default_factory=dict)
    print_every_n_seconds: float | None = 2.0
    gpu_summarize: bool = True
    video_layout: str = "BFCHW"
    video_fps: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Any) -> Config:
        """Return the configuration in a mapping or a file; raises `ConfigError`."""
        checked: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        for name, value in as_mapping(given).items():
            if name in _CHECKS:
                checked[name] = _CHECKS[name](name, value)
            elif name in _TRACKERS:
                _refuse_tracker(name, value)
            elif name == "logdir":
                raise ConfigError("the logdir of a TrainerLogger is its root_dir, and run_name a folder in there")
            elif name in (known := _settings()):
                settings[name] = value
            else:
                raise UnknownName.of("entry of a TrainerLogger's configuration", name, known | _CHECKS.keys())
        found = cls(**checked, settings=settings)
        found._check_whole()
        return found

    def _check_whole(self) -> None:
        """Raise `ConfigError` for what does not fit together."""
        if self.run_name is not None and self.root_dir is None:
            raise ConfigError(f"run_name={self.run_name!r} is a folder in root_dir: give root_dir, too")
        for routine in self.tracked_variables:
            if routine not in self.loggers:
                raise ConfigError(
                    f"tracked_variables names {routine!r}, which loggers={list(self.loggers)} does not: add it there"
                )
        for routine in self.loggers:
            if routine != "hparams" and routine not in self.tracked_variables:
                raise ConfigError(
                    f"loggers has {routine!r}, but tracked_variables names nothing for it: add names there, or "
                    f"{_REGEX + '.'!r} for all"
                )

    @property
    def logdir(self) -> Path | None:
        """The folder of the run, None for that of the root logger."""
        return None if self.root_dir is None else self.root_dir / (self.run_name or "")


def as_mapping(given: Any) -> dict[str, Any]:
    """Return what a dict, a TOML, YAML or JSON file or a DictConfig of OmegaConf holds; raises `ConfigError`."""
    if isinstance(given, str | os.PathLike):
        return parse_file(given)
    if is_config(type(given)):
        try:
            given = sys.modules["omegaconf"].OmegaConf.to_container(given, resolve=True, throw_on_missing=True)
        except Exception as error:
            raise ConfigError(f"the configuration cannot be resolved: {error}") from error
    if not isinstance(given, Mapping):
        raise ConfigError(f"a configuration is a mapping or the path of a file, not {given!r:.200}")
    return {str(name): value for name, value in given.items()}


def _settings() -> set[str]:
    """Return the names of allogger's own settings."""
    own = {each.name for each in fields(Settings)} - {"writer_params", "logdir"}
    return own | {f"{output}_writer_params" for output in writers.names()}


# --------------------------------------------------------------------------------------------------------------- checks


def _refuse_tracker(name: str, value: Any) -> None:
    if value is not None:
        raise ConfigError(
            f"{name}={value!r:.40} belongs to a tracker; where values go is said by default_outputs, such as "
            "['hdf', 'tensorboard', 'csv']"
        )


def _text(name: str, value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    raise ConfigError(f"{name} must be a text, not {value!r}")


def _folder(name: str, value: Any) -> Path | None:
    if value is None:
        return None
    if isinstance(value, str | os.PathLike) and os.fspath(value):
        return Path(value)
    raise ConfigError(f"{name} must be the path of a folder, not {value!r}")


def _folder_name(name: str, value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value not in ("", ".", "..") and Path(value).name == value):
        return value
    raise ConfigError(f"{name} must be the name of a folder, without slashes, not {value!r}")


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(dict.fromkeys(value))
    raise ConfigError(f"{name} must be a list of texts, not {value!r}")


def _routines(name: str, value: Any) -> tuple[str, ...]:
    found = _texts(name, value)
    for routine in found:
        if routine not in ROUTINES:
            raise UnknownName.of(f"routine in {name}", routine, ROUTINES)
    return found


def _tracked(name: str, value: Any) -> Mapping[str, Tracked]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must map routines to lists of names, not {value!r}")
    for routine in value:
        if routine not in ROUTINES:
            raise UnknownName.of(f"routine in {name}", routine, ROUTINES)
    return {routine: Tracked(routine, _texts(f"{name}[{routine!r}]", names)) for routine, names in value.items()}


def _seconds(name: str, value: Any) -> float | None:
    if value is None or (_is_number(value) and value >= 0):
        return value if value is None else float(value)
    raise ConfigError(f"{name} must be a number of seconds, 0 or more, or None for no progress lines, not {value!r}")


def _bool(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ConfigError(f"{name} must be True or False, not {value!r}")


def _video_layout(name: str, value: Any) -> str:
    if value in VIDEO_LAYOUTS:
        return str(value)
    raise UnknownName.of(name, value, VIDEO_LAYOUTS)


def _fps(name: str, value: Any) -> float | None:
    if value is None or (_is_number(value) and value > 0):
        return value if value is None else float(value)
    raise ConfigError(f"{name} must be a positive number of frames per second, not {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "name": _text,
    "root_dir": _folder,
    "run_name": _folder_name,
    "tags": _texts,
    "loggers": _routines,
    "tracked_variables": _tracked,
    "print_every_n_seconds": _seconds,
    "gpu_summarize": _bool,
    "video_layout": _video_layout,
    "video_fps": _fps,
}
