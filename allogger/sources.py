"""Sources: which settings come from a file, a mapping or the environment?"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from allogger.errors import ConfigError, MissingDependency, UnknownName

__all__ = ["environment", "is_enabled", "parse_file", "split"]

_VARIABLES = ("ALLOGGER_LOGDIR", "ALLOGGER_OUTPUTS", "ALLOGGER_FILTER", "ALLOGGER_ENABLE", "ALLOGGER_CONFIG")
_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def parse_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the mapping in a TOML, YAML or JSON file; raises `ConfigError`, for YAML perhaps `MissingDependency`."""
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in _PARSERS:
        raise ConfigError(f"the name of a configuration file ends in .toml, .yaml or .json, not {str(path)!r}")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {str(path)!r} cannot be read: {error}") from error
    try:
        found = _PARSERS[suffix](text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the configuration {str(path)!r} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"the configuration {str(path)!r} must be a mapping, not {type(found).__name__}")
    return found


def _toml(text: str) -> Any:
    import tomllib  # here, because a program that has no such file would pay for it at its start

    return tomllib.loads(text)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependency("YAML needs PyYAML; install it with: pip install 'allogger[yaml]'") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(error) from error


_PARSERS: Mapping[str, Callable[[str], Any]] = {".toml": _toml, ".json": json.loads, ".yaml": _yaml, ".yml": _yaml}


def split(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the root's settings, and those of other scopes by name, from a mapping with an entry ``scopes``."""
    if not isinstance(config, Mapping):
        raise ConfigError(f"a configuration must be a mapping, not {config!r}")
    root = {str(name): value for name, value in config.items()}
    scopes = root.pop("scopes", None) or {}
    if not isinstance(scopes, Mapping) or not all(isinstance(given, Mapping) for given in scopes.values()):
        raise ConfigError(f"scopes must map names of scopes to their settings, not {scopes!r}")
    return root, {str(scope): dict(given) for scope, given in scopes.items()}


def environment(outputs: list[str]) -> dict[str, Any]:
    """Return the settings that the ``ALLOGGER_*`` variables give; raises `ConfigError`."""
    for name in os.environ:
        # Loggers' own helpers aside, a misspelt variable would be a setting that is silently not there.
        if name.startswith("ALLOGGER_") and name not in _VARIABLES:
            raise UnknownName.of("environment variable", name, _VARIABLES)
    given: dict[str, Any] = {}
    if logdir := os.environ.get("ALLOGGER_LOGDIR"):
        given["logdir"] = logdir
    if chosen := os.environ.get("ALLOGGER_OUTPUTS"):
        given["default_outputs"] = [name.strip() for name in chosen.split(",") if name.strip()]
    if pattern := os.environ.get("ALLOGGER_FILTER"):
        given.update({f"{output}_writer_params": {"filter": pattern} for output in outputs})
    return given


def is_enabled(enable: object, in_config: object = True) -> bool:
    """Return whether allogger is to do anything; raises `ConfigError`.

    Not if the call says no with *enable*; else ``ALLOGGER_ENABLE`` decides, else the configuration.
    """
    for given in (enable, in_config):
        if not isinstance(given, bool):
            raise ConfigError(f"enable must be True or False, not {given!r}")
    word = os.environ.get("ALLOGGER_ENABLE", "").strip().lower()
    if word and word not in _WORDS:
        raise ConfigError(f"ALLOGGER_ENABLE must be 1 or 0, not {word!r}")
    return bool(enable and _WORDS.get(word, in_config))
