"""Do columns keep every bit of the values that come into them?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from allogger.reader import objects, uniform

OVERLAPPING = np.dtype({"names": ["a", "b"], "formats": ["<f4", "<i2"], "offsets": [0, 2], "itemsize": 8})


@pytest.mark.parametrize(
    "value",
    [
        np.array([1.5, -0.0]),
        np.array([1, 2], ">i4"),
        np.array(3.5, ">f8"),
        np.array(["ab"], ">U3"),
        np.ndarray((2,), "U0"),
        np.zeros((2, 0, 3), "M8[ns]"),
        np.zeros(2, OVERLAPPING),
        np.zeros(2, [("a", ">f4"), ("b", "U3")]),
        np.zeros((1,) * 63, ">i2"),
    ],
    ids=lambda value: f"{value.dtype}, {value.ndim} axes",
)
def test_arrays_of_one_dtype_and_shape_are_stacked_as_they_are(value: Any) -> None:
    stacked = uniform([value, value])

    assert (stacked.dtype, stacked.dtype.byteorder) == (value.dtype, value.dtype.byteorder)
    assert stacked.shape == (2, *value.shape)
    for one in stacked[:, ...]:
        np.testing.assert_array_equal(one, value)


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["a text", "another"],
        [np.zeros(2), np.zeros(3)],
        [np.zeros(2), np.zeros(2, ">f8")],
        [np.zeros(2), "a text"],
        [np.zeros((1,) * 64), np.ones((1,) * 64)],
    ],
    ids=["nothing", "texts", "shapes", "byte orders", "kinds", "64 axes"],
)
def test_what_cannot_be_stacked_stays_as_it_is(values: list[Any]) -> None:
    column = uniform(values)

    assert column.dtype == object
    assert len(column) == len(values)
    assert all(one is other for one, other in zip(column, values, strict=True))


def test_the_objects_of_a_column_of_numbers_keep_its_dtype() -> None:
    column = objects(np.array([1, 2], ">i4"))

    assert [(one.dtype, one.shape, int(one)) for one in column] == [(np.dtype(">i4"), (), 1), (np.dtype(">i4"), (), 2)]


def test_lists_stay_whole_as_objects() -> None:
    assert objects([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert objects([[1, 2], [3, 4]]).shape == (2,)
