"""Are logged files kept once and whole, whatever they are called, whoever stores them and whatever ends the program?"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allogger
from allogger.files import FOLDER, Files, Stored, temporary_name
from allogger.plain import Unstorable
from allogger.rundir import ARTIFACTS, clear, is_stored_path, stored_files
from allogger.utils import repair, verify


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(data: bytes, sink: Any) -> None:
    sink.write(data)


def names_of(logdir: Path) -> list[str]:
    return sorted(str(path.relative_to(logdir)) for path in (logdir / ARTIFACTS).rglob("*") if path.is_file())


def check_all(logdir: Path) -> int:
    """See to it that every file under a final name has the content that the name says; return how many there are."""
    found = [entry.path for entry in stored_files(logdir) if not entry.name.startswith(".")]
    for path in found:
        content = Path(path).parent.name
        if len(content) == 64:
            assert sha256(Path(path).read_bytes()) == content, path
    return len(found)


# --------------------------------------------------------------------------------------------------- names and contents


def test_a_file_is_found_by_its_content_and_keeps_its_name(tmp_path: Path) -> None:
    original = tmp_path / "notes.txt"
    original.write_bytes(b"content")

    stored = Files(tmp_path / "run", "root/notes").put_file(original)

    digest = sha256(b"content")
    path = f"artifacts/{digest[:2]}/{digest}/notes.txt"
    assert stored == Stored("notes.txt", path, 7, digest, "text/plain", original.stat().st_mtime)
    assert (tmp_path / "run" / path).read_bytes() == b"content"


@settings(max_examples=60, deadline=None)
@given(name=st.text(st.characters(exclude_categories=()), max_size=300), data=st.binary(max_size=20))
def test_whatever_a_file_is_called_it_stays_in_its_folder(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes
) -> None:
    logdir = tmp_path_factory.getbasetemp() / "names"

    stored = Files(logdir, "root/file").put_bytes(data, name)

    path = logdir / stored.path
    assert is_stored_path(stored.path)
    assert path.parent == logdir / ARTIFACTS / stored.sha256[:2] / stored.sha256
    assert path.read_bytes() == data
    suffix = re.search(r"[^./\0\\]\.[a-z0-9]{1,8}$", name)
    assert suffix is None or path.suffix == suffix[0][1:], "programs know by the suffix what it is"
    assert json.loads(json.dumps(stored.about())) == stored.about()


@pytest.mark.parametrize("key", ["../../up", "a/b", "", "\0", "x" * 500, "/etc", "é\ud800"])
def test_whatever_a_key_is_called_its_checkpoints_stay_in_a_folder_of_their_own(tmp_path: Path, key: str) -> None:
    stored = Files(tmp_path, key).put_checkpoint(lambda sink: sink.write(b"state"))

    assert is_stored_path(stored.path)
    assert (tmp_path / stored.path).resolve().parent.parent == tmp_path / "artifacts" / "checkpoints"


def test_the_same_content_under_two_names_takes_the_space_of_one(tmp_path: Path) -> None:
    files = Files(tmp_path, "root/file")

    one, other = files.put_bytes(b"same", "a.txt"), files.put_bytes(b"same", "b.csv")

    assert os.path.samefile(tmp_path / one.path, tmp_path / other.path)
    assert [Path(name).name for name in names_of(tmp_path)] == ["a.txt", "b.csv"]


def test_checkpoints_of_equal_length_are_different_files(tmp_path: Path) -> None:
    files = Files(tmp_path, "root/checkpoint")

    paths = [files.put_checkpoint(partial(_write, b"%d" % number)).path for number in range(3)]

    assert [(tmp_path / path).read_bytes() for path in paths] == [b"0", b"1", b"2"]


def test_a_folder_is_a_list_of_files_and_the_next_version_copies_what_has_changed(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "a.py").write_bytes(b"a")
    (folder / "sub" / "b.py").write_bytes(b"b")
    (folder / "link").symlink_to("sub/b.py")
    files = Files(tmp_path / "run", "root/code")

    first = files.put_folder(folder)
    before = {name: os.stat(tmp_path / "run" / name).st_ino for name in names_of(tmp_path / "run")}
    (folder / "a.py").write_bytes(b"changed")
    second = files.put_folder(folder)

    assert (first.name, first.size, first.files, first.media_type) == ("code", 2, 2, FOLDER)
    listing = json.loads((tmp_path / "run" / first.path).read_bytes())
    assert list(listing["files"]) == ["a.py", "sub/b.py"]
    assert listing["folders"] == ["sub", "sub/empty"]
    assert listing["links"] == {"link": "sub/b.py"}
    after = {name: os.stat(tmp_path / "run" / name).st_ino for name in names_of(tmp_path / "run")}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 2  # the changed file and the new list
    assert second.sha256 != first.sha256


def test_what_is_no_ordinary_file_is_refused(tmp_path: Path) -> None:
    files = Files(tmp_path / "run", "root/file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "out").symlink_to("../pipe")

    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(Unstorable, match="no ordinary file"):
            files.put_file(path)
    with pytest.raises(Unstorable, match="leads out of the folder"):
        files.put_folder(tmp_path / "folder")
    with pytest.raises(Unstorable, match="the logdir itself"):
        Files(tmp_path / "run", "x").put_folder(tmp_path)
    assert names_of(tmp_path / "run") == []


def test_a_link_in_place_of_the_store_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ARTIFACTS).symlink_to(elsewhere)

    with pytest.raises(Unstorable, match="symbolic link"):
        Files(tmp_path / "run", "root/file").put_bytes(b"x", "x")

    assert list(elsewhere.iterdir()) == []


def test_what_fails_halfway_leaves_nothing(tmp_path: Path) -> None:
    def write(sink: Any) -> None:
        sink.write(b"the first half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Files(tmp_path, "root/state").put_written(write, "state.bin")

    assert names_of(tmp_path) == []


# --------------------------------------------------------------------------------------------- several, and killed ones


def _store_many(logdir: Path, original: Path) -> None:
    for number in range(30):
        files = Files(logdir, "root/file")
        files.put_file(original)
        files.put_bytes(b"%d" % number, "number.txt")


def test_processes_that_store_the_same_contents_at_once_leave_one_of_each(tmp_path: Path) -> None:
    original = tmp_path / "large.bin"
    original.write_bytes(os.urandom(300_000))
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_store_many, args=(tmp_path / "run", original)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()

    assert [child.exitcode for child in children] == [0, 0, 0]
    assert check_all(tmp_path / "run") == 31
    assert len(names_of(tmp_path / "run")) == 31


_STORING = """
import os, sys
import allogger

root = allogger.basic_configure(sys.argv[1], flush_seconds=0.01)
big = os.urandom(3_000_000)
number = 0
while True:
    root.log({"name": "big.bin", "data": b"%d" % number + big}, "big", data_type="artifact")
    allogger.flush()
    print(number, flush=True)
    number += 1
"""


def test_whatever_moment_a_process_is_killed_at_what_is_recorded_is_whole(tmp_path: Path) -> None:
    for trial in range(3):
        logdir = tmp_path / f"run{trial}"
        with subprocess.Popen(
            [sys.executable, "-c", _STORING, str(logdir)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for _ in range(trial + 1):
                last = int(process.stdout.readline())
            process.kill()

        found = allogger.open_run(logdir).artifacts()

        assert len(found) >= last + 1
        assert [what for one in found for what in one.verify()] == []
        assert check_all(logdir) >= len(found)
        assert verify(logdir).ok


def test_a_copy_that_was_cut_short_is_told_and_repair_removes_it(tmp_path: Path) -> None:
    with allogger.run(tmp_path) as root:
        root.log({"name": "a", "data": b"a"}, "a", data_type="artifact")
    half = tmp_path / ARTIFACTS / ".4194305-0.tmp"
    link = tmp_path / ARTIFACTS / temporary_name().replace(str(os.getpid()), "4194305")
    of_this_process = tmp_path / ARTIFACTS / f".{os.getpid()}-999999.tmp"
    link.symlink_to("nowhere")
    for path in (half, of_this_process):
        path.write_bytes(b"ha")
    for path in (half, link):
        os.utime(path, (1.7e9, 1.7e9), follow_symlinks=False)

    notes = verify(tmp_path).notes
    assert [f"{path.name} is the leftover" in " ".join(notes) for path in (half, link, of_this_process)] == [True] * 3
    assert len(repair(tmp_path).done) == 2
    assert not half.exists()
    assert not link.is_symlink()
    assert of_this_process.exists()
    assert len(allogger.open_run(tmp_path).artifacts()) == 1


def test_what_lies_behind_a_link_in_place_of_the_store_is_no_leftover(tmp_path: Path) -> None:
    with allogger.run(tmp_path / "run") as root:
        root.log(1, "x")
    theirs = tmp_path / "theirs" / ".4194305-0.tmp"
    theirs.parent.mkdir()
    theirs.touch()
    os.utime(theirs, (1.7e9, 1.7e9))
    (tmp_path / "run" / ARTIFACTS).symlink_to(theirs.parent)

    assert repair(tmp_path / "run").done == []
    assert theirs.exists()


def test_a_file_of_which_no_record_tells_is_noted_and_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"a")
    with allogger.run(tmp_path / "run") as root:
        root.log(tmp_path / "folder", "folder", data_type="artifact")
    assert verify(tmp_path / "run").notes == []

    lost = Files(tmp_path / "run", "root/lost").put_bytes(b"lost", "lost.txt")

    assert verify(tmp_path / "run").notes == [f"{lost.path} is in no record"]
    assert repair(tmp_path / "run").done == []
    assert (tmp_path / "run" / lost.path).exists()


def test_clear_removes_what_is_stored_and_nothing_of_others(tmp_path: Path) -> None:
    with allogger.run(tmp_path) as root:
        root.log({"name": "a", "data": b"a"}, "a", data_type="artifact")
        root.checkpoint({"a": 1})
    strangers = [tmp_path / ARTIFACTS / "mine.txt", tmp_path / ARTIFACTS / "checkpoints" / "mine" / "latest.pt"]
    outside = tmp_path.parent / "outside.safetensors"
    outside.write_bytes(b"theirs")
    strangers[1].parent.mkdir()
    for path in strangers:
        path.write_bytes(b"theirs")
    (strangers[1].parent / "best.safetensors").symlink_to(outside)

    clear(tmp_path)

    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(strangers)
    assert outside.read_bytes() == b"theirs"
