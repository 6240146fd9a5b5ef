"""Summaries: what index and blocks tell of a run is what all of its values, read, would have told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allogger
from allogger.errors import ConfigError, DamagedFile, NoSuchKey
from allogger.readers.hdf import HdfReader
from allogger.registry import kinds
from allogger.rundir import EVENTS, INDEX
from allogger.store import Run, open_run
from allogger.testing import Row
from tests.test_store import a_shard, losses, write

RNG = np.random.default_rng(0)
END = 9000.0


def noise(steps: Sequence[int], time: float = 0.0, spike: int | None = None, nan: int | None = None) -> list[Row]:
    """Return rows with random values, at *spike* an outlier and at *nan* none."""
    values = RNG.normal(size=len(steps))
    rows = [Row("main", "loss", n, float(v), time=time + i / 1000) for i, (n, v) in enumerate(zip(steps, values))]  # noqa: B905  # equal by construction
    if spike is not None:
        rows[spike] = rows[spike]._replace(value=99.0)
    if nan is not None:
        rows[nan] = rows[nan]._replace(value=float("nan"))
    return rows


def one_process(logdir: Path, end: float | None) -> None:
    write(a_shard(logdir), noise(range(1, 9001), spike=5000, nan=17), end)


def short_ones(logdir: Path, end: float | None) -> None:
    write(a_shard(logdir), noise(range(1, 20), nan=3), end)
    write(a_shard(logdir, 10000), noise(range(20, 40), 10000), end and end + 10000)


def an_attempt_that_goes_on(logdir: Path, end: float | None) -> None:
    write(a_shard(logdir), noise(range(1, 5001), spike=4999), end)
    write(a_shard(logdir, 10000), noise(range(5001, 9001), 10000), end and end + 10000)


def an_attempt_cut_in_a_block(logdir: Path, end: float | None) -> None:
    write(a_shard(logdir), noise(range(1, 5001), spike=4500), end)
    write(a_shard(logdir, 10000), noise(range(4001, 9001), 10000, spike=3000), end and end + 10000)


def an_attempt_that_replaces_all(logdir: Path, end: float | None) -> None:
    write(a_shard(logdir), noise(range(1, 5001), spike=4500), end)
    write(a_shard(logdir, 10000), noise(range(1, 5001), 10000), end and end + 10000)


def steps_that_go_back(logdir: Path, end: float | None) -> None:
    # Neither end tells that the first attempt reached step 9000.
    write(a_shard(logdir), noise([*range(1, 3000), *range(9000, 5000, -1), 3000], spike=4000), end)
    write(a_shard(logdir, 10000), noise(range(6000, 9001), 10000), end and end + 10000)


def two_processes(logdir: Path, end: float | None) -> None:
    main = write(a_shard(logdir), noise(range(1, 5001), spike=100), end)
    write(a_shard(logdir, 1.0, "Process-1", main), noise(range(1, 6001), 0.5, nan=0), end)


def two_processes_whose_steps_go_back(logdir: Path, end: float | None) -> None:
    main = write(a_shard(logdir), noise([*range(3000, 5001), *range(1, 2000)], spike=100), end)
    write(a_shard(logdir, 1.0, "Process-1", main), noise(range(1, 4001), 0.5), end)


def texts(logdir: Path, end: float | None) -> None:
    write(a_shard(logdir), [Row("main", "loss", n, f"text {n}", "text", n / 100) for n in range(1, 9)], end)


def integers(logdir: Path, end: float | None) -> None:
    write(a_shard(logdir), [Row("main", "loss", n, 3 * n, time=n / 1000) for n in range(1, 2000)], end)


def an_attempt_cut_where_a_block_begins(logdir: Path, end: float | None) -> None:
    write(a_shard(logdir), noise(range(0, 50000, 10), spike=2047), end)
    write(a_shard(logdir, 10000), noise(range(20480, 70000, 10), 10000), end and end + 10000)


def two_processes_and_two_attempts(logdir: Path, end: float | None) -> None:
    for start in (0.0, 10000.0):
        first = 1 if not start else 3001
        main = write(a_shard(logdir, start), noise(range(first, 5001), start, nan=3), end and end + start)
        write(a_shard(logdir, start + 1, "B", main), noise(range(first - 1, 6000), start + 1), end and end + start)


def steps_that_seem_counted(logdir: Path, end: float | None) -> None:
    # From 1 to 4 in four steps, but not through 2 and 3.
    main = write(a_shard(logdir), losses([1, 9, 3, 4]), end)
    write(a_shard(logdir, 1.0, "Process-1", main), losses([1, 2, 3], 1.0), end)
    write(a_shard(logdir, 10000), losses([5, 6], 10000), end and end + 10000)


def infinities(logdir: Path, end: float | None) -> None:
    values = [1.0, float("inf"), float("-inf"), float("nan"), 2.0]
    write(a_shard(logdir), [Row("main", "loss", n, v, time=n / 1000) for n, v in enumerate(values)], end)


def nothing_but_nan(logdir: Path, end: float | None) -> None:
    write(a_shard(logdir), [Row("main", "loss", n, float("nan"), time=n / 1000) for n in range(3000)], end)


MAKERS = [
    *(one_process, short_ones, an_attempt_that_goes_on, an_attempt_cut_in_a_block, an_attempt_that_replaces_all),
    *(steps_that_go_back, two_processes, two_processes_whose_steps_go_back),
    *(an_attempt_cut_where_a_block_begins, two_processes_and_two_attempts, steps_that_seem_counted, texts),
    *(integers, infinities, nothing_but_nan),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("attempts", ["last", "all"])
@pytest.mark.parametrize("end", [None, END], ids=["killed", "finished"])
@pytest.mark.parametrize("make", MAKERS)
def test_a_summary_is_that_of_the_values(
    tmp_path: Path, make: Callable[[Path, float | None], None], end: float | None, attempts: Any
) -> None:
    make(tmp_path, end)
    run = open_run(tmp_path, attempts=attempts)

    found, expected = run.summary("main/loss").as_dict(), run["main/loss"].summary().as_dict()

    assert found.keys() == expected.keys()
    for name, value in expected.items():
        is_close = found[name] == value or np.isclose(found[name], value, rtol=1e-12, atol=1e-12, equal_nan=True)
        assert is_close, f"{name}: {found[name]!r}, not {value!r}"
    series = run["main/loss"]
    assert run.last["main/loss"] == series.last or np.isnan(series.last)
    assert expected["count"] == len(series)


@pytest.mark.parametrize("attempts", ["last", "all"])
@pytest.mark.parametrize("end", [None, END], ids=["killed", "finished"])
@pytest.mark.parametrize("make", [make for make in MAKERS if make is not texts])
def test_a_picture_of_few_points_shows_what_all_values_show(
    tmp_path: Path, make: Callable[[Path, float | None], None], end: float | None, attempts: Any
) -> None:
    make(tmp_path, end)
    run = open_run(tmp_path, attempts=attempts)
    series = run["main/loss"]
    numbers = series.value.astype(float)

    for x in ("step", "time", "relative"):
        exact, few = run.curve("main/loss", x), run.curve("main/loss", x, points=4)
        assert np.array_equal(exact.y, numbers, equal_nan=True)
        assert few.count == exact.count == len(series)
        assert few.is_reduced == (len(series) > 4)
        assert few.x_name == x
        assert few.x[0] == exact.x[0]
        assert few.x.min() >= exact.x.min()
        assert few.x.max() <= exact.x.max()
        if few.low is None or few.high is None or np.isnan(numbers).all():
            continue
        assert np.nanmin(few.low) == np.nanmin(numbers)
        assert np.nanmax(few.high) == np.nanmax(numbers)
        if np.isfinite(numbers[~np.isnan(numbers)]).all():
            assert np.all((few.low <= few.y) & (few.y <= few.high))


def test_a_picture_of_several_processes_is_in_the_order_of_the_steps(tmp_path: Path) -> None:
    two_processes(tmp_path, END)

    for x in ("step", "time"):
        few = open_run(tmp_path).curve("main/loss", x, points=4)
        assert few.is_reduced
        assert np.all(np.diff(few.x) > 0)


def test_a_picture_of_a_long_series_reads_none_of_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    an_attempt_that_goes_on(tmp_path, END)
    run = open_run(tmp_path)
    read: list[str] = []
    for name in ("read", "part"):
        monkeypatch.setattr(HdfReader, name, lambda *args, name=name: read.append(name))

    assert len(run.curve("main/loss", points=4)) == 4
    assert run.summary("main/loss").max == 99.0
    assert run.last["main/loss"] is not None
    assert read == []


def test_of_an_attempt_cut_in_a_block_only_that_block_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    an_attempt_cut_in_a_block(tmp_path, END)
    run = open_run(tmp_path)
    read: list[tuple[Path, slice]] = []
    really = HdfReader.part

    def part(self: HdfReader, series: Any, rows: slice) -> Any:
        read.append((self.path, rows))
        return really(self, series, rows)

    monkeypatch.setattr(HdfReader, "part", part)
    for name in ("read", "steps"):
        monkeypatch.setattr(HdfReader, name, lambda *_: pytest.fail("more was read"))

    assert run.curve("main/loss", points=4).count == 9000
    # Steps 3073 to 4096, of which those from 4001 on were replaced.
    assert read == [(run._shards[0].file.path, slice(3072, 4096))]
    assert run.summary("main/loss").as_dict()["count"] == 9000


# ------------------------------------------------------------------------------------------------ finished and unopened


def test_a_finished_run_is_opened_and_described_without_opening_its_files(tmp_path: Path) -> None:
    rows = [*losses(range(1, 2000)), Row("main", "note", 1, "a", "text")]
    write(a_shard(tmp_path), rows, END)
    # What is no HDF5 file, and as old as the one that was there: it is not looked into.
    (path,) = (tmp_path / EVENTS).glob("*.h5")
    path.write_bytes(b"no HDF5")
    index = path.with_name(path.stem + INDEX)
    index.write_bytes(index.read_bytes())

    run = open_run(tmp_path)

    assert run.keys() == ["main/loss", "main/note"]
    assert run.kinds == {"main/loss": "scalar", "main/note": "text"}
    assert run.state == "finished"
    assert run.last["main/loss"] == 1999.0
    assert run.summary("main/loss").max == 1999.0
    assert run.damage == []
    with pytest.raises(DamagedFile):
        run["main/loss"]
    assert str(path) in run.damage[0]
    assert len(run.frame()) == 0


def shown(run: Run) -> Any:
    return {key: (run.kinds[key], run[key].value.tolist(), run.last[key], run.summary(key).as_dict()) for key in run}


def spoiled(name: str, value: Any) -> Callable[[Any], Any]:
    return lambda told: {**told, "series": [{**entry, name: value} for entry in told["series"]]}


BAD_INDEXES = [
    lambda told: None,
    lambda told: [],
    lambda told: {**told, "format": 2},
    lambda told: {**told, "about": {**told["about"], "name": "20240101T010101.000001-other-7-8"}},
    lambda told: {**told, "about": 5},
    lambda told: {**told, "series": told["series"] * 2},
    lambda told: {**told, "series": 5},
    lambda told: {**told, "series": [*told["series"], None]},
    lambda told: {**told, "series": [{**entry, "key": 5} for entry in told["series"]]},
    lambda told: {**told, "series": [{**entry, "left_out": "no room"} for entry in told["series"]]},
    *(
        spoiled(name, value)
        for name in ("count", "first_step", "first_time", "last_step", "layouts", "min", "last")
        for value in ([], {}, "x", {} if name in ("min", "last") else 2**70)
    ),
]


@pytest.mark.parametrize("spoil", BAD_INDEXES)
def test_an_index_that_makes_no_sense_is_not_believed(tmp_path: Path, spoil: Any) -> None:
    shard = write(a_shard(tmp_path), [*losses(range(1, 6)), Row("main", "note", 1, "a", "text")], END)
    expected = shown(open_run(tmp_path))
    index = shard.path(INDEX)
    index.write_text(json.dumps(spoil(json.loads(index.read_bytes()))))

    assert shown(open_run(tmp_path)) == expected


def test_an_index_that_is_older_than_its_file_is_not_believed(tmp_path: Path) -> None:
    old = write(a_shard(tmp_path / "old"), losses([1, 2]), END)
    new = write(a_shard(tmp_path / "new"), [*losses([1, 2, 3]), *losses([1], key="more")], END)
    assert old.name == new.name
    new.path(INDEX).write_bytes(old.path(INDEX).read_bytes())
    os.utime(new.path(INDEX), (0, 0))

    assert open_run(tmp_path / "new").keys() == ["main/loss", "main/more"]


def test_keys_that_only_the_index_has_are_told_when_they_are_asked_for(tmp_path: Path) -> None:
    less = write(a_shard(tmp_path / "less"), losses([1, 2]), END)
    more = write(a_shard(tmp_path / "more"), [*losses([1, 2]), *losses([1], key="more")], END)
    less.path(INDEX).write_bytes(more.path(INDEX).read_bytes())

    run = open_run(tmp_path / "less")

    assert run["main/loss"].step.tolist() == [1, 2]
    assert "does not name the series that it holds" in run.damage[0]
    with pytest.raises(DamagedFile, match="does not hold"):
        run["main/more"]


def test_many_runs_do_not_keep_their_files_open(tmp_path: Path, run_python: Any) -> None:
    for n in range(90):
        write(a_shard(tmp_path / f"run{n}"), losses([n]), END)

    done = run_python(f"""
        import os
        import allogger
        runs = allogger.open_runs({str(tmp_path / "run*")!r})
        def files():
            return sum(".h5" in os.readlink(f"/proc/self/fd/{{fd}}") for fd in os.listdir("/proc/self/fd")
                       if os.path.islink(f"/proc/self/fd/{{fd}}"))
        print(files(), len(runs.keys()), "h5py" in __import__("sys").modules)
        steps = [run["main/loss"].step[0] for run in runs for _ in range(2)]
        print(len(steps), len(set(steps)), files() <= 64)
    """)

    assert done.stdout == "0 1 False\n180 90 True\n", done.stderr


def test_a_run_that_is_gone_is_told_when_it_is_read(tmp_path: Path) -> None:
    shard = write(a_shard(tmp_path), losses([1]), END)
    run = open_run(tmp_path)
    shard.path(".h5").unlink()

    with pytest.raises(DamagedFile, match="cannot be read any more"):
        run["main/loss"]


class Percent(allogger.Kind):
    """Numbers that are shown a hundred times as large as they are stored."""

    name = "percent"

    def accepts(self, value: Any) -> bool:
        return False

    def encode(self, value: Any) -> tuple[Any, dict[str, Any]]:
        return np.asarray(float(value) / 100), {}

    def decode(self, payload: Any, attrs: Any) -> Any:
        return np.asarray(payload * 100)


@pytest.fixture
def percent() -> Iterator[None]:
    allogger.register_kind("percent", Percent)
    yield
    kinds.remove("percent")


@pytest.mark.usefixtures("percent")
@pytest.mark.parametrize("count", [3, 3000])
def test_a_kind_that_shows_other_numbers_than_it_stores_is_summed_up_as_it_is_shown(tmp_path: Path, count: int) -> None:
    with allogger.run(tmp_path / "run") as logger:
        for n in range(count):
            logger.log(n, "share", data_type="percent")
    run = allogger.open_run(tmp_path / "run")

    assert run.last["root/share"] == run["root/share"].last == count - 1
    assert run.summary("root/share").max == count - 1
    assert run.curve("root/share", points=3).y.max() > count / 2


def test_what_has_no_summary_or_picture_says_so(tmp_path: Path) -> None:
    texts(tmp_path, END)
    run = open_run(tmp_path)

    with pytest.raises(ConfigError, match="no real numbers"):
        run.curve("main/loss")
    with pytest.raises(ConfigError, match="no real numbers"):
        run.curve("main/loss", points=10)
    with pytest.raises(NoSuchKey, match="did you mean 'main/loss'"):
        run.summary("main/lsos")
    with pytest.raises(ConfigError, match="at least 3 points"):
        run.curve("main/loss", points=1)


STEPS = st.lists(st.integers(1, 9), min_size=1, max_size=6) | st.integers(1, 9).map(
    lambda first: list(range(first, 12))
)
SHARDS = st.lists(st.tuples(st.sampled_from("AAB"), st.sampled_from([0.0, 0.5]), STEPS, st.booleans()), max_size=4)


@settings(max_examples=60, deadline=None)
@given(shards=SHARDS, attempts=st.sampled_from(["last", "all"]))
def test_whatever_the_processes_and_attempts_a_summary_is_that_of_the_values(
    tmp_path_factory: pytest.TempPathFactory, shards: Any, attempts: Any
) -> None:
    logdir = tmp_path_factory.mktemp("run")
    main = write(a_shard(logdir), losses([3], key="other"), 9.0)
    start = 0.0
    for process, pause, steps, is_finished in shards:
        # Without a pause the next attempt begins while the one before it runs.
        start += 10 * pause + 1
        shard = a_shard(logdir, start, process, main if pause else None)
        write(shard, losses(steps, start), start + 1.5 if is_finished else None)
    run = open_run(logdir, attempts=attempts)

    for key in run:
        found, expected = run.summary(key).as_dict(), run[key].summary().as_dict()
        # The sum of parts may be rounded otherwise.
        assert found.pop("mean") == pytest.approx(expected.pop("mean"), rel=1e-12)
        assert found == expected
        assert run.last[key] == run[key].last
