"""Program: logs from one or several processes until it is killed, and tells what it has logged."""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import random
import time
from collections import Counter
from pathlib import Path

import allogger
from tests.kill import values
from tests.kill.acks import Acks, Value

FLUSH_SECONDS = 0.1


def log(acks_folder: str, process: int, attempt: int, seconds: float, seed: int) -> None:
    """Log for so many seconds; the keys become more and more."""
    rng = random.Random(seed * 1000 + process)
    acks = Acks(Path(acks_folder) / f"{attempt}-{process}")
    logger = allogger.get_logger(values.SCOPE)
    numbers = itertools.count()
    counts: Counter[tuple[int, int]] = Counter()
    end = time.monotonic() + seconds
    for turn in itertools.count():
        if time.monotonic() > end:
            break
        plan = [_one(rng, turn, next(numbers)) for _ in range(rng.randrange(1, 30))]
        acks.begin(plan)
        done = []
        for kind, key, number in plan:
            value = values.value(kind, key, values.Origin(process, attempt, number))
            step = values.step_of(kind, key, counts[kind, key])
            counts[kind, key] += 1
            before = time.time()
            logger.log(value, values.key_of(kind, key), step, data_type=_data_type(kind))
            done.append((Value(kind, key, number), before, time.time()))
        acks.logged(done)
        if rng.random() < 0.02:
            allogger.flush()
            acks.flushed()
        time.sleep(rng.random() * 0.01)
    # The end of each process stores the rest, which its parent, or whoever started it, then knows.
    if process:
        allogger.close()
        acks.closed()


def _one(rng: random.Random, turn: int, number: int) -> Value:
    kind = rng.choices(range(len(values.KINDS)), [20, 1, 1, 2])[0]
    return Value(kind, rng.randrange(min(values.KEYS[values.KINDS[kind]], 3 + turn)), number)


def _data_type(kind: int) -> str | None:
    return "array" if values.KINDS[kind] == "array" else None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("logdir")
    parser.add_argument("acks")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--method", default="fork")
    parser.add_argument("--outputs", default="hdf,tensorboard,csv")
    parser.add_argument("--attempt", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    allogger.basic_configure(given.logdir, given.outputs.split(","), flush_seconds=FLUSH_SECONDS)
    context = multiprocessing.get_context(given.method)
    children = [
        context.Process(
            target=log, name=values.name_of(n), args=(given.acks, n, given.attempt, given.seconds, given.seed)
        )
        for n in range(1, given.processes)
    ]
    for child in children:
        child.start()
    log(given.acks, 0, given.attempt, given.seconds, given.seed)
    for child in children:
        child.join()
    allogger.close()
    Acks(Path(given.acks) / f"{given.attempt}-0").closed()


if __name__ == "__main__":
    main()
