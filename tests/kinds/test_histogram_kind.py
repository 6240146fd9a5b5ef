"""Does a histogram keep the numbers themselves?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from allogger.kinds.histogram import HistogramKind
from allogger.plain import Unstorable


@pytest.mark.parametrize("shape", [(5,), (0,), (1,), (2, 3), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("dtype", ["?", "u1", ">i4", "f2", "g", "c16"])
def test_numbers_are_kept_in_shape_and_dtype(shape: tuple[int, ...], dtype: str) -> None:
    value = np.arange(np.prod(shape)).reshape(shape).astype(dtype)

    payload, attrs = HistogramKind().encode(value)

    assert isinstance(payload, np.ndarray)
    assert payload.dtype == value.dtype
    np.testing.assert_array_equal(payload, value, strict=True)
    assert not np.shares_memory(payload, value)
    assert attrs == {}


@pytest.mark.parametrize("value", [3.0, np.float64(3), np.array(3.0), [3.0]], ids=repr)
def test_a_single_number_is_a_histogram_of_one(value: Any) -> None:
    payload, _ = HistogramKind().encode(value)

    np.testing.assert_array_equal(payload, np.array([3.0]), strict=True)


@pytest.mark.parametrize(
    "value", ["a", ["a", "b"], np.zeros(2, [("a", int)]), np.zeros(2, "m8[s]"), {"a": 1}], ids=repr
)
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(Unstorable):
        HistogramKind().encode(value)
