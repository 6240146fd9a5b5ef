from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from allogger.errors import DamagedFile
from allogger.reader import SeriesId
from allogger.readers.allogger02 import Allogger02Reader

START = 1_600_000_000


def old_file(path: Path, datasets: dict[str, Any], start: float = START) -> Path:
    """Write the file that ALLogger 0.2 writes: rows of 32-bit numbers, compressed, and nothing about itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "a") as file:
        for name, values in datasets.items():
            array = np.asarray(values, np.float32)
            rows = np.zeros(
                len(array), [("step", "i4"), ("time", "f4"), ("walltime", "f4"), ("value", "f4", array.shape[1:])]
            )
            rows["step"] = np.arange(1, len(array) + 1)
            rows["walltime"] = np.arange(len(array)) * 0.5
            rows["time"] = start + rows["walltime"]
            rows["value"] = array
            file.create_dataset(name, data=rows, maxshape=(None,), chunks=(max(len(array), 1),), compression="gzip")
    return path


def test_values_and_steps_are_those_of_the_file_and_times_are_sharper(tmp_path: Path) -> None:
    path = old_file(tmp_path / f"{START}_node.h5", {"scalar/main/value": [0.5, 0.25, 0.125]})
    columns = Allogger02Reader(path, START).read(SeriesId("scalar", "root.main", "value"))
    assert columns.step.tolist() == [1, 2, 3]
    assert columns.value.tolist() == [0.5, 0.25, 0.125]
    assert columns.time.tolist() == [START, START + 0.5, START + 1.0]


def test_a_start_that_does_not_agree_leaves_the_times_as_they_are(tmp_path: Path) -> None:
    path = old_file(tmp_path / "a.h5", {"scalar/main/value": [0.5]}, start=START + 10_000)
    series = SeriesId("scalar", "root.main", "value")
    for start in (None, START):
        assert Allogger02Reader(path, start).read(series).time.tolist() == [float(np.float32(START + 10_000))]


def test_arrays_and_images_are_read(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    path = old_file(tmp_path / "a.h5", {"array/main/arr": array})
    columns = Allogger02Reader(path).read(SeriesId("array", "root.main", "arr"))
    np.testing.assert_array_equal(columns.value, array)


def test_subprocesses_are_processes_and_not_keys(tmp_path: Path) -> None:
    path = old_file(
        tmp_path / "a.h5",
        {
            "scalar/worker/Process5/value": [5],
            "scalar/worker/Process6/a/b": [6],
            "scalar/worker/ForkPoolWorker1/value": [7],
            "scalar/worker/value": [0],
            "scalar/worker/Processes/value": [1],
        },
    )
    reader = Allogger02Reader(path)
    assert sorted(reader.processes) == ["ForkPoolWorker1", "MainProcess", "Process5", "Process6"]
    readers = [Allogger02Reader(path, None, process) for process in reader.processes]
    shown = {reader.about["process"]: [tuple(series)[1:] for series in reader.keys()] for reader in readers}  # noqa: SIM118
    assert shown["Process5"] == [("root.worker", "value")]
    assert shown["Process6"] == [("root.worker", "a/b")]
    assert sorted(shown["MainProcess"]) == [("root.worker", "Processes/value"), ("root.worker", "value")]


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    with pytest.raises(DamagedFile):
        Allogger02Reader(tmp_path / "a.h5")
