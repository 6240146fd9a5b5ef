"""Failing disks: does the program go on, is one report made, and is every value stored or counted as lost?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import allogger
from tests.conftest import Result
from tests.kill import shim
from tests.processes.outputs import ALL, values

PRELUDE = """
import os, shutil, sys, time
import numpy as np
import allogger

count = 0

def work(n):
    global count
    for _ in range(n):
        logger.log(float(count), "x")
        other.log(float(count), "x")
        count += 1

def configure(logdir, **settings):
    global logger, other
    logger = allogger.basic_configure(logdir, ["hdf", "csv", "tensorboard"], flush_seconds=0.05, **settings)
    other = allogger.get_logger("other", logdir="other")
"""


def lost(result: Result) -> dict[str, int]:
    """Return how many values the program said at its end that it had lost, by output."""
    return {name: int(number) for name, number in re.findall(r"output '(\w+)' lost (\d+) values", result.stderr)}


def reports(result: Result, what: str) -> dict[str, int]:
    """Return how often each output said something."""
    said = re.findall(rf"output '(\w+)' {what}", result.stderr)
    return {name: said.count(name) for name in said}


def first_numbers(count: int) -> dict[str, list[float]]:
    return dict.fromkeys(ALL, [float(i) for i in range(count)])


# ------------------------------------------------------------------------------------------------------------ full disk


@pytest.fixture
def small_disk() -> str:
    """Return code that makes ``disk`` a file system of 4 MB, which only the program sees and which ends with it."""
    flags = ["-m"] if os.geteuid() == 0 else ["-U", "-r", "-m"]
    mount = 'mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@"'
    trial = ["unshare", *flags, "sh", "-c", mount, "/mnt", "true"]
    if shutil.which("unshare") is None or subprocess.run(trial, capture_output=True).returncode:
        pytest.skip("a file system of 4 MB needs root or unprivileged user namespaces (unshare), and mount")
    command = ["unshare", *flags, "sh", "-c", mount, "disk"]
    return f"""
import os, sys
if "INSIDE" not in os.environ:
    os.mkdir("disk")
    os.environ["INSIDE"] = "1"
    os.execvp("unshare", {command!r} + [sys.executable, *sys.argv])
with open("disk/ballast", "wb") as ballast:
    ballast.write(bytes(3_400_000))
"""


# What is on the small disk must be read where it can be seen.
READ = """
from pathlib import Path
from tests.processes.outputs import values
for output, found in values(Path("disk/run"), "root/x").items():
    print(output, len(found), found == [float(i) for i in range(len(found))])
"""


def stored(result: Result) -> dict[str, int]:
    """Return how many values `READ` has found, by output; they are the first ones that were logged."""
    lines = [line.split() for line in result.stdout.splitlines()]
    assert all(is_right == "True" for _, _, is_right in lines), result.stdout
    return {output: int(number) for output, number, _ in lines}


def test_what_a_full_disk_did_not_take_is_written_when_there_is_space_again(
    tmp_path: Path, run_python: Callable[..., Result], small_disk: str
) -> None:
    result = run_python(
        small_disk
        + PRELUDE
        + """
configure("disk/run")
for _ in range(20):
    work(1000)
    allogger.flush()
os.unlink("disk/ballast")
work(1000)
allogger.close()
"""
        + READ
    )

    assert result.returncode == 0, result.stderr
    assert reports(result, "cannot write") == dict.fromkeys(ALL, 1)
    assert reports(result, "writes again") == dict.fromkeys(ALL, 1)
    assert not lost(result)
    assert stored(result) == dict.fromkeys(ALL, 21_000)
    assert len(allogger.open_run(tmp_path / "other")["other/x"]) == 21_000


def test_what_a_full_disk_never_took_is_counted(
    tmp_path: Path, run_python: Callable[..., Result], small_disk: str
) -> None:
    result = run_python(
        small_disk
        + PRELUDE
        + """
configure("disk/run")
for _ in range(20):
    work(1000)
    allogger.flush()
allogger.close()
"""
        + READ
    )

    assert result.returncode == 0, result.stderr
    found, missing = stored(result), lost(result)
    assert {output: found[output] + missing[output] for output in ALL} == dict.fromkeys(ALL, 20_000)
    assert "'root/x'" in result.stderr
    assert len(allogger.open_run(tmp_path / "other")["other/x"]) == 20_000


def test_strict_raises_when_the_disk_is_full(run_python: Callable[..., Result], small_disk: str) -> None:
    result = run_python(
        small_disk
        + PRELUDE
        + """
configure("disk/run", strict=True)
try:
    for _ in range(20):
        work(1000)
        allogger.flush()
except allogger.WriteFailed as error:
    print("raised")
    os.unlink("disk/ballast")
"""
    )

    assert result.stdout == "raised\n"


def test_memory_is_bounded_while_a_disk_takes_nothing(run_python: Callable[..., Result], small_disk: str) -> None:
    result = run_python(
        small_disk
        + PRELUDE
        + """
import resource
configure("disk/run", max_buffer_bytes=1 << 20)
work(1000)
allogger.flush()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for i in range(300):
    logger.log(np.zeros(100_000), "large", data_type="array")
    allogger.flush()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    )

    assert int(result.stdout) < 100  # MB, of 240
    assert re.search(r"output 'hdf' loses values \(it was more than 1 MiB behind\)", result.stderr)
    assert re.search(r"output 'hdf' lost \d+ values: 'root/large' \d+", result.stderr)


def test_on_a_full_disk_files_are_counted_and_the_program_goes_on(
    tmp_path: Path, run_python: Callable[..., Result], small_disk: str
) -> None:
    result = run_python(
        small_disk
        + """
import allogger
root = allogger.basic_configure("disk/run")
for number in range(3):
    root.log({"name": "large", "data": bytes(2_000_000)}, "large", data_type="artifact")
    root.checkpoint({"large": bytes(2_000_000)})
    root.log(float(number), "loss")
root.log({"name": "small", "data": b"small"}, "small", data_type="artifact")
allogger.close()
run = allogger.open_run("disk/run")
print(len(run["root/loss"]), [one.verify() for one in run.artifacts()], "root/large" in run, run.checkpoints())
print([name for _, _, names in os.walk("disk/run/artifacts") for name in names])
"""
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["3 [[]] False []", "['small']"]
    assert result.stderr.count("No space left") == 2
    assert "'root/large' 3" in result.stderr
    assert "'root/checkpoint' 3" in result.stderr


# ------------------------------------------------------------------------------------- a logdir that is no longer there


def test_a_logdir_that_is_removed_comes_again(
    tmp_path: Path, run_python: Callable[..., Result], caplog: pytest.LogCaptureFixture
) -> None:
    result = run_python(
        PRELUDE
        + """
configure("run")
work(1000)
allogger.flush()
shutil.rmtree("run")
work(1000)
allogger.close()
"""
    )

    assert result.returncode == 0, result.stderr
    run = allogger.open_run(tmp_path / "run")
    assert "missing" in caplog.text
    assert run["root/x"].value.tolist() == [float(i) for i in range(1000, 2000)]
    # That there was more, and where, is said: at the end, and by whoever reads what is left.
    assert "missing" in result.stderr
    assert len(allogger.open_run(tmp_path / "other")["other/x"]) == 2000


def test_a_file_in_place_of_the_logdir_costs_only_what_it_held_back(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        PRELUDE
        + """
configure("run")
work(1000)
allogger.flush()
os.rename("run", "moved")
open("run", "w").close()
work(1000)
allogger.close()
"""
    )

    assert result.returncode == 0, result.stderr
    assert reports(result, "cannot write") == dict.fromkeys(ALL, 1)
    assert lost(result) == dict.fromkeys(ALL, 1000)
    assert values(tmp_path / "moved", "root/x") == first_numbers(1000)
    assert len(allogger.open_run(tmp_path / "other")["other/x"]) == 2000


@pytest.fixture
def obeys_permissions() -> str:
    """Return code that makes the program obey the permissions of folders even if it is root's."""
    if os.geteuid():
        return ""
    without = ["--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-dac_override,-dac_read_search"]
    command = ["setpriv", *without]
    if shutil.which("setpriv") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("root writes to read-only folders, unless setpriv takes that right away")
    return f"""
import os, sys
if "INSIDE" not in os.environ:
    os.environ["INSIDE"] = "1"
    os.execvp("setpriv", {command!r} + [sys.executable, *sys.argv])
"""


def test_a_logdir_that_is_read_only_for_a_while_gets_everything(
    tmp_path: Path, run_python: Callable[..., Result], obeys_permissions: str
) -> None:
    result = run_python(
        obeys_permissions
        + PRELUDE
        + """
configure("run")
os.chmod("run/events", 0o555)
work(1000)
allogger.flush()
os.chmod("run/events", 0o755)
work(1000)
"""
    )

    assert result.returncode == 0, result.stderr
    assert reports(result, "cannot write") == dict.fromkeys(ALL, 1)
    assert not lost(result)
    assert values(tmp_path / "run", "root/x") == first_numbers(2000)


def test_a_logdir_that_becomes_read_only_keeps_everything_in_the_journal(
    tmp_path: Path, run_python: Callable[..., Result], obeys_permissions: str
) -> None:
    result = run_python(
        obeys_permissions
        + PRELUDE
        + """
configure("run")
work(1000)
allogger.flush()
os.chmod("run/events", 0o555)
work(1000)
"""
    )
    (tmp_path / "run/events").chmod(0o755)

    assert result.returncode == 0, result.stderr
    assert "output 'hdf' could not be finished" in result.stderr
    assert values(tmp_path / "run", "root/x") == first_numbers(2000)
    assert list((tmp_path / "run/events").glob("*.journal"))


def test_too_many_open_files_delay_what_needs_another_one(tmp_path: Path, run_python: Callable[..., Result]) -> None:
    result = run_python(
        PRELUDE
        + """
import contextlib, resource
configure("run")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
taken = []
with contextlib.suppress(OSError):
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
work(1000)
allogger.flush()
for fd in taken:
    os.close(fd)
work(1000)
"""
    )

    assert result.returncode == 0, result.stderr
    # Of the two runs each says it for itself.
    assert reports(result, "cannot write") == dict.fromkeys(ALL, 2)
    assert not lost(result)
    assert values(tmp_path / "run", "root/x") == first_numbers(2000)
    assert len(allogger.open_run(tmp_path / "other")["other/x"]) == 2000


# ------------------------------------------------------------------------------------------------- calls that fail


SLOWLY = (
    PRELUDE
    + """
configure("run")
for _ in range(30):
    work(20)
    time.sleep(0.02)
"""
)


def failing(library: Path, folder: Path, fault: str, every: int) -> Mapping[str, str]:
    return shim.environment(library, folder / "run", fault, every, every=True)


@pytest.mark.parametrize("every", [1, 2, 3, 7])
def test_writes_that_take_only_a_part_are_completed(
    tmp_path: Path, run_python: Callable[..., Result], library: Path, every: int
) -> None:
    result = run_python(SLOWLY, env=failing(library, tmp_path, "short", every))

    assert not result.stderr
    assert values(tmp_path / "run", "root/x") == first_numbers(600)


@pytest.mark.parametrize("fault", ["eio", "enospc"])
@pytest.mark.parametrize("every", [2, 3, 4, 5, 7, 11])
def test_every_value_is_stored_or_counted_although_every_so_many_calls_fail(
    tmp_path: Path, run_python: Callable[..., Result], library: Path, fault: str, every: int
) -> None:
    result = run_python(SLOWLY, env=failing(library, tmp_path, fault, every))

    assert result.returncode == 0, result.stderr
    # It is told once, not at each of its ups and downs.
    assert all(times == 1 for times in reports(result, "cannot write").values())
    missing = lost(result)
    for output, found in values(tmp_path / "run", "root/x").items():
        assert found == [float(i) for i in range(len(found))]
        assert len(found) + missing.get(output, 0) == 600
    assert len(allogger.open_run(tmp_path / "other")["other/x"]) == 600
