"""Frames: tables have every value as it is, under the names and types that pandas users expect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from allogger.frames import long_frame, series_of, stacked_frames, wide_frame
from allogger.reader import uniform
from allogger.store import Series
from allogger.testing.rows import ODD_VALUES, same


def a_series(key: str, values: Any, steps: Any = None, process: Any = "MainProcess") -> Series:
    value = values if isinstance(values, np.ndarray) else uniform(list(values))
    step = np.arange(1, len(value) + 1) if steps is None else np.asarray(steps)
    processes = np.broadcast_to(np.array(process), len(value)) if isinstance(process, str) else np.array(process)
    return Series(key, "scalar", step, step / 2, value, processes)


def test_a_long_frame_has_one_row_for_each_value() -> None:
    frame = long_frame([a_series("a/x", np.array([0.5, 1.5])), a_series("b/y", np.array([2.5]), [7], ["Process-1"])])

    expected = pd.DataFrame(
        {
            "key": pd.Series(["a/x", "a/x", "b/y"], dtype=object),
            "step": [1, 2, 7],
            "time": [0.5, 1.0, 3.5],
            "process": pd.Series(["MainProcess", "MainProcess", "Process-1"], dtype=object),
            "value": [0.5, 1.5, 2.5],
        }
    )
    pd.testing.assert_frame_equal(frame, expected)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "u1", "?", "c16", "M8[ns]", "m8[s]"])
def test_values_keep_a_dtype_that_pandas_has(dtype: str) -> None:
    values = np.arange(3).astype(dtype)

    assert long_frame([a_series("x", values)])["value"].dtype == np.dtype(dtype)
    assert series_of(a_series("x", values)).dtype == np.dtype(dtype)


@pytest.mark.parametrize("dtype", [">f8", ">i4", ">M8[s]"])
def test_values_in_foreign_byte_order_can_be_worked_with(dtype: str) -> None:
    values = np.arange(3)[::-1].astype(dtype)

    column = long_frame([a_series("x", values)])["value"].sort_values()

    assert column.tolist() == pd.Series(values.astype(values.dtype.newbyteorder("="))).sort_values().tolist()


def test_integers_beside_floats_stay_integers() -> None:
    frame = long_frame([a_series("x", np.array([2**63 - 1])), a_series("y", np.array([0.5]))])

    assert frame["value"].tolist() == [2**63 - 1, 0.5]
    assert frame["value"].dtype == object


def test_numbers_of_several_types_under_one_key_are_numbers_that_can_be_sorted() -> None:
    values = uniform([np.asarray(2**63 - 1), np.asarray(0.5), np.asarray(True)])

    frame = long_frame([a_series("x", values)])

    assert frame.sort_values("value")["value"].tolist() == [0.5, True, 2**63 - 1]
    assert [type(v) for v in frame["value"]] == [np.int64, np.float64, np.bool_]


COLUMNS = st.lists(of_numpy.arrays(of_numpy.scalar_dtypes(), st.integers(1, 4)), min_size=1, max_size=3) | st.lists(
    st.sampled_from(ODD_VALUES).map(
        lambda odd: uniform([odd[1] if isinstance(odd[1], str) else np.asarray(odd[1])] * 2)
    ),
    min_size=1,
    max_size=3,
)


@given(COLUMNS)
def test_every_value_is_in_the_frames_as_it_is(columns: list[Any]) -> None:
    many = [a_series(f"key {n}", values) for n, values in enumerate(columns)]

    frame = long_frame(many)
    wide = wide_frame(many)

    expected = [item for values in columns for item in values]
    assert len(frame) == len(expected)
    assert all(map(equal, frame["value"], expected))
    for series in many:
        column = wide[series.key].dropna() if wide[series.key].dtype.kind == "f" else wide[series.key]
        pairs = {int(step): value for step, value in column.items()}  # type: ignore[call-overload]
        for step, value in zip(series.step.tolist(), series.value, strict=True):
            assert equal(pairs[step], value) if step in pairs else value != value
        assert len(series_of(series).sort_index()) == len(series)


def equal(shown: Any, value: Any) -> bool:
    if isinstance(shown, pd.Timestamp | pd.Timedelta) or shown is pd.NaT:
        return shown is pd.NaT or pd.Series(np.asarray(value).reshape(1))[0] == shown
    if isinstance(value, str):
        return bool(shown == value)
    one, other = np.asarray(shown), np.asarray(value)
    return same(one, other) or one.tobytes() == other.astype(one.dtype).tobytes()


def test_arrays_and_texts_are_elements_of_object_columns() -> None:
    arrays = a_series("w", np.arange(6.0).reshape(2, 3))
    texts = a_series("t", ["a\ud800", "b\0"])

    frame = long_frame([arrays, texts])

    assert [np.asarray(v).tolist() for v in frame["value"][:2]] == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert frame["value"][2:].tolist() == ["a\ud800", "b\0"]
    assert series_of(texts).dtype == object


def test_a_series_has_its_steps_as_index_and_its_key_as_name() -> None:
    column = series_of(a_series("a/x", np.array([0.5, 1.5]), [3, 1]))

    expected = pd.Series([0.5, 1.5], index=pd.Index([3, 1], name="step"), name="a/x")
    pd.testing.assert_series_equal(column, expected)


def test_a_wide_frame_has_one_column_for_each_key_and_the_last_of_several_values() -> None:
    frame = wide_frame(
        [a_series("x", np.array([0.5, 1.5, 2.5]), [3, 1, 3]), a_series("y", np.array([7, 8, 9]), [1, 2, 3])]
    )

    expected = pd.DataFrame({"x": [1.5, np.nan, 2.5], "y": [7, 8, 9]}, index=pd.Index([1, 2, 3], name="step"))
    pd.testing.assert_frame_equal(frame, expected)


def test_a_wide_frame_rounds_no_integer() -> None:
    large, small = np.array([2**63 - 1, -(2**63)]), np.array([1, 2])

    frame = wide_frame(
        [a_series("large", large), a_series("small", small), a_series("long", np.array([0.5, 1.5, 2.5]))]
    )

    assert frame["large"].tolist()[:2] == large.tolist()
    assert frame["small"].tolist()[:2] == [1.0, 2.0]
    assert frame["small"].dtype == float
    assert np.isnan(frame["large"].tolist()[2])


def test_frames_of_nothing_have_their_columns() -> None:
    assert list(long_frame([]).columns) == ["key", "step", "time", "process", "value"]
    assert list(long_frame([a_series("x", np.zeros(0))]).columns) == ["key", "step", "time", "process", "value"]
    assert wide_frame([]).shape == (0, 0)
    assert wide_frame([]).index.name == "step"
    assert list(stacked_frames({}).columns) == ["run", "key", "step", "time", "process", "value"]


def test_frames_of_several_runs_stand_one_below_the_other() -> None:
    frames: Mapping[str, pd.DataFrame] = {
        "runs/a": long_frame([a_series("x", np.array([0.5]))]),
        "runs/empty": long_frame([]),
        "runs/b": long_frame([a_series("x", np.array([1.5]))]),
    }

    frame = stacked_frames(frames)

    assert frame["run"].tolist() == ["runs/a", "runs/b"]
    assert frame["value"].tolist() == [0.5, 1.5]
