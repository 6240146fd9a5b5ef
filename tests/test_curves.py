"""Curves: few points make the picture of many values, and nothing that happened is missing in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allogger.curves import Curve, Points, aligned, blocks_of, numbers_of
from allogger.errors import ConfigError, MissingDependency


def curve_of(y: Any, x: Any = None) -> Curve:
    y = np.asarray(y, np.float64)
    return Curve("main/loss", "step", np.arange(1.0, len(y) + 1) if x is None else x, y, count=len(y))


def test_resampling_keeps_a_spike_of_one_value_and_says_that_it_has_reduced() -> None:
    y = np.sin(np.arange(100_000) / 5000)
    y[77_777] = 50.0

    curve = curve_of(y).resample(500)

    assert curve.is_reduced
    assert curve.count == 100_000
    assert 3 <= len(curve) <= 501
    assert curve.y.max() == 50.0
    assert curve.high is not None
    assert curve.low is not None
    assert curve.high.max() == 50.0
    assert np.array_equal(curve.y, y[curve.x.astype(int) - 1])
    assert np.all(curve.low <= curve.y)
    assert np.all(curve.high >= curve.y)


def test_few_points_stay_as_they_are() -> None:
    curve = curve_of([1, 2, 3, 4])

    assert curve.resample(4) is curve
    assert curve.binned(4) is curve
    assert not curve.is_reduced


def test_gaps_stay_where_they_are() -> None:
    y = np.arange(10_000.0)
    y[3000:4000] = np.nan
    y[7000] = np.inf

    for curve in (curve_of(y).resample(100), curve_of(y).smooth(ema=0.9), curve_of(y).smooth(window=20)):
        gaps = curve.x[~np.isfinite(curve.y)] - 1
        assert set(gaps.astype(int)) <= {*range(3000, 4000), 7000}
        assert {int(gap) // 1000 for gap in gaps} == {3, 7}


@given(st.lists(st.floats(width=32) | st.just(np.nan), min_size=1, max_size=300), st.integers(3, 40))
def test_every_value_lies_between_low_and_high_of_its_point(values: list[float], n: int) -> None:
    curve = curve_of(values)
    for reduced in (curve.binned(n), curve.resample(n)):
        if not reduced.is_reduced:
            continue
        assert reduced.low is not None
        assert reduced.high is not None
        numbers = [value for value in values if not np.isnan(value)]
        if numbers:
            assert np.nanmin(reduced.low) == min(numbers)
            assert np.nanmax(reduced.high) == max(numbers)


def test_of_nothing_but_gaps_one_is_left() -> None:
    curve = curve_of(np.full(1000, np.nan)).resample(10)

    assert len(curve) == 1
    assert np.isnan(curve.y[0])


def test_steps_that_go_back_are_drawn_as_they_were_logged() -> None:
    x = np.concatenate([np.arange(5000.0), np.arange(5000.0)])

    curve = curve_of(np.concatenate([np.zeros(5000), np.ones(5000)]), x).resample(100)

    assert set(curve.y) == {0.0, 1.0}
    assert np.all(np.diff(curve.y) >= 0)


def test_the_moving_average_is_not_drawn_to_zero_in_the_beginning() -> None:
    curve = curve_of([10.0, 10.0, np.nan, 10.0, 20.0]).smooth(ema=0.9)

    weights = 0.9 ** np.array([3, 2, 1, 0])
    last = (weights * [10, 10, 10, 20]).sum() / weights.sum()
    assert np.allclose(curve.y, [10, 10, np.nan, 10, last], equal_nan=True)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(1, 60))
def test_the_mean_of_a_window_is_that_of_pandas(values: list[float], window: int) -> None:
    expected = [np.mean(values[max(0, n - window + 1) : n + 1]) for n in range(len(values))]

    assert np.allclose(curve_of(values).smooth(window=window).y, expected, rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("how", [{}, {"ema": 0.5, "window": 3}, {"ema": 1.0}, {"ema": -0.1}, {"window": 0}])
def test_smoothing_that_makes_no_sense_is_an_error(how: Any) -> None:
    with pytest.raises(ConfigError):
        curve_of([1, 2, 3]).smooth(**how)


@pytest.mark.parametrize("n", [2, 0, -1])
def test_too_few_points_are_an_error(n: int) -> None:
    for reduce in (curve_of([1, 2, 3]).resample, curve_of([1, 2, 3]).binned):
        with pytest.raises(ConfigError, match="at least 3 points"):
            reduce(n)


def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tsdownsample", None)
    monkeypatch.delitem(sys.modules, "allogger.downsampling", raising=False)

    with pytest.raises(MissingDependency, match=r"needs tsdownsample; .*pip install 'allogger\[plot\]'"):
        curve_of(np.arange(100)).resample(10)


@given(st.lists(st.floats(allow_infinity=False, width=32), min_size=1, max_size=200), st.integers(1, 30))
def test_blocks_of_blocks_are_the_blocks_of_all(values: list[float], size: int) -> None:
    y = np.array(values)
    points = blocks_of(np.arange(len(y)), y, size)
    whole = Points.of([points, points]).joined(np.zeros(1, int))

    numbers = y[~np.isnan(y)]
    assert whole.count[0] == 2 * len(numbers)
    assert np.array_equal(whole.low, [numbers.min() if len(numbers) else np.nan], equal_nan=True)
    assert np.allclose(whole.mean, [numbers.mean() if len(numbers) else np.nan], rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("value", [np.array([1j]), np.array(["a"], object), np.zeros((2, 2)), np.array(["2001"], "M8")])
def test_what_is_no_real_number_has_no_curve(value: Any) -> None:
    with pytest.raises(ConfigError, match="no real numbers"):
        numbers_of("main/x", value)


def test_integers_that_no_float_holds_are_drawn_all_the_same() -> None:
    assert numbers_of("x", np.array([2**63 - 1, 0.5], object)).tolist() == [2.0**63, 0.5]


def test_values_are_aligned_by_the_steps_of_their_process() -> None:
    a, b = np.array(["a", "a", "b"], object), np.array(["a", "b", "b", "a"], object)

    found = aligned(np.array([1, 2, 2]), a, np.array([2, 1, 2, 2]), b, np.array([10.0, 20.0, 30.0, 40.0]))

    assert np.array_equal(found, [np.nan, 40.0, 30.0], equal_nan=True)


def test_the_values_of_a_process_without_a_partner_are_aligned_with_those_of_all() -> None:
    found = aligned(
        np.array([1, 2]), np.array(["w", "w"], object), np.array([2, 3]), np.array(["m", "m"], object), np.ones(2)
    )

    assert np.array_equal(found, [np.nan, 1.0], equal_nan=True)


def test_curves_leave_pandas_alone_until_they_are_smoothed(tmp_path: Path, run_python: Any) -> None:
    done = run_python(
        """
        import sys
        import numpy as np
        from allogger.curves import Curve
        Curve("a/b", "step", np.arange(9.0), np.arange(9.0)).binned(3)
        print("pandas" in sys.modules)
        """
    )

    assert done.stdout == "False\n", done.stderr
