"""Verify: it tells what is there and what is damaged, of every kind of file, and nothing makes it fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import allogger
from allogger.errors import NotARun
from allogger.rundir import EVENTS, RUN_FILE, Shard
from allogger.testing.rows import Row
from allogger.utils import Verification, verify
from tests.killed import PLAIN, a_shard, files, write

ALL = ("hdf", "csv", "tensorboard")
SCALARS = sum(row.kind == "scalar" for row in PLAIN)


@pytest.fixture
def killed(tmp_path: Path) -> Shard:
    """A shard of a killed process, with files of every output."""
    return write(a_shard(tmp_path, "Process-1"), outputs=ALL)


def only(found: Verification) -> Any:
    (shard,) = found.shards
    return shard


def file_of(found: Verification, kind: str) -> Any:
    (file,) = (file for file in only(found).files if file.kind == kind)
    return file


def patch(path: Path, at: int, by: bytes = b"\xff") -> None:
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at : at + len(by)] = bytes(a ^ b for a, b in zip(data[at : at + len(by)], by, strict=True))
    path.write_bytes(data)


# -------------------------------------------------------------------------------------------------------- what there is


def test_every_file_of_a_killed_shard_is_read_and_counted(tmp_path: Path, killed: Shard) -> None:
    found = verify(tmp_path)

    assert found.ok
    assert found.notes == []
    shard = only(found)
    assert (shard.name, shard.process, shard.attempt, shard.state) == (killed.name, "Process-1", killed.name, "killed")
    counted = {file.kind: (file.series, file.values) for file in shard.files}
    # TensorBoard has no place for arrays, a table none for them either.
    assert counted == {
        "journal": (4, len(PLAIN)),
        "csv": (3, SCALARS + 1),
        "tensorboard": (3, SCALARS + 1),
    }


def test_a_finished_shard_is_read_and_counted(tmp_path: Path) -> None:
    write(a_shard(tmp_path), outputs=ALL, is_closed=True)

    found = verify(tmp_path)

    assert found.ok
    assert found.notes == []
    assert only(found).state == "finished"
    assert (only(found).main.kind, only(found).main.series, only(found).main.values) == ("hdf", 4, len(PLAIN))


def test_a_run_in_progress_is_live_and_is_not_disturbed(tmp_path: Path) -> None:
    root = allogger.basic_configure(tmp_path / "run", ["hdf", "csv"])
    root.log(1.0, "loss")
    allogger.flush()

    assert [shard.state for shard in verify(tmp_path / "run").shards] == ["live"]

    root.log(2.0, "loss")
    allogger.close()
    found = verify(tmp_path / "run")
    assert [shard.state for shard in found.shards] == ["finished"]
    assert found.ok
    assert allogger.open_run(tmp_path / "run")["root/loss"].value.tolist() == [1.0, 2.0]


def test_a_process_that_was_killed_is_known_to_be_gone(tmp_path: Path) -> None:
    code = """
import os, signal, sys, allogger
allogger.basic_configure(sys.argv[1]).log(1.0, "loss")
allogger.flush()
print(flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while_it_runs = verify(tmp_path / "run").shards[0].state
        process.send_signal(signal.SIGKILL)

    assert (while_it_runs, verify(tmp_path / "run").shards[0].state) == ("live", "killed")


@pytest.mark.parametrize("pid", [0, 2**22 + 1, 2**31, 2**63, 10**40])
def test_a_process_with_an_impossible_number_is_gone(tmp_path: Path, pid: int) -> None:
    write(a_shard(tmp_path, pid=pid))

    assert [shard.state for shard in verify(tmp_path).shards] == ["killed"]


def test_all_of_it_is_json_and_can_be_printed(tmp_path: Path) -> None:
    write(a_shard(tmp_path, "\x1b[2J\ud800"), [Row("\ud800", "\x1b[31m", 1, np.nan)])
    (tmp_path / RUN_FILE).write_text("{")

    found = verify(tmp_path)

    told = json.loads(json.dumps(found.as_dict()))
    assert told["ok"] is False
    assert told["shards"][0]["files"][0]["kind"] == "journal"
    assert told["shards"][0]["process"] == "\x1b[2J\ud800"
    str(found).encode()
    assert all(line.isprintable() for line in str(found).splitlines())
    assert "run.json cannot be read" in str(found)


def test_an_empty_run_is_fine_and_something_else_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "run" / EVENTS).mkdir(parents=True)
    (tmp_path / "other").mkdir()

    assert verify(tmp_path / "run").ok
    assert verify(str(tmp_path / "run")).shards == []
    for path in ("other", "nowhere"):
        with pytest.raises(NotARun):
            verify(tmp_path / path)


def test_nothing_is_changed(tmp_path: Path, killed: Shard) -> None:
    patch(killed.path(".journal"), -5)
    before = files(tmp_path)

    verify(tmp_path)

    assert files(tmp_path) == before


# ------------------------------------------------------------------------------------------------------ what is damaged


@pytest.mark.parametrize(
    ("suffix", "what"),
    [(".journal", "wrong checksum"), (".csv", "no row of values"), ("events.out", "does not agree with its checksum")],
)
def test_a_damaged_byte_is_found_and_its_place_is_told(tmp_path: Path, killed: Shard, suffix: str, what: str) -> None:
    (path,) = (path for path in (tmp_path / EVENTS).rglob("*") if path.is_file() and suffix in path.name)
    patch(path, path.read_bytes().index(b"main/loss") if suffix != ".journal" else path.stat().st_size // 2)

    found = verify(tmp_path)

    assert not found.ok
    assert all(path.name in damage for damage in found.damage)
    assert what in found.damage[0]
    assert "byte" in found.damage[0]


def test_a_damaged_hdf5_file_is_found(tmp_path: Path) -> None:
    shard = write(a_shard(tmp_path), [Row("main", "loss", i, i / 7) for i in range(5000)], is_closed=True)
    with h5py.File(shard.path(".h5")) as file:
        chunk = file["scalar/main/loss"].id.get_chunk_info(0)
    patch(shard.path(".h5"), chunk.byte_offset + chunk.size // 2)

    found = verify(tmp_path)

    assert not found.ok
    assert shard.name in found.damage[0]
    assert file_of(found, "hdf").values < 5000


@pytest.mark.parametrize("suffix", [".journal", ".h5", ".csv"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 5000 + b"\n", b"garbage\n" * 99, b"\x89HDF\r\n\x1a\n"],
    ids=["nothing", "zeros", "words", "a signature"],
)
def test_files_of_garbage_raise_nothing(tmp_path: Path, suffix: str, content: bytes) -> None:
    a_shard(tmp_path).path(suffix).write_bytes(content)

    found = verify(tmp_path)

    assert len(found.shards) == 1
    assert found.ok == (content == b"" and suffix != ".h5")


@pytest.mark.parametrize(
    ("suffix", "cut"), [(".journal", 10), (".journal", 40), (".csv", 3), ("events.out", 5), ("events.out", 20)]
)
def test_a_torn_end_is_told_and_is_no_damage(tmp_path: Path, killed: Shard, suffix: str, cut: int) -> None:
    (path,) = (path for path in (tmp_path / EVENTS).rglob("*") if path.is_file() and suffix in path.name)
    os.truncate(path, path.stat().st_size - cut)

    found = verify(tmp_path)

    assert found.ok
    (file,) = (file for file in only(found).files if file.torn_bytes)
    assert file.name.endswith(path.name)
    assert f"{file.name}: the last {file.torn_bytes} bytes are not complete" in found.notes


# ------------------------------------------------------------------------------------------------ files that contradict


def test_an_older_image_beside_a_journal_is_told(tmp_path: Path) -> None:
    shard = write(a_shard(tmp_path), PLAIN[:20], is_closed=True)
    write(shard, PLAIN)

    found = verify(tmp_path)

    assert found.ok
    assert found.notes == [f"{shard.name}.journal: {shard.name}.h5 is older: it holds 20 of {len(PLAIN)} values"]


def test_an_image_that_holds_all_of_the_journal_is_told(tmp_path: Path) -> None:
    shard = write(a_shard(tmp_path), is_closed=True)
    write(shard)

    found = verify(tmp_path)

    assert found.ok
    assert found.notes == [f"{shard.name}.journal: {shard.name}.h5 holds all of it"]


@pytest.mark.parametrize("change", ["value", "step", "key", "more"])
def test_an_image_with_other_values_than_the_journal_is_damage(tmp_path: Path, change: str) -> None:
    shard = write(a_shard(tmp_path), PLAIN, is_closed=True)
    rows = list(PLAIN)
    last = rows.pop(5)
    changed = {"value": last._replace(value=7.0), "step": last._replace(step=9), "key": last._replace(key="other")}
    write(shard, [*rows[:5], changed[change], *rows[5:]] if change in changed else rows)

    found = verify(tmp_path)

    assert not found.ok
    assert f"{shard.name}.h5 holds other values than the journal" in found.damage[0]


def test_integers_in_an_older_image_agree_with_the_floats_that_they_have_become(tmp_path: Path) -> None:
    rows = [Row("a", "x", 1, 3), Row("a", "x", 2, True), Row("a", "y", 1, 3), Row("a", "z", 1, 2**60)]
    shard = write(a_shard(tmp_path), rows, is_closed=True)
    write(shard, [*rows, Row("a", "x", 3, 0.5), Row("a", "y", 2, 1j), Row("a", "z", 2, 0.5)])

    found = verify(tmp_path)

    assert found.damage == []


@pytest.mark.parametrize("content", [b"{}", b"", b"[]", b'{"series": [[[[1]]]]}', None], ids=repr)
def test_an_index_that_is_not_that_of_its_file_is_told(tmp_path: Path, content: bytes | None) -> None:
    shard = write(a_shard(tmp_path), is_closed=True)
    if content is None:
        shard.path(".index.json").unlink()
    else:
        shard.path(".index.json").write_bytes(content)

    found = verify(tmp_path)

    assert found.ok
    assert found.notes == [
        f"{shard.name}.h5: {shard.name}.index.json was {'missing' if content is None else 'not that of this file'}"
    ]


def test_an_index_without_its_file_is_damage(tmp_path: Path) -> None:
    shard = write(a_shard(tmp_path), is_closed=True)
    shard.path(".h5").unlink()

    assert verify(tmp_path).damage == [f"{shard.name}.index.json is there, its HDF5 file is not"]


def test_leftover_temporary_files_are_told(tmp_path: Path, killed: Shard) -> None:
    names = [f".{killed.name}.h5.7-1.tmp", f".{killed.name}.index.json.7-1.tmp", ".7-3.tmp"]
    for name in names:
        (tmp_path / EVENTS / name).touch()
    (tmp_path / ".run.json.7-2.tmp").touch()
    (tmp_path / ".mine.tmp").touch()
    (tmp_path / EVENTS / ".7-3.tmp.link").symlink_to(".7-3.tmp")

    found = verify(tmp_path)

    told = {note.partition(" ")[0] for note in found.notes}
    assert told == {*names, ".run.json.7-2.tmp"}
    assert found.ok


def test_a_link_and_a_pipe_in_the_place_of_a_file_are_told(tmp_path: Path) -> None:
    elsewhere = write(a_shard(tmp_path / "elsewhere"))
    (tmp_path / "run" / EVENTS).mkdir(parents=True)
    (tmp_path / "run" / EVENTS / f"{elsewhere.name}.journal").symlink_to(elsewhere.path(".journal"))
    os.mkfifo(a_shard(tmp_path / "run").path(".journal"))
    os.mkfifo(a_shard(tmp_path / "run").path(".h5"))

    found = verify(tmp_path / "run")

    assert [shard.main.values for shard in found.shards if shard.main] == [len(PLAIN), 0, 0]
    assert sum("a symbolic link to" in note for note in found.notes) == 1
    assert sum("no regular file" in damage for damage in found.damage) == 2
