from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from allogger import environment as module
from allogger.environment import MAX_DIFF_BYTES, environment, git_state, masked_arguments, masked_diff, summary

ROOT = Path(__file__).parents[1]
# Tests of git must not depend on whose machine they run on.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "PYTHONPATH": str(ROOT),
}


def git(folder: Path, *command: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    return subprocess.run(
        ["git", *who, *command], cwd=folder, env=ENVIRONMENT, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository on the branch ``main`` with one commit of ``train.py``."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init")
    (folder / "train.py").write_text("lr = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return folder


def state(folder: Path) -> dict[str, Any]:
    found = git_state(folder)
    assert found is not None
    return found


def environment_of(script: Path, *args: str, cwd: Path | None = None, **variables: str) -> dict[str, Any]:
    """What `environment` returns in a program of its own."""
    script.write_text("import json; from allogger.environment import environment; print(json.dumps(environment()))")
    done = subprocess.run(
        [sys.executable, script, *args],
        cwd=cwd or script.parent,
        env={**ENVIRONMENT, **variables},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def comes_to_an_end(pid: int) -> bool:
    """Whether the process *pid*, no child of this one, ends within seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
    return False


# ------------------------------------------------------------------------------------------------------------ process


def test_host_user_folder_command_python_platform_and_cpus_are_found(tmp_path: Path) -> None:
    found = environment_of(tmp_path / "train.py", "--lr", "0.1")

    assert found["host"]
    assert found["user"]
    assert found["cwd"] == str(tmp_path)
    assert found["argv"] == [str(tmp_path / "train.py"), "--lr", "0.1"]
    assert found["orig_argv"][1:] == found["argv"]
    assert found["python"]["executable"] == sys.executable
    assert found["python"]["version"] == sys.version.split()[0]
    assert found["platform"]
    assert found["cpu_count"] >= found["usable_cpus"] >= 1


def test_imported_packages_have_their_versions_and_others_do_not_appear() -> None:
    import numpy as np

    packages = environment()["packages"]

    assert packages["numpy"] == np.__version__
    assert packages["pytest"] == pytest.__version__
    assert "json" not in packages


def test_a_package_installed_under_another_name_says_its_version_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("imported_name")
    monkeypatch.setitem(sys.modules, "imported_name", module)
    assert "imported_name" not in environment()["packages"]

    vars(module)["__version__"] = "1.2.3"

    assert environment()["packages"]["imported_name"] == "1.2.3"


def test_only_variables_of_the_list_are_kept(tmp_path: Path) -> None:
    found = environment_of(tmp_path / "a.py", SLURM_JOB_ID="17", SLURM_JOB_TOKEN="hush", WANDB_API_KEY="hush", RANK="3")

    assert found["variables"]["SLURM_JOB_ID"] == "17"
    assert found["variables"]["RANK"] == "3"
    assert "hush" not in json.dumps(found)


def test_a_deleted_working_directory_leaves_everything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    found = environment()

    assert found["cwd"] is None
    assert found["host"]


def test_a_user_without_a_name_and_arguments_of_odd_types_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["a.py", 5, "\udcff"])

    found = environment()

    assert found["argv"] == ["a.py", "5", "\\udcff"]
    json.dumps(found, ensure_ascii=False).encode()


# -------------------------------------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("--token abc --lr 1", "--token *** --lr 1"),
        ("--hf-token -abc", "--hf-token ***"),
        ("--use-token --lr 1", "--use-token --lr 1"),
        ("--api-key=abc", "--api-key=***"),
        ("--API_KEY=abc", "--API_KEY=***"),
        ("password=abc", "password=***"),
        ("+db.passwd=abc", "+db.passwd=***"),
        ("token:abc", "token:***"),
        ("mysecret", "***"),
        ("""'{"credential": "abc"}'""", "***"),
        ("-H 'Authorization: Bearer abc'", "-H Authorization:***"),
        ("--db=postgres://me:abc@host/x", "--db=postgres://***@host/x"),
        ("--login ghp_0123456789abcdefghij", "--login ***"),
        ("--lr=0.1 data.csv", "--lr=0.1 data.csv"),
    ],
)
def test_an_argument_that_looks_like_a_secret_is_masked(given: str, shown: str) -> None:
    assert " ".join(masked_arguments(shlex.split(given))) == shown


def test_a_script_called_after_tokens_keeps_its_name(tmp_path: Path) -> None:
    found = environment_of(tmp_path / "train_tokenizer.py", "--token", "hush")

    assert found["argv"] == [str(tmp_path / "train_tokenizer.py"), "--token", "***"]
    assert found["orig_argv"][1:] == found["argv"]


def test_lines_of_a_diff_that_look_like_secrets_are_masked_and_names_of_files_stay(repository: Path) -> None:
    lines = [
        "API_KEY = 'hush1'",
        "db = 'postgres://me:hush2@host/x'",
        "-----BEGIN RSA PRIVATE KEY-----",
        "hush3",
        "-----END RSA PRIVATE KEY-----",
        "lr = 2",
    ]
    (repository / "token.py").write_text("\n".join([*lines, ""]))
    git(repository, "add", ".")

    diff = state(repository)["diff"]

    assert "hush" not in diff
    assert "+++ b/token.py" in diff
    assert "+lr = 2" in diff
    assert "+db = 'postgres://***@host/x'" in diff


def test_a_removed_secret_and_one_in_the_title_of_a_hunk_are_masked() -> None:
    diff = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@ password = 'hush'\n-secret = 'hush'\n--- token hush\n"

    assert "hush" not in masked_diff(diff)
    assert "@@ -1,2 +1,2 @@***" in masked_diff(diff)


# ------------------------------------------------------------------------------------------------------------------ git


def test_an_unchanged_repository_has_branch_and_commit_and_no_diff(repository: Path) -> None:
    found = state(repository)

    assert found["root"] == str(repository)
    assert found["branch"] == "main"
    assert found["commit"] == git(repository, "rev-parse", "HEAD")
    assert found["is_dirty"] is False
    assert found["diff"] == ""
    assert found["untracked"] == []


def test_changes_staged_or_not_are_in_the_diff_and_untracked_files_only_by_name(repository: Path) -> None:
    (repository / "train.py").write_text("lr = 2\n")
    (repository / "staged.py").write_text("x = 3\n")
    git(repository, "add", "staged.py")
    (repository / "new file.txt").write_text("content")

    found = state(repository)

    assert found["is_dirty"] is True
    assert "-lr = 1\n+lr = 2\n" in found["diff"]
    assert "+x = 3\n" in found["diff"]
    assert found["untracked"] == ["new file.txt"]
    assert "content" not in json.dumps(found)


def test_a_change_is_found_from_a_folder_below_the_root(repository: Path) -> None:
    (repository / "train.py").write_text("lr = 2\n")
    (repository / "below").mkdir()
    (repository / "untracked").touch()

    found = state(repository / "below")

    assert "+lr = 2" in found["diff"]
    assert found["untracked"] == ["untracked"]


def test_a_detached_head_has_a_commit_and_no_branch(repository: Path) -> None:
    git(repository, "checkout", "--detach")

    found = state(repository)

    assert found["branch"] is None
    assert found["commit"] == git(repository, "rev-parse", "HEAD")


def test_a_repository_without_commits_shows_what_is_staged(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / "a.py").write_text("x = 1\n")
    git(tmp_path, "add", ".")

    found = state(tmp_path)

    assert found["branch"] == "main"
    assert found["commit"] is None
    assert found["is_dirty"] is True
    assert "+x = 1" in found["diff"]


def test_a_bare_repository_has_a_commit_and_no_changes(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--bare", str(repository), "bare")

    found = state(tmp_path / "bare")

    assert found["commit"] == git(repository, "rev-parse", "HEAD")
    assert found["root"] is None
    assert found["is_dirty"] is None


def test_outside_of_a_repository_there_is_no_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    assert git_state(tmp_path) is None


def test_without_the_program_git_there_is_no_state(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))

    assert git_state(repository) is None


def test_a_remote_is_shown_without_user_and_password(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://me:hush@example.org/x.git")

    assert state(repository)["remote"] == "https://***@example.org/x.git"


def test_a_huge_diff_is_cut_at_the_end_of_a_line(repository: Path) -> None:
    (repository / "train.py").write_text("0123456789\n" * 500_000)

    found = state(repository)

    assert found["is_diff_whole"] is False
    assert MAX_DIFF_BYTES - 20 < len(found["diff"]) <= MAX_DIFF_BYTES
    assert found["diff"].endswith("+0123456789\n")


def test_names_and_contents_that_are_no_utf8_can_be_stored(repository: Path) -> None:
    (repository / "train.py").write_bytes(b"caf\xe9 = 1\n")
    Path(os.fsdecode(os.fsencode(repository) + b"/\xff")).touch()

    found = state(repository)

    assert "+caf\\xe9 = 1" in found["diff"]
    assert found["untracked"] == ["\\xff"]


def test_a_git_that_hangs_is_given_up(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    # The sleep that it starts keeps the pipe open even when the shell is gone.
    (programs / "git").write_text(f"#!/bin/sh\nsleep 100 &\necho $! > {programs}/pid\nwait\n")
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(module, "GIT_SECONDS", 0.5)
    start = time.monotonic()

    assert git_state(repository) is None
    assert time.monotonic() - start < 5
    assert comes_to_an_end(int((programs / "pid").read_text()))


@pytest.mark.parametrize("protocol", ["clean", "process"])
@pytest.mark.parametrize("driver", ["evil", "with space", "with=sign"])
def test_no_program_that_a_repository_names_is_run(
    repository: Path, tmp_path: Path, driver: str, protocol: str
) -> None:
    trap = tmp_path / "trap"
    spring = f"touch {shlex.quote(str(trap))}; cat"
    attributes = f'*.py filter="{driver}" diff=evil\n' if " " in driver else f"*.py filter={driver} diff=evil\n"
    (repository / ".git" / "info" / "attributes").write_text(attributes)
    for name, value in {
        f"filter.{driver}.{protocol}": spring,
        f"filter.{driver}.required": "true",
        "diff.evil.command": spring,
        "diff.evil.textconv": spring,
        "diff.external": spring,
        "core.fsmonitor": spring,
        "core.pager": spring,
        "core.hooksPath": str(repository / "hooks"),
    }.items():
        git(repository, "config", name, value)
    (repository / "hooks").mkdir()
    (repository / "hooks" / "post-index-change").write_text(f"#!/bin/sh\n{spring}\n")
    (repository / "hooks" / "post-index-change").chmod(0o755)
    trap.unlink(missing_ok=True)  # Writing this configuration may have sprung it already.
    (repository / "train.py").write_text("lr = 2\n")

    found = state(repository)

    assert not trap.exists()
    assert found["commit"]
    assert found["diff"] is None if driver == "with=sign" else "+lr = 2" in found["diff"]


def test_the_index_of_the_repository_is_not_rewritten(repository: Path) -> None:
    os.utime(repository / "train.py", (0, 0))
    before = (repository / ".git" / "index").stat()

    assert state(repository)["is_dirty"] is False

    after = (repository / ".git" / "index").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_variables_of_git_do_not_lead_to_another_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))

    assert state(repository)["commit"] == commit


def test_the_repository_is_that_of_the_running_script_wherever_it_runs(repository: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    found = environment_of(repository / "script.py", cwd=elsewhere)

    assert found["git"]["root"] == str(repository)


def test_without_a_script_the_repository_is_that_of_the_working_directory(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The script that runs now is a test runner in site-packages.
    monkeypatch.chdir(repository)

    assert environment()["git"]["root"] == str(repository)


# -------------------------------------------------------------------------------------------------------------- summary


def test_the_summary_is_one_line_for_each_thing_and_without_the_diff(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "train.py").write_text("lr = 12345\n")
    monkeypatch.chdir(repository)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "a\nb"])
    monkeypatch.setenv("SLURM_JOB_ID", "17")

    lines = summary(environment()).splitlines()

    assert lines[0] == "environment"
    assert r"  command   python -c a\nb" in lines
    assert any(line.startswith("  git       main at ") and line.endswith("changed") for line in lines)
    assert any(line.split() == ["SLURM_JOB_ID", "17"] for line in lines)
    assert not any("12345" in line for line in lines)


def test_the_summary_can_be_made_when_nothing_could_be_found_out() -> None:
    found = {**dict.fromkeys(environment()), "python": environment()["python"], "variables": {}}

    assert "no repository" in summary(found)
