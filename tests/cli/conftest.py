"""What the tests of the command line share: runs of every state, and programs that call the commands as people do."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT = 60

# What each run begins with; `end` is what becomes of it.
PROGRAM = """
import os, signal, sys
import numpy as np
import allogger
from allogger.utils import report_env

logdir, end = sys.argv[1:]
root = allogger.basic_configure(logdir, ["hdf"], flush_seconds=0.05)
critic = allogger.get_logger("agent.critic")
report_env()
for step in range(100):
    root.log(1.0 / (step + 1), "loss")
    critic.log(step, "train/count")
critic.log(np.arange(6.0), "weights", data_type="array")
root.log(np.full((4, 5, 3), 255, np.uint8), "sample")
root.log("hello \\x1b[31mworld", "note")
root.info("begun")
allogger.flush()
print("ready", flush=True)
if end == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if end == "wait":
    for line in sys.stdin:
        root.log(float(line), "later")
        root.info("got %s", line.strip())
        allogger.flush()
"""

Result = subprocess.CompletedProcess[str]
Command = Callable[..., Result]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    return {**known, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **(more or {})}


def make_run(logdir: Path, end: str = "") -> None:
    command = [sys.executable, "-c", PROGRAM, str(logdir), end]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == (-signal.SIGKILL if end == "kill" else 0), done.stderr


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `a` and `b`, both finished, and `killed`; tests that change them take a copy."""
    folder = tmp_path_factory.mktemp("cli")
    for name, end in (("a", ""), ("b", ""), ("killed", "kill")):
        make_run(folder / "runs" / name, end)
    for name, rate in (("a", 0.1), ("b", 0.2)):
        about = folder / "runs" / name / "run.json"
        about.write_text(json.dumps({**json.loads(about.read_text()), "params": {"lr": rate, "seed": 1}}))
    return folder


@pytest.fixture
def live(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that is writing the run `live` in `tmp_path`; it logs each number that it is sent."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "live"), "wait"],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with process:
        yield process
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.wait(TIMEOUT)


@pytest.fixture
def allogger_command(made: Path) -> Command:
    """Run ``allogger`` in a pipe: ``allogger_command("ls", "runs", cwd=..., env=...)``."""

    def run(*arguments: str, cwd: Path = made, env: Mapping[str, str] | None = None, stdin: str = "") -> Result:
        return subprocess.run(
            [sys.executable, "-m", "allogger", *arguments],
            cwd=cwd,
            env=environment(env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    return run


@pytest.fixture
def terminal(made: Path) -> Callable[..., tuple[int, str]]:
    """Run ``allogger`` in a pseudo-terminal and return its exit code and what is on the screen, typed answers too."""

    def run(
        *arguments: str, cwd: Path = made, env: Mapping[str, str] | None = None, typed: str = "", until: str = ""
    ) -> tuple[int, str]:
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "allogger", *arguments],
            cwd=cwd,
            env=environment({"COLUMNS": "100", "LINES": "40", **(env or {})}),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        os.write(master, typed.encode())
        screen = _screen(master, process, until)
        os.close(master)
        return process.wait(TIMEOUT), screen

    return run


def _screen(master: int, process: subprocess.Popen[bytes], until: str) -> str:
    """Return what a program shows until it ends; once it shows *until*, it gets Ctrl-C."""
    shown, deadline = b"", time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            try:
                shown += os.read(master, 65536)
            except OSError:  # the other end is closed
                return shown.decode()
        if until and until.encode() in shown:
            process.send_signal(signal.SIGINT)
            until = ""
    process.kill()
    raise AssertionError(f"not over after {TIMEOUT} s: {shown.decode()}")
