"""TableKind: does a table come back as a DataFrame with the same names, dtypes and cells?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger
from allogger.kinds.table import TableKind
from allogger.plain import Unstorable
from tests.naming import shown

FRAME = pd.DataFrame(
    {
        "int": [1, 2],
        "float": np.array([0.5, np.nan], "f4"),
        "text": ["a", "é|\n*b*"],
        "bool": [True, False],
        "time": pd.to_datetime(["2020-01-01", "NaT"]).as_unit("s"),
        "zone": pd.to_datetime(["2020-01-01", "NaT"]).as_unit("s").tz_localize("Europe/Berlin"),
        "span": pd.to_timedelta([1, 2], "s").as_unit("s"),
        "complex": [1j, 2],
        "small": pd.array([1, 2], "UInt8"),
        "category": pd.Categorical(["x", None], ["y", "x", "z"], ordered=True),
    }
)
MISSING = FRAME.assign(
    nullable=pd.array([2**60 + 1, None], "Int64"),
    flag=pd.array([True, None], "boolean"),
    string=pd.array(["a", None], "string"),
    object=pd.Series([None, "x" * 100], dtype=object),
    mixed=pd.Series([2**70, "x"], dtype=object),
)


def _read(value: Any) -> Any:
    payload, attrs = TableKind().encode(value)
    return TableKind().decode(payload, json.loads(json.dumps(attrs)))


@pytest.mark.parametrize(
    "frame",
    [
        FRAME,
        MISSING,
        FRAME.set_index("text"),
        FRAME.set_index(["int", "time"]),
        MISSING.set_index("nullable"),
        FRAME[:0],
        FRAME[1:],
        pd.DataFrame(),
        pd.DataFrame(index=pd.RangeIndex(3)),
        pd.DataFrame([[1, "a"], [2, "b"]]),
        pd.DataFrame([[1, 2, 3]], columns=["same", "same", ""]),
        pd.DataFrame([[1, 2, 3]], columns=pd.Index(["a\0", "\ud800", "a/b"], dtype=object)),
        pd.DataFrame({"a": pd.Series(["ends in NUL\0", "\ud800"], dtype=object), "b": ["NUL\0", "text"]}),
    ],
    ids=lambda frame: f"{list(frame.columns)[:3]} {frame.shape}",
)
def test_a_dataframe_comes_back(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(_read(frame), frame)


_dtypes = (
    of_numpy.boolean_dtypes()
    | of_numpy.integer_dtypes(endianness="=")
    | of_numpy.floating_dtypes(endianness="=", sizes=(32, 64))
    | of_numpy.complex_number_dtypes(endianness="=")
    | st.sampled_from(["M8[s]", "M8[ns]", "m8[us]"]).map(np.dtype)
)
_cells = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@st.composite
def _frames(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(0, 4))
    names = draw(st.lists(st.text() | st.integers(), max_size=4))
    series = [
        pd.Series(draw(of_numpy.arrays(dtype, rows)))
        if (dtype := draw(st.none() | _dtypes)) is not None
        else pd.Series(draw(st.lists(_cells, min_size=rows, max_size=rows)), dtype=object)
        for _ in names
    ]
    frame = pd.DataFrame(dict(enumerate(series)), index=pd.RangeIndex(rows))
    frame.columns = pd.Index(names, dtype=object).infer_objects() if names else pd.RangeIndex(0)
    return frame


@settings(max_examples=100, deadline=None)
@given(_frames())
def test_dataframes_of_all_sorts_come_back(frame: pd.DataFrame) -> None:
    found = _read(frame)

    pd.testing.assert_frame_equal(found, frame, check_column_type=False, check_exact=True)
    assert [type(cell) for cell in found.to_numpy().ravel()] == [type(cell) for cell in frame.to_numpy().ravel()]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2], "b": np.array([0.5, 1], ">f4")}, pd.DataFrame({"a": [1, 2], "b": np.array([0.5, 1], "f4")})),
        ({"a": ("x", None)}, pd.DataFrame({"a": pd.Series(["x", None], dtype=object)})),
        ({"a": pd.Series([1, None], dtype="Int8")}, pd.DataFrame({"a": pd.array([1, None], "Int8")})),
        ([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})),
        (
            [{"a": 1}, {"b": 2.5}],
            pd.DataFrame({"a": pd.Series([1, None], dtype=object), "b": pd.Series([None, 2.5], dtype=object)}),
        ),
        (np.array([(1, 2.5)], "i4,f8"), pd.DataFrame({"f0": np.array([1], "i4"), "f1": [2.5]})),
        ([], pd.DataFrame()),
    ],
    ids=str,
)
def test_columns_and_rows_become_a_dataframe(value: Any, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(_read(value), expected)


def test_columns_of_polars_keep_their_missing_cells() -> None:
    frame = pl.DataFrame(
        {"i": [1, None], "j": [1, 2], "t": ["a", None], "b": [True, None], "f": [0.5, None]},
        schema_overrides={"i": pl.UInt16, "f": pl.Float32},
    ).with_columns(d=pl.Series(["2020-01-01", None]).str.to_date(), z=pl.lit("2020-01-01").str.to_datetime())

    found = _read(frame)

    assert found.astype(str).dtypes.index.tolist() == ["i", "j", "t", "b", "f", "d", "z"]
    assert list(map(str, found.dtypes[:5])) == ["UInt16", "int64", "string", "boolean", "Float32"]
    assert found.isna().to_numpy()[1].tolist() == [True, False, True, True, True, True, False]
    assert found["d"][0] == found["z"][0] == pd.Timestamp("2020-01-01")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (0.5, "a table is"),
        ([1, 2], "a table is"),
        ({"a": 1}, "single cells"),
        ({"a": [[1, 2]]}, "single cells"),
        ({"a": [1, 2], "b": [1]}, "one length"),
        ({"a": [object()]}, "a cell of a table"),
        ({("a", "b"): [1]}, "called by texts"),
        (pd.DataFrame({"a": pd.period_range("2020", periods=1)}), "period"),
    ],
    ids=shown,
)
def test_what_would_not_come_back_is_refused(value: Any, why: str) -> None:
    with pytest.raises(Unstorable, match=why):
        TableKind().encode(value)


@pytest.mark.parametrize("is_closed", [False, True])
def test_tables_are_read_back_from_a_live_and_from_a_finished_run(tmp_path: Path, is_closed: bool) -> None:
    root = allogger.basic_configure(tmp_path, ["hdf", "csv"])
    for frame in (FRAME, MISSING, FRAME[:1]):
        root.log(frame, "table", data_type="table")
    allogger.close() if is_closed else allogger.flush()

    series = allogger.open_run(tmp_path)["root/table"]
    assert series.kind == "table"
    for found, frame in zip(series.value, (FRAME, MISSING, FRAME[:1]), strict=True):
        pd.testing.assert_frame_equal(found, frame)


def test_tensorboard_shows_the_first_rows_and_columns(tmp_path: Path) -> None:
    large = pd.DataFrame(np.arange(60 * 103).reshape(103, 60))
    with allogger.run(tmp_path, ["tensorboard"]) as root:
        root.log(FRAME, "table", data_type="table")
        root.log(MISSING, "missing", data_type="table")
        root.log(large, "large", data_type="table")

    reader = EventAccumulator(str(tmp_path / "events/MainProcess")).Reload()

    def text(key: str) -> list[str]:
        (event,) = reader.Tensors(key)
        assert reader.SummaryMetadata(key).plugin_data.plugin_name == "text"
        return str(event.tensor_proto.string_val[0].decode()).splitlines()

    assert text("root/table")[:3] == [
        "| int | float | text | bool | time | zone | span | complex | small | category |",
        "| " + "--- | " * 9 + "--- |",
        "| 1 | 0.5 | a | True | 2020-01-01T00:00:00 | 2019-12-31T23:00:00 UTC | 1 seconds | 1j | 1 | x |",
    ]
    assert "é&#124; &#42;b&#42;" in text("root/table")[3]
    assert text("root/table")[3].endswith("| 2 |  |")
    assert text("root/missing")[3].endswith(f"|  |  |  | {'x' * 100} | x |")
    lines = text("root/large")
    assert lines[-1] == "3 more rows, 10 more columns"
    assert len(lines) == 2 + 100 + 2
    assert lines[2].count("|") == 51
