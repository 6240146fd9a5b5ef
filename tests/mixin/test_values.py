"""Do registered values say what was logged, in threads, copies and with every policy?"""

from __future__ import annotations

import copy
import math
import pickle
import statistics
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allogger import Unstorable
from allogger.mixin.values import Count, Folded, Latest, LatestArray, LoggedValue, Max, Mean, Min, Std, Sum

FOLDED: list[type[Folded]] = [Mean, Std, Sum, Min, Max, Count, Latest]


@given(numbers=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=1500))
def test_each_says_what_the_standard_library_finds(numbers: list[float]) -> None:
    expected = [
        statistics.fmean(numbers),
        statistics.pstdev(numbers),
        math.fsum(numbers),
        min(numbers),
        max(numbers),
        len(numbers),
        numbers[-1],
    ]

    for cls, number in zip(FOLDED, expected, strict=True):
        value = cls()
        for each in numbers:
            value.log(each)
        assert value.get() == pytest.approx(number, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("cls", [*FOLDED, LatestArray])
def test_reading_changes_nothing_unless_it_resets(cls: type[LoggedValue]) -> None:
    value = cls()
    assert value.get() is None

    value.log(3.0)
    first = value.get()
    assert first is not None
    assert value.get(reset=True) == first
    assert value.get() is None

    value.log(3.0)
    value.reset()
    assert value.get() is None


def test_the_latest_is_the_latest_and_not_the_mean() -> None:
    latest = Latest()
    for number in (1, 9):
        latest.log(number)

    assert latest.get(reset=True) == 9
    assert type(latest.get()) is type(None)


def test_a_mean_is_weighted_and_a_number_without_weight_counts_for_nothing() -> None:
    mean = Mean()
    mean.log(1.0, weight=3)
    mean.log(5.0, weight=1)
    mean.log(math.nan, weight=0)

    assert mean.get() == 2.0


@pytest.mark.parametrize("cls", FOLDED)
def test_a_nan_is_kept_or_skipped_as_was_said(cls: type[Folded]) -> None:
    keeping, skipping = cls(), cls(nan="skip")
    for value in (keeping, skipping):
        for number in (2.0, math.nan):
            value.log(number)

    assert skipping.get() == {Count: 1, Std: 0.0}.get(cls, 2.0)
    assert cls is Count or math.isnan(keeping.get())
    with pytest.raises(ValueError, match="did you mean 'skip'"):
        cls(nan="skipp")  # type: ignore[arg-type]


def test_ints_stay_exact_and_numbers_of_any_library_are_taken() -> None:
    total, latest = Sum(), Latest()
    for number in (2**60, np.int64(1), np.array([2]), True):
        total.log(number)
        latest.log(number)

    assert total.get() == 2**60 + 4
    assert latest.get() is True


@pytest.mark.parametrize("value", ["text", None, [1, 2], 1j, object()])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(Unstorable):
        Mean().log(value)


def test_an_array_is_a_copy_both_ways() -> None:
    latest, array = LatestArray(), np.arange(3)
    latest.log(array)
    array[0] = 7
    found = latest.get()
    assert found is not None
    found[0] = 8

    assert np.array_equal(latest.get(reset=True), [0, 1, 2])  # type: ignore[arg-type]
    assert latest.get() is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
@pytest.mark.parametrize("cls", [*FOLDED, LatestArray])
def test_a_copy_has_the_same_numbers_and_goes_its_own_way(cls: type[LoggedValue], copied: object) -> None:
    value = cls()
    for number in (1.0, 2.0):
        value.log(number)

    twin = copied(value)  # type: ignore[operator]
    assert twin.get() == value.get()

    before = value.get()
    twin.log(30.0)
    assert twin.get() != before or cls is Min
    assert value.get() == before


def test_readers_that_reset_share_what_threads_log_without_losing_any() -> None:
    total, found, is_over = Sum(), [], threading.Event()

    def log() -> None:
        for _ in range(20_000):
            total.log(1)

    def read() -> None:
        while not is_over.is_set():
            found.append(total.get(reset=True) or 0)

    writers = [threading.Thread(target=log) for _ in range(3)]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in writers + readers:
        thread.start()
    for thread in writers:
        thread.join()
    is_over.set()
    for thread in readers:
        thread.join()

    assert sum(found) + (total.get() or 0) == 60_000
