"""Targets: which files are changed, and what must hold for those who read them?"""

from __future__ import annotations

import json
import logging
import random
import shutil
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import allogger
from allogger.api.hdf import list_keys, read_from_key
from allogger.errors import DamagedFile, NoSuchKey
from allogger.formats import journal
from allogger.manager import manager
from allogger.rundir import RUN_FILE
from tests.fuzz.mutations import mutated, mutated_json

__all__ = ["TARGETS", "Target"]


def log(logger: allogger.Logger, rng: random.Random) -> None:
    """Log a little of everything."""
    for step in range(30):
        logger.log(rng.random(), "loss")
        logger.log(rng.choice([step, 0.5, True, 1j]), "train/mixed")
        logger.log(np.arange(rng.randrange(4)), "w")
        logger.log(np.zeros((2, 2, 3), np.uint8), "picture")
        logger.log(np.zeros(2, [("a", "i4"), ("b", "U2")]), "struct", data_type="array")
        logger.log(f"note {step}", "note", step=-step)
        if step % 7 == 0:
            allogger.flush()


def look(logdir: Path) -> allogger.Run:
    """Read everything, and show it; raises for what no file may cause."""
    run = allogger.open_run(logdir)
    for key in run.keys():  # noqa: SIM118  # no mapping
        with suppress(DamagedFile):
            repr(run.series(key, "all"))
            repr(run.series(key).value[:3])
    run.frame()
    # Each of these opens the files again.
    for name in list_keys(logdir)[-1:]:
        with suppress(DamagedFile, NoSuchKey):
            read_from_key(logdir, name)
    return run


class Target(ABC):
    """One file of a run, which is changed, and the run that it belongs to."""

    name: ClassVar[str]
    pattern: ClassVar[str]
    #: Files that the run does without, so that more changes are tried in a minute.
    others: ClassVar[str] = "nothing"

    def __init__(self, folder: Path, seed: int) -> None:
        rng = random.Random(seed)
        logging.disable()
        self.logdir = folder / "run"
        log(allogger.basic_configure(folder / "live", hdf_writer_params={"snapshot_seconds": None}), rng)
        allogger.close()
        log(allogger.basic_configure(folder / "live", hdf_writer_params={"snapshot_seconds": None}), rng)
        allogger.flush()
        shutil.copytree(folder / "live", self.logdir)
        allogger.close()
        for path in self.logdir.glob(self.others):
            path.unlink()
        (self.path,) = self.logdir.glob(self.pattern)
        self.raw = self.path.read_bytes()

    @abstractmethod
    def change(self, rng: random.Random) -> bytes:
        """Return other bytes for the file."""

    def check(self) -> None:
        """Read the run; raises if something is wrong."""
        look(self.logdir)


class JournalTarget(Target):
    """A journal, changed with its checksums, which let hostile payloads through, or without them."""

    name = "journal"
    pattern = "events/*.journal"
    others = "events/*.h5"

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        run = allogger.open_run(self.logdir)
        self.logged = {key: set(points(run.series(key, "all"))) for key in run}
        self.is_forged = False

    def change(self, rng: random.Random) -> bytes:
        self.is_forged = rng.random() < 0.6
        return self._forged(rng) if self.is_forged else mutated(self.raw, rng)

    def _forged(self, rng: random.Random) -> bytes:
        salt = journal.salt_of(self.path.stem)
        frames = list(frames_of(self.raw))
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(frames))
            type_, number, payload = frames[at]
            if type_ == journal.OBJECT:
                (size,) = struct.unpack_from("<I", payload)
                text = mutated_json(payload[4 : 4 + size], rng)
                rest = payload[4 + size :] if rng.random() < 0.7 else mutated(payload[4 + size :], rng)
                payload = struct.pack("<I", len(text) if rng.random() < 0.95 else rng.getrandbits(32)) + text + rest
            elif type_ == journal.ROWS:
                payload = mutated(payload, rng)
            else:
                payload = mutated_json(payload, rng)
            if rng.random() < 0.1:
                type_ = rng.randrange(8)
            frames[at] = type_, number if rng.random() < 0.9 else rng.getrandbits(32), payload
        return b"".join(framed(*frame, salt, rng) for frame in frames)

    def check(self) -> None:
        run = look(self.logdir)
        if not self.is_forged:
            for key in run:
                with suppress(DamagedFile):
                    new = set(points(run.series(key, "all"))) - self.logged.get(key, set())
                    assert not new, f"{key}: {sorted(new)[:3]} was not logged"


def points(series: allogger.Series) -> Iterator[tuple[int, float, str]]:
    """Yield the step, time and value of each point, numbers whatever their dtype."""
    for step, time, value in zip(series.step.tolist(), series.time.tolist(), series.value, strict=True):
        shown = value if isinstance(value, str) else np.asarray(value).tolist()
        yield step, time, str(complex(shown) if isinstance(shown, int | float | complex) else shown)


def frames_of(raw: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the type, number and payload of each frame."""
    at = 0
    while at + journal.HEADER_BYTES <= len(raw):
        type_, number, length = raw[at + 4], *struct.unpack_from("<IQ", raw, at + 8)
        start = at + journal.HEADER_BYTES
        yield type_, number, raw[start : start + length]
        at = start + length


def framed(type_: int, number: int, payload: bytes, salt: int, rng: random.Random) -> bytes:
    """Return a frame with right checksums, at times with a wrong length."""
    length = len(payload) if rng.random() < 0.97 else rng.choice([0, 2**31, 2**63, 2**64 - 1, len(payload) + 1])
    head = struct.pack("<4sBBHIQI", journal.MAGIC, type_, 1, 0, number, length, zlib.crc32(payload))
    return head + struct.pack("<I", zlib.crc32(head, salt)) + payload


class HdfTarget(Target):
    """A finished HDF5 file."""

    name = "hdf"
    pattern = "events/*.h5"
    others = "events/*.journal"

    def change(self, rng: random.Random) -> bytes:
        return mutated(self.raw, rng)


class RunJsonTarget(Target):
    """``run.json``, and the index that says where the next attempt goes on."""

    name = "run_json"
    pattern = RUN_FILE

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        (self.index,) = self.logdir.glob("events/*.index.json")
        self.index_raw = self.index.read_bytes()
        self.before = set(self.logdir.rglob("*"))

    def change(self, rng: random.Random) -> bytes:
        self.index.write_bytes(mutated_json(self.index_raw, rng))
        return mutated_json(self.raw, rng)

    def check(self) -> None:
        run = look(self.logdir)
        assert not run.damage, run.damage
        count = len(run.series("root/loss", "all"))
        allogger.basic_configure(self.logdir).log(1.0, "loss")
        allogger.close()
        json.loads((self.logdir / RUN_FILE).read_bytes())
        series: Any = allogger.open_run(self.logdir).series("root/loss", "all")
        assert len(series) == count + 1, "a value is missing"
        manager.reset()
        for path in set(self.logdir.rglob("*")) - self.before:
            path.unlink()


TARGETS: dict[str, type[Target]] = {cls.name: cls for cls in (JournalTarget, HdfTarget, RunJsonTarget)}
