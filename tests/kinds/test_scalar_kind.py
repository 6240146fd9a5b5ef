"""Is a number stored exactly, and is anything else refused?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allogger.kinds.scalar import ScalarKind
from allogger.plain import Unstorable

numbers = st.one_of(st.floats(), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.complex_numbers())
DTYPES = {float: np.float64, int: np.int64, bool: np.bool_, complex: np.complex128}


@given(numbers, st.sampled_from([lambda x: x, lambda x: [x], np.asarray, lambda x: np.array([[x]])]))
def test_a_number_in_any_wrapping_is_stored_exactly(number: Any, wrap: Any) -> None:
    payload, attrs = ScalarKind().encode(wrap(number))

    assert isinstance(payload, np.ndarray)
    assert payload.shape == ()
    assert payload.dtype == DTYPES[type(number)]
    assert payload.tobytes() == np.array(number, DTYPES[type(number)]).tobytes()
    assert attrs == {}


def test_the_payload_of_a_0d_array_is_its_own() -> None:
    value = np.array(1.0)

    payload, _ = ScalarKind().encode(value)
    value[...] = 2.0

    assert payload == 1.0


def test_an_integer_beyond_int64_is_stored_as_the_nearest_float() -> None:
    payload, _ = ScalarKind().encode(2**70 + 1)

    assert isinstance(payload, np.ndarray)
    assert payload.dtype == np.float64
    assert payload == 2.0**70


def test_a_longdouble_keeps_its_digits() -> None:
    value = np.longdouble(1) / 3

    payload, _ = ScalarKind().encode(value)

    assert payload == value


@pytest.mark.parametrize(
    "value", [[1, 2], "1", [], np.zeros((0, 1)), np.datetime64("2024-01-01"), {"a": 1}, None], ids=repr
)
def test_anything_but_one_number_is_refused(value: Any) -> None:
    with pytest.raises(Unstorable):
        ScalarKind().encode(value)
