"""Config: how is everything configured from a file or a mapping?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from allogger.logger import Logger, configure
from allogger.sources import parse_file

__all__ = ["from_dict", "from_file"]


def from_dict(config: Mapping[str, Any]) -> Logger:
    """Configure the root, and other scopes, from a mapping, and return the root logger.

    The names are those of `allogger.basic_configure`; the entry ``scopes`` maps names of scopes to their settings. The
    environment goes before. Raises `allogger.errors.ConfigError`, for an unknown name with a suggestion.

    >>> root = from_dict({"default_outputs": ["console"], "scopes": {"agent": {"log_freq": 10}}})
    >>> root.default_outputs
    ['console']
    """
    return configure({}, config)


def from_file(path: str | os.PathLike[str]) -> Logger:
    """Configure from a TOML, YAML or JSON file with the content that `from_dict` takes."""
    return from_dict(parse_file(path))
