"""KindContract: does a kind keep the promises of `allogger.Kind`?"""

# The name of a test is the sentence that a docstring would repeat.
# ruff: noqa: D102

from __future__ import annotations

import contextlib
import copy
import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from allogger.files import Files
from allogger.kind import FileKind, Kind
from allogger.logger import get_root
from allogger.manager import manager
from allogger.plain import Unstorable
from allogger.record import Payload
from allogger.registry import kinds
from allogger.store import open_run
from allogger.testing.memory import registered
from allogger.testing.rows import same

__all__ = ["KindContract"]


class KindContract(ABC):
    """Tests of the promises of `allogger.Kind`, for every kind to inherit::

    class TestMyKind(KindContract):
        def make_kind(self):
            return MyKind()

        def values(self):
            return [My(1, 2), My(0, -1)]
    """

    @abstractmethod
    def make_kind(self) -> Kind:
        """Return the kind to be tested."""

    @abstractmethod
    def values(self) -> Iterable[Any]:
        """Return values that the kind can store, of all sorts: the odd ones too."""

    def same(self, value: Any, shown: Any) -> bool:
        """Return whether *shown* is what a reader should show for *value*: by default, something equal."""
        return same(value, shown)

    def test_it_has_a_name_and_no_state(self) -> None:
        kind = self.make_kind()

        assert kind.name.isidentifier(), "the name is a part of paths, and the argument of data_type"
        assert type(kind)().name == kind.name, "allogger makes the kind without arguments"
        assert not getattr(kind, "__dict__", {}), "a kind has no state: one object of it serves all threads"

    def test_a_payload_is_an_array_or_a_text(self) -> None:
        kind = self.make_kind()

        for value in self.values():
            payload, _ = _encoded(kind, value)

            assert isinstance(payload, np.ndarray | str), f"the payload of {value!r:.200} is {payload!r:.200}"
            assert isinstance(payload, str) or not payload.dtype.hasobject, (
                f"{value!r:.200} becomes an array of objects"
            )

    def test_a_payload_shares_no_memory_with_the_value(self) -> None:
        kind = self.make_kind()

        for value in self.values():
            payload, _ = _encoded(kind, value)

            shared = [part for part in _arrays_of(value) if np.may_share_memory(part, np.asarray(payload))]
            assert not shared, f"the payload of {value!r:.200} changes when the program changes the value"

    def test_attributes_are_what_json_can_hold(self) -> None:
        kind = self.make_kind()

        for value in self.values():
            _, attrs = _encoded(kind, value)

            assert json.loads(json.dumps(dict(attrs))) == dict(attrs), f"{attrs!r:.200} does not survive JSON"

    def test_decode_gives_the_value_back(self) -> None:
        kind = self.make_kind()

        for value in self.values():
            payload, attrs = _encoded(kind, value)
            shown = kind.decode(payload, json.loads(json.dumps(dict(attrs))))

            assert self.same(value, shown), f"{value!r:.200} comes back as {shown!r:.200}"

    def test_encode_leaves_the_value_as_it_is(self) -> None:
        kind = self.make_kind()

        for value in self.values():
            before = copy.deepcopy(value)

            _encoded(kind, value)

            assert self.same(value, before) or same(value, before), f"{before!r:.200} has become {value!r:.200}"

    def test_accepts_answers_to_anything(self) -> None:
        kind = self.make_kind()

        for value in [*self.values(), *_hostile_values()]:
            assert isinstance(kind.accepts(value), bool), f"accepts is a bool for {_name_of(value)}"

    def test_encode_refuses_with_unstorable_only(self) -> None:
        kind = self.make_kind()

        for value in _hostile_values():
            # A value may well be the path of a file that is not there.
            with contextlib.suppress(Unstorable, *([OSError] if isinstance(kind, FileKind) else [])):
                payload, _ = _encoded(kind, value)
                assert isinstance(payload, np.ndarray | str), f"the payload of {_name_of(value)} is {payload!r:.200}"

    def test_values_survive_a_real_run(self, tmp_path: Path) -> None:
        kind = self.make_kind()
        values = list(self.values())
        is_own = kind.name in kinds.builtin
        known = contextlib.nullcontext() if is_own else registered(kinds, kind.name, type(kind))

        with manager.set_aside(), known:
            manager.configure("root", {"logdir": tmp_path / "run", "default_outputs": ["hdf"]}, replace=True)
            # In one series and each in its own: equal shapes are stored in another way than different ones.
            for n, value in enumerate(values):
                get_root().log(value, "all", data_type=kind.name)
                get_root().log(value, f"value{n}", data_type=kind.name)
            manager.flush()
            self._check_run(kind, values, tmp_path / "run")
            manager.close()
            self._check_run(kind, values, tmp_path / "run")

    def _check_run(self, kind: Kind, values: Sequence[Any], logdir: Path) -> None:
        run = open_run(logdir)
        assert not run.damage, run.damage
        series = run["root/all"]
        assert series.kind == kind.name
        assert len(series) == len(values), f"of {len(values)} values {len(series)} are stored"
        for n, value in enumerate(values):
            own = run[f"root/value{n}"]
            assert len(own) == 1, f"{value!r:.200} is stored {len(own)} times"
            for shown in (series.value[n], own.value[0]):
                assert self.same(value, shown), f"{value!r:.200} comes back as {shown!r:.200}"
            assert dict(own.meta) == dict(_encoded(kind, value)[1]), f"the attributes of {value!r:.200} are {own.meta}"


def _encoded(kind: Kind, value: Any) -> tuple[Payload, Mapping[str, Any]]:
    """Return what a log call makes of a value, in a logdir that is gone afterwards."""
    if not isinstance(kind, FileKind):
        return kind.encode(value)
    with tempfile.TemporaryDirectory() as logdir:
        return kind.encode(dict(kind.store(value, Files(Path(logdir), "root/value"))))


def _hostile_values() -> Iterator[Any]:
    """Yield values that are no values, and objects that raise when they are looked at."""

    def fail(*args: object) -> NoReturn:
        raise RuntimeError("this value is hostile")

    names = (
        "__getattr__",
        "__len__",
        "__iter__",
        "__getitem__",
        "__eq__",
        "__bool__",
        "__float__",
        "__index__",
        "__str__",
    )
    for name in (*names, "__repr__", "__array__", "shape", "dtype", "ndim"):
        yield type("Hostile", (), {name: fail if name.startswith("__") else property(fail)})()
    circular: list[Any] = []
    circular.append(circular)
    yield from (None, ..., object, object(), circular, {}, {"a": 1}, set(), iter([1]), lambda: 0, NotImplemented)
    yield from ([], [[1], [1, 2]], [1, "a"], 10**400, b"bytes", memoryview(b"ab"), "", "\ud800", "\0", float("nan"), 1j)
    yield from (
        np.array(None),
        np.array([object()]),
        np.zeros((0, 0)),
        np.array([(1, 2.0)], "i4,f8"),
        np.array("NaT", "M8"),
    )


def _name_of(value: object) -> str:
    try:
        return f"{value!r:.200}"
    except Exception:
        return f"an object of type {type(value).__name__}"


def _arrays_of(value: Any, depth: int = 3) -> Iterator[NDArray[Any]]:
    """Yield the arrays that *value* is, or is made of."""
    if isinstance(value, str | bytes) or not depth:
        return
    if isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _arrays_of(part, depth - 1)
    elif hasattr(value, "__array__") or isinstance(value, bytearray | memoryview):
        with contextlib.suppress(Exception):
            yield np.asarray(value)
    else:
        for part in vars(value).values() if hasattr(value, "__dict__") else ():
            yield from _arrays_of(part, depth - 1)
