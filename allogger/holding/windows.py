"""Windows: what was observed since it was last written, and which arrays does it make?"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from allogger.errors import ConfigError
from allogger.plain import copied
from allogger.reader import uniform

__all__ = ["Held", "History", "Lists", "Observation", "Observed", "json_of", "windows"]

# A curve of more points looks the same.
_MOST_POINTS: Final = 4096


class Observation(NamedTuple):
    """A value that is held, and the number of the step or epoch that it belongs to."""

    value: NDArray[Any]
    place: int


class Observed(NamedTuple):
    """What a plot is given of one input: values along the first axis, and the step or epoch of each.

    Values of different shapes or dtypes are the elements of an object array.
    """

    key: str
    place: NDArray[np.int64]
    value: NDArray[Any]

    @classmethod
    def of(cls, key: str, observations: Sequence[Observation]) -> Observed:
        """Return copies of *observations*."""
        return cls(key, _places(observations), uniform([each.value for each in observations]))


@dataclass(eq=False, slots=True)
class Held:
    """What is held of one key, with the stride and the meta-data of the first call."""

    key: str
    stride: str
    meta: Mapping[str, Any]
    is_written: bool
    #: Where the next value belongs, if there is one at each step or epoch.
    next_place: int
    is_irregular: bool = False
    observations: list[Observation] = field(default_factory=list)
    count: int = 0

    def add(self, value: Any, place: int) -> int:
        """Hold a copy of *value*; return its size in bytes. Raises `Unstorable`."""
        array = copied(value)
        self.count += 1
        self.observations.append(Observation(array, place or self.count))
        return array.nbytes + _OVERHEAD_BYTES

    @property
    def nbytes(self) -> int:
        """The memory that the observations take, in bytes."""
        return sum(each.value.nbytes + _OVERHEAD_BYTES for each in list(self.observations))

    @property
    def attrs(self) -> dict[str, Any]:
        """What is stored with each window."""
        return {"stride": self.stride, **self.meta}


# What an array and its tuple need beside the numbers.
_OVERHEAD_BYTES: Final = 200


def windows(observations: Sequence[Observation]) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
    """Yield the values along a new first axis, and their places: one array for neighbours of the same shape and dtype.

    So nothing is cast, and what is ragged makes more and smaller windows.
    """
    for _, group in itertools.groupby(observations, lambda each: (each.value.shape, each.value.dtype)):
        same = list(group)
        yield uniform([each.value for each in same]), _places(same)


def _places(observations: Sequence[Observation]) -> NDArray[np.int64]:
    return np.array([each.place for each in observations], np.int64)


def json_of(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return *meta* as JSON holds it; other objects as their ``str()``.

    >>> json_of({"shape_key": ("batch", "time"), "dtype": np.dtype("f4")})
    {'shape_key': ['batch', 'time'], 'dtype': 'float32'}
    """
    return {str(name): json.loads(json.dumps(value, default=str)) for name, value in meta.items()}


class History:
    """The numbers of one label; of many, every second, fourth, ... is kept."""

    def __init__(self) -> None:
        self.count = 0
        self.last: float | None = None
        self._every = 1
        self._points: list[tuple[int, float]] = []

    def add(self, step: int, number: float) -> None:
        """Take up a number."""
        if self.count % self._every == 0:
            self._points.append((step, number))
        self.count += 1
        self.last = number
        if len(self._points) > _MOST_POINTS:
            del self._points[1::2]
            self._every *= 2

    def observed(self, key: str) -> Observed:
        """Return what a plot is given."""
        steps, numbers = zip(*self._points, strict=True) if self._points else ((), ())
        return Observed(key, np.array(steps, np.int64), np.array(numbers, np.float64))


class Lists(NamedTuple):
    """A white and a black list of exact labels; None is no list, an empty one has no labels. Black wins.

    >>> Lists.of("collect", ["loss", "image"], ["image"]).lets("image"), Lists.of("collect", None, []).lets("image")
    (False, True)
    """

    white: frozenset[str] | None
    black: frozenset[str] | None

    @classmethod
    def of(cls, name: str, white: object, black: object) -> Lists:
        """Return the lists as a user gave them; raises `ConfigError`."""
        return cls(_labels(f"{name}_whitelist", white), _labels(f"{name}_blacklist", black))

    @property
    def labels(self) -> frozenset[str]:
        """All that are named."""
        return (self.white or frozenset()) | (self.black or frozenset())

    def lets(self, label: str) -> bool:
        """Return whether *label* passes."""
        return (self.white is None or label in self.white) and (self.black is None or label not in self.black)


def _labels(name: str, given: object) -> frozenset[str] | None:
    if given is None:
        return None
    if not isinstance(given, list | tuple | set | frozenset) or not all(isinstance(label, str) for label in given):
        raise ConfigError(f"{name} is a list of labels, or None for no list, not {given!r:.80}")
    return frozenset(given)
