"""HdfReader: everything reads back bit for bit, and a damaged or hostile file harms nobody."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from allogger.errors import DamagedFile
from allogger.formats.hdf import ImageBuilder, SeriesPlan
from allogger.reader import Columns, SeriesId, objects
from allogger.readers.hdf import HdfReader
from allogger.record import normal_scope

START = 1_700_000_000.25
ABOUT = {"process": "Process-1", "start": START}
ONE = SeriesId("scalar", "root.main", "loss")

examples = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def columns(values: Sequence[Any] | NDArray[Any], attrs: Mapping[int, Mapping[str, Any]] | None = None) -> Columns:
    count = len(values)
    value = values if isinstance(values, np.ndarray) else objects(values)
    return Columns(np.arange(count)[::-1] * 3 - 1, START + np.arange(count) / 3, value, attrs or {})


def build(path: Path, content: Mapping[SeriesId, Columns], layouts: int = 1) -> Path:
    with ImageBuilder(path, ABOUT, {one: SeriesPlan(len(its), layouts) for one, its in content.items()}) as builder:
        for one, its in content.items():
            builder.append(one, its)
        builder.finish()
    return path


def round_trip(folder: Path, values: Sequence[Any] | NDArray[Any], layouts: int = 1, **attrs: Any) -> Columns:
    given_columns = columns(values, **attrs)
    reader = HdfReader(build(folder / "x.h5", {ONE: given_columns}, layouts))
    read = reader.read(ONE)
    reader.close()
    assert not reader.damage
    assert reader.keys() == [ONE]
    assert read.step.tolist() == given_columns.step.tolist()
    assert read.time.tolist() == given_columns.time.tolist()
    return read


def assert_same(read: NDArray[Any], value: NDArray[Any]) -> None:
    assert (read.dtype, read.shape) == (value.dtype, value.shape)
    assert read.tobytes() == value.tobytes()


DTYPES = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    npst.datetime64_dtypes(endianness="?"),
    npst.timedelta64_dtypes(endianness="?"),
    npst.byte_string_dtypes(endianness="?", min_len=1, max_len=5),
    npst.unicode_string_dtypes(endianness="?", min_len=1, max_len=5),
)
ALL_DTYPES = npst.nested_dtypes(DTYPES, max_leaves=5).map(lambda dtype: dtype.base)
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@examples
@given(data=st.data())
def test_arrays_of_one_shape_read_back_bit_for_bit(tmp_path: Path, data: st.DataObject) -> None:
    shape = (data.draw(st.integers(1, 5)), *data.draw(SHAPES))
    values = data.draw(npst.arrays(data.draw(ALL_DTYPES), shape))
    assert_same(round_trip(tmp_path, values).value, values)


@examples
@given(data=st.data())
def test_arrays_of_many_dtypes_and_shapes_read_back_in_order(tmp_path: Path, data: st.DataObject) -> None:
    values = data.draw(st.lists(npst.arrays(DTYPES, SHAPES), min_size=1, max_size=30))
    read = round_trip(tmp_path, values, layouts=30).value
    for row, value in enumerate(values):
        assert_same(np.asarray(read[row, ...] if read.dtype != object else read[row]), value)


@pytest.mark.parametrize(
    "value",
    [
        np.array([True, False]),
        np.frombuffer(bytes.fromhex("010000000000f07f0000000000000080"), float),  # a signalling NaN, minus zero
        np.array([1.1, np.nan], np.longdouble),
        np.array([1.1 + 2j], np.clongdouble),
        np.array(["äöü", ""]),
        np.array([2**63 - 1, -(2**63)]),
        np.array(["NaT", "2024-01-01"], "M8[ns]"),
        np.ndarray((3,), "U0"),
        np.zeros((2, 0, 3), ">f4"),
        np.zeros((1,) * 40),
        np.zeros((1,) * 63, ">i2"),
        np.zeros(3, [("a", "f4"), ("b", "U3"), ("c", "?", (2, 2))]),
        np.zeros(3, [(("title", "name"), "i4")]),
        np.zeros(3, [("r", "f8"), ("i", "f8")]),
        np.zeros(3, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        np.zeros(3, [("nul\0", "i4"), ("\ud800", "i4")]),
        np.zeros(3, []),
        np.array([b"\0a\0", b"b"], "V3"),
    ],
)
def test_unusual_arrays_read_back_bit_for_bit(tmp_path: Path, value: NDArray[Any]) -> None:
    for one in round_trip(tmp_path, [value, value]).value:
        assert_same(np.asarray(one), value)
    first, _, last = round_trip(tmp_path, [value, np.zeros(2), value], layouts=2).value
    assert_same(first, value)
    assert_same(last, value)


@examples
@given(values=st.lists(st.text(st.characters(codec=None)), min_size=1))
def test_texts_read_back_as_they_are(tmp_path: Path, values: list[str]) -> None:
    assert round_trip(tmp_path, values).value.tolist() == values


@examples
@given(
    values=st.lists(st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.complex_numbers(), min_size=1)
)
def test_numbers_of_several_types_read_back_exactly(tmp_path: Path, values: list[complex]) -> None:
    read = round_trip(tmp_path, values, layouts=4).value
    for one, value in zip(read, values, strict=True):
        assert_same(np.asarray(one), np.asarray(value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
SMALL_ATTRS = st.dictionaries(st.text(), JSON, min_size=1, max_size=3)


@examples
@given(attrs=st.dictionaries(st.integers(0, 9), SMALL_ATTRS), shared=SMALL_ATTRS)
def test_attributes_of_values_read_back(tmp_path: Path, attrs: dict[int, Any], shared: dict[str, Any]) -> None:
    for its in (attrs, dict.fromkeys(range(10), shared), attrs | dict.fromkeys(range(3, 7), shared)):
        assert round_trip(tmp_path, np.zeros(10), attrs=its).attrs == its
        assert round_trip(tmp_path, [np.zeros(n) for n in range(10)], 10, attrs=its).attrs == its


NAMES = st.text(st.characters(codec=None) | st.sampled_from("ab/.%@v1"), max_size=8)


@examples
@given(
    names=st.lists(st.tuples(st.sampled_from(["scalar", "array"]), NAMES, NAMES), min_size=1, unique=True),
    data=st.data(),
)
def test_no_two_series_ever_meet_under_one_name(tmp_path: Path, names: list[tuple[str, str, str]], data: Any) -> None:
    ids = list(dict.fromkeys(SeriesId(kind, normal_scope(scope), key) for kind, scope, key in names))
    more = [
        SeriesId(one.kind, one.scope, f"{one.key}/{tail}")
        for one in ids
        for tail in data.draw(st.lists(NAMES, max_size=2))
    ]
    content = {one: columns([float(n), n]) for n, one in enumerate([*ids, *more])}
    reader = HdfReader(build(tmp_path / "x.h5", content, layouts=2))
    without = HdfReader(drop_index(tmp_path / "x.h5"))
    assert reader.keys() == list(content)
    assert sorted(without.keys()) == sorted(content)
    for one, its in content.items():
        for each in (reader, without):
            assert each.read(one).value.tolist() == its.value.tolist()
    assert not reader.damage
    assert len(without.damage) == 1
    reader.close()
    without.close()


def drop_index(path: Path) -> Path:
    with h5py.File(path, "r+") as file:
        del file["allogger/index"]
    return path


def test_the_file_says_whose_it_is(tmp_path: Path) -> None:
    path = build(tmp_path / "x.h5", {ONE: columns([1.0])})
    assert HdfReader(path).about == ABOUT
    assert dict(HdfReader(drop_index(path)).about) == {**ABOUT, "allogger_format": 1}


def test_a_key_that_is_not_there_is_a_key_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        HdfReader(build(tmp_path / "x.h5", {})).read(ONE)


def test_the_last_time_comes_from_the_index(tmp_path: Path) -> None:
    path = build(tmp_path / "x.h5", {ONE: columns(np.zeros(4))})
    assert HdfReader(path).last_time() == HdfReader(drop_index(path)).last_time() == START + 1


def test_files_of_the_old_allogger_are_read(tmp_path: Path) -> None:
    rows = np.array(
        [(0, 1.5, 0.5, 2.5), (1, 2.5, 1.5, 3.5)], [(n, "i4" if n == "step" else "f4") for n in hdf_fields()]
    )
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file["scalar/main/value"] = rows
        file["scalar/agent.critic/train/loss"] = rows
        file["notes"] = [1, 2, 3]
    reader = HdfReader(tmp_path / "old.h5")
    assert sorted(reader.keys()) == [
        SeriesId("scalar", "root.agent.critic", "train/loss"),
        SeriesId("scalar", "root.main", "value"),
    ]
    read = reader.read(SeriesId("scalar", "root.main", "value"))
    assert (read.step.dtype, read.time.dtype) == (np.int64, np.float64)
    assert (read.step.tolist(), read.time.tolist(), read.value.tolist()) == ([0, 1], [1.5, 2.5], [2.5, 3.5])
    assert not reader.damage


def test_processes_in_one_file_stay_apart(tmp_path: Path) -> None:
    with hostile(tmp_path / "x.h5") as file:
        file["scalar/main@Process-1/good"] = file["scalar/main/good"][:1]
    reader = HdfReader(tmp_path / "x.h5")
    assert reader.about == {"process": "MainProcess"}
    assert {series.scope: len(reader.read(series)) for series in list(reader.keys())} == {
        "root.main": 2,
        "root.main@Process-1": 1,
    }


def hdf_fields() -> list[str]:
    return ["step", "time", "walltime", "value"]


def test_the_users_own_h5py_opens_the_file_at_the_same_time(tmp_path: Path) -> None:
    path = build(tmp_path / "x.h5", {ONE: columns(np.zeros(4))})
    reader = HdfReader(path)
    with h5py.File(path) as file:
        assert len(file["scalar/main@Process-1/loss"]) == len(reader.read(ONE)) == 4
    with h5py.File(path, "r+"):
        assert len(reader.read(ONE)) == 4


def test_a_reader_keeps_its_file_until_it_is_closed(tmp_path: Path) -> None:
    path = build(tmp_path / "x.h5", {ONE: columns(np.zeros(4))})
    reader = HdfReader(path)
    build(path, {ONE: columns(np.zeros(5))})
    assert len(reader.read(ONE)) == 4
    reader.close()
    assert len(reader.read(ONE)) == 5
    path.unlink()
    assert len(reader.read(ONE)) == 5


# -------------------------------------------------------------------------------------------- damaged and hostile files


def test_a_missing_file_is_no_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        HdfReader(tmp_path / "x.h5")
    with pytest.raises(DamagedFile):
        HdfReader(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(5000)])
def test_what_is_no_hdf5_file_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.h5").write_bytes(content)
    with pytest.raises(DamagedFile):
        HdfReader(tmp_path / "x.h5")


def test_a_lost_chunk_costs_no_other_values(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    attrs = {row: {"row": row} for row in range(19_990, 20_000)}
    path = build(tmp_path / "x.h5", {ONE: columns(values, attrs)})
    with h5py.File(path) as file:
        chunk = file["scalar/main@Process-1/loss"].id.get_chunk_info(1)
        rows = slice(chunk.chunk_offset[0], chunk.chunk_offset[0] + file["scalar/main@Process-1/loss"].chunks[0])
    with open(path, "r+b") as raw:
        raw.seek(chunk.byte_offset + chunk.size // 2)
        raw.write(bytes(100))
    reader = HdfReader(path)
    read = reader.read(ONE)
    assert read.value.tolist() == np.delete(values, rows).tolist()
    assert list(read.attrs.values()) == list(attrs.values())
    assert len(reader.damage) == 1
    assert f"rows {rows.start} to {rows.stop - 1} are lost" in reader.damage[0]


def test_damage_raises_nothing_but_damaged_file(tmp_path: Path, run_python: Any) -> None:
    """In a process of its own, because it is libhdf5 that is tried."""
    content = {
        ONE: columns(np.random.default_rng(0).normal(size=1500)),
        SeriesId("text", "root", "t"): columns(["one", "two\0"], {1: {"a": 1}}),
        SeriesId("array", "root", "a"): columns(np.array([["ab", "cd"]])),
        SeriesId("array", "root", "a/b"): columns([np.zeros(n) for n in range(12)]),
        SeriesId("array", "root", "c"): columns(np.zeros(3, "M8[s]")),
    }
    with ImageBuilder(
        tmp_path / "x.h5",
        ABOUT,
        {one: SeriesPlan(len(its), 12 if one.key == "a/b" else 1) for one, its in content.items()},
    ) as builder:
        for one, its in content.items():
            builder.append(one, its)
        builder.finish()
    done = run_python(
        """
        import random
        from pathlib import Path
        from allogger.errors import DamagedFile
        from allogger.readers.hdf import HdfReader

        good = Path("x.h5").read_bytes()
        rng = random.Random(0)

        def damaged():
            for end in range(0, len(good), len(good) // 200):
                yield good[:end]
            for _ in range(600):
                data = bytearray(good)
                for _ in range(rng.choice([1, 1, 1, 30])):
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                yield data
            for _ in range(50):
                data = bytearray(good)
                start = rng.randrange(len(data))
                data[start : start + 512] = bytes(len(data[start : start + 512]))
                yield data

        told = 0
        for data in damaged():
            Path("y.h5").write_bytes(data)
            try:
                reader = HdfReader(Path("y.h5"))
            except DamagedFile:
                told += 1
                continue
            for series in reader.keys():
                try:
                    list(map(str, reader.read(series).value))
                    reader.blocks(series)
                except DamagedFile:
                    assert reader.damage
            told += bool(reader.damage)
            reader.close()
        print(told)
        """
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 300


def hostile(path: Path) -> h5py.File:
    """Return a file with a good series, open for writing."""
    file = h5py.File(path, "w")
    rows = np.zeros(2, [(name, "i8" if name == "step" else "f8") for name in hdf_fields()])
    file["scalar/main/good"] = rows
    with h5py.File(path.with_name("secret.h5"), "w") as secret:
        secret["scalar/main/good"] = rows
    rows.tofile(path.with_name("secret.raw"))
    return file


def external_link(file: h5py.File) -> None:
    file["scalar/main/bad"] = h5py.ExternalLink("secret.h5", "scalar/main/good")


def external_group(file: h5py.File) -> None:
    file["scalar/bad"] = h5py.ExternalLink("secret.h5", "scalar/main")


def soft_link(file: h5py.File) -> None:
    file["scalar/outside"] = h5py.ExternalLink("secret.h5", "scalar")
    file["scalar/main/bad"] = h5py.SoftLink("/scalar/outside/main/good")


def external_storage(file: h5py.File) -> None:
    good = file["scalar/main/good"]
    file.create_dataset("scalar/main/bad", (2,), good.dtype, external=[("secret.raw", 0, 64)])


def virtual_dataset(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((2,), file["scalar/main/good"].dtype)
    layout[:] = h5py.VirtualSource("secret.h5", "scalar/main/good", (2,))
    file.create_virtual_dataset("scalar/main/bad", layout)


def growing_virtual_dataset(file: h5py.File) -> None:
    dtype = file["scalar/main/good"].dtype
    layout = h5py.VirtualLayout((2,), dtype, maxshape=(None,))
    # The file driver of Python objects would take such a name for an address.
    layout[:2] = h5py.VirtualSource("deadbeef", "scalar/main/good", (2,), dtype, maxshape=(None,))
    file.create_virtual_dataset("scalar/main/bad", layout)


def giant_chunked(file: h5py.File) -> None:
    dtype = file["scalar/main/good"].dtype
    file.create_dataset("scalar/main/bad", (2**40,), dtype, chunks=(1000,), compression="gzip")


def giant_contiguous(file: h5py.File) -> None:
    file.create_dataset("scalar/main/bad", (2**40,), file["scalar/main/good"].dtype)


def unknown_filter(file: h5py.File) -> None:
    dtype = file["scalar/main/good"].dtype
    file.create_dataset("scalar/main/bad", data=np.zeros(10, dtype), chunks=(10,), compression="lzf")


def reference(file: h5py.File) -> None:
    dtype = np.dtype([("step", "i8"), ("time", "f8"), ("value", h5py.ref_dtype)])
    data = np.empty(1, dtype)
    data["value"] = file["scalar"].ref
    file.create_dataset("scalar/main/bad", data=data)


def pickled(file: h5py.File) -> None:
    data = np.zeros(1, [("step", "i8"), ("time", "f8"), ("value", "V8")])
    file.create_dataset("scalar/main/bad", data=data).attrs["dtype"] = json.dumps("O")


def wrong_size(file: h5py.File) -> None:
    data = np.zeros(1, [("step", "i8"), ("time", "f8"), ("value", "V8")])
    file.create_dataset("scalar/main/bad", data=data).attrs["dtype"] = json.dumps("U1000000")


def steps_that_are_texts(file: h5py.File) -> None:
    file["scalar/main/bad"] = np.zeros(1, [("step", "S5"), ("time", "f8"), ("value", "f8")])


def two_axes(file: h5py.File) -> None:
    file["scalar/main/bad"] = np.zeros((2, 2), file["scalar/main/good"].dtype)


def index_of_lies(file: h5py.File) -> None:
    index = {"about": {}, "series": {"kind": ["scalar"] * 2, "scope": ["root.main"] * 2, "key": ["good", "bad"]}}
    index["series"]["paths"] = [["scalar/main/good"], ["../x", "", "scalar", "allogger/index", "\0", "/"]]
    file["allogger/index"] = np.frombuffer(json.dumps(index).encode(), np.uint8)


HOSTILE = [
    external_link,
    external_group,
    soft_link,
    external_storage,
    virtual_dataset,
    growing_virtual_dataset,
    giant_chunked,
    giant_contiguous,
    unknown_filter,
    reference,
    pickled,
    wrong_size,
    steps_that_are_texts,
    two_axes,
    index_of_lies,
]


@pytest.mark.parametrize("add", HOSTILE)
def test_what_a_hostile_file_holds_is_refused_and_told(tmp_path: Path, add: Any) -> None:
    with hostile(tmp_path / "x.h5") as file:
        add(file)
    reader = HdfReader(tmp_path / "x.h5")
    good = SeriesId("scalar", "root.main", "good")
    bad = [series for series in list(reader.keys()) if series != good]
    for series in bad:
        with pytest.raises(DamagedFile):
            reader.read(series)
    assert len(reader.read(good)) == 2
    assert reader.damage or not bad
    assert reader.damage or "link" in add.__name__ or "group" in add.__name__
    for name, says in (("virtual", "another file"), ("storage", "another file"), ("giant", "it claims")):
        assert name not in add.__name__ or says in reader.damage[0]


@pytest.mark.parametrize(
    "index", ["null", "{", "[]", '{"series": {"kind": [1]}}', '{"series": 3, "about": {}}', "[" * 100_000]
)
def test_a_damaged_index_is_told_and_not_needed(tmp_path: Path, index: str) -> None:
    path = drop_index(build(tmp_path / "x.h5", {ONE: columns([1.0])}))
    with h5py.File(path, "r+") as file:
        file["allogger/index"] = np.frombuffer(index.encode(), np.uint8)
    reader = HdfReader(path)
    assert reader.keys() == [ONE]
    assert len(reader.damage) == 1
    assert reader.index == {}


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    with hostile(tmp_path / "x.h5") as file:
        file["scalar/main/round"] = file["scalar"]
    assert list(HdfReader(tmp_path / "x.h5").keys()) == [SeriesId("scalar", "root.main", "good")]


def test_texts_that_share_their_bytes_do_not_fill_the_memory(tmp_path: Path) -> None:
    """A million rows that all refer to the same megabyte."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = np.zeros(200_000, [("step", "i8"), ("value", h5py.string_dtype())])
        data["value"] = ""
        data["value"][0] = "x" * 2**20
        file.create_dataset("text/main/bad", data=data, chunks=(1000,), compression="gzip")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        dataset = file["text/main/bad"].id
        _, first = dataset.read_direct_chunk((0,))
        row = zlib.decompress(first)[:24]
        for start in range(0, 200_000, 1000):
            dataset.write_direct_chunk((start,), zlib.compress(row * 1000))
    reader = HdfReader(tmp_path / "x.h5")
    with pytest.raises(DamagedFile, match="larger than the file"):
        reader.read(SeriesId("text", "root.main", "bad"))
