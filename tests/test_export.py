"""Export: does every format hold all values exactly, beside what was there, in memory that does not grow?"""

from __future__ import annotations

import base64
import json
import os
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allogger
from allogger.dtypes import dtype_from_json
from allogger.errors import ConfigError, MissingDependency, NoSuchKey, UnknownName
from allogger.export import export
from allogger.exporters.text import json_array, json_number
from allogger.formats import csv
from allogger.manager import manager
from allogger.names import hdf_path, split_full_key
from allogger.registry import exporters
from allogger.testing.rows import ODD_NAMES, ODD_VALUES, Row, same
from allogger.testing.strategies import rows

FORMATS = ["csv", "csv-wide", "parquet", "jsonl", "npz", "hdf", "tensorboard"]
# Those that hold everything.
EXACT = ["csv", "parquet", "jsonl", "npz", "hdf"]

Value = tuple[str, int, float, str, Any]


def logged(logdir: Path, many: Sequence[Row]) -> allogger.Run:
    """Return a run in which the rows were logged."""
    with allogger.run(logdir, ["hdf"]):
        for row in many:
            allogger.get_logger(row.scope).log(row.value, row.key, row.step, data_type=row.kind)
    manager.reset()
    return allogger.open_run(logdir)


def shown(run: allogger.Run) -> list[Value]:
    """Return every value of a run as ``(key, step, time, process, value)``."""
    return [
        (key, int(step), float(time), str(process), value)
        for key in run
        for step, time, process, value in zip(*fields(run[key]), strict=True)
    ]


def fields(series: Any) -> tuple[Any, ...]:
    return series.step, series.time, series.process, list(series.value)


# --------------------------------------------------------------------------------------------- reading without allogger


def of_json(value: Any, dtype: Any = None, shape: Any = None) -> Any:
    if isinstance(value, dict):
        raw = base64.b64decode(value["base64"])
        return np.ndarray(value["shape"], dtype_from_json(value["dtype"]), raw if raw else None)
    if dtype is not None:
        return np.array(numbers_of(value), dtype_from_json(dtype)).reshape(shape)
    return value


def read_csv(path: Path) -> list[Value]:
    found: list[Value] = []
    for row in csv.rows(path):
        value: Any = row.value
        if row.kind not in ("scalar", "text"):
            value = of_json(json.loads(value))
            value = value if isinstance(value, np.ndarray) else numbers_of(value)
        found.append((row.key, row.step, row.time, row.process, value))
    return found


def numbers_of(nested: Any) -> Any:
    if isinstance(nested, list):
        return [numbers_of(one) for one in nested]
    return float(nested) if isinstance(nested, str) else nested


def read_jsonl(path: Path) -> list[Value]:
    found: list[Value] = []
    for line in path.read_text().splitlines():
        row = json.loads(line, parse_constant=pytest.fail)
        value = row["value"]
        if "dtype" in row:
            value = of_json(value, row["dtype"], row["shape"])
        elif row["kind"] == "scalar" and isinstance(value, str):
            value = np.longdouble(value) if "j" not in value else complex(value)
        found.append((row["key"], row["step"], float(row["time"]), row["process"], value))
    return found


def read_parquet(path: Path) -> list[Value]:
    import pyarrow.parquet

    found: list[Value] = []
    for row in pyarrow.parquet.read_table(path).to_pylist():
        value = row["integer"] if row["integer"] is not None else row["value"]
        if row["dtype"] == "|b1" and row["shape"] is None:
            value = bool(value)
        if row["text"] is not None:
            value = row["data"].decode("utf-8", "surrogatepass") if row["data"] is not None else row["text"]
        elif row["data"] is not None:
            descr = row["dtype"]
            dtype = dtype_from_json(json.loads(descr) if descr[0] in "[{" else descr)
            value = np.ndarray(row["shape"], dtype, row["data"] or None)
        found.append((csv.unescape(row["key"]), row["step"], row["time"], csv.unescape(row["process"]), value))
    return found


def read_npz(path: Path, run: allogger.Run) -> list[Value]:
    found: list[Value] = []
    with np.load(path, allow_pickle=False) as arrays:
        for key in run:
            name = hdf_path(run.kinds[key], *split_full_key(key))
            if f"{name}/step" not in arrays:
                continue
            step, time = arrays[f"{name}/step"], arrays[f"{name}/time"]
            process = np.broadcast_to(arrays[f"{name}/process"], len(step))
            if f"{name}/value" in arrays:
                values = list(arrays[f"{name}/value"])
            else:
                data, offset = arrays[f"{name}/data"].tobytes(), arrays[f"{name}/offset"].tolist()
                values = [
                    laid_out(json.loads(str(layout)), data[start:stop])
                    for layout, start, stop in zip(arrays[f"{name}/layout"], offset, offset[1:], strict=False)
                ]
            found += zip([key] * len(step), step.tolist(), time.tolist(), map(str, process), values, strict=True)
    return found


def laid_out(layout: Any, data: bytes) -> Any:
    if layout == "text":
        return data.decode("utf-8", "surrogatepass")
    return np.ndarray(layout[1], dtype_from_json(layout[0]), data or None)


def read_hdf(path: Path, logdir: Path) -> list[Value]:
    """Return the values of a file as allogger itself reads them, in the place of a run's only shard."""
    (logdir / "events").mkdir(parents=True)
    os.link(path, logdir / "events" / "20240101T000000.000000-host-1-0.h5")
    return shown(allogger.open_run(logdir))


def read_back(name: str, path: Path, run: allogger.Run) -> list[Value]:
    if name == "npz":
        return read_npz(path, run)
    if name == "hdf":
        return read_hdf(path, path.with_name("again"))
    readers: dict[str, Callable[[Path], list[Value]]] = {
        "csv": read_csv,
        "jsonl": read_jsonl,
        "parquet": read_parquet,
    }
    return readers[name](path)


def check(name: str, path: Path, run: allogger.Run) -> None:
    expected = shown(run)
    found = read_back(name, path, run)
    assert [value[:4] for value in found] == [value[:4] for value in expected]
    for (key, *_, one), (*_, other) in zip(found, expected, strict=True):
        assert equal(one, other), f"{key}: {one!r} instead of {other!r}"


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, list):  # of an array in a CSV file
        return json_array(np.asarray(other)) == json.dumps(one).replace(" ", "") or same(
            np.array(one, np.asarray(other).dtype).reshape(np.shape(other)), other
        )
    if isinstance(other, str) or isinstance(one, str):
        return bool(one == other)
    a, b = np.asarray(one), np.asarray(other)
    if a.dtype == b.dtype and a.dtype.kind not in "biufc":
        return a.shape == b.shape and a.tobytes() == b.tobytes()
    # `csv.rows` gives Python's floats; in the file stands the whole of a longer one.
    return same(a, b.astype(float) if b.dtype == np.longdouble and a.dtype == float else b)


# ----------------------------------------------------------------------------------------------------------- the values


@settings(max_examples=15)
@given(many=rows())
@pytest.mark.parametrize("name", EXACT)
def test_every_value_comes_back_exactly(name: str, many: list[Row], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("export")
    run = logged(folder / "run", many)
    if not len(run):
        return

    path = export(run, folder / "out", name)

    check(name, path, run)


@pytest.mark.parametrize("name", EXACT)
def test_odd_values_under_odd_names_come_back_exactly(name: str, tmp_path: Path) -> None:
    many = [Row("main", f"{kind}/{n}", 1, value, kind) for n, (kind, value) in enumerate(ODD_VALUES)]
    many += [Row("main", kind, n, value, kind) for n, (kind, value) in enumerate(ODD_VALUES)]
    many += [Row("main", key, 1, n) for n, key in enumerate(ODD_NAMES)]
    many += [Row(scope, "x", 1, n) for n, scope in enumerate(ODD_NAMES)]
    run = logged(tmp_path / "run", many)

    check(name, export(run, tmp_path / "out", name), run)
    assert sorted(os.listdir(tmp_path)) in (["out", "run"], ["again", "out", "run"])


@pytest.mark.parametrize("name", EXACT)
def test_a_key_of_several_portions_comes_back_exactly(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(exporters[name], "portion_rows", lambda self, keys: 7)
    many = [Row("main", "x", n, n / 3) for n in range(50)]
    many += [Row("main", "text", n, "x" * n, "text") for n in range(50)]
    many += [Row("main", "array", n, np.full((n % 2, 2), n), "array") for n in range(20)]
    many += [Row("main", "mixed", n, n if n % 3 else "three", "scalar" if n % 3 else "text") for n in range(20)]
    run = logged(tmp_path / "run", many)

    check(name, export(run, tmp_path / "out", name), run)


def test_a_wide_table_is_what_pandas_shows(tmp_path: Path) -> None:
    many = [Row("main", "sorted", n, n / 3) for n in range(0, 40000, 2)]
    many += [Row("main", "back", (n * 7919) % 5000, n) for n in range(6000)]
    many += [Row("main", "note", 3, 'a, "b"\nc', "text")]
    run = logged(tmp_path / "run", many)

    path = export(run, tmp_path / "wide.csv", "csv-wide")

    table = pd.read_csv(path, index_col="step")
    pd.testing.assert_frame_equal(table, run.wide(), check_dtype=False)


def test_a_wide_table_says_what_it_has_no_room_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = logged(tmp_path / "run", [Row("m", "x", 1, 1), Row("m", "x", 1, 2), Row("m", "w", 1, np.eye(2), "array")])

    path = export(run, tmp_path / "wide.csv", "csv-wide")

    assert path.read_text() == "step,m/x\n1,2\n"
    assert "1 values of 'm/x' (a wide table has room for the last value of a step only)" in caplog.text
    assert "1 values of 'm/w' (a wide table has no place for arrays)" in caplog.text


def test_tensorboard_reads_what_was_exported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    values = [np.nan, 0.1, -np.inf, 1e300]
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    run = logged(
        tmp_path / "run",
        [Row("main", "loss", n * 10**12, value) for n, value in enumerate(values)]
        + [Row("main", "note", 1, "halved", "text"), Row("main", "picture", 2, picture, "image")]
        + [Row("main", "w", 3, np.arange(5.0), "histogram"), Row("main", "a", 3, np.eye(2), "array")],
    )

    path = export(run, tmp_path / "tb", "tensorboard")

    assert os.listdir(path) == ["MainProcess"]
    read = event_accumulator.EventAccumulator(str(path / "MainProcess"), {"scalars": 0, "images": 0}).Reload()
    scalars = read.Scalars("main/loss")
    assert [event.step for event in scalars] == run["main/loss"].step.tolist()
    assert [event.wall_time for event in scalars] == run["main/loss"].time.tolist()
    with np.errstate(over="ignore"):
        assert same(np.array([event.value for event in scalars]), np.float32(values).astype(float))
    assert [event.width for event in read.Images("main/picture")] == [4]
    assert read.Histograms("main/w")[0].histogram_value.num == 5
    assert "1 values of 'main/a' (TensorBoard has no place for values of kind 'array')" in caplog.text


def test_h5py_reads_what_was_exported(tmp_path: Path) -> None:
    run = logged(tmp_path / "run", [Row("agent.critic", "train/loss", n, n / 3) for n in range(3)])

    with h5py.File(export(run, tmp_path / "all.h5")) as file:
        found = file["scalar/agent.critic/train/loss"][()]

    assert found["value"].tolist() == [0, 1 / 3, 2 / 3]
    assert found["step"].tolist() == [0, 1, 2]
    assert found["time"].tolist() == run["agent.critic/train/loss"].time.tolist()
    assert allogger.api.hdf.list_keys(tmp_path / "all.h5") == ["scalar/agent.critic/train/loss"]


# ------------------------------------------------------------------------------------------------ runs and their parts

CHILD = """
import multiprocessing
import allogger

def work(n):
    logger = allogger.get_logger("worker")
    for step in range(5):
        logger.log(10 * n + step, "x", step)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with allogger.run("run", ["hdf"]) as root:
        work(0)
        for n in (1, 2):
            process = context.Process(target=work, args=(n,), name=f"Process-{n}")
            process.start()
            process.join()
"""


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet", "npz"])
def test_values_say_which_process_has_written_them(name: str, tmp_path: Path, run_python: Callable[..., Any]) -> None:
    assert run_python(CHILD).returncode == 0
    run = allogger.open_run(tmp_path / "run")
    assert set(run["worker/x"].process) == {"MainProcess", "Process-1", "Process-2"}

    check(name, export(run, tmp_path / "out", name), run)


def test_in_one_hdf5_file_the_values_of_other_processes_have_scopes_of_their_own(
    tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    assert run_python(CHILD).returncode == 0
    run = allogger.open_run(tmp_path / "run")

    path = export(run, tmp_path / "all.h5")

    found = {key: values for key, _, _, _, values in read_hdf(path, tmp_path / "again")}
    assert sorted(found) == ["worker/x", "worker@Process-1/x", "worker@Process-2/x"]
    assert sum(len(allogger.open_run(tmp_path / "again")[key]) for key in found) == len(run["worker/x"])


def test_several_runs_are_told_apart_by_as_much_of_their_paths_as_it_takes(tmp_path: Path) -> None:
    for seed in (1, 2):
        logged(tmp_path / str(seed) / "run", [Row("main", "loss", 1, seed / 10)])
    runs = allogger.open_runs(tmp_path / "*" / "run")

    table = pd.read_csv(export(runs, tmp_path / "long.csv"))
    wide = pd.read_csv(export(runs, tmp_path / "wide.csv", "csv-wide"))
    lines = [json.loads(line) for line in export(runs, tmp_path / "all.jsonl").read_text().splitlines()]
    with np.load(export(runs, tmp_path / "all.npz")) as arrays:
        names = sorted(arrays)
    folders = sorted(os.listdir(export(runs, tmp_path / "tb", "tensorboard")))

    assert table["run"].tolist() == wide["run"].tolist() == [line["run"] for line in lines] == ["1/run", "2/run"]
    assert table["value"].tolist() == wide["main/loss"].tolist() == [0.1, 0.2]
    assert [name for name in names if "value" in name] == [f"{n}%2Frun/scalar/main/loss/value.npy"[:-4] for n in (1, 2)]
    assert folders == ["1%2Frun", "2%2Frun"]
    assert len(read_hdf(export(runs, tmp_path / "all.h5"), tmp_path / "again")) == 2


def test_a_run_that_was_killed_and_continued_is_exported_as_it_is_shown(tmp_path: Path) -> None:
    logged(tmp_path / "run", [Row("main", "x", n, n) for n in range(10)])
    run = logged(tmp_path / "run", [Row("main", "x", n, -n) for n in range(5, 8)])

    check("csv", export(run, tmp_path / "out.csv"), run)
    assert [value for *_, value in read_csv(tmp_path / "out.csv")] == [0, 1, 2, 3, 4, -5, -6, -7]
    every = allogger.open_run(tmp_path / "run", attempts="all")
    check("csv", export(every, tmp_path / "all.csv"), every)


# ------------------------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize("name", FORMATS)
def test_what_exists_stays_unless_it_may_be_overwritten(name: str, tmp_path: Path) -> None:
    run = logged(tmp_path / "run", [Row("main", "x", 1, 1)])
    path = tmp_path / "out"
    export(run, path, name)
    before = content(path)
    later = logged(tmp_path / "later", [Row("main", "x", 1, 1), Row("main", "y", 1, 2)])

    with pytest.raises(ConfigError, match="exists"):
        export(later, path, name)
    assert content(path) == before

    assert export(later, path, name, overwrite=True) == path
    assert content(path) != before
    assert sorted(os.listdir(tmp_path)) == ["later", "out", "run"]


def content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file): file.read_bytes() for file in files}


@pytest.mark.parametrize("name", FORMATS)
def test_a_failing_export_leaves_nothing_behind(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    run = logged(tmp_path / "run", [Row("main", "x", n, n) for n in range(10)] + [Row("main", "y", 1, 2)])

    def stop(share: float, key: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(run, tmp_path / "out", name, progress=stop)

    assert os.listdir(tmp_path) == ["run"]


def test_a_folder_with_other_files_is_not_overwritten(tmp_path: Path) -> None:
    run = logged(tmp_path / "run", [Row("main", "x", 1, 1)])
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("all of it")

    with pytest.raises(ConfigError, match="holds other files"):
        export(run, tmp_path / "home", "tensorboard", overwrite=True)
    with pytest.raises(ConfigError, match="not what this export makes"):
        export(run, tmp_path / "home", "csv", overwrite=True)
    assert (tmp_path / "home" / "thesis.tex").read_text() == "all of it"


@pytest.mark.parametrize("name", ["npz", "tensorboard"])
def test_no_name_leads_out_of_the_target(name: str, tmp_path: Path) -> None:
    run = logged(tmp_path / "run", [Row("..", "../../x", 1, 1), Row("/etc", "/y", 1, 1), Row("main", "..", 1, 1)])

    path = export(run, tmp_path / "out", name)

    if name == "npz":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        assert not any(part in ("", ".", "..") for member in names for part in member.split("/"))
    assert sorted(os.listdir(tmp_path)) == ["out", "run"]


def test_the_suffix_tells_the_format(tmp_path: Path) -> None:
    run = logged(tmp_path / "run", [Row("main", "x", 1, 1)])

    assert h5py.is_hdf5(export(run, tmp_path / "a.h5"))
    assert zipfile.is_zipfile(export(run, tmp_path / "a.npz"))
    with pytest.raises(ConfigError, match="tells no format; give format= one of: csv, csv-wide"):
        export(run, tmp_path / "a.xls")
    with pytest.raises(UnknownName, match="did you mean 'parquet'"):
        export(run, tmp_path / "a", "parket")
    with pytest.raises(NoSuchKey, match="no key matches 'loss'"):
        export(run, tmp_path / "a.csv", pattern="loss")


def test_progress_goes_from_nothing_to_one(tmp_path: Path) -> None:
    run = logged(tmp_path / "run", [Row("main", f"x{n}", 1, 1) for n in range(4)])
    seen: list[tuple[float, str]] = []

    export(run, tmp_path / "a.csv", progress=lambda share, key: seen.append((share, key)))

    assert seen == [(0.25, "main/x0"), (0.5, "main/x1"), (0.75, "main/x2"), (1.0, "main/x3"), (1.0, "")]


@given(st.floats() | st.integers(-(2**63), 2**64 - 1) | st.booleans())
def test_a_number_in_json_is_exact(number: Any) -> None:
    found = json.loads(json_number(number))
    assert same(float(found) if isinstance(found, str) else found, number)


@pytest.mark.parametrize("name", FORMATS)
def test_a_key_that_is_lost_does_not_cost_the_others(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(0)
    many = [Row("main", key, n, value) for key in ("a", "b") for n, value in enumerate(random.random(3000).tolist())]
    run = logged(tmp_path / "run", many)
    (file,) = (tmp_path / "run" / "events").glob("*.h5")
    with h5py.File(file) as before:
        place = before["scalar/main/a"].id.get_chunk_info(0)
    data = bytearray(file.read_bytes())
    data[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    file.write_bytes(data)
    run = allogger.open_run(tmp_path / "run")

    path = export(run, tmp_path / "out", name)

    assert "damaged" in caplog.text
    if name in EXACT:
        found = [value for value in read_back(name, path, run) if value[0] == "main/b"]
        assert [value for *_, value in found] == run["main/b"].value.tolist()


@pytest.mark.parametrize(("name", "library"), [("parquet", "pyarrow")])
def test_a_missing_library_is_named_with_what_installs_it(
    name: str, library: str, tmp_path: Path, monkeypatch: Any
) -> None:
    run = logged(tmp_path / "run", [Row("main", "x", 1, 1)])
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"allogger.exporters.{name}", raising=False)
    monkeypatch.delitem(exporters._classes, name, raising=False)

    with pytest.raises(MissingDependency, match=f"needs {library}; install it with: pip install"):
        export(run, tmp_path / "out", name)
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("name", ["npz", "hdf", "csv-wide"])
def test_memory_does_not_grow_with_the_run(name: str, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        with allogger.run(tmp_path / str(count), ["hdf"]) as root:
            for n in range(count):
                root.log(n, "x", n)
        run = allogger.open_run(tmp_path / str(count))
        tracemalloc.start()
        try:
            export(run, tmp_path / f"out{count}", name)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    fewer, more = (25_000, 100_000) if name == "csv-wide" else (150_000, 600_000)
    peak(1000)
    before, after = peak(fewer), peak(more)

    # The steps of a wide table take 8 bytes each, twice where they are joined.
    steps = 16 * (more - fewer) if name == "csv-wide" else 0
    assert after - before < 2**20 + steps, f"{before} bytes for {fewer} values, {after} for {more}"


@pytest.mark.parametrize("most", [1, 64])
def test_each_process_has_a_folder_for_tensorboard(
    most: int, tmp_path: Path, run_python: Callable[..., Any], monkeypatch: Any
) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert run_python(CHILD).returncode == 0
    run = allogger.open_run(tmp_path / "run")
    monkeypatch.setattr("allogger.exporters.tensorboard._MOST_WRITERS", most)
    monkeypatch.setattr(exporters["tensorboard"], "portion_rows", lambda self, keys: 2)

    path = export(run, tmp_path / "tb", "tensorboard")

    assert sorted(os.listdir(path)) == ["MainProcess", "Process-1", "Process-2"]
    for process in os.listdir(path):
        events = event_accumulator.EventAccumulator(str(path / process), {"scalars": 0}).Reload().Scalars("worker/x")
        mine = run["worker/x"].process == process
        assert [event.value for event in events] == run["worker/x"].value[mine].tolist()


@pytest.mark.parametrize("name", exporters.builtin)
def test_what_is_shown_as_an_object_is_exported_as_it_is_stored(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tables = [pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"b": pd.array([True, None], "boolean")})]
    with allogger.run(tmp_path / "run") as root:
        root.log({"rate": 0.1}, "params", data_type="params")
        for table in tables:
            root.log(table, "table", data_type="table")
            root.log(table, "mixed", data_type="table")
        root.log(0.5, "mixed")
        root.log({"rate": 0.2}, "mixed", data_type="params")

    path = export(allogger.open_run(tmp_path / "run"), tmp_path / f"out.{name}", name)

    assert path.exists()
    assert "does not hold everything" not in caplog.text or name == "csv-wide"
    if name == "hdf":
        run = allogger.open_run(path)
        assert run["root/params"].value[0] == {"rate": 0.1}
        for found, table in zip([*run["root/table"].value, *run["root/mixed"].value], tables * 2, strict=False):
            pd.testing.assert_frame_equal(found, table)
        assert run["root/mixed"].value[3] == {"rate": 0.2}
