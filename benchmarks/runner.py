"""Runner: how does each measurement get a process of its own, and everybody a turn in each round?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import peers
from benchmarks.work import Rows, Work

__all__ = ["Outcome", "subjects_of", "take_rounds"]

_ROOT = Path(__file__).parents[1]
_TIMEOUT_SECONDS = 900


@dataclass
class Outcome:
    """What the rounds of a work gave: *rounds* of rows, and for who failed the last line of his complaint."""

    rounds: list[Rows] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


class Failed(Exception):
    """A worker that did not end well."""


def subjects_of(work: Work, libraries: Container[str] | None) -> list[str]:
    """Return the subjects that can take part here: all, or of those that need a library of theirs only some."""
    return [
        name
        for name in work.subjects
        if peers.is_installed(name) and (libraries is None or peers.is_light(name) or name in libraries)
    ]


def take_rounds(
    work: Work,
    subjects: Sequence[str],
    rounds: int,
    *,
    is_quick: bool,
    scratch: Path | None,
    tell: Callable[[str], None],
) -> Outcome:
    """Have each of *subjects* take its turn in each round, in folders that are made below *scratch* and removed."""
    outcome = Outcome()
    for number in range(rounds):
        tell(f"{work.name}: round {number + 1} of {rounds}")
        rows: Rows = {}
        with ThreadPoolExecutor(os.cpu_count() if is_quick else 1) as pool:
            turns = {name: pool.submit(_measured, work, name, is_quick, scratch) for name in subjects}
            for name, turn in turns.items():
                try:
                    rows |= turn.result()
                except Failed as error:
                    tell(f"{work.name}: {name} failed: {error}")
                    outcome.failed[name] = str(error)
        outcome.rounds.append(rows)
    return outcome


def _measured(work: Work, subject: str, is_quick: bool, scratch: Path | None) -> Rows:
    """Return the rows of one turn, measured by a fresh process; raises `Failed`."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=scratch, ignore_cleanup_errors=True) as name:
        folder, home = Path(name, "files"), Path(name, "home")
        folder.mkdir()
        home.mkdir()
        what = [work.measure.__module__, work.measure.__name__, subject, str(folder), "quick" if is_quick else "full"]
        worker = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *what],
            cwd=folder,
            env=_environment(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, complaint = worker.communicate(timeout=_TIMEOUT_SECONDS)
        except BaseException as stop:
            # Only while nobody has waited for it: later its number may be another's.
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()
            if isinstance(stop, subprocess.TimeoutExpired):
                raise Failed(f"not done after {_TIMEOUT_SECONDS} s") from None
            raise
        if worker.returncode:
            raise Failed((complaint.strip().splitlines() or [f"exit code {worker.returncode}"])[-1])
        rows: Rows = json.loads((folder / "rows.json").read_text())
        return rows


def _environment(home: Path) -> dict[str, str]:
    """Return an environment in which nobody writes elsewhere, and numpy uses one thread."""
    # Without bytecode, which an installed package has, every import would compile.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ALLOGGER_", "PYTHONDONT"))}
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    here = {"HOME": str(home), "PYTHONPATH": path, "MPLBACKEND": "agg"}
    return {**own, **one_thread, **peers.ENVIRONMENT, **here}
