"""Trial: what happens to one program that is killed?"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.kill import shim
from tests.kill.checker import Checked, Death, check
from tests.kill.program import FLUSH_SECONDS

__all__ = ["OUTPUTS", "Setup", "Trial", "count_calls", "run"]

ROOT = Path(__file__).parents[2]
OUTPUTS = ("hdf", "tensorboard", "csv", "console")
PHASES = ("before", "torn", "after")
# A program that is to die inside a call logs for so long, then ends by itself.
_SECONDS = 0.7
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Setup:
    """What program is run: with how many processes, started how, and with which outputs."""

    processes: int
    method: str = "fork"
    outputs: tuple[str, ...] = OUTPUTS

    def __str__(self) -> str:
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes by {self.method}"
        return f"{processes}, {', '.join(self.outputs)}"


@dataclass
class Trial:
    """How it went: *where* the program died, and what was found after that and after it was continued."""

    setup: Setup
    where: str
    killed: Checked
    continued: Checked

    @property
    def faults(self) -> list[str]:
        """Everything that must not be."""
        return [*self.killed.faults, *(f"when continued: {fault}" for fault in self.continued.faults)]


def run(
    setup: Setup, folder: Path, seed: int, *, library: Path | None = None, calls: int = 0, allowance: float = 0.5
) -> Trial:
    """Run a program in *folder* and kill it, at a random time, or, with *library*, in one of its first *calls* calls.

    Values that are older than ``flush_seconds`` plus *allowance*, in seconds, must be there.
    """
    rng = random.Random(seed)
    (folder / "acks").mkdir(parents=True)
    if library is None:
        where, died = _kill_at_a_time(setup, folder, seed, rng.uniform(0.0, 2.0))
    else:
        # Most calls come at the end, when the HDF5 file is made; half of the kills are earlier ones.
        at = rng.randint(1, calls) if rng.random() < 0.5 else int(calls ** rng.random())
        where, died = _kill_in_a_call(setup, folder, seed, library, at, rng.choice(PHASES))
    death = None if died is None else Death(died, FLUSH_SECONDS + allowance)
    killed = check(folder / "run", folder / "acks", setup.outputs, {0: death})
    program = _start(setup, folder, seed + 1, attempt=1, seconds=0.1)
    if status := _end_of(program):
        killed.blame("continuing failed", f"exit status {status}: {_output(folder)}")
    continued = check(folder / "run", folder / "acks", setup.outputs, {0: death, 1: None}, killed)
    return Trial(setup, where, killed, continued)


def count_calls(setup: Setup, folder: Path, library: Path) -> int:
    """Return how many calls a process of such a program makes on its files."""
    (folder / "acks").mkdir(parents=True)
    report = folder / "report"
    variables = shim.environment(library, folder / "run", "kill", 0, report=report)
    _end_of(_start(setup, folder, 0, seconds=_SECONDS, variables=variables))
    found = max(int(line.split()[4]) for line in report.read_text().splitlines() if " count " in line)
    shutil.rmtree(folder)
    return found


def _kill_at_a_time(setup: Setup, folder: Path, seed: int, seconds: float) -> tuple[str, float]:
    program = _start(setup, folder, seed, seconds=_PATIENCE_SECONDS)
    begin = time.monotonic()
    # The time counts from the first value, but every fourth program is killed wherever it is.
    while seed % 4 and not _has_begun(setup, folder) and time.monotonic() < begin + _PATIENCE_SECONDS:
        time.sleep(0.005)
    time.sleep(seconds)
    died = time.monotonic()
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    return "at a time", died


def _has_begun(setup: Setup, folder: Path) -> bool:
    return sum(file.stat().st_size > 0 for file in (folder / "acks").iterdir()) == setup.processes


def _kill_in_a_call(
    setup: Setup, folder: Path, seed: int, library: Path, at: int, phase: str
) -> tuple[str, float | None]:
    report = folder / "report"
    variables = shim.environment(library, folder / "run", "kill", at, phase=phase, report=report)
    status = _end_of(_start(setup, folder, seed, seconds=_SECONDS, variables=variables))
    if status == 0:
        return "not at all", None
    if not report.exists():
        raise RuntimeError(f"the program ended with status {status}: {_output(folder)}")
    _, call, _, died, path = report.read_text().splitlines()[0].split(" ", 4)
    return f"{call} {phase}, {_kind_of_file(Path(path))}", float(died)


def _kind_of_file(path: Path) -> str:
    return "a folder" if path.is_dir() else path.suffix if "tfevents" not in path.name else "tfevents"


def _start(
    setup: Setup,
    folder: Path,
    seed: int,
    *,
    attempt: int = 0,
    seconds: float,
    variables: dict[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.kill.program", folder / "run", folder / "acks"]
    options = {
        "--processes": setup.processes,
        "--method": setup.method,
        "--outputs": ",".join(setup.outputs),
        "--attempt": attempt,
        "--seconds": seconds,
        "--seed": seed,
    }
    with open(folder / "output", "ab") as output:
        return subprocess.Popen(
            [*command, *(str(part) for option in options.items() for part in option)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A group of its own, which is killed as a whole.
            start_new_session=True,
        )


def _end_of(program: subprocess.Popen[bytes]) -> int:
    try:
        return program.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()
        raise


def _output(folder: Path) -> str:
    return (folder / "output").read_text(errors="replace")[-2000:]
