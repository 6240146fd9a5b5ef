"""Journal: whatever happens to the file, what is read was logged so, and what is missing is told."""

from __future__ import annotations

import json
import os
import random
import struct
import time
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from allogger.errors import DamagedFile
from allogger.formats import journal
from allogger.formats.journal import HEAD, NAMES, OBJECT, ROWS
from allogger.reader import Columns, SeriesId
from allogger.readers.journal import JournalReader
from allogger.record import Batch, Series, normal_scope
from allogger.testing import Row, batch_of
from allogger.testing.rows import ODD_VALUES, same
from allogger.testing.strategies import batches

NAME = "20240102T030405.000006-host-7-8"
ABOUT = {"name": NAME, "process": "Process-1", "attempt": "a1", "start": 1.7e9, "host": "host", "pid": 7}
SALT = journal.salt_of(NAME)

examples = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

#: A value as logged: step, time and value.
Logged = tuple[int, float, Any]


# -------------------------------------------------------------------------------------------------------------- helpers


def encoded(parts: Iterable[Batch], *, end: bool = False, about: Mapping[str, Any] = ABOUT) -> list[bytes]:
    """Return the frames of a journal."""
    salt = journal.salt_of(about["name"])
    frames = frames_of(journal.encode_head(about))
    named = number = 0
    for batch in parts:
        if len(batch.names) > named:
            new = batch.names[named:]
            frames.append(journal.encode_names([(s.index, s.scope, s.key) for s in new], salt))
            named = len(batch.names)
        buffers, count = journal.encode_batch(batch, number, salt)
        frames += frames_of(b"".join(buffers))
        number += count
    if end:
        frames.append(journal.encode_end({"values": number, "time": 1.8e9}, salt))
    return frames


def frames_of(raw: bytes) -> list[bytes]:
    """Return sound frames one by one."""
    out = []
    while raw:
        size = journal.HEADER_BYTES + struct.unpack_from("<Q", raw, 12)[0]
        out.append(raw[:size])
        raw = raw[size:]
    return out


def forged(type_: int, payload: bytes, number: int = 0, length: int | None = None, salt: int = SALT) -> bytes:
    """Return a frame with right checksums, whatever it says."""
    length = len(payload) if length is None else length
    head = struct.pack("<4sBBHIQI", journal.MAGIC, type_, 1, 0, number, length, zlib.crc32(payload))
    return head + struct.pack("<I", zlib.crc32(head, salt)) + payload


def a_run(seed: int = 0, parts: int = 6, large: int = 40) -> list[Batch]:
    """Return batches as a process makes them: every kind, several keys in two scopes, each step once."""
    rng = random.Random(seed)
    names: list[Series] = []
    step = 0
    out = []
    for part in range(parts):
        rows = []
        for _ in range(rng.randrange(1, 6)):
            step += 1
            scope = rng.choice(["root", "root.agent.critic"])
            value: Any = rng.choice([rng.random(), step, bool(step % 2), complex(step, 1), f"text {step}"])
            kind = "text" if isinstance(value, str) else "scalar"
            key = rng.choice(["loss", "train/loss"]) if kind == "scalar" else "note"
            rows.append(Row(scope, key, step, value, kind, 1.7e9 + step / 3))
            rows.append(Row(scope, "w", step, np.arange(rng.randrange(large)) * step, "histogram", 1.7e9 + step / 3))
        rows.append(Row("main", f"new {part}", step, float(part), "scalar", 1.7e9 + step))
        out.append(batch_of(rows, names))
        out[-1] = Batch(list(names), *(getattr(out[-1], n) for n in ("series", "code", "step", "time", "bits")),
                        out[-1].objects, out[-1].at)  # fmt: skip
    return out


def logged(parts: Iterable[Batch]) -> dict[SeriesId, list[Logged]]:
    """Return what a reader should give."""
    found: dict[SeriesId, list[Logged]] = {}
    for batch in parts:
        for record in batch:
            name = SeriesId(record.kind, normal_scope(record.scope), record.key)
            found.setdefault(name, []).append((record.step, record.time, record.payload))
    return found


def rows_of(columns: Columns) -> list[Logged]:
    assert len(columns.step) == len(columns.time) == len(columns.value)
    return list(zip(columns.step.tolist(), columns.time.tolist(), columns.value, strict=True))


def read(path: Path) -> tuple[dict[SeriesId, list[Logged]], JournalReader]:
    reader = JournalReader(path)
    return {name: rows_of(reader.read(name)) for name in reader.keys()}, reader  # noqa: SIM118  # no mapping


def equal(one: Logged, other: Logged) -> bool:
    return one[:2] == other[:2] and type(one[2] is str) is type(other[2] is str) and same(one[2], other[2])


def assert_same(found: Mapping[SeriesId, Sequence[Logged]], expected: Mapping[SeriesId, Sequence[Logged]]) -> None:
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        assert len(found[name]) == len(rows), name
        assert all(map(equal, found[name], rows)), name


def missing(found: Mapping[SeriesId, Sequence[Logged]], expected: Mapping[SeriesId, Sequence[Logged]]) -> int:
    """Return how many values are missing; fail if there is one that was not logged so, or not in this order."""
    assert found.keys() <= expected.keys()
    lost = 0
    for name, rows in expected.items():
        rest = iter(rows)
        for row in found.get(name, ()):
            assert any(equal(row, one) for one in rest), f"{name}: {row} was not logged there"
        lost += len(rows) - len(found.get(name, ()))
    return lost


def boundaries(frames: Sequence[bytes]) -> list[int]:
    return np.cumsum([0, *map(len, frames)]).tolist()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / f"{NAME}.journal"


# ---------------------------------------------------------------------------------------------------------- round trips


@examples
@given(st.lists(batches(max_size=12), min_size=1, max_size=4), st.booleans())
def test_what_is_written_is_read(path: Path, parts: list[Batch], end: bool) -> None:
    names: list[Series] = []
    shared = [batch_again(batch, names) for batch in parts]
    path.write_bytes(b"".join(encoded(shared, end=end)))

    found, reader = read(path)

    assert_same(found, logged(shared))
    assert reader.damage == []
    assert (dict(reader.about), reader.is_closed) == ({**ABOUT, **({"end": 1.8e9} if end else {})}, end)


def batch_again(batch: Batch, names: list[Series]) -> Batch:
    """Return the batch with the names of its series in a table that several batches share."""
    known = {(s.scope, s.key): s for s in names}
    for series in batch.names:
        if (series.scope, series.key) not in known:
            names.append(Series(len(names), series.scope, series.key))
            known[series.scope, series.key] = names[-1]
    index = np.array([known[s.scope, s.key].index for s in batch.names] or [0], np.uint32)
    from dataclasses import replace

    objects = tuple(replace(r, series=known[r.scope, r.key]) for r in batch.objects)
    return replace(batch, names=list(names), series=index[batch.series], objects=objects)


@pytest.mark.parametrize(("kind", "value"), ODD_VALUES)
def test_every_odd_value_reads_back_with_its_dtype(path: Path, kind: str, value: Any) -> None:
    batch = batch_of([Row("main", "x", step, value, kind) for step in (1, 2)])
    path.write_bytes(b"".join(encoded([batch])))

    found, _ = read(path)

    for (_, _, shown), record in zip(found[SeriesId(kind, "root.main", "x")], batch, strict=True):
        assert same(shown, record.payload)
        if not isinstance(shown, str):
            payload = np.asarray(record.payload)
            assert (shown.dtype, shown.shape, shown.tobytes()) == (payload.dtype, payload.shape, payload.tobytes())


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(3, [("a", "i4"), ("b", "f8")])[["b", "a"]],
        np.zeros(2, np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 2], "itemsize": 9})),
        np.zeros(2, [("x", np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 0]}), (2,))]),
        np.zeros(2, [(("title", "name"), ">i4"), ("b", "S3", (2, 2))]),
        np.zeros(2, []),
        np.ndarray((3,), "U0"),
        np.zeros((2, 3), "V0"),
        np.zeros((1,) * 60, ">i2"),
        np.zeros((5, 0, 2), "<M8[25s]"),
    ],
    ids=lambda value: str(value.dtype)[:40],
)
def test_arrays_of_unusual_dtypes_read_back_alone_and_side_by_side(path: Path, value: np.ndarray[Any, Any]) -> None:
    rows = [Row("main", "x", step, value, "raw") for step in (1, 2)] + [Row("main", "y", 3, value, "raw")]
    path.write_bytes(b"".join(encoded([batch_of(rows)])))

    found, _ = read(path)

    shown = [row[2] for rows in found.values() for row in rows]
    assert [(np.asarray(v).dtype, v.shape) for v in shown] == [(value.dtype, value.shape)] * 3
    assert {v.tobytes() for v in shown} == {value.tobytes()}


def test_numbers_under_one_key_have_a_dtype_that_holds_all_of_them_exactly(path: Path) -> None:
    cases: list[tuple[list[Any], Any]] = [
        ([1.5, 2.5], float),
        ([1, 2], int),
        ([True, False], bool),
        ([True, 2], int),
        ([True, 0.5], float),
        ([1, 0.5, 2**53], float),
        ([1, 0.5, 2**53 + 1], object),
        ([-(2**53) - 1, 0.5], object),
        ([2**63 - 1, True], int),
        ([1j, 2j], complex),
        ([1j, 0.5, 3, True], complex),
        ([0.5, 2**53 + 1, 1j], object),
        ([np.longdouble("1.1"), 0.5], object),
    ]
    rows = [Row("main", str(n), step, v) for n, (values, _) in enumerate(cases) for step, v in enumerate(values)]
    path.write_bytes(b"".join(encoded([batch_of(rows)])))

    reader = JournalReader(path)

    for n, (values, dtype) in enumerate(cases):
        columns = reader.read(SeriesId("scalar", "root.main", str(n)))
        assert columns.value.dtype == dtype, values
        assert all(map(same, columns.value, values)), values
        assert columns.step.tolist() == list(range(len(values)))


def test_complex_numbers_and_floats_keep_their_order_across_batches(path: Path) -> None:
    names: list[Series] = []
    values = [0.5, 1j, 2j, 3.5, 4.5, 5j, 6, 7j, True]
    rows = [Row("main", key, step, value) for step, value in enumerate(values) for key in ("x", "y")]
    parts = [batch_of(rows[at : at + 5], names) for at in range(0, len(rows), 5)]
    path.write_bytes(b"".join(encoded(parts)))

    columns = JournalReader(path).read(SeriesId("scalar", "root.main", "x"))

    assert columns.value.tolist() == values
    assert columns.step.tolist() == list(range(len(values)))


def test_what_is_read_can_be_changed_and_is_aligned(path: Path) -> None:
    rows = [Row("main", "x", step, np.arange(step, dtype=float), "array") for step in (2, 3)]
    path.write_bytes(b"".join(encoded([batch_of([*rows, Row("main", "note", 1, "odd length", "text")])])))

    for value in JournalReader(path).read(SeriesId("array", "root.main", "x")).value:
        value += 1
        assert value.flags.aligned


# ----------------------------------------------------------------------------------------------------------- torn tails


def test_a_journal_that_is_cut_anywhere_has_exactly_its_whole_frames(path: Path) -> None:
    parts = a_run(parts=2, large=5)
    frames = encoded(parts, end=True)
    raw, ends = b"".join(frames), boundaries(frames)

    for size in range(len(raw) + 1):
        path.write_bytes(raw[:size])
        found, reader = read(path)

        whole = max(n for n, end in enumerate(ends) if end <= size)
        path.write_bytes(b"".join(frames[:whole]))
        assert_same(found, read(path)[0])
        assert missing(found, logged(parts)) == missing_after(frames, whole)
        assert reader.damage == [], f"cut at {size}"
        assert reader.torn_bytes == size - ends[whole], f"cut at {size}"


def missing_after(frames: Sequence[bytes], whole: int) -> int:
    return sum(values_in(frame) for frame in frames[whole:])


def values_in(frame: bytes) -> int:
    """Return the number of values in a frame."""
    if frame[4] == ROWS:
        return int(struct.unpack_from("<I", frame, journal.HEADER_BYTES)[0])
    return int(frame[4] == OBJECT)


def test_a_journal_that_grows_byte_by_byte_gives_each_value_once(path: Path) -> None:
    parts = a_run(parts=3, large=8)
    raw = b"".join(encoded(parts, end=True))
    path.write_bytes(b"")
    reader = JournalReader(path)

    with open(path, "ab", buffering=0) as file:
        for at in range(0, len(raw), 7):
            file.write(raw[at : at + 7])
            reader.refresh()
            assert reader.damage == []

    assert_same({name: rows_of(reader.read(name)) for name in reader.keys()}, logged(parts))  # noqa: SIM118
    assert reader.is_closed


def test_bytes_of_a_failed_write_that_were_replaced_are_no_damage(path: Path) -> None:
    parts = a_run(parts=4)
    frames = encoded(parts)
    ends = boundaries(frames)
    cut = len(frames) // 2
    # What a full disk took of another batch, which was then taken back.
    torn = forged(ROWS, b"\0" * 500, number=99)[:300]
    path.write_bytes(b"".join(frames[:cut]) + torn)
    reader = JournalReader(path)
    kept = reader._open()  # the reader of a journal with arrays stays open, and its buffer has the torn bytes

    os.truncate(path, ends[cut])
    with open(path, "ab") as file:
        file.write(b"".join(frames[cut:]))
    reader.refresh()

    assert reader._open() is kept
    assert reader.damage == []
    assert_same({name: rows_of(reader.read(name)) for name in reader.keys()}, logged(parts))  # noqa: SIM118


# -------------------------------------------------------------------------------------------------------- damaged bytes


@pytest.mark.parametrize("seed", [1, 2])
def test_a_flipped_bit_anywhere_costs_values_and_never_moves_or_changes_one(path: Path, seed: int) -> None:
    parts = a_run(seed, parts=2, large=5)
    expected = logged(parts)
    frames = encoded(parts, end=True)
    raw, ends = b"".join(frames), boundaries(frames)
    most = max(map(values_in, frames))

    for at in range(len(raw)):
        damaged = bytearray(raw)
        damaged[at] ^= 1 << random.Random(at).randrange(8)
        path.write_bytes(damaged)
        found, reader = read(path)

        lost = missing(found, expected)
        hit = max(n for n, end in enumerate(ends) if end <= at)
        assert reader.damage, f"byte {at}"
        assert any(f"byte {ends[hit]}:" in what for what in reader.damage), reader.damage
        if frames[hit][4] != NAMES:
            assert lost == values_in(frames[hit]) <= most, f"byte {at}"
        assert reader.about.get("process") == "Process-1", f"byte {at}"
        assert reader.about.get("name") == NAME


def test_values_whose_names_are_lost_are_told_and_come_back_with_the_next_table(path: Path) -> None:
    names: list[Series] = []
    first = batch_of([Row("main", "a", 1, 1.0), Row("main", "b", 1, 2.0)], names)
    frames = encoded([first])
    table = next(n for n, frame in enumerate(frames) if frame[4] == NAMES)

    path.write_bytes(b"".join([*frames[:table], *frames[table + 1 :]]))
    found, reader = read(path)
    assert found == {}
    assert reader.damage == ["the names of the series [0, 1] are lost, so their values cannot be shown"]

    path.write_bytes(b"".join([*frames[:table], *frames[table + 1 :], frames[table]]))
    found, reader = read(path)
    assert_same(found, logged([first]))
    assert reader.damage == []


def damages(raw: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield the file as different accidents would leave it."""
    a, b, c, d = sorted(rng.randrange(len(raw) + 1) for _ in range(4))
    yield raw[:a] + rng.randbytes(b - a) + raw[b:]
    yield raw[:a] + bytes(b - a) + raw[b:]
    yield raw[:a] + raw[b:]
    yield raw[:b] + raw[a:]
    yield raw[:a] + raw[c:d] + raw[b:c] + raw[a:b] + raw[d:]
    yield raw[:a] + rng.randbytes(rng.randrange(5000)) + raw[a:]
    yield raw[:a] + journal.MAGIC * rng.randrange(1, 50) + raw[a:]
    yield raw[a:]
    yield raw + bytes(rng.randrange(1, 5000))


@pytest.mark.parametrize("seed", range(15))
def test_garbage_zeros_and_blocks_deleted_doubled_or_swapped_cost_values_and_are_told(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    parts = a_run(seed, parts=8)
    raw = b"".join(encoded(parts, end=True))
    expected = logged(parts)

    for damaged in damages(raw, rng):
        path.write_bytes(damaged)
        found, reader = read(path)

        lost = missing(found, expected)
        is_cut = raw.startswith(damaged)
        assert reader.damage or is_cut or not lost, f"{lost} values are missing and nothing says so"
        assert reader.damage or is_cut or damaged == raw


@pytest.mark.parametrize("seed", range(5))
def test_whole_frames_deleted_doubled_or_swapped_are_told(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    parts = a_run(seed, parts=6)
    frames = encoded(parts, end=True)
    expected = logged(parts)
    values = [n for n, frame in enumerate(frames) if frame[4] in (ROWS, OBJECT)]

    for at in values:
        other = rng.choice([n for n in values if n != at])
        swapped = list(frames)
        swapped[at], swapped[other] = swapped[other], swapped[at]
        for changed in (frames[:at] + frames[at + 1 :], frames[: at + 1] + frames[at:], swapped):
            path.write_bytes(b"".join(changed))
            found, reader = read(path)

            missing(found, expected)
            assert reader.damage


def test_frames_that_are_missing_at_the_end_of_a_finished_journal_are_told(path: Path) -> None:
    frames = encoded([batch_of([Row("main", "x", step, float(step))]) for step in range(3)], end=True)
    path.write_bytes(b"".join([*frames[:-2], frames[-1]]))

    found, reader = read(path)

    assert len(found[SeriesId("scalar", "root.main", "x")]) == 2
    assert reader.damage == [f"byte {len(b''.join(frames[:-2]))}: the frames 2 to 2 are missing before this one"]


def test_frames_of_another_journal_are_not_taken_for_ours(path: Path) -> None:
    parts = a_run()
    frames = encoded(parts, end=True)
    other = encoded(a_run(7), end=True, about={**ABOUT, "name": NAME.replace("-7-8", "-7-9")})

    for at in range(len(frames) + 1):
        path.write_bytes(b"".join([*frames[:at], *other, *frames[at:]]))
        found, reader = read(path)

        assert_same(found, logged(parts))
        assert reader.damage
        assert reader.about["name"] == NAME


def test_a_journal_logged_as_an_array_stays_an_array_whatever_happens_around_it(path: Path) -> None:
    inner = b"".join(encoded(a_run(7), end=True, about={**ABOUT, "name": "another", "process": "Process-9"}))
    names: list[Series] = []
    parts = [
        batch_of([Row("main", "x", 1, 1.0)], names),
        batch_of([Row("main", "file", 2, np.frombuffer(inner, np.uint8), "array")], names),
        batch_of([Row("main", "x", 3, 3.0)], names),
    ]
    frames = encoded(parts)
    raw, ends = b"".join(frames), boundaries(frames)
    file = next(n for n, frame in enumerate(frames) if inner in frame)

    # Torn in the middle of it, as by a kill or while it is being written.
    for size in range(ends[file], ends[file + 1], 13):
        path.write_bytes(raw[:size])
        found, reader = read(path)
        assert (reader.damage, reader.torn_bytes, missing(found, logged(parts))) == ([], size - ends[file], 2)
        with open(path, "ab") as more:
            more.write(raw[size:])
        reader.refresh()
        assert len(reader.keys()) == 2
        assert reader.damage == []
    # Damaged in the middle of it.
    for at in range(ends[file], ends[file + 1], 13):
        damaged = bytearray(raw)
        damaged[at] ^= 16
        path.write_bytes(damaged)
        found, reader = read(path)
        assert missing(found, logged(parts)) == 1
        assert reader.about["process"] == "Process-1"
        assert len(reader.damage) <= 2


def test_a_file_that_was_renamed_says_which_name_it_needs(path: Path) -> None:
    other = path.with_name("copy.journal")
    other.write_bytes(b"".join(encoded(a_run())))

    found, reader = read(other)

    assert found == {}
    assert reader.damage == [
        f"byte 0: this is the journal of {NAME!r}, under another name; {other.stat().st_size} bytes are lost"
    ]


# -------------------------------------------------------------------------------------------------------- hostile files

NAMED = forged(NAMES, b'[[0,"root.main","x"],[1,"root.main","y"]]')
BEGIN = journal.encode_head(ABOUT) + NAMED


def an_object(raw: bytes = b"", number: int = 0, **changed: Any) -> bytes:
    """Return an OBJECT frame that says what it likes; None leaves a word out."""
    meta = {"series": 0, "kind": "array", "step": 1, "time": 1.7e9, "dtype": "<f8", "shape": [1], "at": [0, 0]}
    text = json.dumps({k: v for k, v in {**meta, **changed}.items() if v is not None}).encode()
    return forged(OBJECT, struct.pack("<I", len(text)) + text + raw, number)


def some_rows(n: int = 1, series: int = 0, code: int = 0, claimed: int | None = None, time: float = 1.7e9) -> bytes:
    columns = [np.full(n, series, "<u4"), np.full(n, code, "u1"), np.arange(n), np.full(n, time), np.zeros(n, "i8")]
    payload = struct.pack("<I", n if claimed is None else claimed) + b"".join(c.tobytes() for c in columns)
    return forged(ROWS, payload)


DEEP = b"[" * 100_000 + b"]" * 100_000
DEEP_DTYPE = b'[["a",' * 500 + b'"<f8"' + b"]]" * 500
BOMB = b'{"series":0,"kind":"array","step":1,"time":1.0,"at":[0,0],"shape":[1],"dtype":' + DEEP_DTYPE + b"}"
EIGHT = bytes(8)

HOSTILE: dict[str, bytes] = {
    "a length of 2**63": BEGIN + forged(ROWS, b"", length=2**63) + some_rows(),
    "a length of 2**64 - 1": BEGIN + forged(OBJECT, b"", length=2**64 - 1) + some_rows(),
    "fewer rows than told": BEGIN + some_rows(3, claimed=4),
    "more rows than told": BEGIN + some_rows(3, claimed=2),
    "2**32 - 1 rows": BEGIN + some_rows(3, claimed=2**32 - 1),
    "rows without a count": BEGIN + forged(ROWS, b"\1"),
    "no rows": BEGIN + some_rows(0),
    "a series that there cannot be": BEGIN + some_rows(2, series=2**32 - 1),
    "a number of unknown type": BEGIN + some_rows(2, code=3),
    "times that are none": BEGIN + some_rows(2, time=float("nan")),
    "an object without its meta": BEGIN + forged(OBJECT, b""),
    "meta longer than the frame": BEGIN + forged(OBJECT, struct.pack("<I", 2**32 - 1) + b"{}"),
    "meta that is a bomb": BEGIN + forged(OBJECT, struct.pack("<I", len(DEEP)) + DEEP),
    "meta that is a list": BEGIN + forged(OBJECT, struct.pack("<I", 2) + b"[]"),
    "meta that is no JSON": BEGIN + forged(OBJECT, struct.pack("<I", 2) + b"\xff{"),
    "a dtype that is a bomb": BEGIN + forged(OBJECT, struct.pack("<I", len(BOMB)) + BOMB + EIGHT),
    "names that are a bomb": BEGIN + forged(NAMES, DEEP) + some_rows(),
    "names that are none": BEGIN + forged(NAMES, b'[[1e999,"a","b"]]') + some_rows(),
    "names of a negative series": BEGIN + forged(NAMES, b'[[-1,"a","b"]]') + some_rows(),
    "names of a huge series": BEGIN + forged(NAMES, b'[[99999999999999999999999,"a","b"]]') + some_rows(),
    "names that are numbers": BEGIN + forged(NAMES, b"[[1,2,3]]") + some_rows(),
    "names that are a number": BEGIN + forged(NAMES, b"7") + some_rows(),
    "two names for a series": BEGIN + forged(NAMES, b'[[0,"root.main","other"]]') + some_rows(),
    "two series with a name": BEGIN + forged(NAMES, b'[[5,"main","x"]]') + some_rows(1, 5) + forged(
        ROWS, some_rows()[journal.HEADER_BYTES :], number=1
    ),
    "an end that is none": BEGIN + forged(journal.END, b"[]") + some_rows(),
    "an end without a count": BEGIN + forged(journal.END, b'{"time":NaN}'),
    "an end of too many": BEGIN + some_rows() + forged(journal.END, b'{"values":1e999,"time":1.0}'),
    "a frame of a type to come": BEGIN + forged(99, b"{}") + some_rows(),
    "a head that is a bomb": forged(HEAD, DEEP) + NAMED + some_rows(),
    "a head without a name": forged(HEAD, b"{}") + NAMED + some_rows(),
    "a head whose name is a list": forged(HEAD, b'{"name":[1]}') + NAMED + some_rows(),
    "a head with nonsense": forged(HEAD, json.dumps({"name": NAME, "start": [], "process": 5, "attempt": {}}).encode())
    + NAMED + some_rows(),
    **{
        f"an object with {change}": BEGIN + an_object(EIGHT, **change)
        for change in (
            {"series": "0"}, {"series": -1}, {"series": 2**40}, {"series": None}, {"series": True}, {"series": 1e999},
            {"kind": None}, {"kind": 5}, {"kind": "a/b"}, {"kind": ""}, {"step": 10**30}, {"step": 1.5}, {"step": None},
            {"time": None}, {"time": "x"}, {"time": []}, {"time": float("nan")}, {"time": 10**400},
            {"dtype": "O"}, {"dtype": "T"}, {"dtype": "<f9"}, {"dtype": 8}, {"dtype": []}, {"dtype": {}},
            {"dtype": "|V8"},
            {"dtype": "x" * 100_000}, {"dtype": [["a", "O"]]}, {"dtype": [["a"]]}, {"dtype": ["<f8", [10**9, 10**9]]},
            {"dtype": {"names": ["a"], "formats": ["O"], "offsets": [0], "titles": [None], "itemsize": 8}},
            {"dtype": {"names": ["a"], "formats": ["<f8"], "offsets": [2**40], "titles": [None], "itemsize": 8}},
            {"shape": None}, {"shape": 1}, {"shape": "1"}, {"shape": [-1]}, {"shape": [-1, -1]}, {"shape": [1.0]},
            {"shape": [float("nan")]}, {"shape": [1e999]}, {"shape": [2**63]}, {"shape": [2**62, 4]}, {"shape": [[1]]},
            {"shape": [1] * 100}, {"shape": [True]}, {"shape": [2]}, {"shape": []}, {"shape": [0]}, {"shape": {}},
            {"attrs": []}, {"attrs": 5}, {"attrs": {"a": [1]}}, {"at": None}, {"at": []}, {"at": [0, 0, 0]},
            {"at": [1e999, 0]}, {"at": [10**30, 0]}, {"at": "ab"}, {"at": {}}, {"dtype": None},
            {"dtype": None, "shape": 5},
            {"dtype": "<U2"}, {"dtype": "|b1", "shape": [8]},
        )
    },
    "a text that is no UTF-8": BEGIN + an_object(b"\xff\xfe", dtype=None, kind="text"),
    "no size and 2**62 of them": BEGIN + an_object(dtype="|V0", shape=[2**62]),
    "no size and 2**62 of them, as U": BEGIN + an_object(dtype="<U0", shape=[2**31, 2**31]),
    "no items in an enormous shape": BEGIN + an_object(dtype="<f8", shape=[2**62, 0]),
    "characters that do not exist": BEGIN + an_object(b"\xff" * 8, dtype="<U2"),
    "bools that are neither": BEGIN + an_object(b"\x07" * 8, dtype="|b1", shape=[8]),
    "one text among the scalars": BEGIN + some_rows() + an_object(b"x", 1, kind="scalar", dtype=None, shape=None),
}  # fmt: skip


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_journal_is_told_and_harms_nobody(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    tracemalloc.start()
    began = time.monotonic()

    found, reader = read(path)

    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size < 30e6 + 30 * len(raw)
    assert time.monotonic() - began < 5
    assert reader.damage or is_harmless(found)
    for rows in found.values():
        assert repr(rows)


def is_harmless(found: Mapping[SeriesId, Sequence[Logged]]) -> bool:
    """Return whether there is something to see, or nothing that was lost."""
    return all(len(rows) for rows in found.values())


def test_a_hostile_value_costs_only_itself(path: Path) -> None:
    for bad in (
        an_object(EIGHT, number=1, shape=[-1]),
        forged(ROWS, b"\1", number=1),
        an_object(EIGHT, number=1, step=1e999),
    ):
        path.write_bytes(BEGIN + some_rows() + bad + forged(ROWS, some_rows()[journal.HEADER_BYTES :], number=2))

        found, reader = read(path)

        assert len(found[SeriesId("scalar", "root.main", "x")]) == 2
        assert len(reader.damage) == 1
        assert reader.damage[0].startswith(f"byte {len(BEGIN + some_rows())}:")


@pytest.mark.parametrize(
    "unit",
    [
        forged(ROWS, b"")[:-1] + b"\0",
        forged(ROWS, b"x")[:-1] + b"y",
        forged(NAMES, b"[]") + b"z",
        journal.MAGIC,
        journal.MAGIC * 6 + b"abc",
    ],
    ids=["bad headers", "bad payloads", "gaps", "magic", "magic and more"],
)
def test_a_megabyte_of_hostile_frames_takes_no_time_and_no_memory(path: Path, unit: bytes) -> None:
    path.write_bytes(BEGIN + unit * (2**20 // len(unit)) + some_rows())
    began = time.monotonic()

    found, reader = read(path)

    assert time.monotonic() - began < 5
    assert len(reader.damage) <= 1001
    assert len(found[SeriesId("scalar", "root.main", "x")]) == 1


def test_frames_within_frames_are_not_read_again_and_again(path: Path) -> None:
    # Each header promises everything behind it, and its checksum is wrong.
    body = b""
    for _ in range(20_000):
        body = forged(ROWS, b"", length=len(body))[:-8] + b"\1\1\1\1" + b"\0\0\0\0" + body if not body else nested(body)
        if len(body) > 600_000:
            break
    path.write_bytes(BEGIN + body + some_rows())
    began = time.monotonic()

    _, reader = read(path)

    assert time.monotonic() - began < 10
    assert reader.damage


def nested(body: bytes) -> bytes:
    head = struct.pack("<4sBBHIQI", journal.MAGIC, ROWS, 1, 0, 0, len(body), 1)
    return head + struct.pack("<I", zlib.crc32(head, SALT)) + body


def test_a_pipe_or_folder_in_place_of_a_journal_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.journal")
    (tmp_path / "b.journal").mkdir()

    with pytest.raises(DamagedFile):
        JournalReader(tmp_path / "a.journal")
    with pytest.raises(OSError, match="directory"):
        JournalReader(tmp_path / "b.journal")


@examples
@given(st.binary(max_size=300), st.sampled_from([HEAD, NAMES, ROWS, OBJECT, journal.END, 77]))
@example(b"", OBJECT)
def test_any_payload_with_right_checksums_is_read_or_told(path: Path, payload: bytes, type_: int) -> None:
    path.write_bytes(BEGIN + forged(type_, payload) + forged(ROWS, some_rows()[journal.HEADER_BYTES :], number=9))

    found, _ = read(path)

    assert len(found[SeriesId("scalar", "root.main", "x")]) >= 1


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["<f8", "O", "|V0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
META = st.fixed_dictionaries(
    {},
    optional={
        name: good | JSON_VALUES
        for name, good in {
            "series": st.integers(0, 3), "kind": st.sampled_from(["scalar", "array"]), "step": st.integers(0, 9),
            "time": st.floats(0, 9), "dtype": st.sampled_from(["<f8", "|V0", "|u1", "<U1"]), "at": st.just([0, 0]),
            "shape": st.lists(st.integers(-1, 9) | st.integers(), max_size=4), "attrs": st.just({"a": 1}),
        }.items()
    },
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(META, st.binary(max_size=16)), min_size=1, max_size=3))
def test_any_meta_is_read_or_told(path: Path, objects: list[tuple[Mapping[str, Any], bytes]]) -> None:
    frames = []
    for number, (meta, raw) in enumerate(objects):
        text = json.dumps(meta).encode()
        frames.append(forged(OBJECT, struct.pack("<I", len(text)) + text + raw, number))
    path.write_bytes(BEGIN + b"".join(frames))

    found, reader = read(path)

    assert sum(map(len, found.values())) + len(reader.damage) >= 1
    for rows in found.values():
        assert repr(rows)
