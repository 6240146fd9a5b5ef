"""Command: change files at random for as long as you like, and keep what makes a reader fail."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TARGETS = ("journal", "hdf", "run_json")
# A new process now and then, so that what one leaks is no finding of the next.
SECONDS_FOR_ONE_PROCESS = 60.0


@dataclass(frozen=True)
class Round:
    """What one process has done: *tried* changes from the number *seed* on, and how it failed, if it did."""

    target: str
    seed: int
    tried: int
    failure: str = ""

    @property
    def again(self) -> str:
        """The command that repeats a failure."""
        number = self.seed + self.tried - 1
        return f"python -m tests.fuzz {self.target} --seed {number} --count 1"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", metavar="target", help=f"{', '.join(TARGETS)}; default: each in turn")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long")
    parser.add_argument("--seed", type=int, default=None, help="the number of the first change; default: the time")
    parser.add_argument("--count", type=int, default=sys.maxsize, help="how many changes, for each target")
    parser.add_argument("--failures", type=int, default=10, help="stop after so many failures")
    given = parser.parse_args(arguments)
    targets = given.target or list(TARGETS)
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"unknown target {unknown.pop()!r}; known: {', '.join(TARGETS)}")
    seed = int(time.time()) << 20 if given.seed is None else given.seed
    tried, failures = 0, 0
    for one in hunt(targets, given.minutes * 60, seed, given.count):
        tried += one.tried
        if one.failure:
            failures += 1
            print(f"{one.failure}\n--- again: {one.again}\n", flush=True)
        if failures >= given.failures:
            break
    print(f"{tried} changes to {', '.join(targets)}: {failures} failures")
    return int(failures > 0)


def hunt(targets: Sequence[str], seconds: float, seed: int, count: int = sys.maxsize) -> Iterator[Round]:
    """Yield what each process has done, the targets in turn, until the time is over or *count* changes are tried."""
    end = time.monotonic() + seconds
    tried = dict.fromkeys(targets, 0)
    while (left := end - time.monotonic()) > 0 and any(n < count for n in tried.values()):
        for target in targets:
            if tried[target] < count:
                time_for_one = min(left / len(targets), SECONDS_FOR_ONE_PROCESS)
                one = run(target, seed + tried[target], time_for_one, count - tried[target])
                tried[target] += max(one.tried, 1)
                yield one


def run(target: str, seed: int, seconds: float, count: int) -> Round:
    """Let one process look for failures."""
    command = [sys.executable, "-m", "tests.fuzz.worker", target, f"--seed={seed}", f"--seconds={seconds}"]
    done = subprocess.run(
        [*command, f"--count={count}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.split()
    if lines and lines[-1] == "ok" and done.returncode == 0:
        return Round(target, seed, len(lines) - 1)
    return Round(target, seed, len(lines), f"{target}: exit status {done.returncode}\n{done.stderr[-4000:]}")


if __name__ == "__main__":
    sys.exit(main())
