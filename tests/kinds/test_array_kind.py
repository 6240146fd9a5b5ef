"""Does an array keep every bit, whatever its dtype, shape and memory layout?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.lib.recfunctions import repack_fields

from allogger.kinds.array import ArrayKind
from allogger.plain import Unstorable
from tests.naming import shown

dtypes = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?"),
    npst.complex_number_dtypes(endianness="?"),
    npst.byte_string_dtypes(endianness="?"),
    npst.unicode_string_dtypes(endianness="?"),
    npst.datetime64_dtypes(endianness="?"),
    npst.timedelta64_dtypes(endianness="?"),
    npst.nested_dtypes(max_itemsize=64),
    st.sampled_from([np.dtype(np.longdouble), np.dtype(np.clongdouble)]),
    st.sampled_from([np.dtype("V5"), np.dtype({"names": ["a"], "formats": ["i4"], "offsets": [3], "itemsize": 9})]),
)


@st.composite
def bit_patterns(draw: st.DrawFn) -> Any:
    """Return an array of any dtype and up to 5 axes whose elements are arbitrary bytes: NaN payloads, odd bools, ..."""
    dtype = draw(dtypes)
    shape = draw(npst.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3))
    size = int(np.prod(shape)) * dtype.itemsize
    some = draw(st.binary(min_size=1, max_size=16))
    return np.ndarray(shape, dtype, (some * (size // len(some) + 1))[: max(size, 1)])


@st.composite
def views(draw: st.DrawFn) -> Any:
    """Return an array in an unusual memory layout: Fortran order, strides, reversed, broadcast, read-only."""
    value = draw(bit_patterns())
    change = draw(st.sampled_from(["none", "fortran", "transposed", "strided", "reversed", "broadcast"]))
    if change == "fortran":
        value = np.array(value, order="F", copy=True)
    elif change == "transposed":
        value = value.T
    elif change == "strided" and value.ndim:
        value = value[::2]
    elif change == "reversed" and value.ndim:
        value = value[..., ::-1]
    elif change == "broadcast":
        value = np.broadcast_to(value, (2, *value.shape))
    return value


def bits(value: Any) -> bytes:
    """Return the bytes of the elements; the gaps between fields hold nothing that numpy would copy."""
    return (repack_fields(value) if value.dtype.names else value).tobytes()


@given(views())
def test_every_bit_is_kept_in_memory_of_its_own(value: Any) -> None:
    payload, attrs = ArrayKind().encode(value)

    assert isinstance(payload, np.ndarray)
    assert type(payload) is np.ndarray
    assert payload.dtype == value.dtype
    assert payload.dtype.str == value.dtype.str
    assert payload.shape == value.shape
    assert payload.flags.c_contiguous
    assert payload.flags.writeable
    assert payload.flags.owndata
    assert bits(payload) == bits(value)
    assert not np.shares_memory(payload, value)
    assert attrs == {}


def test_what_the_caller_does_afterwards_changes_nothing() -> None:
    value = np.zeros((2, 2))

    payload, _ = ArrayKind().encode(value)
    value += 1

    assert isinstance(payload, np.ndarray)
    assert not payload.any()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.5, np.array(1.5)),
        (np.float32(0.1), np.array(0.1, np.float32)),
        (np.uint64(2**64 - 1), np.array(2**64 - 1, np.uint64)),
        ("word", np.array("word")),
        (np.array([7], ">i2"), np.array([7], ">i2")),
        ([1, 2], np.array([1, 2])),
        (bytearray(b"ab"), np.array([97, 98], np.uint8)),
    ],
    ids=repr,
)
def test_numbers_texts_and_lists_can_be_stored_as_arrays(value: Any, expected: Any) -> None:
    payload, _ = ArrayKind().encode(value)

    assert isinstance(payload, np.ndarray)
    assert payload.dtype == expected.dtype
    np.testing.assert_array_equal(payload, expected, strict=True)


@pytest.mark.parametrize("value", [None, np.array([None]), {"a": 1}, "a\0", object(), 2**70], ids=shown)
def test_what_would_not_read_back_is_refused(value: Any) -> None:
    with pytest.raises(Unstorable):
        ArrayKind().encode(value)


def nested(depth: int) -> np.dtype[Any]:
    return np.dtype([("x", nested(depth - 1))]) if depth else np.dtype("f8")


def of_rationals() -> np.dtype[Any]:
    """Return fields of a dtype that is not numpy's own, as other libraries register some."""
    tests = pytest.importorskip("numpy._core._rational_tests", reason="numpy 1 has it elsewhere")
    return np.dtype([("ratio", tests.rational), ("b", "f4")])


@pytest.mark.parametrize(
    "make",
    [lambda: np.dtype((np.int32, [("low", "i2"), ("high", "i2")])), lambda: nested(70), of_rationals],
    ids=["numbers with fields", "fields in fields without end", "fields of another library's dtype"],
)
def test_a_dtype_that_no_file_could_restore_is_refused_with_a_sentence(make: Callable[[], np.dtype[Any]]) -> None:
    with pytest.raises(Unstorable, match="an array with fields that would not read back: "):
        ArrayKind().encode(np.zeros((2, 2), make()))


@pytest.mark.parametrize("offsets", [[0, 0], [4, 0], [0, 2]])
def test_fields_that_overlap_or_lie_in_another_order_are_kept(offsets: list[int]) -> None:
    dtype = np.dtype({"names": ["a", "b"], "formats": ["f4", "i4"], "offsets": offsets, "itemsize": 8})

    payload, _ = ArrayKind().encode(np.zeros((2, 2), dtype))

    assert isinstance(payload, np.ndarray)
    assert payload.dtype == dtype


def test_a_read_back_array_is_shown_as_it_is() -> None:
    value = np.arange(3)

    payload, attrs = ArrayKind().encode(value)

    assert ArrayKind().decode(payload, attrs) is payload


def test_an_array_may_come_with_attributes() -> None:
    value = np.arange(3)

    payload, attrs = ArrayKind().encode({"array": value, "meta": {"unit": "m", "shape_key": ("time",)}})

    assert np.array_equal(payload, value)
    assert not np.shares_memory(np.asarray(payload), value)
    assert attrs == {"unit": "m", "shape_key": ["time"]}


@pytest.mark.parametrize(
    "value", [{"array": [1]}, {"array": [1], "meta": None}, {"array": [1], "meta": {"a": object()}}, {"meta": {}}]
)
def test_attributes_that_json_cannot_hold_refuse_the_array(value: Any) -> None:
    with pytest.raises(Unstorable):
        ArrayKind().encode(value)
