"""Do files that were logged come back as they were, and does what a hostile run says stay without effect?"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import allogger
from allogger.cli import main
from allogger.rundir import ARTIFACTS, stored_files
from allogger.utils import verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    (place / "data" / "empty").mkdir(parents=True)
    (place / "train.py").write_bytes(b"print()")
    (place / "data" / "x y\n.csv").write_bytes(b"1,2")
    (place / "data" / "latest").symlink_to("x y\n.csv")
    return place


def tree(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
    }


def logged(logdir: Path, value: Any, key: str = "file", kind: str = "artifact") -> allogger.Artifact:
    with allogger.run(logdir) as root:
        root.log(value, key, data_type=kind)
    return allogger.open_run(logdir).artifacts(key)[-1]


def forged(logdir: Path, told: Any, kind: str = "artifact") -> allogger.Run:
    """Return a run with a record that says *told*."""
    with allogger.run(logdir) as root:
        root._put_object("file", None, kind, (told if isinstance(told, str) else json.dumps(told), {}), (), 0.0)
    return allogger.open_run(logdir)


def planted(logdir: Path, data: bytes, name: str = "x") -> dict[str, Any]:
    """Put a file where one of that content belongs, and return its record."""
    digest = hashlib.sha256(data).hexdigest()
    path = logdir / ARTIFACTS / digest[:2] / digest / name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    place = str(path.relative_to(logdir))
    return {"name": name, "path": place, "size": len(data), "sha256": digest, "media_type": "text/plain"}


def test_a_file_is_copied_out_with_its_name_and_time(tmp_path: Path) -> None:
    original = tmp_path / "a file.txt"
    original.write_bytes(b"content")
    os.utime(original, (1e9, 1e9))
    one = logged(tmp_path / "run", original)

    copy = one.copy_to(tmp_path / "out")

    assert copy == tmp_path / "out" / "a file.txt"
    assert (copy.read_bytes(), copy.stat().st_mtime) == (b"content", 1e9)
    assert (one.key, one.step, one.kind, one.process) == ("root/file", 1, "artifact", "MainProcess")
    with pytest.raises(FileExistsError):
        one.copy_to(tmp_path / "out")
    with pytest.raises(allogger.ConfigError, match="copy_to"):
        one.load()


def test_a_folder_is_copied_out_as_it_was(tmp_path: Path, folder: Path) -> None:
    one = logged(tmp_path / "run", folder)

    copy = one.copy_to(tmp_path / "out")

    assert tree(copy) == tree(folder)
    assert (one.files, one.size, one.is_folder) == (2, 10, True)


@pytest.mark.parametrize("broken", ["train.py", "list"])
def test_a_folder_of_which_a_file_has_changed_is_damaged(tmp_path: Path, folder: Path, broken: str) -> None:
    one = logged(tmp_path / "run", folder)
    path = one.path if broken == "list" else next(path for path in one.members() if path.name == "train.py")
    path.write_bytes(b"PRINT()")

    assert len(one.verify()) == 1
    assert verify(tmp_path / "run").damage == one.verify()
    with pytest.raises(allogger.DamagedFile):
        one.copy_to(tmp_path / "out")


def test_records_without_sense_are_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = planted(tmp_path, b"x")
    for told in (
        "no JSON",
        "[1]",
        "[" * 10_000,
        {},
        {**good, "path": "../../etc/passwd"},
        {**good, "path": "/etc/passwd"},
        {**good, "path": "artifacts/../../x"},
        {**good, "path": good["path"] + "/../x"},
        {**good, "path": good["path"].upper()},
        {**good, "path": ["x"]},
        {**good, "size": "1"},
        {**good, "size": True},
        {**good, "sha256": None},
        {**good, "mtime": "late"},
        {**good, "metric": [1]},
    ):
        run = forged(tmp_path, told)
    assert run.artifacts() == []
    assert len(verify(tmp_path).damage) == 15
    assert "makes no sense" in caplog.text

    assert [one.verify() for one in forged(tmp_path, good).artifacts()] == [[]]


def test_a_record_with_another_hash_or_size_is_damage(tmp_path: Path) -> None:
    good = planted(tmp_path, b"x")

    (one,) = forged(tmp_path / "a", {**good, "sha256": "0" * 64}).artifacts()
    planted(tmp_path / "b", b"x")
    (other,) = forged(tmp_path / "b", {**good, "size": 2}).artifacts()

    assert "is gone" in one.verify()[0]
    assert "has 1 bytes, not 2" in other.verify()[0]


def test_links_in_place_of_files_and_folders_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    planted(secret, b"secret")
    told = planted(tmp_path / "run", b"secret")
    path = tmp_path / "run" / told["path"]
    path.unlink()
    path.symlink_to(secret / told["path"])
    (one,) = forged(tmp_path / "run", told).artifacts()
    assert "cannot be read" in one.verify()[0]

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ARTIFACTS).symlink_to(secret / ARTIFACTS)
    (other,) = forged(tmp_path / "other", told).artifacts()
    assert "behind a symbolic link" in other.verify()[0]
    with pytest.raises(allogger.DamagedFile):
        other.copy_to(tmp_path / "out")


def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    told = planted(tmp_path, b"{}")
    (tmp_path / told["path"]).unlink()
    os.mkfifo(tmp_path / told["path"])
    for media_type in ("inode/directory", "text/plain"):
        (*_, one) = forged(tmp_path, {**told, "media_type": media_type}).artifacts()
        with pytest.raises(allogger.DamagedFile):
            one.copy_to(tmp_path / "out")

    assert all("no ordinary file" in what for what in verify(tmp_path).damage)


@pytest.mark.parametrize(
    "listing",
    [
        {"files": {"../out": "FILE"}},
        {"files": {"/tmp/out": "FILE"}},
        {"files": {"a/../../out": "FILE"}},
        {"files": {"": "FILE"}},
        {"files": {"a\0": "FILE"}},
        {"files": {"a": {"path": "../../secret", "size": 1, "sha256": "x"}}},
        {"files": {"a": 1}},
        {"folders": ["../out"]},
        {"links": {"../out": "a"}},
        {"links": {"a": "/etc/passwd"}},
        {"links": {"a": "../../secret"}},
        {"links": {"a": "../../secret", "b": "../../secret"}},
        {"links": {"a": "b\0"}},
        {"links": {"a": ""}},
        {"links": {"a": 1}},
        {"files": {"\ud800": "FILE"}},
        {"folders": ["d"], "links": {"d/up": "..", "x": "d/up/../secret"}},
        {"files": 1},
        [1],
        "[" * 10_000,
    ],
    ids=str,
)
def test_a_hostile_list_of_a_folder_writes_nothing_outside(tmp_path: Path, listing: Any) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    logdir = tmp_path / "run"
    if isinstance(listing, dict):
        listing = {"files": {}, "folders": [], "links": {}, **listing}
    text = (listing if isinstance(listing, str) else json.dumps(listing)).replace(
        '"FILE"', json.dumps(planted(logdir, b"data"))
    )
    told = {**planted(logdir, text.encode(), "list.json"), "media_type": "inode/directory", "name": "folder"}
    (one,) = forged(logdir, told).artifacts()
    before = tree(tmp_path / "out"), (tmp_path / "secret").read_bytes()

    with pytest.raises(allogger.DamagedFile):
        one.copy_to(tmp_path / "out" / "in")

    after = {name: what for name, what in tree(tmp_path / "out").items() if name != "in"}
    assert (after, (tmp_path / "secret").read_bytes()) == before


def test_a_copy_that_fails_halfway_leaves_nothing(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Any, target: Any, length: int) -> None:
        target.write(source.read(1))
        raise OSError("no space left on device")

    monkeypatch.setattr("allogger.artifacts.shutil.copyfileobj", full)
    for value in (folder, folder / "train.py"):
        with pytest.raises(OSError, match="no space"):
            logged(tmp_path / "run", value).copy_to(tmp_path / "out")

    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("name", ["..", "../../up", "/etc/passwd", "", "a/b", "\0", "x" * 300, "\ud800"])
def test_a_hostile_name_stays_in_the_folder(tmp_path: Path, name: str) -> None:
    one = logged(tmp_path / "run", {"name": name, "data": b"data"})

    copy = one.copy_to(tmp_path / "out")

    assert one.name == name
    assert copy.parent == tmp_path / "out"
    assert copy.read_bytes() == b"data"


# --------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def a_run(tmp_path: Path) -> Path:
    with allogger.run(tmp_path / "run") as root:
        root.log({"name": "notes.txt", "data": b"notes"}, "notes", data_type="artifact")
        root.log({"weights": np.ones(3)}, "net", data_type="model")
        for number in range(3):
            root.checkpoint({"number": number}, step=number, metric=-number, keep_last=1)
    return tmp_path / "run"


@pytest.fixture
def rows(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def run(*args: object) -> Any:
        capsys.readouterr()
        assert main([*map(str, args), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_the_command_lists_and_copies(a_run: Path, tmp_path: Path, rows: Callable[..., Any]) -> None:
    listed = rows("artifacts", a_run)
    copied = rows("artifacts", a_run, "-o", tmp_path / "out")

    assert [(row["key"], row["kind"], row["state"]) for row in listed] == [
        ("root/net", "model", ""),
        ("root/notes", "artifact", ""),
        ("root/checkpoint", "checkpoint", "removed"),
        ("root/checkpoint", "checkpoint", "removed"),
        ("root/checkpoint", "checkpoint", "latest, best"),
    ]
    assert [Path(row["copy"]).relative_to(tmp_path / "out").parts[:-1] for row in copied] == [
        ("root", "net", "1"),
        ("root", "notes", "1"),
        ("root", "checkpoint", "2"),
    ]
    assert (tmp_path / "out" / "root" / "notes" / "1" / "notes.txt").read_bytes() == b"notes"
    assert main(["artifacts", str(a_run), "-o", str(tmp_path / "out")]) != 0
    assert len(rows("artifacts", a_run, "-a", "best")) == 1
    assert len(rows("artifacts", a_run, "-k", "net", "-k", "root/n")) == 2


def test_the_command_copies_what_processes_logged_under_one_name(tmp_path: Path, rows: Callable[..., Any]) -> None:
    for rank in range(3):
        with allogger.run(tmp_path / "run", rank=rank) as root:
            root.log({"name": "notes.txt", "data": b"%d" % rank}, "notes", data_type="artifact")

    rows("artifacts", tmp_path / "run", "-o", tmp_path / "out")

    folder = tmp_path / "out" / "root" / "notes" / "1"
    assert [(folder / place / "notes.txt").read_bytes() for place in ("", "rank1", "rank2")] == [b"0", b"1", b"2"]


def test_merge_carries_the_files_along_and_du_and_rm_count_them(
    a_run: Path, tmp_path: Path, rows: Callable[..., Any]
) -> None:
    rows("merge", a_run, "-o", tmp_path / "merged")

    one, other = (allogger.open_run(path) for path in (a_run, tmp_path / "merged"))
    assert [found.sha256 for found in one.artifacts()] == [found.sha256 for found in other.artifacts()]
    assert [found.is_removed for found in other.checkpoints()] == [True, True, False]
    assert verify(tmp_path / "merged").ok
    assert verify(tmp_path / "merged").notes == []
    (du,) = rows("du", a_run)
    there = [found for found in [*one.artifacts(), *one.checkpoints()] if not found.is_removed]
    # And the two links to the latest and the best.
    assert 0 < du["files"] - sum(found.size for found in there) < 200
    rows("rm", a_run, "--yes")
    assert not a_run.exists()
    assert [found.verify() for found in other.artifacts()] == [[], []], "the merged run has files of its own"


def test_merge_goes_on_when_the_program_removes_a_checkpoint(
    a_run: Path, tmp_path: Path, rows: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def removing(logdir: Path) -> Iterator[os.DirEntry[str]]:
        for entry in stored_files(logdir):
            if "checkpoints" in entry.path:
                os.unlink(entry.path)
            yield entry

    monkeypatch.setattr("allogger.cli.merge.stored_files", removing)
    rows("merge", a_run, "-o", tmp_path / "merged")

    assert len(allogger.open_run(tmp_path / "merged").artifacts()) == 2


def test_exports_have_the_records(a_run: Path, tmp_path: Path) -> None:
    run = allogger.open_run(a_run)

    for name in ("all.h5", "all.csv", "all.jsonl"):
        run.export(tmp_path / name, overwrite=True)

    assert "notes.txt" in (tmp_path / "all.csv").read_text()
    assert "notes.txt" in (tmp_path / "all.jsonl").read_text()
    assert "checkpoint/root/checkpoint" in allogger.api.hdf.list_keys(tmp_path / "all.h5")
