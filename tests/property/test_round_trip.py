"""Round trip: what is logged is read back, bit for bit, while the run is live, after a kill and when it is finished."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

import allogger
from allogger.api.hdf import list_keys, read_from_key
from allogger.manager import manager
from allogger.record import full_key
from allogger.testing.rows import same
from allogger.testing.strategies import keys, scopes, values

MAX_STEP = 2**63 - 1

STEPS = st.none() | st.integers(0, 20) | st.integers(-(2**63), MAX_STEP)
NUMBERS = (
    st.floats()
    | st.integers(-(2**63), MAX_STEP)
    | st.booleans()
    | st.complex_numbers()
    | st.sampled_from([np.longdouble("1.1"), np.float32(0.1), np.uint8(7), np.bool_(True), np.complex64(1j), 2**53 + 1])
)
DTYPES = (
    of_numpy.scalar_dtypes()
    | of_numpy.unicode_string_dtypes()
    | of_numpy.byte_string_dtypes()
    | of_numpy.datetime64_dtypes(endianness="?")
    | of_numpy.nested_dtypes(of_numpy.scalar_dtypes(), max_leaves=4).map(lambda dtype: dtype.base)
)
ARRAYS = of_numpy.arrays(DTYPES, of_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "scalar": NUMBERS,
    "text": values("text"),
    "array": ARRAYS,
    "histogram": values("histogram"),
    "image": values("image"),
}


class Call(NamedTuple):
    """One call of `log`."""

    scope: str
    key: str
    kind: str
    value: Any
    step: int | None


def name_of(name: tuple[str, str]) -> str:
    return full_key(*name)


@st.composite
def programs(draw: st.DrawFn) -> list[Call]:
    """Return what a program logs: several series, each of one kind, in any order."""
    names = draw(st.lists(st.tuples(scopes(), keys()), min_size=1, max_size=4, unique_by=name_of))
    series = [(*name, draw(st.sampled_from(list(VALUES)))) for name in names]
    calls = draw(st.lists(st.tuples(st.sampled_from(series), STEPS), min_size=1, max_size=15))
    return [Call(scope, key, kind, draw(VALUES[kind]), step) for (scope, key, kind), step in calls]


def log(calls: Sequence[Call]) -> None:
    for call in calls:
        kind = None if call.kind in ("scalar", "text") else call.kind
        allogger.get_logger(call.scope).log(call.value, call.key, call.step, data_type=kind)


def expected(calls: Sequence[Call]) -> dict[str, list[tuple[int, Any]]]:
    """Return steps and values by full key."""
    found: dict[str, list[tuple[int, Any]]] = {}
    upcoming: dict[str, int] = {}
    for call in calls:
        name = full_key(call.scope, call.key)
        step = upcoming.setdefault(name, 1) if call.step is None else call.step
        upcoming[name] = max(upcoming.setdefault(name, 1), min(step, MAX_STEP - 1) + 1)
        found.setdefault(name, []).append((step, call.value))
    return found


class State(NamedTuple):
    """A run as somebody finds it."""

    run: allogger.Run
    path: Path


def states(calls: Sequence[Call], folder: Path) -> list[State]:
    """Log, and return the run while it is live, as a kill would leave it, and when it is finished."""
    manager.reset()
    allogger.basic_configure(folder / "run", ["hdf"], hdf_writer_params={"snapshot_seconds": None})
    log(calls)
    allogger.flush()
    live = allogger.open_run(folder / "run")
    for key in live:
        live[key]
    shutil.copytree(folder / "run", folder / "killed")
    allogger.close()
    paths = [folder / "run", folder / "killed", folder / "run"]
    runs = [live, *(allogger.open_run(path) for path in paths[1:])]
    return [State(run, path) for run, path in zip(runs, paths, strict=True)]


def items(value: Any) -> list[Any]:
    """Return the values of a series one by one; numpy's own numbers would lose their byte order."""
    return list(value) if value.dtype == object else [value[row, ...] for row in range(len(value))]


def is_exact(shown: Any, value: Any, kind: str) -> bool:
    """Return whether *shown* has the bits and dtype of what was logged, numbers in the dtype of their series."""
    if kind == "text":
        return bool(shown == value)
    if kind != "scalar":
        return (shown.dtype, shown.shape) == (value.dtype, value.shape) and equal_fields(shown, value)
    number = plain(value)
    return same(shown, number) and bool(np.signbit(np.real(shown)) == np.signbit(np.real(number)))


def plain(number: Any) -> Any:
    """Return a number as Python's own, if there is one."""
    return number.item() if isinstance(number, np.generic) else number


def equal_fields(one: Any, other: Any) -> bool:
    """Return whether all fields of two arrays have the same bytes; numpy leaves those between them as it finds them."""
    if one.dtype.names is None:
        return bool(np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes())
    return all(equal_fields(one[name], other[name]) for name in one.dtype.names)


def assert_identical(one: allogger.Series, other: allogger.Series) -> None:
    assert (one.key, one.kind, dict(one.meta)) == (other.key, other.kind, dict(other.meta))
    assert one.step.tolist() == other.step.tolist()
    assert one.time.tolist() == other.time.tolist()
    assert one.process.tolist() == other.process.tolist()
    assert (one.value.dtype, one.value.shape) == (other.value.dtype, other.value.shape)
    for a, b in zip(one.value, other.value, strict=True):
        if isinstance(a, str) or isinstance(b, str):
            assert a == b
        else:
            a, b = np.asarray(a), np.asarray(b)
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert equal_fields(a, b)


@settings(max_examples=60, deadline=None)
@given(calls=programs())
def test_every_value_is_read_back_in_every_state_of_the_run(
    tmp_path_factory: pytest.TempPathFactory, calls: list[Call]
) -> None:
    found = expected(calls)
    kinds = {full_key(call.scope, call.key): call.kind for call in calls}

    for run, _ in states(calls, tmp_path_factory.mktemp("round")):
        assert run.damage == []
        assert run.keys() == sorted(found)
        for key, rows in found.items():
            series = run[key]
            assert series.step.tolist() == [step for step, _ in rows]
            assert set(series.process.tolist()) == {"MainProcess"}
            for shown, (_, value) in zip(items(series.value), rows, strict=True):
                assert is_exact(shown, value, kinds[key]), (key, shown, value)


@settings(max_examples=60, deadline=None)
@given(calls=programs())
def test_a_run_is_the_same_live_killed_and_finished(
    tmp_path_factory: pytest.TempPathFactory, calls: list[Call]
) -> None:
    live, killed, finished = states(calls, tmp_path_factory.mktemp("round"))

    for other in (killed, finished):
        assert other.run.keys() == live.run.keys()
        for key in live.run:
            assert_identical(live.run[key], other.run[key])
        assert list_keys(other.path) == list_keys(killed.path)
        for name in list_keys(other.path):
            rows = read_from_key(other.path, name)
            assert rows.dtype == read_from_key(killed.path, name).dtype
            assert rows["step"].tolist() == read_from_key(killed.path, name)["step"].tolist()


@settings(max_examples=40, deadline=None)
@given(
    calls=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(list(VALUES)).flatmap(lambda k: VALUES[k]), STEPS),
        min_size=1,
        max_size=12,
    )
)
def test_values_of_all_kinds_under_one_key_are_the_same_live_killed_and_finished(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[str, Any, int | None]]
) -> None:
    program = [Call("main", key, "scalar", value, step) for key, value, step in calls]
    live, killed, finished = states(program, tmp_path_factory.mktemp("round"))

    assert sum(len(live.run[key]) for key in live.run) == len(program)
    for other in (killed, finished):
        for key in live.run:
            assert_identical(live.run[key], other.run[key])


@settings(max_examples=40, deadline=None)
@given(numbers=st.lists(NUMBERS, min_size=1, max_size=12))
def test_numbers_under_one_key_get_a_dtype_that_holds_them_all_exactly(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[Any]
) -> None:
    calls = [Call("main", "x", "scalar", number, None) for number in numbers]

    for run, _ in states(calls, tmp_path_factory.mktemp("round")):
        series = run["main/x"]
        assert series.value.dtype == common_dtype([plain(number) for number in numbers])
        assert all(is_exact(*pair, "scalar") for pair in zip(series.value, numbers, strict=True))


def common_dtype(numbers: Sequence[Any]) -> Any:
    """Return the dtype that the documentation promises."""
    types = {type(number) for number in numbers}
    if types == {np.longdouble}:
        return np.dtype(np.longdouble)
    has_large = any(type(number) is int and abs(number) > 2**53 for number in numbers)
    if np.longdouble in types or (has_large and types & {float, complex}):
        return np.dtype(object)
    return np.dtype(max(types, key=[bool, int, float, complex].index))
