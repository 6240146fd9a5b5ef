from __future__ import annotations

import csv
import io
import math
import re
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from allogger.errors import DamagedFile
from allogger.formats import csv as format_csv
from allogger.formats.csv import HEADER, Encoder, Row, escape, mend, rows, unescape
from allogger.record import BOOL, FLOAT, INT, Batch, Record, Series

Logged = tuple[Series, int, float, float | int | bool | str]

# What quoting, escaping and line ends could stumble over, and every other character.
AWKWARD = '\\xud08a,"\n\r\0\ud800\udfff \t;=\x0b\x1c\x85\u2028\ufeff'
characters = st.one_of(st.sampled_from(AWKWARD), st.characters(codec=None))
texts = st.text(characters, max_size=30)
numbers = st.one_of(st.floats(), st.integers(-(2**63), 2**63 - 1), st.booleans())
values = st.lists(
    st.tuples(
        st.builds(Series, st.integers(0, 3), st.just("root.main"), st.just("loss")),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(0, 1e12),
        st.one_of(numbers, texts),
    ),
    max_size=12,
)
names = st.lists(st.tuples(texts, texts), min_size=4, max_size=4)


def batch_of(logged: list[Logged], names: list[Series]) -> Batch:
    """Return a batch with the values in this order: numbers in columns, texts as records between them."""
    plain = [entry for entry in logged if not isinstance(entry[3], str)]
    records, at = [], []
    done = 0
    for series, step, stamp, value in logged:
        if isinstance(value, str):
            records.append(Record(series, "text", step, stamp, value))
            at.append(done)
        else:
            done += 1
    return Batch(
        names=names,
        series=np.array([entry[0].index for entry in plain], np.uint32),
        code=np.array([code_of(entry[3]) for entry in plain], np.uint8),
        step=np.array([entry[1] for entry in plain], np.int64),
        time=np.array([entry[2] for entry in plain], np.float64),
        bits=np.array([bits_of(entry[3]) for entry in plain], np.int64),
        objects=tuple(records),
        at=tuple(at),
    )


def code_of(value: Any) -> int:
    return BOOL if isinstance(value, bool) else INT if isinstance(value, int) else FLOAT


def bits_of(value: Any) -> int:
    bits: int = struct.unpack("<q", struct.pack("<d", value))[0] if isinstance(value, float) else int(value)
    return bits


def identity(value: object) -> object:
    """Tell apart what ``==`` does not: types, signed zeros; and let nan equal itself."""
    return type(value), (struct.pack("<d", value) if value == value else "nan") if isinstance(value, float) else value


LOSS = Series(0, "root.agent.critic", "train/loss")
NOTE = Series(1, "root.main", 'odd,"key"\n')
EXAMPLE: list[Logged] = [
    (LOSS, 1, 1700000000.25, 0.1),
    (NOTE, 7, 1700000001.5, 'one, "two"\nand three\r\n'),
    (LOSS, 2, 1700000002.125, 3),
    (LOSS, 3, 1700000003.0, True),
    (NOTE, 8, 1700000004.0, "NUL \0, surrogate \ud800, \\x00, \\alpha ü 漢 😀"),
    (LOSS, -4, 1700000005.0, float("nan")),
    (LOSS, 5, 1700000006.000001, float("-inf")),
    (NOTE, 9, 1700000007.0, ""),
    (LOSS, 2**63 - 1, 1700000008.0, -(2**63)),
    (NOTE, 10, 1700000009.0, '"'),
]


def encoded(logged: list[Logged], process: str = "MainProcess") -> bytes:
    data, broken = Encoder(process).encode(batch_of(logged, [LOSS, NOTE]))
    assert broken == []
    return data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "values.csv"


def test_the_rows_look_as_the_documentation_says(path: Path) -> None:
    data = encoded([(LOSS, 1, 1700000000.25, 0.1), (NOTE, 7, 1700000001.5, 'one, "two"\nand three')], "rank3")
    assert HEADER + data == (
        b"key,step,time,process,kind,value\n"
        b"agent.critic/train/loss,1,1700000000.25,rank3,scalar,0.1\n"
        b'"main/odd,""key""\n",7,1700000001.5,rank3,text,"one, ""two""\nand three"\n'
    )


@given(logged=values, names=names, process=texts, cuts=st.sets(st.integers(0, 12)))
def test_everything_reads_back_exactly_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    logged: list[Logged],
    names: list[tuple[str, str]],
    process: str,
    cuts: set[int],
) -> None:
    series = [Series(index, scope, key) for index, (scope, key) in enumerate(names)]
    logged = [(series[entry[0].index], *entry[1:]) for entry in logged]
    encoder = Encoder(process)
    data = HEADER
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 13], strict=True):
        data += encoder.encode(batch_of(logged[start:end], series))[0]
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(data)

    found = list(rows(path))

    assert [(row.key, row.step, row.time, row.process, row.kind, identity(row.value)) for row in found] == [
        (s.full_key, step, stamp, process, "text" if isinstance(value, str) else "scalar", identity(value))
        for s, step, stamp, value in logged
    ]
    # The standard library agrees about what a row and a field is.
    with path.open(newline="", encoding="utf-8") as file:
        table = list(csv.reader(file, strict=True))[1:]
    assert [unescape(fields[0]) for fields in table] == [row.key for row in found]
    assert [unescape(fields[5]) for fields in table if fields[4] == "text"] == [
        row.value for row in found if row.kind == "text"
    ]
    assert mend(path) == 0


@given(text=texts)
@example("\\" * 5 + "\0")
@example("\\" * 4 + "x00")
@example("\\\\ud800\ud800\\")
def test_unescape_is_the_inverse_of_escape(text: str) -> None:
    assert unescape(escape(text)) == text
    escape(text).encode("utf-8")
    assert "\0" not in escape(text)


def test_ordinary_backslashes_stay_as_they_are() -> None:
    for text in ("C:\\new\\x", "\\alpha\\\\", "\\u0041 \\uD800 \\x01", "x00 ud800"):
        assert escape(text) == text


def test_a_million_backslashes_are_no_trouble() -> None:
    text = "\\" * 1_000_000
    start = time.perf_counter()
    assert unescape(escape(text)) == text
    assert unescape(escape(text + "\0")) == text + "\0"
    assert time.perf_counter() - start < 2


def test_a_text_longer_than_the_standard_librarys_limit_reads_back(path: Path) -> None:
    text = 'x"\n' * 100_000
    path.write_bytes(HEADER + encoded([(NOTE, 1, 1.0, text), (LOSS, 1, 1.0, 2.0)]))
    assert [row.value for row in rows(path)] == [text, 2.0]


@pytest.mark.parametrize("engine", ["c", "python"])
def test_pandas_reads_the_same_values(path: Path, engine: Any) -> None:
    path.write_bytes(HEADER + encoded(EXAMPLE))
    frame = pd.read_csv(path, engine=engine, keep_default_na=False)
    assert list(frame.columns) == ["key", "step", "time", "process", "kind", "value"]
    assert frame["key"].tolist() == [series.full_key for series, *_ in EXAMPLE]
    assert frame["step"].tolist() == [step for _, step, *_ in EXAMPLE]
    assert frame["time"].tolist() == [stamp for *_, stamp, _ in EXAMPLE]
    assert [unescape(text) for text in frame["value"][frame["kind"] == "text"]] == [
        value for *_, value in EXAMPLE if isinstance(value, str)
    ]


# Older versions round to the last bit but one unless told otherwise, newer ones deprecate being told.
ROUND_TRIP = {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}


@pytest.mark.parametrize("options", [{"engine": "c", **ROUND_TRIP}, {"engine": "python"}], ids=str)
def test_pandas_reads_numbers_to_the_last_bit(path: Path, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    floats = [*rng.standard_normal(2000).tolist(), 5e-324, 1.7976931348623157e308, -0.0, math.inf, -math.inf, math.nan]
    path.write_bytes(HEADER + encoded([(LOSS, step, 1.7e9 + step / 7, value) for step, value in enumerate(floats)]))
    frame = pd.read_csv(path, **options)
    assert frame["value"].dtype == np.float64
    assert frame["value"].to_numpy().tobytes() == np.array(floats).tobytes()
    assert frame["time"].tolist() == [1.7e9 + step / 7 for step in range(len(floats))]


@pytest.mark.parametrize("engine", ["c", "python"])
def test_pandas_sees_integers_and_booleans_as_such(path: Path, engine: Any) -> None:
    path.write_bytes(HEADER + encoded([(LOSS, 1, 1.0, 2**62 + 1), (LOSS, 2, 1.0, -3)]))
    frame = pd.read_csv(path, engine=engine)
    assert frame["value"].dtype == np.int64
    assert frame["value"].tolist() == [2**62 + 1, -3]
    path.write_bytes(HEADER + encoded([(LOSS, 1, 1.0, True), (LOSS, 2, 1.0, False)]))
    assert pd.read_csv(path, engine=engine)["value"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("payload", "literal", "value"),
    [
        (np.array(1 + 2j), "(1+2j)", 1 + 2j),
        (np.array(complex(-0.0, -0.0), np.complex64), "(-0-0j)", complex(-0.0, -0.0)),
        (np.array(complex("nan+infj")), "(nan+infj)", complex("nan+infj")),
        (np.array(0.1, np.float32), "0.10000000149011612", 0.10000000149011612),
        (np.array(0.25, np.longdouble), "0.25", 0.25),
        (np.array(0.25 + 1j, np.clongdouble), "(0.25+1j)", 0.25 + 1j),
        (np.array(2**64 - 1, np.uint64), "18446744073709551615", 2**64 - 1),
        (np.array(True), "True", True),
        (0.5, "0.5", 0.5),
    ],
    ids=str,
)
def test_numbers_that_come_as_records_are_written_as_their_repr(
    path: Path, payload: Any, literal: str, value: object
) -> None:
    batch = replace(batch_of([], [LOSS]), objects=(Record(LOSS, "scalar", 1, 2.0, payload),))
    data, broken = Encoder("MainProcess").encode(batch)
    assert not broken
    path.write_bytes(HEADER + data)
    assert data.endswith(f",scalar,{literal}\n".encode())
    (row,) = rows(path)
    assert repr(row.value) == repr(value)


@pytest.mark.parametrize(
    ("kind", "payload", "why"),
    [
        ("scalar", np.zeros(3), "a number is needed, not an array of shape (3,) and dtype float64"),
        ("scalar", np.array("x"), "a number is needed, not an array of shape () and dtype <U1"),
        ("scalar", "1.0", "a number is needed, not a str"),
        ("text", np.zeros(()), "a text is needed, not an array of shape () and dtype float64"),
        ("text", 1.0, "a text is needed, not a float"),
    ],
    ids=str,
)
def test_a_value_that_is_no_cell_is_told_apart_and_the_rest_is_encoded(kind: str, payload: Any, why: str) -> None:
    bad = Record(NOTE, kind, 1, 1.0, payload)
    good = batch_of(EXAMPLE, [LOSS, NOTE])
    mixed = replace(good, objects=(*good.objects[:1], bad, *good.objects[1:]), at=(*good.at[:1], 1, *good.at[1:]))
    data, broken = Encoder("MainProcess").encode(mixed)
    assert data == encoded(EXAMPLE)
    assert broken == [(bad, why)]


def test_a_file_cut_at_any_byte_gives_exactly_its_complete_rows(path: Path) -> None:
    pieces = [HEADER, *(encoded([entry]) for entry in EXAMPLE)]
    whole = b"".join(pieces)
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    path.write_bytes(whole)
    every = list(rows(path))
    assert len(every) == len(EXAMPLE)
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        complete = sum(end <= size for end in ends)
        kept = ends[complete - 1] if complete else 0
        assert list(map(repr, rows(path))) == list(map(repr, every[: max(complete - 1, 0)]))
        assert mend(path) == size - kept
        assert path.read_bytes() == whole[:kept]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_mending_does_not_depend_on_how_the_file_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    whole = HEADER + encoded(EXAMPLE)
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        expected = format_csv._end_of_last_row(io.BytesIO(whole[:size]))
        with monkeypatch.context() as patch:
            patch.setattr(format_csv, "_CHUNK_BYTES", chunk)
            assert mend(path) == size - expected


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"a,1,2.0,p,scalar\n",
        b"a,x,2.0,p,scalar,1.0\n",
        b'a"b"c,1,2.0,p,scalar,1\n',
        b"a,1,2.0,p,scalar,one\n",
        b"a,1,2.0,p,text,\xff\n",
    ],
    ids=str,
)
def test_a_row_that_is_none_of_ours_is_reported_with_its_place(path: Path, line: bytes) -> None:
    front = HEADER + encoded(EXAMPLE)
    path.write_bytes(front + line + encoded(EXAMPLE))
    with pytest.raises(DamagedFile, match=re.escape(f"{path}: no row of values at byte {len(front)}")):
        list(rows(path))


def test_rows_come_without_reading_the_whole_file(path: Path) -> None:
    path.write_bytes(HEADER + encoded(EXAMPLE) + b"broken\n")
    assert next(rows(path)) == Row("agent.critic/train/loss", 1, 1700000000.25, "MainProcess", "scalar", 0.1)


def test_a_missing_file_is_an_oserror(path: Path) -> None:
    readers: list[Callable[[Path], object]] = [mend, lambda p: list(rows(p))]
    for read in readers:
        with pytest.raises(FileNotFoundError):
            read(path)
