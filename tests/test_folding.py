"""Does an aggregate, folded in any parts, give what numpy and pandas give for all numbers at once?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allogger.folding import How, aggregate

floats = st.floats(-1e6, 1e6)
weights = st.floats(0.001, 1e3)


def folded(how: How, parts: Sequence[Sequence[Any]]) -> Any:
    what = aggregate(how)
    states = [what.of(part) for part in parts if part]
    state = states[0]
    for other in states[1:]:
        state = what.merge(state, other)
    return what.result(state)


def interleaved(pairs: Sequence[tuple[float, float]]) -> list[float]:
    return [number for pair in pairs for number in pair]


@given(st.lists(st.lists(st.tuples(floats, weights), min_size=1), min_size=1))
def test_weighted_means_and_deviations_are_those_of_numpy(parts: list[list[tuple[float, float]]]) -> None:
    values, shares = np.array([pair for part in parts for pair in part]).T
    mean = np.average(values, weights=shares)
    deviation = math.sqrt(np.average((values - mean) ** 2, weights=shares))
    entries = [interleaved(part) for part in parts]
    # Where numpy's products become 0, ours do not.
    small = 1e-12 * np.abs(values).max() + 1e-150

    assert folded("mean", entries) == pytest.approx(mean, rel=1e-12, abs=small)
    assert folded("std", entries) == pytest.approx(deviation, rel=1e-9, abs=small)


@given(st.floats(-1e300, 1e300), st.lists(st.lists(weights, min_size=1), min_size=1))
def test_equal_values_have_themselves_as_mean_and_no_deviation(value: float, parts: list[list[float]]) -> None:
    entries = [interleaved([(value, weight) for weight in part]) for part in parts]

    assert folded("mean", entries) == value
    assert folded("std", entries) == 0


def test_the_deviation_is_right_far_from_zero() -> None:
    numbers = np.random.default_rng(0).normal(size=10_000)
    parts = [interleaved([(1e9 + number, 1.0) for number in part]) for part in np.split(numbers, 40)]

    assert folded("std", parts) == pytest.approx(np.std(1e9 + numbers), rel=1e-6)


@pytest.mark.parametrize(
    ("numbers", "mean"),
    [
        ([math.inf], math.inf),
        ([math.inf, 1.0], math.inf),
        ([1.0, -math.inf], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([math.nan, 1.0], math.nan),
        ([1e308, 1e308, 1e308], 1e308),
        ([1e308, -1e308], 0.0),
    ],
)
def test_the_mean_of_special_and_of_huge_values_is_what_it_should_be(numbers: list[float], mean: float) -> None:
    entries = interleaved([(number, 1.0) for number in numbers])

    np.testing.assert_equal(folded("mean", [entries]), mean)
    np.testing.assert_equal(folded("mean", [[number, 1.0] for number in numbers]), mean)


def test_what_weighs_nothing_counts_for_nothing() -> None:
    assert folded("mean", [[math.nan, 0.0, 1.0, 2.0], [5.0, 0.0]]) == 1.0
    assert math.isnan(folded("mean", [[1.0, 0.0]]))
    assert math.isnan(folded("std", [[1.0, 0.0]]))


@given(st.lists(st.lists(st.integers(-(2**62), 2**62) | st.booleans(), min_size=1), min_size=1))
def test_sums_and_extremes_of_ints_are_exact(parts: list[list[int]]) -> None:
    numbers = [number for part in parts for number in part]

    assert folded("sum", parts) == sum(numbers)
    assert folded("min", parts) == min(numbers)
    assert folded("max", parts) == max(numbers)
    assert folded("last", parts) == numbers[-1]


@given(st.lists(st.lists(floats, min_size=1), min_size=1))
def test_a_sum_of_floats_is_that_of_fsum(parts: list[list[float]]) -> None:
    numbers = [number for part in parts for number in part]

    assert folded("sum", parts) == pytest.approx(math.fsum(numbers), rel=1e-12, abs=1e-9)


def test_a_sum_does_not_forget_what_is_small() -> None:
    assert folded("sum", [[1e16], *[[1.0]] * 1000, [-1e16]]) == 1000.0


@pytest.mark.parametrize("numbers", [[1e308, 1e308], [math.inf, -math.inf], [math.nan, 1.0]])
@pytest.mark.parametrize("how", ["sum", "min", "max", "last"])
def test_special_numbers_are_treated_as_numpy_does(how: str, numbers: list[float]) -> None:
    with np.errstate(all="ignore"):
        expected = numbers[-1] if how == "last" else getattr(np, how)(numbers)

    np.testing.assert_equal(folded(how, [numbers]), expected)
    np.testing.assert_equal(folded(how, [[number] for number in numbers]), expected)


@given(st.lists(st.lists(floats, min_size=1), min_size=1), st.floats(0, 0.999))
def test_a_moving_average_is_that_of_pandas(parts: list[list[float]], decay: float) -> None:
    numbers = [number for part in parts for number in part]
    expected = pd.Series(numbers).ewm(alpha=1 - decay, adjust=True).mean().iloc[-1]

    assert folded(("ema", decay), parts) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_a_histogram_keeps_all_numbers_and_their_type() -> None:
    assert folded("histogram", [[1, 2], [3]]).tolist() == [1, 2, 3]
    assert folded("histogram", [[1, 2], [3]]).dtype == np.int64
    assert folded("histogram", [[1, 2.5]]).dtype == np.float64
