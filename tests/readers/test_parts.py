"""Parts: some of the values of a series are the same values as among all, whichever reader gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allogger.formats.hdf import ImageBuilder, SeriesPlan
from allogger.reader import Columns, Entry, Reader, SeriesId, in_order
from allogger.shards import open_shard
from allogger.testing import Row
from allogger.testing.rows import same
from tests.test_store import START, a_shard, write

SERIES: dict[str, list[Row]] = {
    "floats": [Row("main", "x", n, n / 7, time=n) for n in range(3000)],
    "integers and floats": [Row("main", "x", n, n if n % 2 else 0.5, time=n) for n in range(20)],
    "large integers": [Row("main", "x", n, 2**62 + n if n % 2 else 0.5, time=n) for n in range(20)],
    "complex": [Row("main", "x", n, 1j * n if n % 3 else 0.5, time=n) for n in range(20)],
    "texts": [Row("main", "x", n, f"text {n}\0{n}", "text", time=n) for n in range(100)],
    "arrays": [Row("main", "x", n, np.full((2, 3), n), "array", time=n) for n in range(100)],
    "ragged": [Row("main", "x", n, np.arange(n), "array", time=n) for n in range(30)],
    "images": [Row("main", "x", n, np.zeros((2, 2, 3) if n < 7 else (3, 3)), "image", time=n) for n in range(9)],
}
PARTS = [slice(0, 1), slice(3, 8), slice(-2, None), slice(5, None, 2), slice(2, 2), slice(10**9, None)]


@pytest.fixture(params=[None, 9.0], ids=["journal", "hdf"])
def end(request: pytest.FixtureRequest) -> Any:
    return request.param


def opened(tmp_path: Path, rows: list[Row], end: float | None) -> tuple[Reader, SeriesId]:
    shard = write(a_shard(tmp_path), rows, end)
    reader = open_shard(shard.events, shard.name)
    (series,) = reader.keys()
    return reader, series


def rows_of(columns: Columns) -> list[tuple[Any, ...]]:
    return [
        (columns.step[n], columns.time[n], columns.value[n], dict(columns.attrs.get(n, {})))
        for n in range(len(columns))
    ]


@pytest.mark.parametrize("which", SERIES)
def test_a_part_is_that_of_all_values(tmp_path: Path, which: str, end: float | None) -> None:
    reader, series = opened(tmp_path, SERIES[which], end)
    every = rows_of(reader.read(series))

    for part in PARTS:
        found = rows_of(reader.part(series, part))
        assert len(found) == len(every[part])
        for one, other in zip(found, every[part], strict=True):
            assert one[:2] == other[:2]
            assert same(one[2], other[2])
            assert one[3] == other[3]


@pytest.mark.parametrize("which", SERIES)
def test_steps_and_times_are_those_of_all_values(tmp_path: Path, which: str, end: float | None) -> None:
    reader, series = opened(tmp_path, SERIES[which], end)
    columns = reader.read(series)

    step, time = reader.steps(series)

    assert step.dtype == np.int64
    assert time.dtype == np.float64
    assert step.tolist() == columns.step.tolist()
    assert time.tolist() == columns.time.tolist()


@pytest.mark.parametrize("which", SERIES)
def test_an_entry_tells_what_the_values_are(tmp_path: Path, which: str) -> None:
    reader, series = opened(tmp_path, SERIES[which], 9.0)
    count = len(SERIES[which])
    entry = reader.entry(series)

    assert entry is not None
    assert (entry.count, entry.first_step, entry.last_step, entry.is_sorted) == (count, 0, count - 1, True)
    assert (entry.first_time, entry.last_time) == (START, START + count - 1)
    assert entry.is_number == (which in ("floats", "integers and floats", "large integers"))
    if entry.is_number:
        numbers = np.array([row.value for row in SERIES[which]], float)
        assert (entry.min, entry.max) == (numbers.min(), numbers.max())
        assert entry.mean == pytest.approx(numbers.mean(), rel=1e-12)
        assert entry.last == SERIES[which][-1].value


@pytest.mark.parametrize(
    ("steps", "times", "is_sorted"),
    [
        ([1], [0.0], True),
        ([1, 2, 2, 5], [3.0, 1.0, 1.0, 0.0], True),
        ([1, 3, 2, 4], [0.0] * 4, False),
        ([1, 1], [1.0, 0.5], False),
        ([-(2**63), 2**63 - 1], [0.0] * 2, True),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_an_entry_says_whether_steps_go_back(
    tmp_path: Path, steps: list[int], times: list[float], is_sorted: bool, at_once: bool
) -> None:
    series = SeriesId("scalar", "root", "x")
    columns = Columns(np.array(steps), np.array(times), np.zeros(len(steps)))
    with ImageBuilder(tmp_path / "x.h5", {"start": 0.0}, {series: SeriesPlan(len(steps))}) as builder:
        for part in [slice(None)] if at_once else [slice(n, n + 1) for n in range(len(steps))]:
            builder.append(series, columns.take(np.arange(len(steps))[part]))
        (told,) = builder.finish()["series"]

    assert told["is_sorted"] is in_order(columns.step, columns.time) is is_sorted
    entry = Entry.of(told)
    assert entry is not None
    assert entry.is_sorted is is_sorted


def test_steps_that_go_back_between_two_writes_are_noticed(tmp_path: Path) -> None:
    series = SeriesId("scalar", "root", "x")
    with ImageBuilder(tmp_path / "x.h5", {"start": 0.0}, {series: SeriesPlan(2**14 + 100)}) as builder:
        for count in (2**14, 100):
            builder.append(series, Columns(np.arange(count), np.zeros(count), np.zeros(count)))
        (told,) = builder.finish()["series"]

    assert told["is_sorted"] is False
