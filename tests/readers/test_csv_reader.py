from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import allogger
from allogger.errors import DamagedFile
from allogger.formats.csv import HEADER
from allogger.reader import SeriesId
from allogger.readers.csv import CsvReader

ROW = b"root/loss,1,1700000000.25,MainProcess,scalar,0.1\n"


def test_the_values_that_the_output_csv_wrote_come_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal(10_000)
    with allogger.run(tmp_path, ["csv"]) as logger:
        for number in numbers.tolist():
            logger.log(number, "loss")
        logger.log(2**62, "whole")
        logger.log(3, "mixed", step=-5)
        logger.log(0.5, "mixed", step=-5)
        logger.log(True, "flag")
        logger.log(1 + 2j, "complex")
        logger.log('one, "two"\nthree', "note")
        allogger.get_logger("agent.critic").log(1, "train/loss")
    (path,) = (tmp_path / "events").glob("*.csv")
    reader = CsvReader(path)
    loss = reader.read(SeriesId("scalar", "root", "loss"))
    table = pd.read_csv(path, low_memory=False)
    assert loss.value.tolist() == numbers.tolist()
    assert loss.step.tolist() == list(range(1, 10_001))
    assert loss.time.tolist() == table.time[table.key == "root/loss"].tolist()
    assert reader.read(SeriesId("scalar", "root", "whole")).value.tolist() == [2**62]
    assert reader.read(SeriesId("scalar", "root", "mixed")).value.tolist() == [3.0, 0.5]
    assert reader.read(SeriesId("scalar", "root", "flag")).value.dtype == bool
    assert reader.read(SeriesId("scalar", "root", "complex")).value.tolist() == [1 + 2j]
    assert reader.read(SeriesId("text", "root", "note")).value.tolist() == ['one, "two"\nthree']
    assert reader.read(SeriesId("scalar", "root.agent.critic", "train/loss")).value.tolist() == [1]
    assert reader.about["process"] == "MainProcess"
    assert reader.last_time() == table.time.max()
    assert not reader.damage


@pytest.mark.parametrize(
    "values",
    [
        ["1"] * 5000 + ["9007199254740993"] + ["0.5"] * 5000,
        ["9007199254740993"] + ["1"] * 4095 + ["0.5"] * 4096,
        ["1.0", "9007199254740993"],
    ],
)
def test_large_integers_stay_exact_when_floats_are_among_them(tmp_path: Path, values: list[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        HEADER + "".join(f"root/a,{n},1.0,MainProcess,scalar,{v}\n" for n, v in enumerate(values)).encode()
    )
    columns = CsvReader(path).read(SeriesId("scalar", "root", "a"))
    assert [str(value) for value in columns.value.tolist()] == values


def test_a_torn_last_row_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(HEADER + ROW + ROW[:-3])
    reader = CsvReader(path)
    assert len(reader.read(SeriesId("scalar", "root", "loss"))) == 1
    assert not reader.damage


@pytest.mark.parametrize("bad", [b"nonsense\n", ROW.replace(b",1,", b",9223372036854775808,"), b'"\n"x\n'])
def test_a_damaged_row_is_told_with_its_place_and_what_is_before_it_stays(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(HEADER + ROW + bad + ROW)
    reader = CsvReader(path)
    assert len(reader.read(SeriesId("scalar", "root", "loss"))) == 1
    assert "nothing behind it is read" in reader.damage[0]


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises((DamagedFile, IsADirectoryError)):
        CsvReader(tmp_path)
