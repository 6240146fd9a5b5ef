"""Settings: what does a scope inherit, and is what the user gave us possible?"""

from __future__ import annotations

import enum
import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from allogger.errors import ConfigError, UnknownName
from allogger.record import normal_scope

__all__ = ["DEFAULTS", "UNSET", "Filter", "Settings", "Unset", "output_of"]


class Unset(enum.Enum):
    """The type of `UNSET`; ``None`` is a value like any other."""

    UNSET = enum.auto()


UNSET: Final = Unset.UNSET

_PARAMS = "_writer_params"
#: The parameters that every writer has: they are the router's and the lane's business.
COMMON_PARAMS = frozenset({"filter", "exclude", "scope", "flush_seconds", "min_time_diff_btw_disc_writes"})
#: Settings of the whole process, given to the root alone.
ROOT_ONLY = frozenset({"max_buffer_bytes", "when_full", "system_metrics_seconds"})
_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Settings:
    """What a scope was given, or, laid over what the scopes above were given, what holds for it.

    Times are in seconds, sizes in bytes. `writer_params` has one dict per output, merged key by key.
    """

    logdir: Path | Unset | None = UNSET
    default_outputs: tuple[str, ...] | Unset = UNSET
    writer_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    log_only_main_process: bool | Unset = UNSET
    log_on_workers: frozenset[int] | Unset | None = UNSET
    rank: int | Unset | None = UNSET
    log_freq: int | Unset = UNSET
    default_path_exists: str | Unset = UNSET
    manual_flush: bool | Unset = UNSET
    flush_seconds: float | Unset = UNSET
    basic_logging_params: Mapping[str, Any] | Unset = UNSET
    strict: bool | Unset = UNSET
    debug: bool | Unset = UNSET
    max_buffer_bytes: int | Unset = UNSET
    when_full: Literal["wait", "drop"] | Unset = UNSET
    system_metrics_seconds: float | Unset | None = UNSET

    @classmethod
    def of(cls, given: Mapping[str, Any], outputs: Callable[[], Iterable[str]]) -> Settings:
        """Return the settings that a user gave by their public names; raises `ConfigError`.

        *outputs* gives the names of the existing outputs; it is called when such a name was used.
        """
        checked: dict[str, Any] = {}
        params: dict[str, Mapping[str, Any]] = {}
        for name, value in given.items():
            if name in _CHECKS:
                checked[name] = _CHECKS[name](name, value)
            elif name.endswith(_PARAMS) and output_of(name.removesuffix(_PARAMS)) in (known := set(outputs())):
                if value is not None:
                    output = output_of(name.removesuffix(_PARAMS))
                    params[output] = {**params.get(output, {}), **_params(name, value)}
            else:
                known = {*_CHECKS, *(f"{output}{_PARAMS}" for output in outputs())}
                raise UnknownName.of("setting", name, known)
        if not isinstance(chosen := checked.get("default_outputs", UNSET), Unset):
            known = set(outputs())
            for output in chosen:
                if output not in known:
                    raise UnknownName.of("output", output, known)
        return cls(**checked, writer_params=params)

    def over(self, parent: Settings) -> Settings:
        """Return *parent* with every setting given here laid over it, the writers' parameters key by key."""
        given = {
            f.name: value
            for f in fields(self)
            if f.name != "writer_params" and (value := getattr(self, f.name)) is not UNSET
        }
        params = {name: dict(values) for name, values in parent.writer_params.items()}
        for name, values in self.writer_params.items():
            params[name] = {**params.get(name, {}), **values}
        return replace(parent, **given, writer_params=params)


class Filter:
    """The three regexes of an output, compiled once.

    ``re.search`` semantics: *filter* must be found in the key, *exclude* must not, *scope* must be found in the scope
    (without ``root.``). `hits` tells, for each pattern, whether it ever matched, so that a typo can be reported.
    """

    def __init__(self, output: str, params: Mapping[str, Any]) -> None:
        self.output = output
        self._filter = _pattern(output, "filter", params)
        self._exclude = _pattern(output, "exclude", params)
        self._scope = _pattern(output, "scope", params)
        self.hits = {
            f"{name}={pattern.pattern!r}": False
            for name, pattern in (("filter", self._filter), ("exclude", self._exclude), ("scope", self._scope))
            if pattern is not None
        }

    def keeps(self, scope: str, key: str) -> bool:
        """Return whether a writer keeps that key."""
        kept = self._finds("scope", self._scope, scope.removeprefix("root."))
        kept &= self._finds("filter", self._filter, key)
        return kept and not (self._exclude is not None and self._finds("exclude", self._exclude, key))

    def _finds(self, name: str, pattern: re.Pattern[str] | None, text: str) -> bool:
        if pattern is None:
            return True
        if pattern.search(text) is None:
            return False
        self.hits[f"{name}={pattern.pattern!r}"] = True
        return True


def output_of(name: str) -> str:
    """Return the output that a name means: ``stdout`` is the console.

    >>> output_of("stdout"), output_of("csv")
    ('console', 'csv')
    """
    return "console" if name == "stdout" else name


def flush_seconds_of(output: str, settings: Settings) -> float:
    """Return the longest time in seconds that a value of *output* may wait."""
    params = settings.writer_params.get(output, _EMPTY)
    given = params.get("flush_seconds")
    if given is not None:
        return float(given)
    return 1.0 if isinstance(settings.flush_seconds, Unset) else settings.flush_seconds


# --------------------------------------------------------------------------------------------------------------- checks


def _pattern(what: str, name: str, params: Mapping[str, Any]) -> re.Pattern[str] | None:
    text = params.get(name)
    if text is None or (isinstance(text, re.Pattern) and isinstance(text.pattern, str)):
        return text
    if not isinstance(text, str):
        raise ConfigError(f"{name} of {what} must be a regular expression (str), not {text!r}")
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        at = getattr(error, "pos", None)
        marked = f"\n  {text}\n  {' ' * at}^" if at is not None and "\n" not in text else f": {text!r}"
        raise ConfigError(f"{name} of {what} is no regular expression: {error}{marked}") from None


def _params(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a dict, not {value!r}")
    params = {str(key): item for key, item in value.items()}
    output = name.removesuffix(_PARAMS)
    Filter(output, params)
    for key in ("flush_seconds", "min_time_diff_btw_disc_writes"):
        if params.get(key) is not None:
            _seconds(f"{key} of {output}", params[key])
    if (old_name := "min_time_diff_btw_disc_writes") in params:
        # One name from here on: what is given below must lie over what is given above, whichever was used.
        seconds = params.pop(old_name)
        params.setdefault("flush_seconds", seconds)
    return params


def _bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be True or False, not {value!r}")
    return value


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise ConfigError(f"{name} must be a number of seconds, 0 or more, not {value!r}")
    return float(value)


def _period(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        seconds = _seconds(name, value)
    except ConfigError:
        seconds = 0.0
    if not seconds:
        raise ConfigError(f"{name} must be a number of seconds above 0, or None for never, not {value!r}")
    return seconds


def _logdir(name: str, value: Any) -> Path | None:
    if value is None:
        return None
    try:
        path = Path(os.fspath(value)).expanduser()
    except TypeError:
        raise ConfigError(f"{name} must be a path (str or pathlib.Path), not {value!r}") from None
    if not str(value) or "\0" in str(path):
        raise ConfigError(f"{name} must be the path of a folder, not {value!r}")
    return path.absolute()


def _outputs(name: str, value: Any) -> tuple[str, ...] | Unset:
    if value is None:
        return UNSET
    if isinstance(value, str):
        raise ConfigError(f"{name} must be a list of names: [{value!r}] instead of {value!r}")
    names = list(value) if isinstance(value, Iterable) else [None]
    if not all(isinstance(v, str) for v in names):
        raise ConfigError(f"{name} must be a list of names such as ['hdf', 'csv'], not {value!r}")
    return tuple(dict.fromkeys(output_of(str(v)) for v in names))


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _workers(name: str, value: Any) -> frozenset[int] | None:
    number = _integer(value)
    if number is not None:
        return None if number == -1 else frozenset([_rank(name, number)])
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        ranks = [_integer(v) for v in value]
        if None not in ranks:
            return None if -1 in ranks else frozenset(_rank(name, r) for r in ranks if r is not None)
    raise ConfigError(f"{name} must be a rank (int), -1 for all, or several ranks, not {value!r}")


def _rank(name: str, value: Any) -> int:
    number = _integer(value)
    if number is None or number < 0:
        raise ConfigError(f"{name}: a rank is an int of 0 or more, not {value!r}")
    return number


# log_freq as one int: keep when batch_idx % n == 0; 0 stands for "epoch": never with a batch_idx.
def _log_freq(name: str, value: Any) -> int:
    if value == "batch":
        return 1
    if value == "epoch":
        return 0
    number = _integer(value)
    if number is None or number < 1:
        raise ConfigError(f"{name} must be an int of 1 or more, 'batch' or 'epoch', not {value!r}")
    return number


_POLICIES = {"continue": "c", "clear": "cl", "abort": "a", "ask": "ask", "unique": "unique", "": "c"}


def _policy(name: str, value: Any) -> str:
    given = value.lower() if isinstance(value, str) else value
    for long, short in _POLICIES.items():
        if given in (long, short):
            return "continue" if long == "" else long
    raise UnknownName.of(name, value, [p for p in _POLICIES if p])


def _basic_logging_params(name: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a dict, not {value!r}")
    return dict(value)


def _bytes(name: str, value: Any) -> int:
    number = _integer(value)
    if number is None or number < 2**20:
        raise ConfigError(f"{name} must be a number of bytes, at least {2**20}, not {value!r}")
    return number


def _when_full(name: str, value: Any) -> str:
    if value not in ("wait", "drop"):
        raise UnknownName.of(name, value, ["wait", "drop"])
    return str(value)


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "logdir": _logdir,
    "default_outputs": _outputs,
    "log_only_main_process": _bool,
    "log_on_workers": _workers,
    "rank": lambda name, value: None if value is None else _rank(name, value),
    "log_freq": _log_freq,
    "default_path_exists": _policy,
    "manual_flush": _bool,
    "flush_seconds": _seconds,
    "basic_logging_params": _basic_logging_params,
    "strict": _bool,
    "debug": _bool,
    "max_buffer_bytes": _bytes,
    "when_full": _when_full,
    "system_metrics_seconds": _period,
}

DEFAULTS: Final = Settings(
    logdir=None,
    default_outputs=("hdf",),
    log_only_main_process=False,
    log_on_workers=None,
    rank=None,
    log_freq=1,
    default_path_exists="continue",
    manual_flush=False,
    flush_seconds=1.0,
    basic_logging_params={},
    strict=False,
    debug=False,
    max_buffer_bytes=64 * 2**20,
    when_full="wait",
    system_metrics_seconds=None,
)


def scopes_above(scope: str) -> list[str]:
    """Return *scope* and all scopes above it, the root first.

    >>> scopes_above("root.agent.critic")
    ['root', 'root.agent', 'root.agent.critic']
    """
    parts = normal_scope(scope).split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]
