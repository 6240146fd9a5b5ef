"""Comparing: in what are several runs alike, in what do they differ, and where did each of them end?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from allogger.errors import ConfigError, DamagedFile

if TYPE_CHECKING:
    import pandas as pd

    from allogger.store import Run

__all__ = ["MISSING", "By", "Difference", "diff", "flattened", "grouped", "table"]

By = str | Sequence[str] | Callable[["Run"], Any]

# ---------------------------------------------------------------------------------------------------------------- table


def table(runs: Sequence[Run], keys: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Return a row for each run: ``run``, ``state``, ``params.<name>``, of each key ``<key>:last``, ``:min``, ``:max``.

    *keys*: a regular expression, or a list of full keys; without it, all keys of numbers. Of a key that is no number
    there is only the last value, if it is a text. What a run does not have is NaN.
    """
    from allogger.frames import frame_of

    rows = []
    for run in runs:
        row: dict[str, Any] = {"run": str(run.logdir), "state": run.state}
        row |= {f"params.{name}": value for name, value in flattened(run.params).items()}
        for key in _chosen(run, keys):
            row |= _summary(run, key)
        rows.append(row)
    # The parameters first, whichever run has them.
    names = dict.fromkeys(name for row in rows for name in row)
    front = [name for name in names if name in ("run", "state") or name.startswith("params.")]
    names = dict.fromkeys([*front, *names])
    return frame_of({name: [row.get(name, math.nan) for row in rows] for name in names})


def _chosen(run: Run, keys: str | Sequence[str] | None) -> list[str]:
    if isinstance(keys, str):
        return [key for key in run.keys(keys) if run.kinds[key] in ("scalar", "text")]
    return [key for key in keys if key in run] if keys is not None else [k for k in run if run.kinds[k] == "scalar"]


def _summary(run: Run, key: str) -> dict[str, Any]:
    try:
        found = run.summary(key)
        last = found.last
    except DamagedFile:
        return {}  # has been told
    if isinstance(last, str):
        return {f"{key}:last": last}
    if np.ndim(last):
        return {}
    return {f"{key}:last": last, f"{key}:min": found.min, f"{key}:max": found.max}


def flattened(nested: Mapping[str, Any], front: str = "") -> dict[str, Any]:
    """Return the leaves of a nested mapping, the names on the way to each joined by dots.

    >>> flattened({"lr": 0.1, "net": {"layers": [64, 64]}})
    {'lr': 0.1, 'net.layers': [64, 64]}
    """
    found: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping) and value:
            found |= flattened(value, f"{front}{name}.")
        else:
            found[f"{front}{name}"] = value
    return found


def grouped(runs: Sequence[Run], by: By | None) -> dict[Any, list[Run]]:
    """Return the groups of runs by their labels, see `allogger.aggregation.aggregate`; all under None without *by*.

    Raises `ConfigError` if no run has such a parameter.
    """
    groups: dict[Any, list[Run]] = {}
    if by is None or callable(by):
        for run in runs:
            groups.setdefault(None if by is None else by(run), []).append(run)
        return groups
    params = [flattened(run.params) for run in runs]
    known = dict.fromkeys(name for its in params for name in its)
    left_out = [by] if isinstance(by, str) else list(by)
    for name in left_out:
        if name not in known:
            raise ConfigError(f"no run has a parameter {name!r} (known: {', '.join(known) or 'none'})")
    others = [name for name in known if name not in left_out and len({repr(its.get(name)) for its in params}) > 1]
    for its, run in sorted(
        zip(params, runs, strict=True), key=lambda pair: [_sort_key(pair[0].get(n)) for n in others]
    ):
        label = ", ".join(f"{name}={its[name]}" for name in others if name in its) or "all runs"
        groups.setdefault(label, []).append(run)
    return groups


def _sort_key(value: Any) -> tuple[bool, float, str]:
    is_number = isinstance(value, int | float)
    return (not is_number, float(value) if is_number else 0.0, str(value))


# ----------------------------------------------------------------------------------------------------------- difference


class _Missing:
    def __repr__(self) -> str:
        return "(none)"


#: Stands for what one of two runs does not have.
MISSING = _Missing()


@dataclass(frozen=True)
class Difference:
    """In what two runs differ: for each name the value of the first and of the second, `MISSING` if it has none.

    The names of nested values are joined by dots. Printed, it is a line for each.
    """

    first: str
    second: str
    params: Mapping[str, tuple[Any, Any]]
    environment: Mapping[str, tuple[Any, Any]]

    def __bool__(self) -> bool:
        return bool(self.params or self.environment)

    def __str__(self) -> str:
        return "\n".join(self._lines()) or f"{self.first} and {self.second} do not differ"

    def _lines(self) -> Iterator[str]:
        if self:
            yield f"{self.first} -> {self.second}"
        for title in ("params", "environment"):
            changes = getattr(self, title)
            if changes:
                yield f"{title}:"
            for name, (one, other) in changes.items():
                yield f"  {name}: {_shown(one)} -> {_shown(other)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:150]}... ({len(text)} characters)"


def diff(one: Run, other: Run) -> Difference:
    """Return in which parameters, and in what of the environment, two runs differ."""
    params = _changes(one.params, other.params)
    return Difference(str(one.logdir), str(other.logdir), params, _changes(one.meta, other.meta))


def _changes(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    before, after = flattened(one), flattened(other)
    pairs = {name: (before.get(name, MISSING), after.get(name, MISSING)) for name in {**before, **after}}
    # The representation, because 1, 1.0 and True are equal, and NaN is not.
    return {name: pair for name, pair in pairs.items() if name != "created" and repr(pair[0]) != repr(pair[1])}
