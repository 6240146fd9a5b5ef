"""Record and Batch: what is one captured value on its way, and what are its names in every output?

The escaping of names lives here too. Three kinds of names leave the process: full keys, paths inside an HDF5 file and
names of files and folders. Each mapping is injective and has an inverse, so no two series ever meet under one name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BOOL",
    "FLOAT",
    "INT",
    "MAIN_PROCESS",
    "Batch",
    "Payload",
    "Record",
    "Series",
    "file_name",
    "full_key",
    "hdf_path",
    "normal_scope",
    "split_full_key",
    "split_hdf_path",
]

# How the 8 bytes of a number are to be read.
FLOAT, INT, BOOL = 0, 1, 2

MAIN_PROCESS = "MainProcess"

#: What a kind makes of a value: an array (possibly 0-d) or text.
Payload = NDArray[Any] | str


# ---------------------------------------------------------------------------------------------------------------- names


def normal_scope(scope: str) -> str:
    """Return *scope* with its leading ``root.``: ``"main"`` and ``"root.main"`` are the same scope.

    >>> normal_scope("main"), normal_scope("root.main"), normal_scope("root"), normal_scope("")
    ('root.main', 'root.main', 'root', 'root')
    """
    # All of them, or a scope "root.root" would have the full keys of the root.
    while scope.startswith("root."):
        scope = scope[len("root.") :]
    return f"root.{scope}" if scope not in ("", "root") else "root"


def _hex(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def _unhex(text: str) -> str:
    raw = re.sub(rb"%([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), text.encode("utf-8", "surrogatepass"))
    return raw.decode("utf-8", "surrogatepass")


def full_key(scope: str, key: str) -> str:
    """Return the one name of a series: ``<scope without "root.">/<key>``, the root's own under ``root/``.

    A ``/`` or ``%`` inside a scope is percent-encoded, because there it would be taken for the end of the scope.

    >>> full_key("root.agent.critic", "train/loss"), full_key("root", "loss")
    ('agent.critic/train/loss', 'root/loss')
    """
    return f"{re.sub('[/%]', lambda m: _hex(m[0]), normal_scope(scope).removeprefix('root.'))}/{key}"


def split_full_key(name: str) -> tuple[str, str]:
    """Return ``(scope, key)`` of a full key; the scope starts with ``root``.

    >>> split_full_key("agent.critic/train/loss")
    ('root.agent.critic', 'train/loss')
    """
    scope, _, key = name.partition("/")
    return normal_scope(_unhex(scope)), key


# Characters with a meaning in paths, and those that HDF5 or a terminal cannot take.
_HDF_UNSAFE = re.compile("[%\x00-\x1f\x7f\ud800-\udfff]")
_HDF_SCOPE_UNSAFE = re.compile("[%@/\x00-\x1f\x7f\ud800-\udfff]")
_VARIANT = re.compile(r"%v(\d*)$")
_EMPTY = "%_"


def _hdf_part(part: str, unsafe: re.Pattern[str]) -> str:
    if not part:
        return _EMPTY
    if part in (".", ".."):
        return _hex(part)
    return unsafe.sub(lambda m: _hex(m[0]), part)


def _hdf_unpart(part: str) -> str:
    return "" if part == _EMPTY else _unhex(part)


def hdf_path(kind: str, scope: str, key: str, process: str = MAIN_PROCESS, variant: int | None = None) -> str:
    """Return the path of a dataset inside a finished file: ``<kind>/<scope>[@<process>]/<key>``.

    Parts of the key become HDF5 groups. ``%`` starts an escape (``%2E`` is a dot), an empty part is ``%_``. *variant*
    appends ``%v<n>`` for a series that needs a second dataset; ``%v`` alone (variant -1) marks a key such as ``a`` that
    cannot have the plain name because ``a/b`` exists.

    >>> hdf_path("scalar", "root.agent.critic", "train/loss")
    'scalar/agent.critic/train/loss'
    >>> hdf_path("scalar", "root.main", "../a", process="Process-1")
    'scalar/main@Process-1/%2E%2E/a'
    """
    place = _hdf_part(normal_scope(scope).removeprefix("root."), _HDF_SCOPE_UNSAFE)
    if process != MAIN_PROCESS:
        place += "@" + _hdf_part(process, _HDF_SCOPE_UNSAFE)
    parts = [_hdf_part(part, _HDF_UNSAFE) for part in key.split("/")]
    tail = "" if variant is None else "%v" if variant < 0 else f"%v{variant}"
    return "/".join([_hdf_part(kind, _HDF_SCOPE_UNSAFE), place, *parts]) + tail


def split_hdf_path(path: str) -> tuple[str, str, str, str]:
    """Return ``(kind, scope, key, process)`` of a dataset's path; the inverse of `hdf_path`.

    >>> split_hdf_path("scalar/main@Process-1/%2E%2E/a")
    ('scalar', 'root.main', '../a', 'Process-1')
    """
    kind, place, *parts = path.strip("/").split("/")
    if parts:
        parts[-1] = _VARIANT.sub("", parts[-1])
    scope, at, process = place.partition("@")
    key = "/".join(map(_hdf_unpart, parts))
    return _hdf_unpart(kind), normal_scope(_hdf_unpart(scope)), key, _hdf_unpart(process) if at else MAIN_PROCESS


def file_name(name: str, limit: int = 120) -> str:
    """Return *name* as one part of a file path that every file system takes and that leads nowhere else.

    Letters, digits and ``._-@+=`` stay, everything else is percent-encoded. Too long a name ends in a checksum.

    >>> file_name("Process-1"), file_name("../x"), file_name("")
    ('Process-1', '%2E%2E%2Fx', '%_')
    """
    if not name:
        return _EMPTY
    safe = re.sub(r"[^A-Za-z0-9._@+=-]", lambda m: _hex(m[0]), name)
    safe = re.sub(r"^\.+", lambda m: _hex(m[0]), safe)
    if len(safe) > limit:
        import hashlib

        safe = f"{safe[: limit - 17]}~{hashlib.sha256(safe.encode()).hexdigest()[:16]}"
    return safe


# --------------------------------------------------------------------------------------------------------------- values


@dataclass(frozen=True, slots=True)
class Series:
    """The identity of a series inside one process: *index* is its place in the process's table of series."""

    index: int
    scope: str
    key: str

    @property
    def full_key(self) -> str:
        """``<scope>/<key>``, see `full_key`."""
        return full_key(self.scope, self.key)


@dataclass(frozen=True, slots=True)
class Record:
    """One value on its way to the writers.

    *payload* is what the kind made of the value: a Python float, int or bool for a plain number, else an array or a
    text that belongs to this record alone. *time* is in Unix seconds. *attrs* are small JSON values.
    """

    series: Series
    kind: str
    step: int
    time: float
    payload: Payload | float | int | bool
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name of the value inside its scope."""
        return self.series.key

    @property
    def scope(self) -> str:
        """The scope, starting with ``root``."""
        return self.series.scope

    @property
    def full_key(self) -> str:
        """The one name of the series in every output."""
        return self.series.full_key


@dataclass(frozen=True)
class Batch:
    """Values in the order in which they were logged: numbers in columns, everything else as records.

    ``series``, ``code``, ``step``, ``time`` and ``bits`` are columns of equal length, one row per number: the index
    into ``names`` (uint32), how to read the bits (uint8: `FLOAT`, `INT`, `BOOL`), the step (int64), Unix seconds
    (float64) and the 8 bytes of the value (int64). ``objects`` are the other records; ``at`` says for each how many of
    the rows were logged before it (all of them, if ``at`` is empty). A batch never changes.
    """

    names: Sequence[Series]
    series: NDArray[np.uint32]
    code: NDArray[np.uint8]
    step: NDArray[np.int64]
    time: NDArray[np.float64]
    bits: NDArray[np.int64]
    objects: tuple[Record, ...] = ()
    at: tuple[int, ...] = ()

    @classmethod
    def join(cls, batches: Sequence[Batch]) -> Batch:
        """Return one batch with the values of several, in their order."""
        if len(batches) == 1:
            return batches[0]
        objects = tuple(record for b in batches for record in b.objects)
        at: list[int] = []
        before = 0
        for b in batches:
            at += [before + row for row in b.places]
            before += len(b.series)
        return cls(
            batches[-1].names,
            np.concatenate([b.series for b in batches]),
            np.concatenate([b.code for b in batches]),
            np.concatenate([b.step for b in batches]),
            np.concatenate([b.time for b in batches]),
            np.concatenate([b.bits for b in batches]),
            objects,
            tuple(at),
        )

    @property
    def places(self) -> tuple[int, ...]:
        """``at``, spelled out."""
        return self.at or (len(self.series),) * len(self.objects)

    def __len__(self) -> int:
        return len(self.series) + len(self.objects)

    @property
    def nbytes(self) -> int:
        """About the memory that the batch holds, in bytes."""
        return 29 * len(self.series) + sum(
            200 + (4 * len(r.payload) if isinstance(r.payload, str) else np.asarray(r.payload).nbytes)
            for r in self.objects
        )

    @cached_property
    def floats(self) -> NDArray[np.float64]:
        """Every number as float64; integers beyond 2**53 are rounded."""
        if not self.code.any():
            return self.bits.view(np.float64)
        return np.where(self.code == FLOAT, self.bits.view(np.float64), self.bits)

    def numbers(self) -> Iterator[Record]:
        """Yield a record for each plain number, its payload a Python float, int or bool."""
        rows = zip(
            self.series.tolist(),
            self.code.tolist(),
            self.step.tolist(),
            self.time.tolist(),
            self.bits.view(np.float64).tolist(),
            self.bits.tolist(),
            strict=True,
        )
        for series, code, step, time, as_float, as_int in rows:
            value = as_float if code == FLOAT else as_int if code == INT else bool(as_int)
            yield Record(self.names[series], "scalar", step, time, value)

    def __iter__(self) -> Iterator[Record]:
        """Yield every value as a record, in the order logged."""
        if not self.objects:
            yield from self.numbers()
            return
        numbers = self.numbers()
        done = 0
        for record, place in zip(self.objects, self.places, strict=True):
            yield from itertools.islice(numbers, place - done)
            done = place
            yield record
        yield from numbers

    def select(self, rows: NDArray[np.bool_], objects: Sequence[bool] | NDArray[np.bool_]) -> Batch:
        """Return a batch of the values for which the masks *rows* and *objects* are true."""
        chosen = [i for i, keep in enumerate(objects) if keep]
        before = np.concatenate(([0], np.cumsum(rows)))
        places = self.places
        return Batch(
            self.names,
            self.series[rows],
            self.code[rows],
            self.step[rows],
            self.time[rows],
            self.bits[rows],
            tuple(self.objects[i] for i in chosen),
            tuple(int(before[places[i]]) for i in chosen),
        )

    def halves(self) -> tuple[Batch, Batch]:
        """Return the batch in two parts in logging order, each with a value when there are two or more."""
        rows, objects = np.arange(len(self.series)), np.arange(len(self.objects))
        # The place of each value among all of them, in the order logged.
        places = np.asarray(self.places, dtype=np.int64)
        order_rows = rows + np.searchsorted(places, rows, side="right")
        order_objects = places + objects
        first_rows, first_objects = order_rows < len(self) // 2, order_objects < len(self) // 2
        return self.select(first_rows, first_objects), self.select(~first_rows, ~first_objects)
