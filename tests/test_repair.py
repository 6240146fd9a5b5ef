"""Repair: whatever a killed process left, and whatever ends the repair, every value reads back as before."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import allogger
from allogger.errors import NotARun
from allogger.rundir import EVENTS, Shard
from allogger.testing import strategies
from allogger.testing.rows import ODD_NAMES, ODD_VALUES, PLAIN_ROWS, Row
from allogger.utils import repair, verify
from tests.killed import PLAIN, a_shard, everything, files, in_a_child, write

ALL = ("hdf", "csv", "tensorboard")
# Fixtures give each example the same folder, which it clears.
examples = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def damage(path: Path, share: float = 0.5) -> None:
    """Flip some bits at a place."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 0x55
    path.write_bytes(data)


def tear(path: Path, size: int) -> None:
    """Cut the last bytes off."""
    os.truncate(path, path.stat().st_size - size)


def names(logdir: Path) -> set[str]:
    return {path.name for path in (logdir / EVENTS).iterdir()}


# ------------------------------------------------------------------------------------------------------------- journals


def test_a_journal_becomes_a_finished_file(tmp_path: Path) -> None:
    shard = write(a_shard(tmp_path))
    before = everything(tmp_path)

    found = repair(tmp_path)

    assert found.done == [f"{shard.name}.h5 made of {shard.name}.journal: 4 series, {len(PLAIN)} values"]
    assert found.ok
    assert names(tmp_path) == {f"{shard.name}.h5", f"{shard.name}.index.json"}
    assert everything(tmp_path) == before
    assert verify(tmp_path).ok
    assert verify(tmp_path).notes == []


def test_a_second_repair_finds_nothing_to_do(tmp_path: Path) -> None:
    write(a_shard(tmp_path), outputs=ALL)
    damage(write(a_shard(tmp_path)).path(".journal"))
    tear(write(a_shard(tmp_path), outputs=["csv"]).path(".csv"), 5)
    write(a_shard(tmp_path), is_closed=True).path(".index.json").unlink()
    repair(tmp_path)
    before = files(tmp_path)

    found = repair(tmp_path)

    assert (found.done, found.skipped, found.failed) == ([], [], [])
    assert "nothing to repair" in str(found)
    assert files(tmp_path) == before


def test_a_dry_run_tells_the_same_and_touches_nothing(tmp_path: Path) -> None:
    write(a_shard(tmp_path), outputs=ALL)
    damage(write(a_shard(tmp_path)).path(".journal"))
    tear(write(a_shard(tmp_path), outputs=["csv"]).path(".csv"), 5)
    write(a_shard(tmp_path), is_closed=True).path(".index.json").unlink()
    write(a_shard(tmp_path), [])
    before = files(tmp_path)

    told = repair(tmp_path, dry_run=True)

    assert files(tmp_path) == before
    assert told.dry_run
    assert "would be done:" in str(told)
    done = repair(tmp_path)
    assert done.done == told.done
    assert len(done.done) == 5
    assert json.loads(json.dumps(done.as_dict()))["done"] == done.done


@examples
@given(st.lists(strategies.rows(), min_size=1, max_size=3), st.integers(1, 5), st.integers(0, 60))
def test_any_values_read_back_as_before(tmp_path: Path, shards: list[list[Row]], batches: int, torn: int) -> None:
    shutil.rmtree(tmp_path)
    for rows in shards:
        path = write(a_shard(tmp_path), rows, batches=batches).path(".journal")
        if path.exists():
            tear(path, min(torn, path.stat().st_size))
    before = everything(tmp_path)

    assert repair(tmp_path).failed == []

    assert everything(tmp_path) == before
    assert not list((tmp_path / EVENTS).glob("*.journal"))
    assert verify(tmp_path).ok
    assert repair(tmp_path).done == []


def test_odd_names_and_values_read_back_as_before(tmp_path: Path) -> None:
    rows = [Row(name, name, 1, 1.0) for name in ODD_NAMES]
    rows += [Row("odd", f"{number}", 1, value, kind) for number, (kind, value) in enumerate(ODD_VALUES)]
    rows += [Row("all", kind, 1, value, kind) for kind, value in ODD_VALUES]
    rows += [Row("mixed", "x", step, value) for step, value in enumerate([1, 2**60, True, 0.5, 1j, np.nan, 3, 2j])]
    write(a_shard(tmp_path, "../\ud800"), [*rows, *PLAIN_ROWS], batches=7)
    before = everything(tmp_path)

    found = repair(tmp_path)

    assert found.failed == []
    assert len(found.done) == 1
    assert everything(tmp_path) == before


@pytest.mark.parametrize("rows", [0, 10, 20, len(PLAIN)])
def test_an_earlier_image_is_replaced(tmp_path: Path, rows: int) -> None:
    shard = a_shard(tmp_path)
    if rows:
        write(shard, PLAIN[:rows], is_closed=True)
    write(shard, PLAIN)
    before = everything(tmp_path)

    repair(tmp_path)

    assert everything(tmp_path) == before
    assert names(tmp_path) == {f"{shard.name}.h5", f"{shard.name}.index.json"}


def test_a_journal_without_values_is_removed(tmp_path: Path) -> None:
    empty, torn = a_shard(tmp_path), write(a_shard(tmp_path), PLAIN[:1])
    empty.path(".journal").touch()
    tear(torn.path(".journal"), 10)

    found = repair(tmp_path)

    assert found.done == [f"{shard.name}.journal removed: it holds no values" for shard in (empty, torn)]
    assert names(tmp_path) == set()


def test_a_process_that_was_really_killed_is_repaired_only_when_it_is_gone(tmp_path: Path) -> None:
    code = """
import sys, numpy as np, allogger
root = allogger.basic_configure(sys.argv[1], ["hdf", "csv", "tensorboard"])
for number in range(2000):
    root.log(number / 7, "loss")
    if number % 100 == 0:
        root.log(np.full(number, 0.5), "array", data_type="array")
allogger.flush()
print(flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        untouched = files(tmp_path)
        while_it_runs = repair(tmp_path)
        assert files(tmp_path) == untouched
        process.send_signal(signal.SIGKILL)
    before = everything(tmp_path)

    found = repair(tmp_path)

    assert while_it_runs.done == []
    assert "its process is running" in while_it_runs.skipped[0]
    assert len(found.done) == 1
    assert len(before["root/loss"][1]) == 2000
    assert everything(tmp_path) == before


def test_this_process_itself_is_not_repaired(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path)
    root.log(1.0, "loss")
    allogger.flush()

    assert repair(tmp_path).done == []

    root.log(2.0, "loss")
    allogger.close()
    assert allogger.open_run(tmp_path)["root/loss"].value.tolist() == [1.0, 2.0]


def test_a_shard_of_another_host_is_repaired_only_when_told_so_and_when_it_is_quiet(tmp_path: Path) -> None:
    shard = write(a_shard(tmp_path, host="elsewhere"), outputs=["hdf", "csv"])
    tear(shard.path(".csv"), 3)
    before = files(tmp_path)

    assert "of another host" in repair(tmp_path).skipped[0]
    assert "within the last hour" in repair(tmp_path, other_hosts=True).skipped[0]
    assert files(tmp_path) == before

    for suffix in (".journal", ".csv"):
        os.utime(shard.path(suffix), (0, time.time() - 7200))
    assert repair(tmp_path).done == []
    assert len(repair(tmp_path, other_hosts=True).done) == 2


# --------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.7, 0.97])
def test_what_is_sound_in_a_damaged_journal_is_saved_and_the_journal_is_kept(tmp_path: Path, share: float) -> None:
    shard = write(a_shard(tmp_path), batches=9)
    damage(shard.path(".journal"), share)
    original = shard.path(".journal").read_bytes()
    before = everything(tmp_path)
    told = verify(tmp_path).damage

    found = repair(tmp_path)

    assert found.ok
    assert names(tmp_path) == {f"{shard.name}{suffix}" for suffix in (".h5", ".index.json", ".journal.damaged")}
    assert shard.path(".journal.damaged").read_bytes() == original
    assert everything(tmp_path) == before
    # It is told as long as the file is there.
    after = verify(tmp_path)
    assert not after.ok
    assert len(after.damage) == len(told) == len(allogger.open_run(tmp_path).damage)
    assert f"{shard.name}.journal.damaged was set aside by repair" in after.notes
    assert repair(tmp_path).done == []


@examples
@given(strategies.rows(), st.floats(0, 0.999), st.integers(1, 4))
def test_a_journal_with_damage_anywhere_reads_back_as_before(
    tmp_path: Path, rows: list[Row], share: float, batches: int
) -> None:
    shutil.rmtree(tmp_path)
    shard = write(a_shard(tmp_path), [*rows, Row("a", "b", 1, 1.0)], batches=batches)
    damage(shard.path(".journal"), share)
    before = everything(tmp_path)

    assert repair(tmp_path).failed == []

    assert everything(tmp_path) == before
    assert repair(tmp_path).done == []


def test_a_journal_that_is_nothing_but_damage_is_kept(tmp_path: Path) -> None:
    shard = a_shard(tmp_path)
    shard.path(".journal").write_bytes(b"garbage" * 99)

    found = repair(tmp_path)

    assert found.ok
    assert names(tmp_path) == {f"{shard.name}.journal.damaged"}


def test_values_that_only_an_earlier_image_has_are_kept(tmp_path: Path) -> None:
    shard = write(a_shard(tmp_path), PLAIN, is_closed=True)
    image = shard.path(".h5").read_bytes()
    write(shard, PLAIN, batches=9)
    damage(shard.path(".journal"), 0.3)

    repair(tmp_path)

    assert shard.path(".h5.snapshot").read_bytes() == image
    assert f"{shard.name}.h5.snapshot was set aside by repair" in verify(tmp_path).notes
    assert repair(tmp_path).done == []


# ---------------------------------------------------------------------------------------------------------- other files


@pytest.mark.parametrize("cut", [1, 3, 30])
def test_a_torn_row_of_a_table_is_cut_off(tmp_path: Path, cut: int) -> None:
    rows = [Row("main", "note", 1, "one\ntwo", "text"), Row("main", "note", 2, 'three\n"four"', "text")]
    shard = write(a_shard(tmp_path), rows, ["csv"])
    whole = shard.path(".csv").read_bytes()
    tear(shard.path(".csv"), cut)

    found = repair(tmp_path)

    assert len(found.done) == 1
    assert shard.path(".csv").read_bytes() == whole[: whole.index(b"main/note,2")]


def test_a_table_that_a_process_on_another_host_writes_is_left_alone(tmp_path: Path) -> None:
    shard = write(a_shard(tmp_path, host="elsewhere"), outputs=["csv"])
    tear(shard.path(".csv"), 3)
    before = shard.path(".csv").read_bytes()

    repair(tmp_path, other_hosts=True)
    with allogger.run(tmp_path, ["csv"]) as logger:
        logger.log(1.0, "loss")

    assert shard.path(".csv").read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b"{}", b"null"])
def test_an_index_that_is_missing_or_wrong_is_written_anew(tmp_path: Path, content: bytes | None) -> None:
    shard = write(a_shard(tmp_path), PLAIN_ROWS, is_closed=True)
    index = json.loads(shard.path(".index.json").read_bytes())
    if content is None:
        shard.path(".index.json").unlink()
    else:
        shard.path(".index.json").write_bytes(content)

    found = repair(tmp_path)

    assert len(found.done) == 1
    assert json.loads(shard.path(".index.json").read_bytes()) == index


def leave(folder: Path, name: str, changed: float) -> str:
    (folder / name).write_bytes(b"half")
    os.utime(folder / name, (changed, changed))
    return name


def test_old_leftovers_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    shard, of_another_host = write(a_shard(tmp_path)), write(a_shard(tmp_path, host="elsewhere"))
    old = time.time() - 1200
    gone = {
        leave(shard.events, f".{shard.name}.h5.4194305-1.tmp", old),
        leave(shard.events, f".{shard.name}.index.json.4194305-1.tmp", old),
        leave(shard.events, ".4194305-3.tmp", old),
        leave(tmp_path, ".run.json.4194305-2.tmp", old),
    }
    kept = {
        leave(shard.events, f".{shard.name}.h5.4194305-2.tmp", time.time()),
        leave(shard.events, f".{of_another_host.name}.h5.4194305-2.tmp", old),
        leave(shard.events, ".mine.tmp", old),
        leave(shard.events, "4194305-3.tmp", old),
    }

    found = repair(tmp_path)

    assert {sentence.partition(" ")[0] for sentence in found.done if "leftover" in sentence} == gone
    everywhere = {path.name for path in tmp_path.rglob("*")}
    assert kept <= everywhere
    assert not gone & everywhere


def test_a_temporary_file_of_a_process_that_runs_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allogger.repair._LEFTOVER_SECONDS", -1.0)
    shard = write(a_shard(tmp_path), is_closed=True)
    kept = leave(shard.events, f".{shard.name}.h5.{os.getpid()}-2.tmp", time.time())

    assert repair(tmp_path).done == []
    assert kept in names(tmp_path)


def test_a_folder_that_is_no_run_is_refused_and_an_empty_run_is_fine(tmp_path: Path) -> None:
    with pytest.raises(NotARun):
        repair(tmp_path)
    (tmp_path / EVENTS).mkdir()

    assert repair(str(tmp_path)).ok


def test_a_file_that_cannot_be_repaired_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    bad, good = write(a_shard(tmp_path)), write(a_shard(tmp_path))
    # Nothing can be renamed to the place of a folder with something in it.
    (bad.path(".h5") / "x").mkdir(parents=True)

    found = repair(tmp_path)

    assert not found.ok
    assert bad.name in found.failed[0]
    assert bad.path(".journal").exists()
    assert good.path(".h5").is_file()


# --------------------------------------------------------------------------------------------------- repair interrupted


def a_run_of_all_kinds(logdir: Path) -> Shard:
    write(a_shard(logdir), outputs=["hdf", "csv"])
    damaged = write(a_shard(logdir), is_closed=True)
    write(damaged, batches=9)
    damage(damaged.path(".journal"), 0.6)
    tear(write(a_shard(logdir), outputs=["csv"]).path(".csv"), 4)
    last = write(a_shard(logdir), is_closed=True)
    last.path(".index.json").unlink()
    return last


def test_killed_at_any_moment_it_leaves_a_readable_run_and_the_next_repair_finishes(tmp_path: Path) -> None:
    a_run_of_all_kinds(tmp_path / "original")
    before = everything(tmp_path / "original")
    shutil.copytree(tmp_path / "original", tmp_path / "whole")
    repair(tmp_path / "whole")
    expected = names(tmp_path / "whole")

    def die_before(number: int, run: Path) -> None:
        changing = iter(range(number))

        def hook(event: str, args: tuple[Any, ...]) -> None:
            is_change = event in ("os.rename", "os.remove", "os.link", "os.truncate") or (
                event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            )
            if is_change and next(changing, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        repair(run)

    moments = 0
    status = -signal.SIGKILL
    while status == -signal.SIGKILL:
        run = tmp_path / f"run{moments}"
        shutil.copytree(tmp_path / "original", run)
        status = in_a_child(lambda run=run, moments=moments: die_before(moments, run))
        assert everything(run) == before, f"killed before change {moments}"
        assert repair(run).failed == []
        assert everything(run) == before
        assert {name for name in names(run) if not name.endswith(".tmp")} == expected
        moments += 1

    assert status == 0
    assert moments > 10


@pytest.mark.parametrize("limit", [0, 100, 1000, 3000, 6000])
def test_a_full_disk_costs_nothing(tmp_path: Path, limit: int) -> None:
    a_run_of_all_kinds(tmp_path)
    before, untouched = everything(tmp_path), files(tmp_path)

    def with_a_full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        found = repair(tmp_path)
        assert not found.ok
        assert "File too large" in found.failed[0]

    assert in_a_child(with_a_full_disk) == 0

    assert everything(tmp_path) == before
    journals = [name for name in untouched if name.endswith((".journal", ".h5"))]
    assert {name: files(tmp_path)[name] for name in journals if name in files(tmp_path)} == {
        name: untouched[name] for name in journals
    }
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]
    assert repair(tmp_path).ok
    assert everything(tmp_path) == before


def test_two_repairs_at_the_same_time_harm_nothing(tmp_path: Path) -> None:
    for _ in range(4):
        write(a_shard(tmp_path))
    before = everything(tmp_path)

    children = []
    for _ in range(3):
        pid = os.fork()
        if not pid:
            os._exit(0 if repair(tmp_path).ok else 1)
        children.append(pid)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]

    assert statuses == [0, 0, 0]
    assert everything(tmp_path) == before
    assert repair(tmp_path).done == []
