"""What is a value in plain terms, which kind does it get, and what is refused?"""

from __future__ import annotations

import array
import ctypes
import enum
from collections import OrderedDict, UserDict, UserList, deque
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from allogger.kind import Kind, kind_of
from allogger.kinds.array import ArrayKind
from allogger.kinds.histogram import HistogramKind
from allogger.kinds.image import ImageKind
from allogger.kinds.scalar import ScalarKind
from allogger.kinds.text import TextKind
from allogger.plain import Approximate, Unstorable, copied, leaves, plain
from tests.naming import shown

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (ArrayKind(), HistogramKind(), ImageKind(), ScalarKind(), TextKind())
}
LONGDOUBLE_IS_LONGER = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant


class Sub(np.ndarray):
    """An array of another library, units and all."""


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, strict=True)
    else:
        assert found == expected or (found != found and expected != expected)


# ------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.5, 1.5),
        (3, 3),
        (True, True),
        (2 + 3j, 2 + 3j),
        ("a\0", "a\0"),
        (np.float16(0.5), 0.5),
        (np.float32(0.1), 0.10000000149011612),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.25), 0.25),
        (np.int8(-1), -1),
        (np.uint8(255), 255),
        (np.int64(2**63 - 1), 2**63 - 1),
        (np.longlong(-(2**63)), -(2**63)),
        (np.uint64(7), 7),
        (np.bool_(True), True),
        (np.complex64(1j), 1j),
        (np.clongdouble(1j), 1j),
        (np.str_("a\0"), "a\0"),
        (Fraction(1, 4), 0.25),
        (Decimal("0.5"), 0.5),
        (Decimal("inf"), float("inf")),
        (Decimal("nan"), float("nan")),
        (np.array([[[3]]], np.uint8), 3),
        (np.array(True), True),
        (np.array([1.5], ">f4"), 1.5),
        (np.array(["word"]), "word"),
        (np.array([[2.0]]).view(Sub), 2.0),
        ([[1.5]], 1.5),
        ((7,), 7),
        (range(4, 5), 4),
        (["a"], "a"),
        (array.array("d", [0.5]), 0.5),
    ],
    ids=repr,
)
def test_one_element_of_any_type_becomes_pythons_own(value: Any, expected: Any) -> None:
    assert_same(plain(value), expected)


@given(st.integers(), st.sampled_from([int, np.uint64, np.int64, np.uint8]))
def test_an_integer_is_exact_or_says_that_it_is_not(number: int, cls: Any) -> None:
    try:
        value = cls(number)
    except (OverflowError, DeprecationWarning):  # the latter from numpy 1
        return
    for given_value in (value, [value], np.asarray(value)):
        try:
            found = plain(given_value)
        except Unstorable:
            assert number not in range(-(2**63), 2**63)
        else:
            assert type(found) is (int if number in range(-(2**63), 2**63) else Approximate)
            assert found == (number if type(found) is int else float(number))


@pytest.mark.parametrize("value", [2**70, -(2**63) - 1, np.uint64(2**64 - 1), Decimal("0.1"), Fraction(1, 3)], ids=repr)
def test_a_number_that_float64_only_approaches_carries_a_note(value: Any) -> None:
    found = plain(value)

    assert isinstance(found, Approximate)
    assert float(found) == float(value)
    assert "float64" in found.note
    assert plain(found) is found


@pytest.mark.parametrize("value", [10**400, Decimal("1e400"), Fraction(10**400, 3), Decimal("sNaN")], ids=type)
def test_a_number_beyond_float64_is_refused(value: Any) -> None:
    with pytest.raises(Unstorable):
        plain(value)


@pytest.mark.skipif(not LONGDOUBLE_IS_LONGER, reason="longdouble is float64 on this platform")
def test_a_longdouble_that_is_no_float64_stays_what_it_is() -> None:
    value = np.longdouble(1) / 3

    assert_same(plain(value), np.asarray(value))
    assert_same(plain([value]), np.asarray(value))
    assert_same(plain(np.clongdouble(value)), np.asarray(np.clongdouble(value)))


def test_subclasses_of_numbers_and_texts_give_their_own_value_whatever_they_override() -> None:
    class Odd(int):
        def __int__(self) -> int:
            raise RuntimeError

        __index__ = __float__ = __int__

    class Shout(str):
        def __str__(self) -> str:
            return "other"

    class Wrong(float):
        def __float__(self) -> float:
            return -1.0

    assert_same(plain(Odd(5)), 5)
    assert_same(plain(Shout("x")), "x")
    assert_same(plain(Wrong(2.5)), 2.5)


def test_an_enum_is_its_value() -> None:
    class Colour(enum.Enum):
        RED = "red"
        DEPTH = 8
        NONE = None

    class Mode(enum.StrEnum):
        FAST = "fast"

    class Level(enum.IntFlag):
        HIGH = 4

    assert [plain(Colour.RED), plain(Colour.DEPTH), plain(Mode.FAST), plain(Level.HIGH)] == ["red", 8, "fast", 4]
    assert type(plain(Mode.FAST)) is str
    assert type(plain(Level.HIGH)) is int
    with pytest.raises(Unstorable, match="None"):
        plain(Colour.NONE)


# --------------------------------------------------------------------------------------------------------------- times


def test_times_are_exact() -> None:
    moment = datetime(1, 1, 1, 2, 3, 4, 567891)
    aware = datetime(2024, 5, 6, tzinfo=timezone(timedelta(hours=2)))

    assert_same(plain(moment), np.array("0001-01-01T02:03:04.567891", "M8[us]"))
    assert_same(plain(date(2024, 5, 6)), np.array("2024-05-06", "M8[D]"))
    assert_same(plain(timedelta(days=1, microseconds=1)), np.array(86_400_000_001, "m8[us]"))
    assert_same(plain(aware), "2024-05-06T00:00:00+02:00")
    assert_same(
        plain(np.datetime64("2024-05-06T00:00:00.123456789")), np.array("2024-05-06T00:00:00.123456789", "M8[ns]")
    )
    assert_same(plain([moment, moment]), np.array([moment, moment], "M8[us]"))


def test_a_timedelta_that_numpy_would_let_overflow_is_refused() -> None:
    with pytest.raises(Unstorable, match="timedelta"):
        plain(timedelta.max)


# -------------------------------------------------------------------------------------------------------------- arrays


def test_an_ordinary_array_is_passed_on_without_a_copy() -> None:
    value = np.arange(6).reshape(2, 3).T

    assert plain(value) is value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a\0b\0", np.array([97, 0, 98, 0], np.uint8)),
        (b"a", np.array([97], np.uint8)),
        (b"", np.array([], np.uint8)),
        (bytearray(b"ab"), np.array([97, 98], np.uint8)),
        (np.bytes_(b"a\0"), np.array([97, 0], np.uint8)),
        (np.bytes_(b"a"), np.array([97], np.uint8)),
        (memoryview(b"abcd").cast("B", (2, 2)), np.array([[97, 98], [99, 100]], np.uint8)),
        (array.array("f", [1, 2]), np.array([1, 2], np.float32)),
        ((ctypes.c_int16 * 2)(1, 2), np.array([1, 2], np.int16)),
        (np.array([[1, 2]]).view(Sub), np.array([[1, 2]])),
        (
            np.array([(1, 2.0)] * 2, [("a", int), ("b", float)]).view(np.recarray),
            np.array([(1, 2.0)] * 2, [("a", int), ("b", float)]),
        ),
        (np.void(b"ab"), np.array(np.void(b"ab"))),
        (np.ma.array([1.0, 2.0]), np.array([1.0, 2.0])),
        (np.array([1, 2.5, True], object), np.array([1, 2.5, 1.0])),
        (np.array([["a"], ["bc"]], object), np.array([["a"], ["bc"]])),
        (np.array([], object).reshape(0, 2), np.zeros((0, 2))),
        (np.array(3, object), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_buffers_and_arrays_of_all_sorts_become_base_arrays(value: Any, expected: Any) -> None:
    assert_same(plain(value), expected)


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy 2 brought texts of variable length")
def test_texts_of_variable_length_get_a_fixed_one() -> None:
    assert_same(plain(np.array([["a"], ["bc"]], "T")), np.array([["a"], ["bc"]]))
    with pytest.raises(Unstorable, match="NUL"):
        plain(np.array(["a\0", "bc"], "T"))


def test_masked_elements_are_kept_with_their_mask() -> None:
    found = plain(np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False]))
    rows = plain(np.ma.array([(1, 2.0)], dtype=[("a", int), ("b", float)], mask=[(True, False)]))

    assert isinstance(found, np.ndarray)
    assert isinstance(rows, np.ndarray)
    assert type(found) is np.ndarray
    assert found["_data"].tolist() == [1.0, 2.0, 3.0]
    assert found["_mask"].tolist() == [False, True, False]
    assert rows["_mask"].tolist() == [(True, False)]
    assert rows["_data"].tolist() == [(1, 2.0)]


@pytest.mark.parametrize(
    "value",
    [
        np.array([1, None], object),
        np.array([1, "a"], object),
        np.array([object()], object),
        np.array([[5], None], object)[:1],
        np.array([2**70], object),
        np.array([2**53 + 1, 0.5], object),
        np.array([(1, None)], [("a", int), ("b", object)]),
        np.array(["a\0", "b"], object),
    ],
    ids=shown,
)
def test_an_array_of_objects_that_numpy_would_change_is_refused(value: Any) -> None:
    with pytest.raises(Unstorable):
        plain(value)


def test_as_array_keeps_shape_and_dtype_of_a_single_element() -> None:
    assert_same(plain(np.array([[1]], np.uint64), as_array=True), np.array([[1]], np.uint64))
    assert_same(plain(np.uint64(2**64 - 1), as_array=True), np.array(2**64 - 1, np.uint64))
    assert_same(plain(np.float32(0.5), as_array=True), np.array(0.5, np.float32))
    assert_same(plain([1], as_array=True), np.array([1]))
    assert_same(plain(True, as_array=True), True)
    assert_same(plain(np.str_("a\0"), as_array=True), "a\0")


# --------------------------------------------------------------------------------------------------------------- lists


class Point(NamedTuple):
    x: float
    y: float


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2], np.array([1, 2])),
        ([1, 2.5], np.array([1, 2.5])),
        ([True, False], np.array([True, False])),
        ([2**63, 2**64 - 1], np.array([2**63, 2**64 - 1], np.uint64)),
        ([], np.array([])),
        ([[], []], np.zeros((2, 0))),
        (range(3), np.array([0, 1, 2])),
        (deque([1.0, 2.0]), np.array([1.0, 2.0])),
        (UserList([1.0, 2.0]), np.array([1.0, 2.0])),
        (Point(1.0, 2.0), np.array([1.0, 2.0])),
        (["a", "bcd"], np.array(["a", "bcd"])),
        ([["a"], ["b"]], np.array([["a"], ["b"]])),
        ([np.float32(1), np.float32(2)], np.array([1, 2], np.float32)),
        ([np.array([1, 2], np.int8), [3.0, 4.0]], np.array([[1.0, 2.0], [3.0, 4.0]])),
        ([np.longdouble(1), 2], np.array([1, 2], np.longdouble)),
        ([Fraction(1, 2), 3], np.array([0.5, 3.0])),
        ([[1, 2], (3, 4)], np.array([[1, 2], [3, 4]])),
        ([np.zeros((0, 2)), np.zeros((0, 2))], np.zeros((2, 0, 2))),
    ],
    ids=repr,
)
def test_lists_become_arrays(value: Any, expected: Any) -> None:
    assert_same(plain(value), expected)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([[1, 2], [3]], "ragged"),
        ([1, [2]], "ragged"),
        ([np.zeros(2), np.zeros(3)], "ragged"),
        ([1, "a"], "mixes"),
        (["1", 2.0], "mixes"),
        ([np.datetime64("2024-01-01"), 5], "mixes"),
        ([np.timedelta64(1, "s"), 5], "mixes"),
        ([np.timedelta64(1, "s"), np.timedelta64(1, "ns")], "mixes"),
        ([1, None], "None"),
        ([None], "None"),
        ([2**70, 1], "64 bits"),
        ([2**63 + 1, -1], "float64"),
        ([2**53 + 1, 0.5], "float64"),
        ([np.uint64(2**64 - 1), np.int64(-1)], "float64"),
        ([np.array([2**53 + 1]), np.array([0.5])], "float64"),
        ([[2**64 - 1], [-1]], "float64"),
        ([Decimal("0.1"), 1], "float64"),
        (["a\0", "b"], "NUL"),
        ([{"a": 1}], "dict"),
        ([object()], "object"),
        ({1, 2}, "set"),
        ((number for number in (1, 2)), "generator"),
    ],
    ids=shown,
)
def test_what_a_list_would_change_or_cannot_hold_is_refused_with_the_reason(value: Any, why: str) -> None:
    with pytest.raises(Unstorable, match=why):
        plain(value)


def test_a_list_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value += [value, value]

    with pytest.raises(Unstorable):
        plain(value)


numbers_of_all_sorts = st.one_of(
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.booleans(),
    st.complex_numbers(),
    st.integers(0, 2**64 - 1).map(np.uint64),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.floats(width=32).map(np.float32),
)


@given(st.lists(numbers_of_all_sorts, min_size=2))
def test_a_list_of_numbers_is_exact_or_refused(values: list[Any]) -> None:
    try:
        found = plain(values)
    except Unstorable:
        return
    assert isinstance(found, np.ndarray)
    for one, stored in zip(values, found.tolist(), strict=True):
        expected = one.item() if isinstance(one, np.generic) else one
        assert stored == expected or np.array_equal([stored], [expected], equal_nan=True)


@given(npst.arrays(npst.scalar_dtypes(), npst.array_shapes(max_dims=3, max_side=3)))
def test_a_nested_list_of_an_array_means_the_same_as_the_array(value: Any) -> None:
    try:
        found = plain(value.tolist(), as_array=True)
    except Unstorable:
        # Times as Python's own, NaT among them, texts that end in NUL, and large integers among small ones.
        assert value.dtype.kind in "MmUS" or value.dtype == np.uint64
        return
    assert isinstance(found, np.ndarray)
    if value.dtype.kind in "biufc":
        np.testing.assert_array_equal(found, value)


# ------------------------------------------------------------------------------------------------------------- hostile


class Hostile:
    """Raises whatever it is told, from wherever a library might look."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise self.error

    def __float__(self) -> float:
        raise self.error


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError


class NoHash(type):
    def __hash__(cls) -> int:
        raise ValueError


class Grabber:
    def __getattr__(self, name: str) -> Any:
        return self


class Lying:
    def __array__(self, *_: Any, **__: Any) -> Any:
        return [1, 2]


class BadNumber(Decimal):
    def __float__(self) -> float:
        raise ZeroDivisionError

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = None  # type: ignore[assignment]


class BadList(UserList[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "value",
    [
        None,
        object(),
        object,
        print,
        Hostile(ValueError("no")),
        Hostile(MemoryError()),
        Hostile(RecursionError()),
        Hostile(Unspeakable()),
        NoHash("NoHash", (), {})(),
        Grabber(),
        Lying(),
        BadNumber(1),
        BadList([1]),
        MagicMock(),
        [Hostile(ValueError("no"))],
        Unstorable("as it was"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("as_array", [False, True])
def test_whatever_a_value_does_it_is_only_refused(value: Any, as_array: bool) -> None:
    with pytest.raises(Unstorable) as caught:
        plain(value, as_array=as_array)
    assert str(caught.value)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interruption_passes(interruption: type[BaseException]) -> None:
    with pytest.raises(interruption):
        plain(Hostile(interruption()))


def test_a_copy_that_does_not_fit_into_memory_is_refused() -> None:
    with pytest.raises(Unstorable, match=r"(?i)memory"):
        copied(np.broadcast_to(np.float64(1), (2**40, 2**10)))


def test_a_refusal_says_the_type_and_the_reason() -> None:
    with pytest.raises(Unstorable, match=r"Hostile cannot be stored: ValueError: no power$"):
        plain(Hostile(ValueError("no power\nsecond line")))
    with pytest.raises(Unstorable, match="type object is no number, array or text; data_type='text' stores its str"):
        plain(object())


# --------------------------------------------------------------------------------------------------- arrays of others


class WithArray:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array([[1.5, 2.5]], np.float32)


class WithInterface:
    def __init__(self, held: Any) -> None:
        self.held = held
        self.__array_interface__ = held.__array_interface__


class WithDlpack:
    def __init__(self, held: Any) -> None:
        self.held = held

    def __dlpack__(self, **settings: Any) -> Any:
        return self.held.__dlpack__(**settings)

    def __dlpack_device__(self) -> Any:
        return self.held.__dlpack_device__()


@pytest.mark.parametrize("wrap", [WithInterface, WithDlpack])
def test_an_object_of_an_array_protocol_is_seen_without_a_copy(wrap: Any) -> None:
    held = np.arange(4.0)

    found = plain(wrap(held))

    assert_same(found, held)
    assert np.shares_memory(found, held)


def test_an_object_with_an_array_method_is_that_array() -> None:
    assert_same(plain(WithArray()), np.array([[1.5, 2.5]], np.float32))


def test_a_mapping_is_passed_on_for_its_leaves() -> None:
    value = UserDict({"a": 1})

    assert plain(value) is value
    with pytest.raises(Unstorable, match="dict"):
        copied(value)


# ---------------------------------------------------------------------------------------------------------- inference


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1.0, "scalar"),
        (2**70, "scalar"),
        (True, "scalar"),
        (1j, "scalar"),
        ([[5]], "scalar"),
        (np.longdouble(1) / 3, "scalar"),
        ("text", "text"),
        (["text"], "text"),
        ([1, 2], "histogram"),
        ([], "histogram"),
        (np.zeros(5, bool), "histogram"),
        (["a", "b"], "array"),
        (np.zeros(3, [("a", int)]), "array"),
        (np.zeros(3, "M8[s]"), "array"),
        (datetime(2024, 1, 1), "array"),
        (b"x", "array"),
        (np.zeros((2, 2)), "array"),
        (np.zeros((1, 0)), "array"),
        (np.zeros((3, 5, 5)), "image"),
        (np.zeros((5, 5, 4), np.uint8), "image"),
        (np.zeros((1, 5, 5), bool), "image"),
        (np.zeros((5, 3, 5)), "array"),
        (np.zeros((3, 0, 5)), "array"),
        (np.zeros((3, 5, 5), "S1"), "array"),
        (np.zeros((3, 5, 5), complex), "array"),
        (np.zeros((2, 3, 5, 5)), "array"),
    ],
    ids=str,
)
def test_the_kind_is_inferred_from_type_and_shape(value: Any, name: str) -> None:
    assert kind_of(plain(value), KINDS).name == name


class Broken(ArrayKind):
    name = "broken"

    def accepts(self, value: Any) -> bool:
        raise RuntimeError


class Grid(ArrayKind):
    name = "grid"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, object) and getattr(value, "ndim", 0) == 2


def test_plug_ins_are_asked_first_and_a_broken_one_is_passed_over() -> None:
    kinds = {**KINDS, "broken": Broken(), "grid": Grid()}

    assert kind_of(np.zeros((2, 2)), kinds).name == "grid"
    assert kind_of(1.0, kinds).name == "scalar"


def test_a_value_of_no_kind_is_refused() -> None:
    with pytest.raises(Unstorable, match="no kind takes"):
        kind_of({"a": 1}, KINDS)


@given(npst.arrays(npst.scalar_dtypes() | npst.array_dtypes(), npst.array_shapes(min_dims=0, min_side=0, max_side=4)))
def test_every_array_has_a_kind_that_stores_it(value: Any) -> None:
    found = plain(value)

    payload, _ = kind_of(found, KINDS).encode(found)

    assert not isinstance(payload, np.ndarray) or not np.shares_memory(payload, value)


# -------------------------------------------------------------------------------------------------------------- leaves


def test_a_dict_gives_one_series_per_leaf() -> None:
    value = {"loss": 1.0, "norm": OrderedDict({0: [1, 2], None: MappingProxyType({"deep": "x"})}), "empty": {}}

    assert list(leaves(value, "train")) == [
        ("train/loss", 1.0),
        ("train/norm/0", [1, 2]),
        ("train/norm/None/deep", "x"),
    ]


def test_without_a_prefix_keys_begin_with_the_first_name() -> None:
    assert list(leaves({"a": {"b": 1}})) == [("a/b", 1)]


def test_only_the_branch_that_contains_itself_is_refused() -> None:
    value: dict[str, Any] = {"a": 1, "z": 2}
    value["loop"] = {"again": value, "fine": 3}

    found = dict(leaves(value, "k"))

    assert isinstance(found.pop("k/loop/again"), Unstorable)
    assert found == {"k/a": 1, "k/z": 2, "k/loop/fine": 3}


def test_a_dict_that_occurs_twice_side_by_side_is_no_cycle() -> None:
    shared = {"x": 1}

    assert list(leaves({"a": shared, "b": shared})) == [("a/x", 1), ("b/x", 1)]


@pytest.mark.parametrize(("depth", "is_refused"), [(64, False), (65, True)])
def test_a_dict_is_followed_64_deep(depth: int, is_refused: bool) -> None:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}

    ((_, leaf),) = leaves(value)

    assert isinstance(leaf, Unstorable) is is_refused


class NoItems(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise ZeroDivisionError

    def __iter__(self) -> Iterator[str]:
        return iter("ab")

    def __len__(self) -> int:
        return 2


class NoName:
    def __str__(self) -> str:
        raise ZeroDivisionError


class NoClass:
    @property
    def __class__(self) -> Any:
        raise ZeroDivisionError


@pytest.mark.parametrize("branch", [NoItems(), {NoName(): 1}], ids=["items", "names"])
def test_a_branch_that_raises_is_refused_alone(branch: Any) -> None:
    (first, second) = leaves({"bad": branch, "good": 1}, "k")

    assert first[0] == "k/bad"
    assert second == ("k/good", 1)
    with pytest.raises(Unstorable, match="ZeroDivisionError"):
        plain(first[1])


@pytest.mark.parametrize("cls", [NoClass, NoHash("NoHash", (), {})], ids=["class", "hash"])
def test_a_leaf_of_an_odd_class_is_still_a_leaf(cls: Any) -> None:
    value = cls()

    ((key, leaf),) = leaves({"a": value})

    assert key == "a"
    assert leaf is value
    with pytest.raises(Unstorable):
        plain(leaf)
    with pytest.raises(Unstorable):
        kind_of(leaf, KINDS)
