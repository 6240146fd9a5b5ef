"""Dtypes: every dtype without Python objects goes through JSON and back, and nothing else comes out of it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from allogger.dtypes import check_items, dtype_from_json, dtype_to_json

SIMPLE = (
    of_numpy.scalar_dtypes()
    | of_numpy.byte_string_dtypes()
    | of_numpy.unicode_string_dtypes()
    | of_numpy.datetime64_dtypes(endianness="?")
    | of_numpy.timedelta64_dtypes(endianness="?")
    | st.builds(lambda n: np.dtype(f"V{n}"), st.integers(0, 9))
    | st.sampled_from([np.dtype(d) for d in ("U0", "S0", "M8", "m8[7ms]", np.longdouble, np.clongdouble)])
)


@st.composite
def structs(draw: st.DrawFn, inner: st.SearchStrategy[np.dtype[Any]] = SIMPLE) -> np.dtype[Any]:
    """Return dtypes with fields anywhere: in any order, with gaps, one over the other, with titles."""
    names = draw(st.lists(st.text(st.characters(), min_size=1, max_size=4), max_size=4, unique=True))
    # numpy makes no subarrays of items without a size.
    subarrays = st.tuples(inner.filter(lambda d: d.itemsize > 0), of_numpy.array_shapes(max_dims=2, max_side=3))
    formats = [draw(inner | subarrays) for _ in names]
    dtypes = [np.dtype(one) for one in formats]
    offsets = [draw(st.integers(0, 40)) for _ in names]
    size = max([o + d.itemsize for o, d in zip(offsets, dtypes, strict=True)], default=0) + draw(st.integers(0, 9))
    titles = [draw(st.none() | st.just(f"title of field {n}")) for n in range(len(names))]
    return np.dtype({"names": names, "formats": dtypes, "offsets": offsets, "titles": titles, "itemsize": size})  # type: ignore[call-overload,no-any-return]


DTYPES = (
    SIMPLE
    | structs()
    | structs(structs())
    | of_numpy.nested_dtypes(SIMPLE.filter(lambda d: d.itemsize > 0), max_leaves=6).map(lambda d: d.base)
)


@given(DTYPES)
def test_every_dtype_comes_back_from_json(dtype: np.dtype[Any]) -> None:
    found = dtype_from_json(json.loads(json.dumps(dtype_to_json(dtype))))

    assert found == dtype
    assert found.itemsize == dtype.itemsize
    assert found.fields == dtype.fields


@pytest.mark.parametrize("dtype", ["O", [("a", "O")], [("a", [("b", "O", (2,))])], np.dtypes.StringDType()])
def test_a_dtype_with_objects_is_refused_in_both_directions(dtype: Any) -> None:
    with pytest.raises(ValueError, match="Python objects"):
        dtype_to_json(np.dtype(dtype))


def nested(depth: int) -> Any:
    descr: Any = "<f8"
    for _ in range(depth):
        descr = [["a", descr]]
    return descr


@pytest.mark.parametrize(
    "descr",
    [
        "O", "T", "|O", "no", "", "<f9", "f8" * 100, "V-1", "(1000000000,1000000000)f8", "M8[parsec]",
        "<M8[parsec]", "f8", "<f8,<f8", "(2)f8", "\ud800",
        None, 5, 1.5, True, {}, [5], [["a"]], [["a", "O"]], [["a", "<f8"], ["a", "<f8"]], [["a", "<f8", 5]],
        [["a", "<f8", [-1]]], [["a", "<f8", [2**40]]], [["a", "<f8", [1] * 100]], [["a", "<f8", [1], 2]], [[[], "<f8"]],
        [[["t", "a", "x"], "<f8"]], ["<f8", [10**9, 10**9]], ["O", [2]], [[5, "<f8"]], nested(100), nested(800),
        {"names": ["a"]},
        {"names": ["a"], "formats": ["O"], "offsets": [0], "titles": [None], "itemsize": 8},
        {"names": ["a"], "formats": ["<f8"], "offsets": [4], "titles": [None], "itemsize": 8},
        {"names": ["a"], "formats": ["<f8"], "offsets": [-8], "titles": [None], "itemsize": 8},
        {"names": ["a"], "formats": ["<f8"], "offsets": [0], "titles": [None], "itemsize": 2**70},
        {"names": ["a"], "formats": 5, "offsets": [0], "titles": [None], "itemsize": 8},
        {"names": ["a"], "formats": nested(100), "offsets": [0], "titles": [None], "itemsize": 8},
    ],
)  # fmt: skip
def test_anything_else_is_a_value_error(descr: Any) -> None:
    with pytest.raises(ValueError, match=r"no dtype|Python objects"):
        dtype_from_json(descr)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["<f8", "|O", "a"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["names", "formats", "offsets", "titles", "itemsize"]), inner)
    ),
    max_leaves=10,
)


@given(ANYTHING)
def test_any_json_is_a_dtype_or_a_value_error(descr: Any) -> None:
    try:
        dtype = dtype_from_json(descr)
    except ValueError:
        return
    assert not dtype.hasobject


def test_bytes_that_are_no_bool_or_character_are_found() -> None:
    check_items(np.array([True, False]))
    check_items(np.array(["a", "\U0010ffff"]))
    check_items(np.array(["a"], ">U3"))
    check_items(np.ndarray((3,), "U0"))

    for bad in (
        np.array([2], "u1").view("?"),
        np.array([0x110000], "<u4").view("<U1"),
        np.full(2, 255, "u1").view("?"),
    ):
        with pytest.raises(ValueError, match=r"neither true nor false|does not exist"):
            check_items(bad)
    with pytest.raises(ValueError, match="does not exist"):
        check_items(np.array([0x110000], ">u4").view(">U1"))
