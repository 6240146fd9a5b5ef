"""The finished HDF5 file: what any HDF5 tool finds in it, and how it comes into being whole or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from allogger.formats.hdf import ImageBuilder, SeriesPlan
from allogger.formats.hdf import builder as building
from allogger.reader import Columns, SeriesId, objects
from allogger.readers.hdf import HdfReader
from allogger.record import split_hdf_path

START = 1_700_000_000.25
ABOUT = {
    "process": "MainProcess",
    "attempt": "first",
    "start": START,
    "host": "here",
    "pid": 7,
    "name": "x",
    "damage": ["a"],
}
LOSS = SeriesId("scalar", "root.main", "train/loss")


def columns(values: Sequence[Any] | np.ndarray, attrs: Mapping[int, Mapping[str, Any]] | None = None) -> Columns:
    count = len(values)
    value = values if isinstance(values, np.ndarray) else objects(values)
    return Columns(np.arange(1, count + 1), START + np.arange(count) / 3, value, attrs or {})


def build(path: Path, content: Mapping[SeriesId, Columns], given: SeriesPlan | None = None) -> dict[str, Any]:
    plan = {series: given or SeriesPlan(len(its)) for series, its in content.items()}
    with ImageBuilder(path, ABOUT, plan) as builder:
        for series, its in content.items():
            builder.append(series, its)
        return builder.finish()


def append_in_pieces(builder: ImageBuilder, content: Mapping[SeriesId, Columns], sizes: Callable[[], int]) -> None:
    """Append the series by turns, in pieces of those sizes."""
    at = dict.fromkeys(content, 0)
    while at:
        for series in list(at):
            its, start = content[series], at[series]
            stop = min(len(its), start + sizes())
            attrs = {row - start: own for row, own in its.attrs.items() if start <= row < stop}
            builder.append(series, Columns(its.step[start:stop], its.time[start:stop], its.value[start:stop], attrs))
            at[series] = stop
            if stop == len(its):
                del at[series]


def test_plain_h5py_reads_step_time_walltime_and_value(tmp_path: Path) -> None:
    values = np.array([0.5, np.nan, -np.inf])
    build(tmp_path / "x.h5", {LOSS: columns(values)})
    with h5py.File(tmp_path / "x.h5") as file:
        rows = file["scalar/main/train/loss"][()]
        attrs = dict(file["scalar/main/train/loss"].attrs)
        about = dict(file.attrs)
    assert rows.dtype.names == ("step", "time", "walltime", "value")
    assert rows["step"].tolist() == [1, 2, 3]
    assert rows["time"].tolist() == columns(values).time.tolist()
    assert rows["walltime"].tolist() == (columns(values).time - START).tolist()
    assert rows["value"].tobytes() == values.tobytes()
    assert attrs == {"key": "main/train/loss", "kind": "scalar", "process": "MainProcess"}
    assert about == {**ABOUT, "damage": '["a"]', "allogger_format": 1}


def test_pandas_makes_a_frame_of_a_dataset(tmp_path: Path) -> None:
    build(tmp_path / "x.h5", {LOSS: columns(np.arange(5.0))})
    with h5py.File(tmp_path / "x.h5") as file:
        frame = pd.DataFrame(file["scalar/main/train/loss"][()])
    assert frame["value"].tolist() == [0, 1, 2, 3, 4]


def test_a_walk_over_the_file_finds_every_series_under_its_name(tmp_path: Path) -> None:
    keys = ["a", "a/b", "a/b/c", "", "/", ".", "..", "%v", "lr0.001", "nul\0", "ü", "%", "a/", "x" * 9000]
    content = {
        SeriesId("scalar", "root.agent.critic", key): columns(np.array([float(n)])) for n, key in enumerate(keys)
    }
    build(tmp_path / "x.h5", content)
    found = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("allogger/"):
            found[SeriesId(*split_hdf_path(name)[:3])] = item["value"][0]

    with h5py.File(tmp_path / "x.h5") as file:
        file.visititems(visit)
    assert found == {series: its.value[0] for series, its in content.items()}


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="needs the HDF5 tools")
def test_the_hdf5_tools_read_the_file(tmp_path: Path) -> None:
    big = SeriesId("array", "root", "big")
    build(tmp_path / "x.h5", {LOSS: columns(["a text"]), big: columns(np.zeros((5000, 3), complex))})
    done = subprocess.run(["h5dump", str(tmp_path / "x.h5")], capture_output=True, text=True, check=True)
    assert '"a text"' in done.stdout
    assert not done.stderr


def test_the_same_values_make_the_same_bytes(tmp_path: Path) -> None:
    content = {LOSS: columns(np.arange(3000.0)), SeriesId("text", "root", "t"): columns(["x", "y"])}
    build(tmp_path / "a.h5", content)
    second = int(time.time())
    while int(time.time()) == second:
        pass
    build(tmp_path / "b.h5", content)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_values_that_come_in_pieces_make_the_same_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(building, "PENDING_BYTES", 20_000)
    monkeypatch.setattr(building, "CHUNK_BYTES", 4_000)
    monkeypatch.setattr(building, "LEAST_CHUNK_BYTES", 1_000)
    content = {
        SeriesId("scalar", "root", "short"): columns(rng.normal(size=7)),
        SeriesId("scalar", "root", "long"): columns(rng.normal(size=5000)),
        SeriesId("array", "root", "arrays"): columns(rng.normal(size=(300, 5))),
        SeriesId("array", "root", "no bytes"): columns(np.ndarray((90, 2), "U0")),
        SeriesId("array", "root", "mixed"): columns([np.zeros(n % 15) + n for n in range(400)]),
        SeriesId("scalar", "root", "numbers"): columns([[n, n / 2, n % 3 == 0][n % 3] for n in range(2000)]),
        SeriesId("text", "root", "texts"): columns([f"{n}\0" if n % 7 == 0 else "é" * (n % 90) for n in range(900)]),
        SeriesId("text", "root", "noted"): columns(["x"] * 500, {n: {"level": n // 20} for n in range(3, 500)}),
    }
    plan = {
        series: SeriesPlan(len(its), 15 if series.key in ("mixed", "numbers") else 1) for series, its in content.items()
    }
    with ImageBuilder(tmp_path / "x.h5", ABOUT, plan) as builder:
        append_in_pieces(builder, content, lambda: int(rng.integers(1, 200)))
        builder.finish()
    reader = HdfReader(tmp_path / "x.h5")
    for series, its in content.items():
        read = reader.read(series)
        assert read.step.tolist() == its.step.tolist()
        assert read.time.tolist() == its.time.tolist()
        assert list(map(repr, read.value)) == [
            repr(np.asarray(v)) if series.key == "numbers" else repr(v) for v in its.value
        ]
        assert read.attrs == its.attrs
    assert not reader.damage


def test_what_is_appended_may_be_changed_afterwards(tmp_path: Path) -> None:
    values = [np.zeros(2), np.zeros(2)]
    with ImageBuilder(tmp_path / "x.h5", ABOUT, {LOSS: SeriesPlan(4)}) as builder:
        builder.append(LOSS, columns(values))
        values[0][:] = 1
        builder.append(LOSS, columns(values))
        builder.finish()
    assert HdfReader(tmp_path / "x.h5").read(LOSS).value[:, 0].tolist() == [0, 0, 1, 0]


def test_memory_stays_bounded_while_a_large_file_is_built(tmp_path: Path, run_python: Any) -> None:
    done = run_python(
        """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from allogger.formats.hdf import ImageBuilder, SeriesPlan
        from allogger.reader import Columns, SeriesId, objects

        ids = [SeriesId("array", "root", str(n)) for n in range(800)]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with ImageBuilder(Path("x.h5"), {}, {series: SeriesPlan(60) for series in ids}) as builder:
            for n in range(60):
                for series in ids:
                    builder.append(series, Columns(np.array([n]), np.array([0.0]), np.full((1, 500), float(n))))
            builder.finish()
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
        """,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 120  # of 190 MB


@pytest.mark.parametrize(
    ("plan", "given", "says"),
    [
        (SeriesPlan(3), np.zeros(2), "2 of 3"),
        (SeriesPlan(1), np.zeros(2), "more values"),
    ],
)
def test_values_against_the_plan_leave_no_file(tmp_path: Path, plan: SeriesPlan, given: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build(tmp_path / "x.h5", {LOSS: columns(given)}, plan)
    assert not list(tmp_path.iterdir())


HUGE = np.dtype([(f"field {n}", "f8") for n in range(6000)])  # its description does not fit into a header


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (np.zeros(40, HUGE), "too long for an attribute"),
        (np.array([None] * 40), "Python objects"),
        ([np.zeros(2), *[np.zeros(3)] * 39], "more dtypes or shapes"),
        ([np.zeros(2)] * 39 + [np.zeros(1, HUGE)], "more dtypes or shapes"),
    ],
    ids=["a huge dtype", "objects", "another shape", "a late fault"],
)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_series_that_hdf5_cannot_hold_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: Any, says: str, in_pieces: bool
) -> None:
    monkeypatch.setattr(building, "CHUNK_BYTES", 500)
    monkeypatch.setattr(building, "LEAST_CHUNK_BYTES", 100)
    bad = SeriesId("array", "root.main", "train/odd")
    content = {
        SeriesId("text", "root.main", "before"): columns(["one\0", "two"], {1: {"a": 1}}),
        bad: columns(odd, {3: {"b": 2}}),
        SeriesId("text", "root.main", "after"): columns(["three\0", "four"], {1: {"c": 3}}),
        LOSS: columns(np.arange(2000.0)),
    }
    with ImageBuilder(tmp_path / "x.h5", ABOUT, {one: SeriesPlan(len(its)) for one, its in content.items()}) as builder:
        append_in_pieces(builder, content, lambda: 7 if in_pieces else 10_000)
        index = builder.finish()

    entry = next(entry for entry in index["series"] if entry["key"] == "train/odd")
    assert says in entry["left_out"]
    assert (entry["count"], entry["last_step"], entry["paths"], entry["min"]) == (40, 40, [], None)
    assert [entry["left_out"] for entry in index["series"]].count(None) == 3
    reader = HdfReader(tmp_path / "x.h5")
    assert reader.keys() == [one for one in content if one != bad]
    assert reader.index == json.loads(json.dumps(index))
    assert len(reader.damage) == 1
    assert "'main/train/odd' is not in this file" in reader.damage[0]
    for series in reader.keys():  # noqa: SIM118  # no mapping
        read = reader.read(series)
        assert (read.value.tolist(), read.attrs) == (content[series].value.tolist(), content[series].attrs)
    assert len(reader.blocks(LOSS)) == 2
    with h5py.File(tmp_path / "x.h5") as file:
        assert list(json.loads(file.attrs["left_out"])) == ["main/train/odd"]
        assert "array/main/train/odd" not in file


def test_a_dtype_too_large_for_a_header_lies_there_as_bytes(tmp_path: Path) -> None:
    dtype = np.dtype([(f"f{n}", "f8") for n in range(2500)])
    values = np.ones(3, dtype)
    build(tmp_path / "x.h5", {LOSS: columns(values)})
    read = HdfReader(tmp_path / "x.h5").read(LOSS).value
    assert (read.dtype, read.tobytes()) == (dtype, values.tobytes())


@pytest.mark.parametrize("size", [59_000, 70_000, 2_000_000])
def test_attributes_that_all_values_share_may_be_long(tmp_path: Path, size: int) -> None:
    attrs = {row: {"note": "x" * size} for row in range(2)}
    build(tmp_path / "x.h5", {LOSS: columns(np.zeros(2), attrs), LOSS._replace(key="b"): columns(np.zeros(2))})
    reader = HdfReader(tmp_path / "x.h5")
    assert reader.read(LOSS).attrs == attrs
    assert reader.read(LOSS._replace(key="b")).attrs == {}


def test_a_file_that_is_there_is_replaced_only_by_a_finished_one(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    build(path, {LOSS: columns(np.zeros(1))})
    with pytest.raises(KeyboardInterrupt), ImageBuilder(path, ABOUT, {LOSS: SeriesPlan(1)}):
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]
    assert len(HdfReader(path).read(LOSS)) == 1
    build(path, {LOSS: columns(np.zeros(2))})
    assert len(HdfReader(path).read(LOSS)) == 2


def test_a_full_disk_raises_and_leaves_no_file_wherever_it_strikes(tmp_path: Path, run_python: Any) -> None:
    done = run_python(
        """
        import os, resource
        from pathlib import Path
        import numpy as np
        from allogger.formats.hdf import ImageBuilder, SeriesPlan
        from allogger.reader import Columns, SeriesId, objects

        rng = np.random.default_rng(0)
        content = {SeriesId("scalar", "root", f"k{n}"): rng.normal(size=1 + 40 * n) for n in range(60)}
        content[SeriesId("array", "root", "a")] = rng.normal(size=(100, 100))
        content[SeriesId("text", "root", "t")] = objects(["x" * n for n in range(300)])
        path = Path("x.h5")

        def build():
            with ImageBuilder(path, {}, {s: SeriesPlan(len(v)) for s, v in content.items()}) as builder:
                for at in range(0, 2400, 100):
                    for series, v in content.items():
                        part = v[at : at + 100]
                        builder.append(series, Columns(np.arange(len(part)), np.zeros(len(part)), part))
                builder.finish()

        build()
        size = path.stat().st_size
        path.unlink()
        failed = 0
        for limit in [*range(0, size, size // 60), size - 1, size, size + 100_000]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                build()
            except OSError:
                failed += 1
                assert not path.exists()
            else:
                assert limit >= size
                path.unlink()
            assert [name for name in os.listdir() if name.endswith(".tmp")] == []
        print(failed)
        """,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 60


def test_a_child_that_inherits_a_builder_does_the_file_no_harm(tmp_path: Path, run_python: Any) -> None:
    done = run_python(
        """
        import gc, os, sys
        from pathlib import Path
        import numpy as np
        from allogger.formats.hdf import ImageBuilder, SeriesPlan
        from allogger.reader import Columns, SeriesId
        from allogger.readers.hdf import HdfReader

        series = SeriesId("array", "root", "a")
        part = Columns(np.arange(100), np.zeros(100), np.arange(100_000.0).reshape(100, 1000))
        wait, go = os.pipe()
        builder = ImageBuilder(Path("x.h5"), {}, {series: SeriesPlan(300)})
        children = []
        for _ in range(3):
            builder.append(series, part)
            child = os.fork()
            if not child:
                try:
                    builder.append(series, part)
                except ValueError:
                    builder.abort()
                    os.close(go)
                    os.read(wait, 1)
                    # libhdf5 closes the file now, and writes what it thinks is missing.
                    del builder
                    gc.collect()
                    sys.exit(7)
            children.append(child)
        builder.finish()
        os.close(go)
        for child in children:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        reader = HdfReader(Path("x.h5"))
        assert (reader.read(series).value == np.concatenate([part.value] * 3)).all()
        assert not reader.damage
        """,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_the_index_and_the_blocks_summarise_real_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "CHUNK_BYTES", 4_000)
    monkeypatch.setattr(building, "LEAST_CHUNK_BYTES", 1_000)
    rng = np.random.default_rng(0)
    values = rng.normal(size=5000)
    values[rng.random(5000) < 0.3] = np.nan
    values[1024:2048] = np.nan
    content = {LOSS: columns(values), SeriesId("scalar", "root", "other"): columns(np.full(1025, 1e308))}
    with ImageBuilder(tmp_path / "x.h5", ABOUT, {s: SeriesPlan(len(its)) for s, its in content.items()}) as builder:
        append_in_pieces(builder, content, lambda: int(rng.integers(1, 700)))
        index = builder.finish()
    reader = HdfReader(tmp_path / "x.h5")
    assert reader.index == json.loads(json.dumps(index))
    entry, other = index["series"]
    assert (entry["first_step"], entry["last_step"], entry["count"]) == (1, 5000, 5000)
    assert (entry["min"], entry["max"]) == (np.nanmin(values), np.nanmax(values))
    assert entry["mean"] == pytest.approx(np.nanmean(values))
    assert other["mean"] == pytest.approx(1e308)
    blocks = reader.blocks(LOSS)
    assert blocks["row"].tolist() == [0, 1024, 2048, 3072, 4096]
    assert blocks["step"].tolist() == [1, 1025, 2049, 3073, 4097]
    for block, part in zip(blocks, np.split(values, range(1024, 5000, 1024)), strict=True):
        numbers = part[~np.isnan(part)]
        assert block["count"] == len(numbers)
        if len(numbers):
            assert (block["min"], block["max"]) == (numbers.min(), numbers.max())
            assert block["mean"] == pytest.approx(numbers.mean())
    assert len(reader.blocks(SeriesId("scalar", "root", "other"))) == 2


@pytest.mark.parametrize(
    ("values", "low", "last"),
    [
        (np.array([np.nan]), None, None),
        (np.array([np.inf]), "inf", "inf"),
        (np.array([True, False]), 0, 0),
        (np.array([2**62 + 1]), 2.0**62, 2**62 + 1),
        ([1, 2.5, True], 1, 1),
        (np.array([1j]), None, None),
        (np.array(["x"]), None, None),
    ],
)
def test_the_numbers_of_the_index_are_json(tmp_path: Path, values: Any, low: Any, last: Any) -> None:
    (entry,) = build(tmp_path / "x.h5", {LOSS: columns(values)}, SeriesPlan(len(values), 3))["series"]
    json.dumps(entry, allow_nan=False)
    assert (entry["min"], entry["last"]) == (low, last)


def test_names_too_long_for_hdf5_are_kept_in_the_index(tmp_path: Path) -> None:
    keys = ["x" * 20_000, "x" * 100_000, "x" * 100_001, "a/" * 500, "\0" * 10_000]
    content = {SeriesId("scalar", "root", key): columns([1.0, 2]) for key in keys}
    build(tmp_path / "x.h5", content, SeriesPlan(2, 2))
    reader = HdfReader(tmp_path / "x.h5")
    assert reader.keys() == list(content)
    assert all(len(reader.read(series)) == 2 for series in content)
    assert not reader.damage
    assert max(len(path) for entry in reader.index["series"] for path in entry["paths"]) < 16_000


def test_scopes_that_look_alike_do_not_meet(tmp_path: Path) -> None:
    content = {
        SeriesId("scalar", scope, "a"): columns([1.0]) for scope in ("root", "root.root", "root.root.root", "root.")
    }
    build(tmp_path / "x.h5", content)
    reader = HdfReader(tmp_path / "x.h5")
    assert reader.keys() == list(content)
    assert not reader.damage


def test_an_empty_plan_makes_a_readable_file(tmp_path: Path) -> None:
    build(tmp_path / "x.h5", {LOSS: columns(np.empty(0))})
    reader = HdfReader(tmp_path / "x.h5")
    assert (reader.keys(), dict(reader.about), reader.damage) == ([], ABOUT, [])


def test_a_vanished_folder_raises_when_the_file_is_begun(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ImageBuilder(tmp_path / "gone" / "x.h5", ABOUT, {})


def masks(path: Path, name: str) -> list[int]:
    """Return of each chunk of a dataset which filters were left out."""
    with h5py.File(path) as file:
        dataset = file[name]
        return [dataset.id.get_chunk_info(number).filter_mask for number in range(dataset.id.get_num_chunks())]


@pytest.mark.parametrize("count", [2_000, 40_000, 3 * 256 * 1024 // 32, 3 * 256 * 1024 // 32 + 1])
def test_numbers_are_compressed_by_whole_chunks_that_any_tool_reads(tmp_path: Path, count: int) -> None:
    path, series = tmp_path / "a.h5", SeriesId("scalar", "root", "loss")
    values = np.sqrt(np.arange(count))
    build(path, {series: columns(values)})

    assert set(masks(path, "scalar/root/loss")) == {0}
    assert path.stat().st_size < 24 * count
    with h5py.File(path) as file:
        assert file["scalar/root/loss"].shape == (count,)
        np.testing.assert_array_equal(file["scalar/root/loss"]["value"], values)
        assert file["scalar/root/loss"].compression == "gzip"


def test_what_compression_makes_no_smaller_is_stored_as_it_is(tmp_path: Path) -> None:
    path, series = tmp_path / "a.h5", SeriesId("array", "root", "weights")
    noise = np.frombuffer(np.random.default_rng(0).bytes(64 * 2**16), np.uint8).reshape(64, 2**16)
    # It is tried again from time to time.
    values = np.concatenate([noise, np.zeros((200, 2**16), np.uint8)])
    build(path, {series: columns(values)})

    found = masks(path, "array/root/weights")
    assert found[0]
    assert not found[-1]
    assert path.stat().st_size < 1.5 * noise.nbytes
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["array/root/weights"]["value"], values)
