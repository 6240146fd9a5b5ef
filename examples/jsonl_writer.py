"""A writer of your own: how do values get into a file of JSON lines, and back?

Run it with ``python jsonl_writer.py [logdir]``. It fits a line to noisy points by gradient descent and logs to HDF5 and
to JSON lines side by side. To make an output for everybody, put the class into a package with the entry point

    [project.entry-points."allogger.writers"]
    jsonl = "your_package:JsonlWriter"

and inherit `allogger.testing.WriterContract` in its tests, as allogger does for this one.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import allogger
from allogger.record import Batch, Record
from allogger.rundir import Shard


class JsonlWriter(allogger.Writer):
    """Appends one JSON object per value to ``events/<shard>.jsonl``.

    JSON has no NaN and no infinities: they become the texts ``"nan"``, ``"inf"`` and ``"-inf"``, which `float` reads.
    Times are rounded to *digits* after the point.
    """

    # Files are the business of one thread; a lane of our own would be for a network.
    lane = "disk"

    def __init__(self, shard: Shard, *, digits: int = 6) -> None:
        super().__init__(shard)
        if type(digits) is not int or not 0 <= digits <= 9:
            raise allogger.ConfigError(f"digits must be an int from 0 to 9, not {digits!r}")
        self._digits = digits
        self._path = shard.path(".jsonl")
        self._fd: int | None = None

    def accepts(self, kind: str) -> bool:
        return kind in ("scalar", "text", "histogram")

    def write(self, batch: Batch) -> None:
        lines, refused = [], []
        for record in batch:
            try:
                lines.append(json.dumps(self._entry(record)) + "\n")
            except TypeError:
                refused.append(record)
        self._append("".join(lines).encode("ascii"))
        # Only now: had the disk refused, the same batch would come again, and they would be counted twice.
        for record in refused:
            self.reject(record.series, 1, "JSON has real numbers and texts only")

    def _entry(self, record: Record) -> dict[str, Any]:
        value = record.payload.tolist() if isinstance(record.payload, np.ndarray) else record.payload
        return {
            "key": record.full_key,
            "step": record.step,
            "time": round(record.time, self._digits),
            "process": self.shard.process,
            "kind": record.kind,
            "value": [_finite(each) for each in value] if isinstance(value, list) else _finite(value),
        }

    def _append(self, data: bytes) -> None:
        """Write all of *data*, or raise `OSError` and leave the file as it was."""
        if not data:
            return
        if self._fd is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        end = os.fstat(self._fd).st_size
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError:
            os.ftruncate(self._fd, end)
            raise

    def sync(self) -> None:
        if self._fd is not None:
            os.fsync(self._fd)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def abandon(self) -> None:
        # Nothing is buffered here, so there is nothing of the parent's that closing could write.
        self.close()


def _finite(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a file; numbers are numbers again, those of a histogram an array."""
    with open(path, encoding="ascii") as file:
        for line in file:
            entry = json.loads(line)
            if entry["kind"] == "histogram":
                entry["value"] = np.array([float(each) if isinstance(each, str) else each for each in entry["value"]])
            elif entry["kind"] == "scalar" and isinstance(entry["value"], str):
                entry["value"] = float(entry["value"])
            yield entry


def fit_a_line(logger: allogger.Logger, steps: int = 200, rate: float = 0.1) -> tuple[float, float]:
    """Return slope and intercept of noisy points, found by gradient descent."""
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, 100)
    y = 3 * x - 1 + random.normal(0, 0.1, x.shape)
    slope = intercept = 0.0
    logger.log("gradient descent", "note")
    for _ in range(steps):
        errors = slope * x + intercept - y
        slope -= rate * 2 * float(np.mean(errors * x))
        intercept -= rate * 2 * float(np.mean(errors))
        logger.log(float(np.mean(errors**2)), "loss")
        logger.log({"slope": slope, "intercept": intercept}, "weights")
        # Wanted in HDF5, but not in the file that people look through.
        logger.log(errors, "errors", to_jsonl=False)
    return slope, intercept


def main(logdir: Path) -> None:
    allogger.register_writer("jsonl", JsonlWriter)
    with allogger.run(
        logdir,
        default_outputs=["hdf", "jsonl"],
        # Of the weights, only the slope: the regular expression is searched for in the key.
        jsonl_writer_params={"filter": "loss|note|slope", "digits": 3},
    ):
        slope, intercept = fit_a_line(allogger.get_logger("fit"))
    print(f"y = {slope:.2f} x + {intercept:.2f}")

    run = allogger.open_run(logdir)
    entries = [entry for path in sorted(logdir.glob("events/*.jsonl")) for entry in read_lines(path)]
    keys = sorted({entry["key"] for entry in entries})
    for key in keys:
        mine = [entry for entry in entries if entry["key"] == key]
        assert [entry["step"] for entry in mine] == run[key].step.tolist()
        assert [entry["value"] for entry in mine] == run[key].value.tolist()
    assert keys == ["fit/loss", "fit/note", "fit/weights/slope"]
    assert set(run) - set(keys) == {"fit/errors", "fit/weights/intercept"}
    print(f"{len(entries)} values of {', '.join(keys)} are the same in both outputs:")
    for path in sorted(logdir.glob("events/*.[jh]*")):
        print(f"  {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/jsonl_writer"))
