"""Do values leave the buffer as they came in, in order, each with the right step, whatever the threads do?"""

from __future__ import annotations

import struct
import sys
import threading
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allogger.intake import MAX_STEP, PACK, PACK_STEP, STEP_FLAG, Intake, Taken
from allogger.record import BOOL, FLOAT, INT, Batch

ALL = 2**40
CODES = {float: FLOAT, int: INT, bool: BOOL}


class Entry(NamedTuple):
    """A log call: the number of the series, the value and the step that was given."""

    series: int
    value: Any
    step: int | None


def put(intake: Intake, route: int, value: Any, step: int | None = None, time: float = 0.0) -> None:
    """Log *value* as a log call does."""
    if isinstance(value, np.ndarray | str):
        intake.put_object(intake.buffer, route, time, step, "array", value, {})
        return
    code = CODES[type(value)]
    if step is None:
        intake.buffer.extend(PACK[code](route + code, time, value))
    else:
        intake.buffer.extend(PACK_STEP[code]((route + code) | STEP_FLAG, 0.0, step, route + code, time, value))


def shown(batch: Batch) -> list[tuple[str, int, Any]]:
    """Return key, step and value of each record, in the order logged; bits instead of floats, so that NaN is equal."""
    out = []
    for record in batch:
        value = record.payload
        if isinstance(value, float):
            value = struct.pack("<d", value)
        elif isinstance(value, np.ndarray):
            value = value.tolist()
        out.append((record.key, record.step, value))
    return out


def taken(intake: Intake, limit: int = ALL) -> list[tuple[str, int, Any]]:
    out = []
    while (part := intake.take(limit)) is not None:
        out += shown(part.batch)
    return out


def model(entries: list[Entry], first: list[int]) -> list[tuple[str, int, Any]]:
    """Return what is to come out: counting goes on behind the highest step, and stays at the end of int64."""
    upcoming = list(first)
    out = []
    for series, value, step in entries:
        if step is None:
            step = upcoming[series]
        if step >= upcoming[series]:
            upcoming[series] = min(step + 1, MAX_STEP)
        shown_value = struct.pack("<d", value) if isinstance(value, float) else value
        out.append((f"k{series}", step, list(value) if isinstance(value, np.ndarray) else shown_value))
    return out


INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    INT64,
    st.booleans(),
    st.text(max_size=5),
    st.lists(st.integers(0, 9), max_size=3).map(np.array),
)
STEPS = st.one_of(st.none(), st.none(), st.integers(-3, 30), INT64)
ENTRIES = st.lists(st.builds(Entry, st.integers(0, 3), VALUES, STEPS), max_size=60)


@given(
    entries=ENTRIES,
    cuts=st.lists(st.integers(0, 60), max_size=6),
    limits=st.lists(st.integers(1, 200), min_size=1, max_size=4),
    first=st.lists(st.one_of(st.integers(-5, 5), st.just(MAX_STEP - 2)), min_size=4, max_size=4),
)
def test_everything_comes_out_in_order_with_the_steps_of_a_simple_model(
    entries: list[Entry], cuts: list[int], limits: list[int], first: list[int]
) -> None:
    intake = Intake()
    routes = [intake.add_route(intake.add_series("root", f"k{n}", first[n]), n % 2) for n in range(4)]
    out: list[tuple[str, int, Any]] = []
    for number, entry in enumerate(entries):
        put(intake, routes[entry.series], entry.value, entry.step)
        if number in cuts:
            part = intake.take(20 * limits[number % len(limits)])
            out += shown(part.batch) if part is not None else []
    out += taken(intake, 20 * limits[0])

    assert out == model(entries, first)
    assert intake.nbytes == 0
    assert intake.objects == {}
    for number in range(4):
        mine = [step for key, step, _ in out if key == f"k{number}"]
        highest = max([first[number] - 1, *mine])
        assert intake.upcoming(intake.series[number]) == min(highest + 1, MAX_STEP)


@pytest.mark.parametrize("limit", range(20, 401, 20))
def test_a_step_and_its_value_are_never_taken_apart(limit: int) -> None:
    intake = Intake()
    route = intake.add_route(intake.add_series("root", "k", 1), 0)
    given: list[int | None] = [None, 5, 5, None, 7, None, None, 1, 2, 3]
    for number, step in enumerate(given):
        put(intake, route, number, step)

    assert taken(intake, limit) == model([Entry(0, n, step) for n, step in enumerate(given)], [1])[:0] + [
        ("k", step, number) for number, step in enumerate([1, 5, 5, 6, 7, 8, 9, 1, 2, 3])
    ]


def test_the_bits_of_a_nan_are_kept() -> None:
    intake = Intake()
    route = intake.add_route(intake.add_series("root", "k", 1), 0)
    bits = 0x7FF8_DEAD_BEEF_0001
    put(intake, route, struct.unpack("<d", struct.pack("<Q", bits))[0])

    part = intake.take(ALL)

    assert part is not None
    assert part.batch.bits.view(np.uint64).tolist() == [bits]


def test_each_value_knows_its_plan_and_its_place_among_the_others() -> None:
    intake = Intake()
    one = intake.add_route(intake.add_series("root", "a", 1), 3)
    other = intake.add_route(intake.add_series("root", "b", 1), 5)
    for route, value in ((one, 1.0), (other, "x"), (other, 2.0), (one, np.zeros(2)), (one, 3.0)):
        put(intake, route, value)

    part = intake.take(ALL)

    assert part is not None
    assert part.row_plans.tolist() == [3, 5, 3]
    assert part.object_plans == [5, 3]
    assert part.batch.at == (1, 2)
    assert [record.key for record in part.batch] == ["a", "b", "b", "a", "a"]


def test_several_routes_of_a_series_share_its_counter() -> None:
    intake = Intake()
    series = intake.add_series("root", "k", 1)
    routes = [intake.add_route(series, plan) for plan in (0, 1, 0)]
    for number in range(9):
        put(intake, routes[number % 3], number)

    assert [step for _, step, _ in taken(intake)] == list(range(1, 10))


def test_a_counter_can_be_set_between_two_takes() -> None:
    intake = Intake()
    series = intake.add_series("root", "k", 1)
    route = intake.add_route(series, 0)
    put(intake, route, 1)
    first = taken(intake)
    intake.go_on_with({series.index: 100})
    put(intake, route, 2)

    assert first + taken(intake) == [("k", 1, 1), ("k", 100, 2)]


# -------------------------------------------------------------------------------------------------------- after a clear


def test_a_value_logged_under_an_id_from_before_a_clear_is_counted_and_goes_to_no_other_key() -> None:
    intake = Intake()
    old = intake.add_route(intake.add_series("root", "old", 1), 0)
    intake.clear()
    new = intake.add_route(intake.add_series("root", "new", 1), 0)
    for value, step in ((1.0, None), (np.zeros(2), None), (2.0, 7)):
        put(intake, old, value, step)
        put(intake, new, value, step)

    assert [(key, step) for key, step, _ in taken(intake)] == [("new", 1), ("new", 2), ("new", 7)]
    assert {series.key if series else None: count for series, count in intake.leftover().items()} == {"old": 3}
    assert intake.nbytes == 0


def test_an_id_that_is_much_older_is_counted_all_the_same() -> None:
    intake = Intake()
    old = intake.add_route(intake.add_series("root", "old", 1), 0)
    for name in ("one", "two"):
        intake.clear()
        intake.add_route(intake.add_series("root", name, 1), 0)
    put(intake, old, 1.0)

    assert taken(intake) == []
    assert sum(intake.leftover().values()) == 1


def test_what_nobody_took_is_counted_by_key() -> None:
    intake = Intake()
    routes = [intake.add_route(intake.add_series("root", key, 1), 0) for key in "ab"]
    for value in (1.0, "text", 2):
        put(intake, routes[0], value)
    put(intake, routes[1], 1.0, 5)

    assert {series.key: count for series, count in intake.leftover().items() if series} == {"a": 3, "b": 1}
    assert intake.leftover() == {}


# -------------------------------------------------------------------------------------------------------------- threads


def test_the_account_of_waiting_bytes_survives_threads() -> None:
    intake = Intake()
    routes = [intake.add_route(intake.add_series("root", f"k{n}", 1), 0) for n in range(4)]
    stop = threading.Event()
    parts: list[Taken] = []

    def log(number: int) -> None:
        for _ in range(1500):
            put(intake, routes[number], np.zeros(3))
            put(intake, routes[number], 0.5)

    def drain() -> None:
        while not stop.is_set():
            if (part := intake.take(ALL)) is not None:
                parts.append(part)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        lane = threading.Thread(target=drain)
        threads = [threading.Thread(target=log, args=(n,)) for n in range(4)]
        for thread in [lane, *threads]:
            thread.start()
        for thread in threads:
            thread.join()
        stop.set()
        lane.join()
    finally:
        sys.setswitchinterval(interval)
    while (part := intake.take(ALL)) is not None:
        parts.append(part)

    assert sum(len(part.batch) for part in parts) == 4 * 3000
    assert intake.nbytes == 0
    for number in range(4):
        steps = [record.step for part in parts for record in part.batch if record.key == f"k{number}"]
        assert steps == list(range(1, 3001))
