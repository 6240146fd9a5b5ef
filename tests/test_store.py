"""Store: the shards of all processes and attempts become one series for each key, whatever state they are in."""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allogger.errors import ConfigError, DamagedFile, NoSuchKey, NotARun, UnknownName
from allogger.formats import journal
from allogger.formats.image import build_image
from allogger.merging import joined
from allogger.reader import uniform
from allogger.rundir import EVENTS, IMAGE, INDEX, JOURNAL, RUN_FILE, Shard
from allogger.store import open_run, open_runs
from allogger.testing import Row, batch_of
from allogger.testing.rows import same
from allogger.writers.hdf import HdfWriter

START = 1_700_000_000.0
HOST = "elsewhere"


def a_shard(
    logdir: Path, start: float = 0.0, process: str = "MainProcess", attempt: Shard | None = None, host: str = HOST
) -> Shard:
    """Return a shard that began *start* seconds after the run, in the attempt that *attempt* began, or in its own."""
    begin = START + start
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(begin)) + f".{round(begin % 1 * 1e6):06d}"
    (logdir / EVENTS).mkdir(parents=True, exist_ok=True)
    number = len(list((logdir / EVENTS).iterdir()))
    name = f"{stamp}-{host}-{4_000_000 + number}-{number}"
    return Shard(logdir, name, process, attempt.name if attempt else name, begin, host, 4_000_000 + number)


def write(shard: Shard, rows: Sequence[Row], end: float | None = None) -> Shard:
    """Write rows, whose times are seconds since the beginning of the run; with *end* the process closed its files."""
    batch = batch_of([row._replace(time=START + row.time) for row in rows])
    salt = journal.salt_of(shard.name)
    names = journal.encode_names([(s.index, s.scope, s.key) for s in batch.names], salt)
    buffers, count = journal.encode_batch(batch, 0, salt)
    path = shard.path(JOURNAL)
    path.write_bytes(b"".join([journal.encode_head(shard.about()), names, *buffers]))
    if end is not None:
        with open(path, "ab") as file:
            file.write(journal.encode_end({"values": count, "time": START + end}, salt))
        build_image(path)
        path.unlink()
    return shard


def losses(steps: Sequence[int], time: float = 0.0, key: str = "loss") -> list[Row]:
    return [Row("main", key, step, float(step), time=time + n / 1000) for n, step in enumerate(steps)]


# ------------------------------------------------------------------------------------------------------------ processes


@pytest.mark.parametrize("end", [None, 99.0], ids=["killed", "finished"])
def test_the_shards_of_all_processes_are_merged_by_step_and_then_time(tmp_path: Path, end: float | None) -> None:
    main = write(a_shard(tmp_path), [Row("main", "x", n, f"main {n}", "text", n) for n in (1, 2, 3)], end)
    child = a_shard(tmp_path, 1.0, "Process-1", main)
    write(child, [Row("main", "x", n, f"child {n}", "text", n + d) for n, d in ((1, -0.5), (2, 0.5), (4, 0))], end)

    series = open_run(tmp_path)["main/x"]

    assert series.value.tolist() == ["child 1", "main 1", "main 2", "child 2", "main 3", "child 4"]
    assert series.step.tolist() == [1, 1, 2, 2, 3, 4]
    assert series.process.tolist() == [
        f"{'MainProcess' if v.startswith('main') else 'Process-1'}" for v in series.value
    ]
    assert (series.time - START).tolist() == [0.5, 1.0, 2.0, 2.5, 3.0, 4.0]


@pytest.mark.parametrize("end", [None, 99.0], ids=["killed", "finished"])
def test_the_values_of_one_process_are_in_the_order_logged_whatever_their_steps(
    tmp_path: Path, end: float | None
) -> None:
    steps = [5, 3, 3, 9, -(2**63), 2**63 - 1, 1]
    write(a_shard(tmp_path), losses(steps), end)

    for attempts in ("last", "all"):
        assert open_run(tmp_path, attempts=attempts)["main/loss"].step.tolist() == steps  # type: ignore[arg-type]


def test_children_of_one_name_in_one_attempt_are_all_shown(tmp_path: Path) -> None:
    main = write(a_shard(tmp_path), losses([1], key="other"))
    for start in (1.0, 50.0):
        write(a_shard(tmp_path, start, "Process-1", main), losses([1, 2], start))

    series = open_run(tmp_path)["main/loss"]

    assert series.step.tolist() == [1, 1, 2, 2]
    assert set(series.process.tolist()) == {"Process-1"}


def test_a_key_with_values_of_several_kinds_is_mixed(tmp_path: Path) -> None:
    write(a_shard(tmp_path), [Row("main", "x", 1, 0.5), Row("main", "x", 2, "text", "text", 1.0)])

    series = open_run(tmp_path)["main/x"]

    assert series.kind == "mixed"
    assert [same(*pair) for pair in zip(series.value, [0.5, "text"], strict=True)] == [True, True]
    assert open_run(tmp_path).keys() == ["main/x"]


def test_attributes_are_shown_where_all_values_share_them(tmp_path: Path) -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    rows = [Row("main", "same", 1, picture, "image"), Row("main", "same", 2, picture, "image")]
    rows += [Row("main", "differ", 1, picture, "image"), Row("main", "differ", 2, picture[:, :, 0], "image")]
    write(a_shard(tmp_path), [*rows, Row("main", "none", 1, 1.0)])

    run = open_run(tmp_path)

    assert {key: dict(run[key].meta) for key in run} == {
        "main/same": {"layout": "HWC"},
        "main/differ": {},
        "main/none": {},
    }


# ------------------------------------------------------------------------------------------------------------- attempts


def steps_and_values(logdir: Path, key: str = "main/loss", attempts: Any = "last") -> tuple[list[int], list[Any]]:
    series = open_run(logdir, attempts=attempts)[key]
    return series.step.tolist(), series.value.tolist()


@pytest.mark.parametrize("end", [None, 9.0], ids=["killed", "finished"])
def test_a_later_attempt_replaces_an_earlier_one_from_the_step_at_which_it_began_the_key(
    tmp_path: Path, end: float | None
) -> None:
    write(a_shard(tmp_path, 0), losses(range(1, 51)), end)
    write(a_shard(tmp_path, 10), [r._replace(value=-r.value) for r in losses(range(41, 61), 10)], end and end + 10)

    steps, values = steps_and_values(tmp_path)
    assert steps == list(range(1, 61))
    assert values == [*range(1, 41), *range(-41, -61, -1)]
    assert steps_and_values(tmp_path, attempts="all")[0] == [*range(1, 51), *range(41, 61)]


def test_each_of_three_attempts_replaces_all_before_it(tmp_path: Path) -> None:
    write(a_shard(tmp_path, 0), losses(range(1, 51)))
    write(a_shard(tmp_path, 10), losses(range(41, 51), 10))
    write(a_shard(tmp_path, 20), losses(range(31, 34), 20))

    assert steps_and_values(tmp_path)[0] == list(range(1, 34))
    assert len(steps_and_values(tmp_path, attempts="all")[0]) == 63


def test_an_attempt_that_goes_on_behind_the_last_step_replaces_nothing(tmp_path: Path) -> None:
    write(a_shard(tmp_path, 0), losses([1, 2, 3]))
    write(a_shard(tmp_path, 10), losses([4, 5], 10))

    assert steps_and_values(tmp_path)[0] == [1, 2, 3, 4, 5]


def test_a_key_of_one_attempt_is_not_touched_by_the_others(tmp_path: Path) -> None:
    write(a_shard(tmp_path, 0), losses([1, 2, 3]) + losses([1, 2, 3], key="first"))
    write(a_shard(tmp_path, 10), losses([1, 2], 10) + losses([2], 10, "second"))

    assert steps_and_values(tmp_path)[0] == [1, 2]
    assert steps_and_values(tmp_path, "main/first")[0] == [1, 2, 3]
    assert steps_and_values(tmp_path, "main/second")[0] == [2]


def test_steps_that_go_back_within_an_attempt_are_data(tmp_path: Path) -> None:
    write(a_shard(tmp_path, 0), losses([10, 20, 5, 7]))
    write(a_shard(tmp_path, 10), losses([7, 3, 8], 10))

    # From step 7, at which the second began, the first is replaced; the 3 of the second is its own.
    assert steps_and_values(tmp_path)[0] == [5, 7, 3, 8]
    assert steps_and_values(tmp_path, attempts="all")[0] == [10, 20, 5, 7, 7, 3, 8]


def test_a_child_replaces_the_child_of_its_name_and_no_other_process(tmp_path: Path) -> None:
    first = write(a_shard(tmp_path, 0), losses([1, 2]))
    write(a_shard(tmp_path, 1, "Process-1", first), losses([1, 2, 3], 1))
    second = write(a_shard(tmp_path, 10), losses([3], 10))
    write(a_shard(tmp_path, 11, "Process-1", second), losses([2], 11))

    series = open_run(tmp_path)["main/loss"]

    found = sorted(zip(series.process.tolist(), series.step.tolist(), strict=True))
    assert found == [("MainProcess", 1), ("MainProcess", 2), ("MainProcess", 3), ("Process-1", 1), ("Process-1", 2)]


def test_of_the_children_of_one_name_the_one_that_began_the_key_first_says_where_an_attempt_began(
    tmp_path: Path,
) -> None:
    first = a_shard(tmp_path, 0)
    write(replace(first, process="Process-1"), losses(range(1, 10)))
    second = a_shard(tmp_path, 10)
    write(a_shard(tmp_path, 11, "Process-1", second), losses([5, 6], 20))
    write(a_shard(tmp_path, 12, "Process-1", second), losses([7, 8], 15))

    # The third began at 15 seconds with step 7, the second at 20 with step 5.
    assert sorted(steps_and_values(tmp_path)[0]) == [1, 2, 3, 4, 5, 5, 6, 6, 7, 8]


def test_two_programs_at_the_same_time_are_no_attempts_of_each_other(tmp_path: Path) -> None:
    write(a_shard(tmp_path, 0), [Row("main", "loss", n, 1.0, time=n) for n in range(1, 20)])
    write(a_shard(tmp_path, 10), [Row("main", "loss", n, 2.0, time=10 + n) for n in range(1, 20)])

    steps, values = steps_and_values(tmp_path)
    assert steps == sorted([*range(1, 20), *range(1, 20)])
    assert values == [1.0, 2.0] * 19


def test_a_program_that_was_only_quiet_while_another_began_is_no_earlier_attempt(tmp_path: Path) -> None:
    # The second is what the first has run to evaluate; the first has logged nothing since, but closes later.
    write(a_shard(tmp_path, 0), losses([1, 2, 3]), end=30.0)
    write(a_shard(tmp_path, 10), losses([1], 10), end=20.0)

    assert steps_and_values(tmp_path)[0] == [1, 1, 2, 3]


def test_a_program_that_is_running_is_no_earlier_attempt(tmp_path: Path) -> None:
    from allogger.rundir import host_name, new_shard

    mine = new_shard(tmp_path)
    (tmp_path / EVENTS).mkdir()
    write(mine, [row._replace(time=mine.start - START) for row in losses([1, 2, 3])])
    later = replace(new_shard(tmp_path), attempt="")
    later = replace(later, attempt=later.name, pid=2**22 - 1)
    assert mine.host == host_name()

    write(later, [row._replace(time=later.start - START) for row in losses([1])])
    assert sorted(steps_and_values(tmp_path)[0]) == [1, 1, 2, 3]


# ------------------------------------------------------------------------------------------------------ values together

JOINED: list[tuple[list[Any], Any]] = [
    ([np.array([1.5]), np.array([2, 2**53])], np.float64),
    ([np.array([1.5]), np.array([2**53 + 1])], object),
    ([np.array([1.5]), np.array([-(2**63), 2**63 - 1])], object),
    ([np.array([1]), np.array([True])], np.int64),
    ([np.array([True]), np.array([0.5])], np.float64),
    ([np.array([1j]), np.array([0.5]), np.array([3])], np.complex128),
    ([np.array([1j]), np.array([2**60])], object),
    ([np.array([0.5]), np.array([0.5], np.longdouble)], object),
    ([np.array([1.5], np.float32), np.array([1e300])], np.float64),
    ([np.array([1], ">i4"), np.array([2], ">i4")], np.dtype(">i4")),
    ([np.zeros((2, 3)), np.ones((1, 3))], np.float64),
    ([np.zeros((2, 3)), np.ones((1, 4))], object),
    ([np.zeros((2, 3)), np.ones((1, 3), int)], object),
    ([np.array(["a", "b"], object), np.array([1.0])], object),
    ([np.zeros(0), np.array(["a"], object)], object),
    ([np.ndarray((2,), "U0"), np.ndarray((1,), "U0")], np.dtype("U0")),
    ([np.zeros(2, [("a", "i4")]), np.zeros(1, [("a", "i4")])], np.dtype([("a", "i4")])),
]


@pytest.mark.parametrize(("parts", "dtype"), JOINED)
def test_values_of_several_shards_have_a_dtype_that_holds_all_of_them_exactly(parts: list[Any], dtype: Any) -> None:
    found = joined(parts)

    assert found.dtype == dtype
    expected = [item for part in parts for item in part]
    assert len(found) == len(expected)
    assert all(map(same, found, expected))


NUMBERS = st.lists(st.floats() | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.complex_numbers(), min_size=1)


@given(st.lists(NUMBERS, min_size=1, max_size=4))
def test_numbers_of_several_shards_are_never_rounded(parts: list[list[Any]]) -> None:
    found = joined([uniform([np.asarray(v) for v in part]) for part in parts])

    expected = [v for part in parts for v in part]
    assert len(found) == len(expected)
    assert all(map(same, found, expected))


# -------------------------------------------------------------------------------------------------------- what there is


def test_keys_are_sorted_and_chosen_by_a_regular_expression(tmp_path: Path) -> None:
    rows = [Row(scope, key, 1, 1.0) for scope in ("root", "b", "a.x") for key in ("loss", "train/loss", "Loss")]
    write(a_shard(tmp_path), rows)
    run = open_run(tmp_path)

    assert run.keys() == sorted(run.keys()) == list(run)
    assert run.keys("train") == ["a.x/train/loss", "b/train/loss", "root/train/loss"]
    assert run.keys("^a") == ["a.x/Loss", "a.x/loss", "a.x/train/loss"]
    assert run.keys("nothing") == []
    assert len(run) == 9
    assert "root/loss" in run
    assert "loss" not in run
    with pytest.raises(ConfigError, match="no regular expression"):
        run.keys("(")


def test_a_key_that_is_not_there_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    write(a_shard(tmp_path), losses([1]))

    with pytest.raises(NoSuchKey, match="did you mean 'main/loss'"):
        open_run(tmp_path)["main/lsos"]
    with pytest.raises(KeyError):
        open_run(tmp_path)["x"]


def test_attempts_are_last_or_all(tmp_path: Path) -> None:
    write(a_shard(tmp_path), losses([1]))

    with pytest.raises(UnknownName, match="did you mean 'last'"):
        open_run(tmp_path, attempts="lst")  # type: ignore[arg-type]
    with pytest.raises(UnknownName):
        open_run(tmp_path).series("main/loss", "first")  # type: ignore[arg-type]


def test_a_folder_without_a_run_is_an_error_and_a_run_without_values_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(NotARun, match="is no run"):
            open_run(path)
    (tmp_path / RUN_FILE).write_text("nonsense")
    assert open_run(tmp_path).keys() == []
    (tmp_path / "other" / EVENTS).mkdir(parents=True)
    assert open_run(tmp_path / "other").keys() == []
    assert open_run(tmp_path).about == {}


def test_all_runs_under_a_folder_are_opened_together(tmp_path: Path) -> None:
    for name in ("b", "a", "deep/er/c"):
        write(a_shard(tmp_path / name), losses([1]))
    (tmp_path / "none").mkdir()

    runs = open_runs(tmp_path / "**")

    assert [run.logdir.name for run in runs] == ["a", "b", "c"]
    assert [run.logdir.name for run in runs[1:]] == ["b", "c"]
    assert runs.keys() == ["main/loss"]
    assert runs.frame()["run"].tolist() == [str(run.logdir) for run in runs]
    assert len(open_runs(tmp_path / "nothing*")) == 0


def test_refresh_takes_up_what_was_written_since(tmp_path: Path) -> None:
    shard = a_shard(tmp_path)
    writer = HdfWriter(shard, snapshot_seconds=None)
    writer.write(batch_of(losses([1])))
    run = open_run(tmp_path)
    writer.write(batch_of([Row("main", key, 2, 2.0) for key in ("loss", "new")], list(batch_of(losses([1])).names)))
    write(a_shard(tmp_path, 5, "Process-1", shard), losses([7]))
    assert run["main/loss"].step.tolist() == [1]

    run.refresh()
    assert run["main/loss"].step.tolist() == [1, 2, 7]
    assert run.keys() == ["main/loss", "main/new"]
    writer.close()
    run.refresh()
    assert run["main/loss"].step.tolist() == [1, 2, 7]
    assert run.damage == []


def test_a_process_that_finishes_between_opening_and_reading_is_read(tmp_path: Path) -> None:
    shard = a_shard(tmp_path)
    writer = HdfWriter(shard, snapshot_seconds=None)
    writer.write(batch_of([*losses([1]), Row("main", "note", 1, "a", "text")]))
    run = open_run(tmp_path)
    for one in run._shards:
        one.reader.close()  # as when there are hundreds
    writer.close()
    assert not shard.path(JOURNAL).exists()

    assert run["main/note"].value.tolist() == ["a"]
    assert run["main/loss"].step.tolist() == [1]


def test_a_run_of_more_processes_than_files_may_be_open_is_read(
    tmp_path: Path, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    for n in range(120):
        rows = [*losses([n]), Row("main", "note", n, f"note {n}", "text")]
        write(a_shard(tmp_path / "run", n, f"Process-{n}"), rows, 200.0 if n % 2 else None)

    done = run_python(f"""
        import resource
        from allogger import open_run
        import h5py
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        run = open_run({str(tmp_path / "run")!r})
        assert not run.damage, run.damage[0]
        print(run["main/loss"].step.tolist() == run["main/note"].step.tolist() == list(range(120)))
    """)

    assert done.stdout == "True\n", done.stderr


# --------------------------------------------------------------------------------------------------------------- damage


def damaged_journal(tmp_path: Path) -> Shard:
    shard = write(a_shard(tmp_path), [Row("main", "note", n, f"text {n}", "text") for n in range(3)] + losses([1]))
    path = shard.path(JOURNAL)
    path.write_bytes(path.read_bytes().replace(b"text 1", b"TEXT 1"))
    return shard


def test_damage_is_told_with_its_place_and_costs_only_what_it_hit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shard = damaged_journal(tmp_path)
    write(a_shard(tmp_path, 1, "Process-1", shard), losses([2]))

    with caplog.at_level(logging.WARNING):
        run = open_run(tmp_path)

    assert run["main/note"].value.tolist() == ["text 0", "text 2"]
    assert run["main/loss"].step.tolist() == [1, 2]
    assert run.damage
    assert all(str(shard.path(JOURNAL)) in what and "byte " in what for what in run.damage)
    assert len(caplog.records) == 1
    assert "wrong checksum" in caplog.text


def test_files_that_cannot_be_read_are_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = write(a_shard(tmp_path), losses([1]))
    bad = [a_shard(tmp_path, n).path(suffix) for n, suffix in ((1, IMAGE), (2, IMAGE), (3, JOURNAL), (4, JOURNAL))]
    bad[0].write_bytes(b"no HDF5")
    bad[1].mkdir()
    os.mkfifo(bad[2])
    bad[3].symlink_to("/dev/zero")

    with caplog.at_level(logging.WARNING):
        run = open_run(tmp_path)

    assert run["main/loss"].step.tolist() == [1]
    assert all(any(str(path) in what for what in run.damage) for path in bad)
    assert str(good.path(JOURNAL)) not in "".join(run.damage)
    assert len(caplog.records) == 1


def test_one_key_that_is_lost_does_not_cost_the_others_a_table(tmp_path: Path) -> None:
    rows = [Row("main", key, n, n / 7, time=n) for n in range(3000) for key in ("a", "b")]
    shard = write(a_shard(tmp_path), rows, 9.0)
    path = shard.path(IMAGE)
    raw = bytearray(path.read_bytes())
    # Somewhere in the values of one of them.
    for at in range(3000, len(raw), 997):
        damaged = bytearray(raw)
        damaged[at : at + 400] = bytes(400)
        path.write_bytes(damaged)
        try:
            run = open_run(tmp_path)
            run["main/a"], run["main/b"]
        except (DamagedFile, NoSuchKey):
            break
    else:
        pytest.fail("nothing that was done made a key unreadable")

    frame = run.frame()
    assert set(frame["key"]) < {"main/a", "main/b"}
    assert run.damage


STRANGE_FILES = [
    "20249999T999999.999999-host-7-8.journal",
    "20249999T999999.999999-host-7-8.h5",
    "00000000T000000.000000-a-1-1.journal",
    "\u0662\u0660\u0662\u0664\u0660\u0661\u0660\u0661T010101.000001-host-7-8.journal",
    "20240101T010101.000001--7-8.journal",
    "20240101T010101.000001-host-7-8.JOURNAL",
    ".20240101T010101.000001-host-7-8.journal",
    "x.h5",
    "notes.txt",
]


def test_files_with_strange_names_harm_nobody(tmp_path: Path) -> None:
    write(a_shard(tmp_path), losses([1]))
    for name in STRANGE_FILES:
        (tmp_path / EVENTS / name).write_bytes(b"")
    os.close(os.open(os.fsencode(tmp_path / EVENTS) + b"/\xff\xfe.journal", os.O_CREAT))
    os.mknod(tmp_path / EVENTS / "20240101T010101.000001-h-7-9.journal", stat.S_IFSOCK | 0o600)

    run = open_run(tmp_path)

    assert run["main/loss"].step.tolist() == [1]
    assert any("-h-7-9" in what for what in run.damage)


NONSENSE: list[Any] = [None, [], {}, "", "x", -1, 10**400, 1e999, float("nan"), True, ["x"], {"a": 1}]


@pytest.mark.parametrize("word", ["process", "attempt", "start", "host", "pid"])
@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda value: repr(value)[:12])
def test_nonsense_about_a_shard_harms_nobody(tmp_path: Path, word: str, nonsense: Any) -> None:
    shard = a_shard(tmp_path)
    write(shard, losses([1, 2, 3]))
    head = journal.encode_head(shard.about())
    raw = shard.path(JOURNAL).read_bytes()
    assert raw.startswith(head)
    shard.path(JOURNAL).write_bytes(journal.encode_head({**shard.about(), word: nonsense}) + raw[len(head) :])
    write(a_shard(tmp_path, 10), losses([2], 10))

    run = open_run(tmp_path)

    assert run.series("main/loss", "all").step.tolist() in ([1, 2, 3, 2], [1, 2, 2, 3])
    assert len(run.frame()) in (2, 4)


def test_nonsense_beside_the_files_harms_nobody(tmp_path: Path) -> None:
    shard = write(a_shard(tmp_path), losses([1, 2]), 5.0)
    for text in ("", "[]", "nonsense", "[" * 100_000, json.dumps({"attempts": 5, "series": [None]}), "\xff"):
        shard.path(INDEX).write_text(text, encoding="latin-1")
        (tmp_path / RUN_FILE).write_text(text, encoding="latin-1")

        run = open_run(tmp_path)
        assert run["main/loss"].step.tolist() == [1, 2]
        assert isinstance(dict(run.about), dict)
