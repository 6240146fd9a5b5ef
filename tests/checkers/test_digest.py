"""Digest: equal for equal values however they come in portions, and different for everything else."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from allogger.checkers.digest import Digest
from allogger.reader import Columns, objects, uniform
from allogger.testing import strategies


def columns(value: NDArray[Any], attrs: dict[int, Any] | None = None) -> Columns:
    return Columns(np.arange(len(value)), np.arange(len(value)) / 3, value, attrs or {})


def digest(*portions: Columns, mark: int = -1) -> Digest:
    found = Digest(mark)
    for portion in portions:
        found.update(portion)
    return found


def parts(whole: Columns, cuts: list[int]) -> list[Columns]:
    ends = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    taken = [whole.take(np.arange(a, b)) for a, b in itertools.pairwise(ends)]
    # As a reader of a portion gives them: stacked where they are alike.
    return [Columns(p.step, p.time, uniform(list(objects(p.value))), p.attrs) for p in taken]


@given(
    st.sampled_from(["scalar", "text", "array", "histogram"]).flatmap(lambda kind: st.lists(strategies.values(kind))),
    st.lists(st.integers(0, 20), max_size=4),
)
def test_the_portions_make_no_difference(values: list[Any], cuts: list[int]) -> None:
    whole = columns(
        objects([v if isinstance(v, str) else np.asarray(v) for v in values]), {0: {"a": 1}} if values else {}
    )

    one, other = digest(whole), digest(*parts(whole, cuts))

    assert (one.count, one.values, one.layouts) == (other.count, other.values, other.layouts)
    assert one.count == len(values)


@given(st.integers(0, 9), st.lists(st.integers(0, 20), max_size=4))
def test_the_mark_is_what_a_shorter_series_gives(mark: int, cuts: list[int]) -> None:
    whole = columns(np.arange(9.0), {4: {"a": 1}})

    found = digest(*parts(whole, cuts), mark=mark)

    assert found.at_mark == digest(whole.take(np.arange(mark))).values
    assert found.values == digest(whole).values


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2, 3], [1.0, 2.0, 3.0]),
        ([True, False], [1.0, 0.0]),
        ([1.0, 2.0], [1 + 0j, 2 + 0j]),
    ],
    ids=str,
)
def test_numbers_of_other_types_have_the_same_values_and_another_layout(one: list[Any], other: list[Any]) -> None:
    first, second = digest(columns(np.array(one))), digest(columns(np.array(other)))

    assert first.values == second.values
    assert first.layouts != second.layouts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([0.0]), np.array([-0.0])),
        (np.array([2**63 - 1]), np.array([2.0**63])),
        (np.array([2**53 + 1]), np.array([2.0**53])),
        (np.array([1 + 1j]), np.array([1.0])),
        (np.array([1.0], "f4"), np.array([1.0])),
        (np.array([1], ">i2"), np.array([1], "<i2")),
        (np.array(["a"]), objects(["a"])),
        (objects(["ab", "c"]), objects(["a", "bc"])),
        (np.zeros((2, 3)), np.zeros((2, 3, 1))),
        (np.zeros((1, 0, 3)), np.zeros((1, 3, 0))),
        (np.array(["2020"], "M8[Y]"), np.array([50])),
        (np.array([(1, 2)], "i4,i4"), np.array([(2, 1)], "i4,i4")),
        (np.longdouble(["0.1"]), np.longdouble([0.1])),
    ],
    ids=repr,
)
def test_other_values_differ(one: NDArray[Any], other: NDArray[Any]) -> None:
    assert digest(columns(one)).values != digest(columns(other)).values


def test_steps_times_and_attributes_count() -> None:
    value = np.zeros(2)
    variants = [
        Columns(np.array([1, 2]), np.array([1.0, 2.0]), value),
        Columns(np.array([2, 1]), np.array([1.0, 2.0]), value),
        Columns(np.array([1, 2]), np.array([1.0, np.nan]), value),
        Columns(np.array([1, 2]), np.array([1.0, 2.0]), value, {0: {"a": 1}}),
        Columns(np.array([1, 2]), np.array([1.0, 2.0]), value, {1: {"a": 1}}),
    ]

    assert len({digest(one).values for one in variants}) == len(variants)


def test_bytes_that_belong_to_no_value_do_not_count() -> None:
    dtype = np.dtype({"names": ["a"], "formats": ["u1"], "offsets": [3], "itemsize": 8})
    clean, dirty = np.zeros(1, dtype), np.frombuffer(b"\1\2\3\0\5\6\7\7", dtype)
    long, padded = np.longdouble([1.5]), np.longdouble([1.5])
    padded.view(np.uint8)[10:] = 7

    assert digest(columns(clean)).values == digest(columns(dirty)).values
    assert digest(columns(long)).values == digest(columns(padded)).values
