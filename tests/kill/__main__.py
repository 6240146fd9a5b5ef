"""Command: kill programs again and again, and say what was found."""

from __future__ import annotations

import argparse
import itertools
import logging
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.kill import shim
from tests.kill.trial import Setup, Trial, count_calls, run

SETUPS = {
    "fork": [Setup(1), Setup(4)],
    "all": [
        Setup(1),
        Setup(4),
        Setup(1, outputs=("hdf",)),
        Setup(4, "spawn"),
        Setup(1, outputs=("csv", "hdf")),
        Setup(4, "forkserver"),
    ],
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="how many programs to kill")
    parser.add_argument("--mode", choices=["time", "flush"], default="time", help="at random times or inside of calls")
    parser.add_argument("--setups", choices=SETUPS, default="all", help="start methods and outputs of the programs")
    parser.add_argument("--jobs", type=int, default=2, help="how many at the same time")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--allowance", type=float, default=0.5, help="seconds that a busy machine may be late")
    parser.add_argument("--folder", type=Path, help="where to keep failing runs; default: a new temporary folder")
    given = parser.parse_args()
    # TensorBoard says of each continued run that it replaces something.
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="allogger-kill-"))
    try:
        trials = list(
            kill(given.mode, given.runs, SETUPS[given.setups], folder, given.jobs, given.seed, given.allowance)
        )
    except shim.NoCompiler as missing:
        print(missing, file=sys.stderr)
        return 2
    print(table(trials))
    failing = sum(bool(trial.faults) for trial in trials)
    if failing:
        print(f"{failing} of {len(trials)} runs have faults; they are in {folder}")
    return int(failing > 0)


def kill(
    mode: str, runs: int, setups: list[Setup], folder: Path, jobs: int = 2, seed: int = 0, allowance: float = 0.5
) -> Iterator[Trial]:
    """Yield *runs* trials; the folders of those without faults are removed. Raises `shim.NoCompiler`."""
    folder.mkdir(parents=True, exist_ok=True)
    library = shim.build(folder) if mode == "flush" else None
    with ThreadPoolExecutor(jobs) as pool:
        calls: dict[Setup, int] = {}
        if library is not None:
            counted = pool.map(lambda n: count_calls(setups[n], folder / f"calls-{n}", library), range(len(setups)))
            calls = dict(zip(setups, counted, strict=True))

        def one(number: int) -> Trial:
            setup = setups[number % len(setups)]
            place = folder / f"{mode}-{seed + number}"
            trial = run(setup, place, seed + number, library=library, calls=calls.get(setup, 0), allowance=allowance)
            if not trial.faults:
                shutil.rmtree(place)
            return trial

        yield from pool.map(one, range(runs))


def table(trials: list[Trial]) -> str:
    """Return how often what happened, and every fault."""
    lines = ["runs  where"]
    lines += [f"{count:4}  {where}" for where, count in sorted(Counter(trial.where for trial in trials).items())]
    for title, which in (("after the kill", "killed"), ("after it was continued", "continued")):
        by_setup: dict[str, Counter[str]] = {}
        for trial in trials:
            counts = by_setup.setdefault(str(trial.setup), Counter())
            counts.update({"runs": 1, "runs with faults": int(bool(trial.faults)), **getattr(trial, which).counts})
        columns = [f"({number})" for number in range(1, len(by_setup) + 1)]
        names = sorted(set(itertools.chain.from_iterable(by_setup.values())), key=lambda name: (name != "runs", name))
        lines += ["", f"{title:30}" + "".join(f"{column:>10}" for column in columns)]
        lines += [f"{name:30}" + "".join(f"{counts[name]:10}" for counts in by_setup.values()) for name in names]
    lines += ["", *(f"({number}) {setup}" for number, setup in enumerate(by_setup, 1))]
    faults = Counter(fault for trial in trials for fault in trial.faults)
    lines += ["", *faults] if faults else ["", "no faults"]
    return "\n".join(lines)


if __name__ == "__main__":
    begin = time.monotonic()
    status = main()
    print(f"{time.monotonic() - begin:.0f} s")
    sys.exit(status)
