"""Worker: change the file of one target again and again until the time is over; for a process of its own."""

from __future__ import annotations

import argparse
import faulthandler
import random
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.fuzz.targets import TARGETS

SECONDS_FOR_ONE = 20
MEMORY_BYTES = 6 << 30


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--count", type=int, default=sys.maxsize)
    given = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    with tempfile.TemporaryDirectory() as folder:
        return hunt(given.target, Path(folder), given.seed, given.seconds, given.count)


def hunt(name: str, folder: Path, seed: int, seconds: float, count: int) -> int:
    """Print a number before each change, so that a crash can be repeated, and ``ok`` at the end."""
    # The seed of the target is always the same: what was found is then found again by the number alone.
    target = TARGETS[name](folder, 0)
    end = time.monotonic() + seconds
    number = seed
    while time.monotonic() < end and number < seed + count:
        print(number, flush=True)
        target.path.write_bytes(target.change(random.Random(number)))
        # What takes longer than this does not end, or not in reasonable time.
        faulthandler.dump_traceback_later(SECONDS_FOR_ONE, exit=True)
        target.check()
        faulthandler.cancel_dump_traceback_later()
        number += 1
    print("ok", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
