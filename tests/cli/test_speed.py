"""Is the command line there at once, also where there are many runs?"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import TIMEOUT, environment, make_run

# Run by an interpreter of its own, as the program does; what was imported shows at the end.
CALL = """
import sys
from allogger.cli import main
code = main(sys.argv[1:])
heavy = {"numpy", "h5py", "pandas", "asyncio", "logging"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


def seconds(arguments: list[str], cwd: Path) -> float:
    """Return how long a command takes, without what the interpreter itself does: the best of some trials."""
    best = float("inf")
    for _ in range(5):
        times = []
        for command in (["-c", "pass"], ["-c", CALL, *arguments]):
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, *command], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=TIMEOUT
            )
            times.append(time.perf_counter() - start)
            assert done.returncode == 0, done.stderr
        best = min(best, times[1] - times[0])
    return best


@pytest.mark.parametrize("arguments", [["--help"], ["ls", "runs/a", "runs/b"], ["keys", "runs/a"], ["du", "runs"]])
def test_what_needs_only_small_files_loads_nothing_heavy(arguments: list[str], made: Path) -> None:
    # The promise is 150 ms with the interpreter; a busy machine must not fail it.
    assert seconds(arguments, made) < 0.3


def test_a_thousand_runs_are_listed_in_a_second(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "0")
    for number in range(1, 1000):
        shutil.copytree(tmp_path / "runs" / "0", tmp_path / "runs" / str(number))

    # The promise is one second; a busy machine must not fail it.
    assert seconds(["ls", "runs"], tmp_path) < 2
