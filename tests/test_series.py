"""Series: some of the values are a series again, and other libraries get all of them, exactly."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from allogger.errors import ConfigError, MissingDependency, UnknownName
from allogger.series import Series
from allogger.store import open_run
from allogger.testing import Row
from tests.test_store import a_shard, losses, write

VALUES: dict[str, Any] = {
    "floats": np.array([0.1, np.nan, -np.inf]),
    "integers": np.array([1, -(2**63), 2**63 - 1]),
    "flags": np.array([True, False, True]),
    "texts": np.array(["a", "", "ü\n"], object),
    "arrays": np.arange(12.0).reshape(3, 2, 2),
    "big endian": np.array([1, 2, 3], ">i4"),
}


def series(value: Any, step: Any = (1, 2, 5), **more: Any) -> Series:
    step = np.asarray(step)
    process = np.array(["MainProcess"] * len(step), object)
    return Series("main/x", "array", step, 1.7e9 + step / 10, value, process, **more)


def test_rows_steps_and_times_choose_values(tmp_path: Path) -> None:
    main = write(a_shard(tmp_path), losses([5, 3, 9, 1]))
    write(a_shard(tmp_path, 1.0, "Process-1", main), losses([4], 1.0))
    found = open_run(tmp_path)["main/loss"]

    assert found.step.tolist() == [1, 3, 4, 5, 9]
    assert found[1:3].value.tolist() == [3.0, 4.0]
    assert found[::-1].step.tolist() == [9, 5, 4, 3, 1]
    assert found[-1] == found.last == 9.0
    assert found.steps(3, 5).process.tolist() == ["MainProcess", "Process-1", "MainProcess"]
    assert found.steps(last=3).step.tolist() == [1, 3]
    assert found.steps(4).step.tolist() == [4, 5, 9]
    assert found.between(found.time[2], found.time[2]).step.tolist() == [4]
    assert found[found.value > 4].key == "main/loss"
    assert len(found.steps(100)) == 0
    assert found.steps(100).last is None
    assert found.steps(100).summary().count == 0


def test_x_is_step_time_or_seconds_since_the_run_began(tmp_path: Path) -> None:
    write(a_shard(tmp_path), [Row("main", "loss", 7, 1.0, time=2.5)])
    found = open_run(tmp_path)["main/loss"]

    assert found.curve().x.tolist() == [7.0]
    assert found.curve("time").x.tolist() == found.time.tolist()
    assert found.curve("relative").x.tolist() == [2.5]
    with pytest.raises(UnknownName, match="did you mean 'step'"):
        found.curve("stpe")


def test_pictures_of_a_series_say_what_they_are(tmp_path: Path) -> None:
    write(a_shard(tmp_path), losses(range(1, 2001)))
    found = open_run(tmp_path)["main/loss"]

    assert found.resample(100).is_reduced
    assert found.resample(100).count == 2000
    assert not found.smooth(ema=0.9).is_reduced
    assert len(found.smooth(window=10)) == 2000


# ------------------------------------------------------------------------------------------------------ other libraries


@pytest.mark.parametrize("name", VALUES)
def test_numpy_gets_all_of_it(name: str) -> None:
    rows = series(VALUES[name]).to_numpy()

    assert rows.dtype.names == ("step", "time", "value")
    assert rows["step"].tolist() == [1, 2, 5]
    assert rows["value"].dtype == VALUES[name].dtype
    assert np.array_equal(rows["value"], VALUES[name], equal_nan=name == "floats")


@pytest.mark.parametrize("name", VALUES)
def test_polars_gets_all_of_it(name: str) -> None:
    pytest.importorskip("polars")
    frame = series(VALUES[name]).to_polars()

    assert frame.columns == ["step", "time", "process", "value"]
    assert frame["step"].to_list() == [1, 2, 5]
    assert np.array_equal(
        np.array(frame["value"].to_list(), VALUES[name].dtype), VALUES[name], equal_nan=name == "floats"
    )


@pytest.mark.parametrize("name", VALUES)
def test_arrow_gets_all_of_it(name: str) -> None:
    pytest.importorskip("pyarrow")
    table = series(VALUES[name]).to_arrow()

    assert table.column_names == ["step", "time", "process", "value"]
    assert table.schema.metadata == {b"key": b"main/x", b"kind": b"array"}
    assert table["process"].to_pylist() == ["MainProcess"] * 3
    value = np.array(table["value"].to_pylist(), VALUES[name].dtype)
    assert np.array_equal(value, VALUES[name], equal_nan=name == "floats")


@pytest.mark.parametrize("name", VALUES)
def test_xarray_gets_all_of_it(name: str) -> None:
    pytest.importorskip("xarray")
    array = series(VALUES[name], meta={"layout": "HW"}).to_xarray()

    assert array.name == "main/x"
    assert array.attrs == {"layout": "HW"}
    assert array.coords["step"].values.tolist() == [1, 2, 5]
    assert array.shape == VALUES[name].shape
    assert array.dtype == VALUES[name].dtype
    assert array.sel(step=5).values.tolist() == np.asarray(VALUES[name])[2:].tolist()[0]


def test_what_arrow_cannot_hold_is_an_error_with_a_way_out() -> None:
    pytest.importorskip("pyarrow")
    ragged = np.empty(3, object)
    ragged[:] = [np.zeros((1, 2)), np.zeros((2, 2)), np.zeros((3, 2))]
    huge = np.array([{"number": 2**80}] * 3, object)

    for value in (np.array([1j, 2j, 3j]), ragged, huge):
        with pytest.raises(ConfigError, match=r"use to_numpy\(\)"):
            series(value).to_arrow()


def test_arrays_of_several_shapes_reach_the_others() -> None:
    ragged = np.empty(3, object)
    ragged[:] = [np.zeros(1), np.ones(2), np.zeros(0)]

    assert [len(item) for item in series(ragged).to_numpy()["value"]] == [1, 2, 0]
    if "polars" in sys.modules:
        assert [len(item) for item in series(ragged).to_polars()["value"].to_list()] == [1, 2, 0]
    if "pyarrow" in sys.modules:
        assert series(ragged).to_arrow()["value"].to_pylist() == [[0.0], [1.0, 1.0], []]


@pytest.mark.parametrize("library", ["polars", "xarray", "arrow"])
def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, {"arrow": "pyarrow"}.get(library, library), None)
    monkeypatch.delitem(sys.modules, f"allogger.conversions.{library}", raising=False)

    with pytest.raises(MissingDependency, match=rf"pip install 'allogger\[{library}\]'"):
        getattr(series(VALUES["floats"]), f"to_{library}")()


def test_pandas_gets_the_values_over_their_steps() -> None:
    found = series(VALUES["integers"]).to_pandas()

    assert isinstance(found, pd.Series)
    assert found.index.tolist() == [1, 2, 5]
    assert found.tolist() == VALUES["integers"].tolist()
