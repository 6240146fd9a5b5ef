"""Does every value under every key either read back exactly or get counted, without harm to its neighbours?"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import re
import struct
import sys
import threading
import types
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import allogger
from allogger.formats import csv
from allogger.registry import writers
from tests.naming import shown

OUTPUTS = ["hdf", "csv", "tensorboard", "console"]
# Sentences of allogger's warnings that no value and no key may cause.
NEVER = ("internal error", "could not be finished", "cannot flush", "cannot write", "loses values", "Traceback")


class Case(NamedTuple):
    """A value, and what is to be read back: an array of the same dtype and shape, a text, or `REFUSED`."""

    name: str
    make: Callable[[], Any]
    expected: Any
    is_noted: bool = False


REFUSED = object()


def same(found: Any, expected: Any) -> bool:
    """Return whether two values are the same bit for bit."""
    if isinstance(expected, str):
        return isinstance(found, str) and found == expected
    found, expected = np.asarray(found), np.asarray(expected)
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    # A longdouble has bytes without a meaning.
    return np.array_equal(found, expected) if found.dtype.char in "gG" else found.tobytes() == expected.tobytes()


def equal(found: Any, value: Any) -> bool:
    """Return whether a value is the same, where integers among floats may have become floats that equal them."""
    return bool(found == value) if isinstance(value, int | float) else same(found, value)


def read(logdir: Path, key: str) -> list[Any]:
    run = allogger.open_run(logdir)
    assert run.damage == []
    return list(run[key].value) if key in run else []


# --------------------------------------------------------------------------------------------------------------- values


class Hostile:
    """Raises whatever is asked of it, in words that cannot be shown."""

    class Error(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

        __repr__ = __str__

    def __getattribute__(self, name: str) -> Any:
        raise Hostile.Error

    def _fail(self, *args: object) -> Any:
        raise Hostile.Error

    __len__ = __iter__ = __getitem__ = __float__ = __int__ = __index__ = __str__ = __repr__ = __bool__ = _fail
    __hash__ = __eq__ = __array__ = __complex__ = __format__ = _fail


class HostileType(type):
    """The type of a class that cannot be looked up."""

    def __hash__(cls) -> int:
        raise Hostile.Error

    def __eq__(cls, other: object) -> bool:
        raise Hostile.Error

    def __instancecheck__(cls, instance: object) -> bool:
        raise Hostile.Error


class OfHostileType(metaclass=HostileType):
    pass


class HostileMapping(Mapping[str, float]):
    def __getitem__(self, key: str) -> float:
        raise Hostile.Error

    def __iter__(self) -> Iterator[str]:
        raise Hostile.Error

    def __len__(self) -> int:
        raise Hostile.Error


class HostileSequence(Sequence[float]):
    def __getitem__(self, index: Any) -> Any:
        raise Hostile.Error

    def __len__(self) -> int:
        return 3


class LyingFloat(float):
    def __float__(self) -> float:
        raise Hostile.Error

    __repr__ = __str__ = __eq__ = __hash__ = __float__  # type: ignore[assignment]


class LyingText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise Hostile.Error

    __repr__ = encode = __eq__ = __hash__ = __len__ = __str__  # type: ignore[assignment]


class ArrayOf:
    """Gives whatever it was told when it is asked for an array."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def __array__(self, *args: object, **kwargs: object) -> Any:
        if isinstance(self.what, Exception):
            raise self.what
        return self.what


class Colour(enum.Enum):
    RED = 1.5
    NONE = None


def nested(depth: int, leaf: Any = 1.0) -> Any:
    for _ in range(depth):
        leaf = [leaf]
    return leaf


def containing_itself() -> Any:
    one: list[Any] = [1.0]
    one.append(one)
    return one


def released() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0]
WHEN = datetime.datetime(2024, 2, 29, 12, 30, 0, 7)
PLUS_TWO = datetime.timezone(datetime.timedelta(hours=2))
RECORDS = np.array([(1, 2.5), (3, np.nan)], [("a", "<i2"), ("b", ">f8")])

CASES = [
    Case("None", lambda: None, REFUSED),
    Case("NaN with payload", lambda: NAN, np.array(NAN)),
    Case("numpy NaN with payload", lambda: np.float64(NAN), np.array(NAN)),
    Case("infinity", lambda: float("inf"), np.array(np.inf)),
    Case("minus infinity", lambda: -np.float32("inf"), np.array(-np.inf)),
    Case("minus zero", lambda: -0.0, np.array(-0.0)),
    Case("subnormal", lambda: 5e-324, np.array(5e-324)),
    Case("complex", lambda: 1 + 2j, np.array(1 + 2j)),
    Case("complex NaN", lambda: complex(np.nan, -0.0), np.array(complex(np.nan, -0.0))),
    Case("largest int64", lambda: 2**63 - 1, np.array(2**63 - 1)),
    Case("smallest int64", lambda: -(2**63), np.array(-(2**63))),
    Case("uint64 in int64", lambda: np.uint64(2**63 - 1), np.array(2**63 - 1)),
    Case("2**80", lambda: 2**80, np.array(2.0**80), is_noted=True),
    Case("largest uint64", lambda: np.uint64(2**64 - 1), np.array(2.0**64), is_noted=True),
    Case("10**400", lambda: 10**400, REFUSED),
    Case("Decimal", lambda: decimal.Decimal("0.1"), np.array(0.1), is_noted=True),
    Case("exact Decimal", lambda: decimal.Decimal("0.5"), np.array(0.5)),
    Case("NaN Decimal", lambda: decimal.Decimal("NaN"), np.array(np.nan)),
    Case("signalling Decimal", lambda: decimal.Decimal("sNaN"), REFUSED),
    Case("huge Decimal", lambda: decimal.Decimal("1e999"), REFUSED),
    Case("Fraction", lambda: fractions.Fraction(1, 3), np.array(1 / 3), is_noted=True),
    Case("exact Fraction", lambda: fractions.Fraction(1, 4), np.array(0.25)),
    Case("bool", lambda: True, np.array(True)),
    Case("numpy bool", lambda: np.bool_(False), np.array(False)),
    Case("Enum", lambda: Colour.RED, np.array(1.5)),
    Case("Enum of None", lambda: Colour.NONE, REFUSED),
    Case("IntEnum", lambda: enum.IntEnum("One", {"A": 7}).A, np.array(7)),
    Case("float that lies", lambda: LyingFloat(0.5), np.array(0.5)),
    Case("text", lambda: "text", "text"),
    Case("empty text", lambda: "", ""),
    Case("text with NUL", lambda: "\0a\0", "\0a\0"),
    Case("text with lone surrogates", lambda: "\ud800a\udfff", "\ud800a\udfff"),
    Case("text with everything", lambda: 'a,b"c\n\r\n\t\\x00%', 'a,b"c\n\r\n\t\\x00%'),
    Case("long text", lambda: "é" * 300_000, "é" * 300_000),
    Case("text that lies", lambda: LyingText("true"), "true"),
    Case("bytes", lambda: b"\0\xff", np.array([0, 255], np.uint8)),
    Case("no bytes", lambda: b"", np.zeros(0, np.uint8)),
    Case("bytearray", lambda: bytearray(b"ab"), np.array([97, 98], np.uint8)),
    Case("memoryview", lambda: memoryview(b"ab"), np.array([97, 98], np.uint8)),
    Case("released memoryview", released, REFUSED),
    Case("empty array", lambda: np.zeros(0), np.zeros(0)),
    Case("array of size 0", lambda: np.zeros((3, 0, 2), np.float32), np.zeros((3, 0, 2), np.float32)),
    Case("empty int array", lambda: np.zeros((0, 4), np.int8), np.zeros((0, 4), np.int8)),
    Case("empty list", lambda: [], np.zeros(0)),
    Case("float16", lambda: np.arange(4, dtype=np.float16), np.arange(4, dtype=np.float16)),
    Case("big-endian", lambda: np.arange(4, dtype=">i4"), np.arange(4, dtype=">i4")),
    Case("longdouble", lambda: np.array([1, 3], np.longdouble) / 3, np.array([1, 3], np.longdouble) / 3),
    Case("complex64", lambda: np.array([1j, np.nan], np.complex64), np.array([1j, np.nan], np.complex64)),
    Case("bool array", lambda: np.array([[True, False]]), np.array([[True, False]])),
    Case("Fortran order", lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(6.0).reshape(2, 3)),
    Case("strided", lambda: np.arange(20)[::-3], np.arange(20)[::-3].copy()),
    Case("broadcast", lambda: np.broadcast_to(np.float32(2), (5, 4)), np.full((5, 4), 2, np.float32)),
    Case("structured", lambda: RECORDS, RECORDS),
    Case("texts", lambda: np.array(["a", "bcd"]), np.array(["a", "bcd"])),
    Case("byte strings", lambda: np.array([b"a", b"bcd"]), np.array([b"a", b"bcd"])),
    Case("times", lambda: np.array(["2024", "NaT"], "M8[us]"), np.array(["2024", "NaT"], "M8[us]")),
    Case("durations", lambda: np.array([1, 2], "m8[ns]"), np.array([1, 2], "m8[ns]")),
    Case("64 dimensions less half", lambda: np.zeros((1,) * 30 + (2,)), np.zeros((1,) * 30 + (2,))),
    Case("objects that are numbers", lambda: np.array([1, 2], object), np.array([1, 2])),
    Case("objects", lambda: np.array([None, {}], object), REFUSED),
    Case("object array of the hostile", lambda: np.array([OfHostileType()], object), REFUSED),
    Case("masked", lambda: np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.array([1.0, 2.0], mask=[0, 1]).toflex()),
    Case("unmasked", lambda: np.ma.array([1.0, 2.0]), np.array([1.0, 2.0])),
    Case("recarray", lambda: RECORDS.view(np.recarray), RECORDS),
    Case("tuple", lambda: (1, 2), np.array([1, 2])),
    Case("range", lambda: range(3), np.arange(3)),
    Case("deque", lambda: collections.deque([1.5, 2.5]), np.array([1.5, 2.5])),
    Case("mixed numbers", lambda: [1, 2.5, True], np.array([1, 2.5, 1])),
    Case("ragged", lambda: [[1], [2, 3]], REFUSED),
    Case("deeply ragged", lambda: [[[1, 2]], [[1], [2]]], REFUSED),
    Case("numbers among texts", lambda: [1, "a"], REFUSED),
    Case("None in a list", lambda: [1.0, None], REFUSED),
    Case("integers that would round", lambda: [2**63 + 1, -1], REFUSED),
    Case("list in itself", containing_itself, REFUSED),
    Case("deep list", lambda: nested(100_000), REFUSED),
    Case("datetime", lambda: WHEN, np.array(WHEN, "M8[us]")),
    Case("aware datetime", lambda: WHEN.replace(tzinfo=PLUS_TWO), "2024-02-29T12:30:00.000007+02:00"),
    Case("date", lambda: WHEN.date(), np.array("2024-02-29", "M8[D]")),
    Case("timedelta", lambda: datetime.timedelta(days=-1, microseconds=3), np.array(-86399999997, "m8[us]")),
    Case("largest timedelta", lambda: datetime.timedelta.max, REFUSED),
    Case("NaT", lambda: np.datetime64("NaT"), np.array("NaT", "M8")),
    Case("Timestamp", lambda: pd.Timestamp(1, unit="ns"), np.array(1, "M8[ns]")),
    Case("pandas NA", lambda: pd.NA, REFUSED),
    Case("pandas Series", lambda: pd.Series([1, 2], dtype="int16"), np.array([1, 2], np.int16)),
    Case("pandas frame", lambda: pd.DataFrame({"a": [1, 2], "b": [3.5, 4]}), np.array([[1, 3.5], [2, 4]])),
    Case("set", lambda: {1, 2}, REFUSED),
    Case("generator", lambda: (n for n in range(3)), REFUSED),
    Case("function", lambda: same, REFUSED),
    Case("class", lambda: Case, REFUSED),
    Case("module", lambda: types, REFUSED),
    Case("object", object, REFUSED),
    Case("Ellipsis", lambda: ..., REFUSED),
    Case("exception", lambda: ValueError("x"), REFUSED),
    Case("uuid", lambda: uuid.UUID(int=2**70), REFUSED),
    Case("hostile", Hostile, REFUSED),
    Case("of a hostile type", OfHostileType, REFUSED),
    Case("hostile mapping", HostileMapping, REFUSED),
    Case("hostile sequence", HostileSequence, REFUSED),
    Case("array that raises", lambda: ArrayOf(Hostile.Error()), REFUSED),
    Case("array that is none", lambda: ArrayOf("nonsense"), REFUSED),
    Case("array of an array", lambda: ArrayOf(np.arange(3)), np.arange(3)),
    Case("list with something hostile", lambda: [1.0, Hostile()], REFUSED),
]


def check_warnings(messages: list[str], case: Case, count: int) -> None:
    mine = [text for text in messages if "'root/value'" in text]
    assert not [text for text in messages if any(never in text for never in NEVER)], messages
    assert len(mine) == len(messages), messages
    refused = [text for text in mine if "is not stored: " in text]
    counted = [text for text in mine if f"{count} values were not stored: 'root/value' {count}" in text]
    assert len(refused) == len(counted) == (1 if case.expected is REFUSED else 0), mine
    noted = [text for text in mine if "float64" in text and "is not stored" not in text]
    assert len(noted) == case.is_noted, mine
    # What an output cannot represent, it says once per key, and how many they were at the close.
    for output in OUTPUTS:
        assert len([text for text in mine if f"output '{output}' cannot represent values of" in text]) <= 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_value_reads_back_exactly_or_is_counted_and_its_neighbours_are_untouched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, case: Case
) -> None:
    run = tmp_path / "run"
    root = allogger.basic_configure(run, OUTPUTS)
    value = case.make()
    root.log(1.5, "good")
    for step in (None, 7, None):
        root.log(value, "value", step)
        root.log(2, "good", step)
    root.log("text", "note")

    allogger.flush()
    live = read(run, "root/value")
    good = read(run, "root/good")
    allogger.close()
    finished = read(run, "root/value")

    expected = [] if case.expected is REFUSED else [case.expected] * 3
    for found in (live, finished):
        assert len(found) == len(expected)
        assert all(same(one, other) for one, other in zip(found, expected, strict=True)), (found, expected)
    if expected:
        assert allogger.open_run(run)["root/value"].step.tolist() == [1, 7, 8]
    assert good == read(run, "root/good") == [1.5, 2, 2, 2]
    (file,) = run.rglob("*.csv")
    assert [row.value for row in csv.rows(file) if row.key == "root/good"] == [1.5, 2, 2, 2]
    check_warnings(caplog.messages, case, 3)


def test_all_of_them_in_one_run_disturb_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    root = allogger.basic_configure(run, OUTPUTS, flush_seconds=0.01)
    for case in CASES:
        root.log(case.make(), f"cases/{case.name}")
        root.log(0.5, "good")
    allogger.close()

    stored = {case.name: case.expected for case in CASES if case.expected is not REFUSED}
    found = allogger.open_run(run)
    assert found.keys("^root/cases/") == sorted(f"root/cases/{name}" for name in stored)
    assert all(same(found[f"root/cases/{name}"].value[0], expected) for name, expected in stored.items())
    assert found["root/good"].step.tolist() == list(range(1, len(CASES) + 1))
    assert f"{len(CASES) - len(stored)} values were not stored" in caplog.text
    assert not [text for text in caplog.messages if any(never in text for never in NEVER)]


def test_a_tensor_that_requires_grad_and_one_of_a_strange_dtype_are_stored(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    root = allogger.basic_configure(tmp_path / "run", OUTPUTS)
    leaf = torch.tensor([1.0, 2.0], requires_grad=True)

    root.log(leaf, "leaf")
    root.log(leaf.sum() * 2, "loss")
    root.log(torch.tensor([0.5, 3.0], dtype=torch.bfloat16), "bfloat16")
    root.log(torch.eye(2).to_sparse(), "sparse")
    root.log(torch.zeros(2, device="meta"), "meta")
    with torch.no_grad():
        leaf[:] = 9
    allogger.close()

    run = tmp_path / "run"
    assert same(read(run, "root/leaf")[0], np.array([1, 2], np.float32))
    assert read(run, "root/loss") == [6.0]
    assert same(read(run, "root/bfloat16")[0], np.array([0.5, 3], np.float32))
    assert same(read(run, "root/sparse")[0], np.eye(2, dtype=np.float32))
    assert read(run, "root/meta") == []


CHANGING: list[Any] = [
    np.zeros(3),
    np.ones(4),
    np.zeros(3, np.float32),
    np.zeros((2, 2), np.int8),
    np.zeros(0),
    np.arange(3.0),
    np.array([True, False]),
    np.zeros((2, 3, 4, 5), np.uint16),
    np.array([1 + 1j, 2]),
    np.arange(3, dtype=">f8"),
]


def test_shapes_and_dtypes_may_change_under_a_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = allogger.basic_configure(tmp_path / "run", OUTPUTS)
    for _ in range(3):
        for value in CHANGING:
            root.log(value, "array", data_type="array")
    allogger.flush()

    live = read(tmp_path / "run", "root/array")
    allogger.close()
    finished = read(tmp_path / "run", "root/array")

    for found in (live, finished):
        assert [same(one, other) for one, other in zip(found, CHANGING * 3, strict=True)] == [True] * 30
    assert caplog.messages == []


def test_numbers_of_all_types_may_follow_each_other_under_a_key(tmp_path: Path) -> None:
    values: list[Any] = [1, 2.5, True, 2**60 + 1, float("nan"), 1j, -(2**63), np.longdouble(1) / 3, 0.1, False]
    root = allogger.basic_configure(tmp_path / "run", ["hdf", "csv"])
    for value in values:
        root.log(value, "number")
    allogger.flush()

    live = read(tmp_path / "run", "root/number")
    allogger.close()
    finished = read(tmp_path / "run", "root/number")

    for found in (live, finished):
        assert [same(one, other) for one, other in zip(found, map(np.asarray, values), strict=True)] == [True] * 10


def test_all_kinds_under_one_key_are_all_there(tmp_path: Path) -> None:
    values: list[Any] = [1.5, "text", np.zeros(3), np.zeros((4, 4)), np.zeros((4, 4, 3)), 7, "more", np.ones(3)]
    root = allogger.basic_configure(tmp_path / "run", OUTPUTS)
    for value in values:
        root.log(value, "mixed")
    allogger.close()

    series = allogger.open_run(tmp_path / "run")["root/mixed"]
    by_step = dict(zip(series.step.tolist(), series.value, strict=True))
    assert sorted(by_step) == list(range(1, 9))
    assert all(equal(by_step[step + 1], value) for step, value in enumerate(values))


# ---------------------------------------------------------------------------------------------------------------- dicts


def test_the_good_leaves_of_a_bad_dict_are_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree: dict[Any, Any] = {
        "good": 1.0,
        "none": None,
        "hostile": Hostile(),
        1: 2.0,
        "nested": {"good": [1, 2], "hostile": HostileMapping(), "": 3.0},
        "after": "text",
    }
    tree["itself"] = tree
    root = allogger.basic_configure(tmp_path / "run", OUTPUTS)

    root.log(tree, "tree")
    allogger.close()

    run = allogger.open_run(tmp_path / "run")
    assert run.keys() == [f"root/tree/{key}" for key in ("1", "after", "good", "nested/", "nested/good")]
    assert "4 values were not stored" in caplog.text


def test_a_dict_whose_keys_cannot_be_shown_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Key:
        def __str__(self) -> str:
            raise Hostile.Error

    root = allogger.basic_configure(tmp_path / "run", OUTPUTS)

    root.log({Key(): 1.0}, "tree")
    root.log(1.0, "good")
    allogger.close()

    assert allogger.open_run(tmp_path / "run").keys() == ["root/good"]
    assert "1 values were not stored: 'root/tree' 1" in caplog.text


def test_a_deep_dict_is_followed_or_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def deep(depth: int) -> Any:
        tree: Any = 1.0
        for _ in range(depth):
            tree = {"d": tree}
        return tree

    root = allogger.basic_configure(tmp_path / "run", OUTPUTS)
    root.log(deep(60), "fine")
    root.log(deep(5000), "too deep")
    allogger.close()

    assert allogger.open_run(tmp_path / "run").keys() == ["root/fine/" + "/".join("d" * 60)]
    assert "1 values were not stored" in caplog.text


def test_a_dict_that_another_thread_changes_raises_nothing(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    tree = {f"k{n}": float(n) for n in range(50)}
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            tree[f"new{number % 50}"] = 0.5
            tree.pop(f"new{(number + 25) % 50}", None)

    thread = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(100):
            root.log(tree, "tree")
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)

    allogger.flush()
    assert len(allogger.open_run(tmp_path / "run")["root/tree/k0"]) == 100


# ----------------------------------------------------------------------------------------------------------------- keys

KEYS = [
    "",
    "a",
    "a/b",
    "a/b/c",
    "a/",
    "/a",
    "//",
    "/",
    ".",
    "..",
    "../..",
    "./a",
    "a/../b",
    "lr0.001",
    "with space",
    " ",
    "\0",
    "a\0b",
    "a\0",
    "line\nfeed",
    "\r\n",
    "\t\x1b[31m\x7f",
    "é",
    "e\u0301",
    "日本語",
    "🎉",
    "\u202egnp.exe",
    "\ufeffbom",
    "%",
    "%2F",
    "%2e",
    "%_",
    "a%v",
    "a%v0",
    "%v",
    "a@b",
    "@",
    'quote"d',
    "com,ma",
    "back\\slash",
    "\\x00",
    "C:\\x",
    "~",
    "$HOME",
    "*?",
    "-",
    "con",
    "A",
    "k" * 10_000,
    "é" * 3_000,
    "/".join("deep" for _ in range(500)),
]
SURROGATES = ["\ud800", "a\udfffb", "\udc80/\ud800"]


def logged_under(key: str, number: int) -> list[Any]:
    return [number, number + 0.5, f"text of {number}", np.full(3, number), np.full((2, 2), number)]


@pytest.mark.parametrize("order", ["as they are", "reversed"])
def test_every_key_has_its_own_series(tmp_path: Path, caplog: pytest.LogCaptureFixture, order: str) -> None:
    run = tmp_path / "run"
    root = allogger.basic_configure(run, OUTPUTS)
    keys = KEYS + SURROGATES if order == "as they are" else (KEYS + SURROGATES)[::-1]
    expected = {key: logged_under(key, number) for number, key in enumerate(keys)}
    for key, values in expected.items():
        for step, value in enumerate(values):
            root.log(value, key, step)

    def check() -> None:
        found = allogger.open_run(run)
        assert found.damage == []
        assert set(found) == {f"root/{key}" for key in keys}
        for key, values in expected.items():
            series = found[f"root/{key}"]
            by_step = dict(zip(series.step.tolist(), series.value, strict=True))
            for step, value in enumerate(values):
                assert equal(by_step[step], value), (key, step)

    allogger.flush()
    check()
    allogger.close()
    check()
    (file,) = run.rglob("*.csv")
    rows = collections.defaultdict(list)
    for row in csv.rows(file):
        rows[row.key].append(row.value)
    assert rows == {f"root/{key}": values[:3] for key, values in expected.items()}
    # TensorBoard has no names with lone surrogates; nothing else is worth a word.
    assert [text for text in caplog.messages if "output 'tensorboard' c" not in text] == []
    assert len([text for text in caplog.messages if "cannot represent values of" in text]) == len(SURROGATES)


SCOPES = [
    "a",
    "a.b",
    "with/slash",
    "..",
    "a..b",
    ".",
    "\0",
    "a\nb",
    "%2F",
    "a@b",
    "\ud800",
    "日本",
    "x" * 3_000,
    "root",
    "a b",
]


def test_every_scope_has_its_own_series(tmp_path: Path) -> None:
    run = tmp_path / "run"
    allogger.basic_configure(run, OUTPUTS)
    loggers = {allogger.get_logger(scope): number for number, scope in enumerate(SCOPES)}
    for logger, number in loggers.items():
        logger.log(number, "loss")
        logger.log(number, "a/loss")
    allogger.flush()
    live = {key: allogger.open_run(run)[key].value.tolist() for key in allogger.open_run(run)}
    allogger.close()
    finished = {key: allogger.open_run(run)[key].value.tolist() for key in allogger.open_run(run)}

    assert live == finished
    assert len(live) == 2 * len(loggers)
    assert sorted(value for values in live.values() for value in values) == sorted([*loggers.values()] * 2)
    assert not [path for path in tmp_path.iterdir() if path != run]


class TextKey(str, enum.Enum):  # noqa: UP042  # what StrEnum shows is its text, so it is no trap
    LOSS = "loss"


class Shown:
    def __str__(self) -> str:
        return "shown"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (3, "3"),
        (None, "None"),
        (True, "True"),
        (1.5, "1.5"),
        (b"x", "b'x'"),
        (("a", 1), "('a', 1)"),
        (["a"], "['a']"),
        ({"a": 1}, "{'a': 1}"),
        (np.str_("loss"), "loss"),
        (np.int64(4), "4"),
        (Shown(), "shown"),
        (LyingText("true"), "true"),
        (TextKey.LOSS, "loss"),
    ],
    ids=lambda key: shown(key) if not isinstance(key, LyingText) else "text that lies",
)
def test_a_key_that_is_no_text_is_taken_as_what_it_shows_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, key: Any, name: str
) -> None:
    root = allogger.basic_configure(tmp_path / "run", OUTPUTS)
    for _ in range(3):
        root.log(0.5, key)
        root.log(np.zeros(3), key)
    allogger.close()

    run = allogger.open_run(tmp_path / "run")
    assert run.keys() == [f"root/{name}"]
    assert len(run[f"root/{name}"]) == 6
    said = [text for text in caplog.messages if "a key is a str" in text]
    assert len(said) == len(caplog.messages) == (0 if isinstance(key, str) else 1)


def test_values_and_keys_in_the_wrong_order_are_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = allogger.get_logger("agent")
    allogger.basic_configure(tmp_path / "run")
    swapped: Any = logger.log
    for number in range(100):
        swapped("loss", number / 8)
    allogger.close()

    assert len(allogger.open_run(tmp_path / "run").keys()) == 100
    assert len(caplog.messages) == 1
    assert "a key is a str, and comes after the value; in 'root.agent' a float was given" in caplog.text


def test_a_key_of_a_subclass_of_str_is_the_same_as_its_text(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run")
    for key in (TextKey.LOSS, "loss", TextKey.LOSS, np.str_("loss")):
        root.log(0.5, key)
    allogger.flush()

    assert allogger.open_run(tmp_path / "run").keys() == ["root/loss"]
    assert len(allogger.open_run(tmp_path / "run")["root/loss"]) == 4


class UnhashableKey(Shown):
    def __hash__(self) -> int:
        raise Hostile.Error

    def __eq__(self, other: object) -> bool:
        raise Hostile.Error


@pytest.mark.parametrize(
    "make", [lambda: Hostile(), lambda: OfHostileType(), lambda: UnhashableKey()], ids=["all", "its type", "its hash"]
)
@pytest.mark.parametrize("value", [0.5, "text", np.zeros(3), {"a": 1}], ids=lambda value: type(value).__name__)
def test_a_hostile_key_raises_nothing_and_its_value_is_stored_or_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[], Any], value: Any
) -> None:
    root = allogger.basic_configure(tmp_path / "run", OUTPUTS)
    key = make()
    for _ in range(3):
        root.log(value, key)
        root.log(0.5, "good")
    allogger.close()

    run = allogger.open_run(tmp_path / "run")
    others = sum(len(run[name]) for name in run if name != "root/good")
    counted = [int(found[1]) for text in caplog.messages if (found := re.search(r"(\d+) values were not", text))]
    assert others + sum(counted) == 3
    assert len(run["root/good"]) == 3
    assert not [text for text in caplog.messages if any(never in text for never in NEVER)]


# ----------------------------------------------------------------------------------------------------- other arguments


@pytest.mark.parametrize(
    "arguments",
    [
        {"data_type": "nonsense"},
        {"data_type": 3},
        {"data_type": []},
        {"data_type": Hostile},
        {"batch_idx": "x"},
        {"batch_idx": 1.5},
        {"batch_idx": Hostile},
        {"to_csv": Hostile},
        {"to_nowhere": True},
        {"nonsense": Hostile},
        {"step": Hostile},
        {"data_type": "image"},
    ],
    ids=str,
)
@pytest.mark.parametrize("value", [0.5, np.zeros(3), "text", {"a": 1}], ids=lambda value: type(value).__name__)
def test_a_wrong_argument_of_log_raises_nothing_and_the_value_is_stored_or_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, arguments: dict[str, Any], value: Any
) -> None:
    root = allogger.basic_configure(tmp_path / "run", log_freq=2)
    # Made here, because pytest looks at its parameters.
    made = {name: Hostile() if given is Hostile else given for name, given in arguments.items()}
    for _ in range(2):
        root.log(value, "value", **made)
    root.log(0.5, "good")
    allogger.close()

    run = allogger.open_run(tmp_path / "run")
    stored = sum(len(run[name]) for name in run if name != "root/good")
    counted = [int(found[1]) for text in caplog.messages if (found := re.search(r"(\d+) values were not", text))]
    assert stored + sum(counted) == 2
    assert run["root/good"].value.tolist() == [0.5]
    assert caplog.messages


def test_the_outputs_of_these_tests_are_all_that_allogger_has() -> None:
    assert set(writers.names()) == set(OUTPUTS)
