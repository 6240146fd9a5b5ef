"""Hostile files: whatever lies in a logdir, it takes little time and memory, is told, and hides no good values."""

from __future__ import annotations

import itertools
import json
import math
import os
import resource
import signal
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

import allogger
from allogger.errors import AlloggerError
from allogger.formats import journal
from allogger.rundir import EVENTS, RUN_FILE, Shard
from allogger.testing.rows import Row
from allogger.utils import repair, verify
from tests.killed import a_shard, in_a_child, write

GOOD = [Row("root", "good", step, 0.25) for step in (1, 2)]
ROW = [("step", "i8"), ("time", "f8"), ("walltime", "f8"), ("value", "f8")]


class Journal:
    """A journal of sound frames with any content."""

    def __init__(self, shard: Shard, about: Mapping[str, Any] | None = None) -> None:
        self.name = shard.name
        self.salt = journal.salt_of(shard.name)
        self.number = 0
        self.data = journal.encode_head({**shard.about(), **(about or {})})
        self.data += journal.encode_names([(0, "root", "good")], self.salt)
        self.rows([0], [1.5])

    def frame(self, type_: int, payload: bytes, *, crc: int | None = None, length: int | None = None) -> Journal:
        crc = zlib.crc32(payload) if crc is None else crc
        length = len(payload) if length is None else length
        number = self.number if type_ in (journal.ROWS, journal.OBJECT) else 0
        head = struct.pack("<4sBBHIQI", journal.MAGIC, type_, 1, 0, number, length, crc)
        self.data += head + struct.pack("<I", zlib.crc32(head, self.salt)) + payload
        self.number += type_ in (journal.ROWS, journal.OBJECT)
        return self

    def rows(self, series: list[int], values: list[float]) -> Journal:
        n = len(series)
        columns = np.array(series, "<u4"), np.zeros(n, "u1"), np.arange(n, dtype="<i8"), np.zeros(n), np.array(values)
        return self.frame(journal.ROWS, struct.pack("<I", n) + b"".join(column.tobytes() for column in columns))

    def object(self, raw: bytes = b"", **meta: Any) -> Journal:
        told = {"series": 0, "kind": "array", "step": 1, "time": 0.0, "at": [0, 0], **meta}
        text = json.dumps(told).encode() if "text" not in meta else meta["text"]
        return self.frame(journal.OBJECT, struct.pack("<I", len(text)) + text + raw)

    def save(self, logdir: Path) -> None:
        (logdir / EVENTS / f"{self.name}.journal").write_bytes(self.data)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"1" + b"]" * depth


def nested_dicts(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


NUMBERS: tuple[Any, ...] = (-1, 2**32, 2**63, 10**4000, 1e999, -1e999, math.nan, 0.5, None, True, "1", [], {}, [[]])


def journals(folder: Path) -> Iterator[Journal]:
    """Yield journals that a writer never makes; *folder* is for what is needed meanwhile."""

    def good(**about: Any) -> Journal:
        return Journal(a_shard(folder), about)

    for value in NUMBERS:
        yield good(start=value, pid=value)
        yield good(process=value, attempt=value)
        yield good().frame(journal.NAMES, json.dumps([[value, "root", "key"]]).encode())
        yield good().frame(journal.NAMES, json.dumps([[1, value, value]]).encode()).rows([1], [1.0])
        yield good().frame(journal.NAMES, json.dumps(value).encode())
        yield good().frame(journal.END, json.dumps({"values": value, "time": value}).encode())
        yield good().frame(journal.END, json.dumps(value).encode())
        for name in ("series", "kind", "step", "time", "at", "dtype", "shape", "attrs"):
            yield good().object(bytes(8), **{"dtype": "<f8", "shape": [1], name: value})
    for depth in (100, 800, 990, 100_000):
        for deep in (nested(depth), nested_dicts(depth)):
            for type_ in (journal.HEAD, journal.NAMES, journal.END):
                yield good().frame(type_, deep)
            for name in (b"attrs", b"dtype", b"shape"):
                told = b'{"series":0,"kind":"array","step":1,"time":0.0,"at":[0,0],"%b":%b}' % (name, deep)
                yield good().object(text=told)
    for dtype in ("O", "|O", "<f8,O", "U0", "V0", "S0", "(99999,99999)f8", "V2147483647", [["a", "O"]], "x" * 9999):
        for shape in ([], [0], [2**62], [2**40, 2**40], [0, 2**62], [-1], [1] * 40, [2**20]):
            yield good().object(b"cos\nsystem\n(S'touch evil'\ntR.", dtype=dtype, shape=shape)
    for series in ([2**32 - 1], [2**31], list(range(0, 2**32, 2**18))):
        yield good().rows(series, [0.5] * len(series))
    for payload in (b"", b"\1", b"\xff\xff\xff\xff", bytes(4), b"\1\0\0\0"):
        yield good().frame(journal.ROWS, payload)
        yield good().frame(journal.OBJECT, payload)
    for length in (2**64 - 1, 2**63, 2**40, 10**9):
        yield good().frame(journal.ROWS, b"x", length=length)
    # A name that is repeated for each value.
    yield good(process="x" * 2**20).rows([0] * 20_000, [0.5] * 20_000)
    yield good().frame(journal.NAMES, b"[" + b"[]," * 2**20 + b"[]]")
    yield good().frame(journal.NAMES, json.dumps([[1, "root", "x" * 2**24]]).encode()).rows([1], [1.0])
    yield good().object(b"x" * 2**24, kind="text")
    # Headers inside of what other headers claim, each with a checksum that is found wrong only when all is read.
    many = good()
    for left in range(20_000, 0, -1):
        many.frame(journal.ROWS, b"", crc=1, length=(left - 1) * journal.HEADER_BYTES)
    yield many
    yield good().frame(99, b"{}")


def json_files() -> Iterator[bytes]:
    """Yield JSON that allogger never writes."""
    yield from (json.dumps(value).encode() for value in NUMBERS)
    for depth in (100, 800, 990, 100_000):
        yield nested(depth)
        yield nested_dicts(depth)
        deep = nested(depth), nested(depth), nested_dicts(depth)
        yield b'{"allogger_format":1,"attempts":%b,"series":%b,"about":%b}' % deep
    for value in NUMBERS:
        told = json.dumps(value).encode()
        entry = b'{"kind":%b,"scope":%b,"key":%b,"last_step":%b}' % (told, told, told, told)
        yield b'{"allogger_format":%b,"created":%b,"attempts":%b}' % (told, told, told)
        yield b'{"attempts":[%b,{"attempt":%b}]}' % (told, told)
        yield b'{"about":%b,"series":%b}' % (told, told)
        yield b'{"about":{"process":"MainProcess","attempt":%b},"series":[%b]}' % (told, entry)
        yield b'{"about":{"process":%b,"start":%b},"series":[%b]}' % (told, told, told)
    yield b'{"a":' + b"1" * 2**20 + b"}"
    yield b'{"a":"' + b"x" * 2**26 + b'"}'
    yield b"[" * 2**20
    yield b"\xff\xfe" * 99
    yield b""


def hdf_files() -> Iterator[Callable[[h5py.File], None]]:
    """Yield what makes an HDF5 file hostile."""

    def external_link(file: h5py.File) -> None:
        file["scalar/main/bad"] = h5py.ExternalLink("../../../secret.h5", "/scalar/main/secret")
        file["scalar/other"] = h5py.ExternalLink("/dev/zero", "/")

    def soft_link(file: h5py.File) -> None:
        file["scalar/main/bad"] = h5py.SoftLink("/scalar/main/good")
        file["scalar/main/loop"] = h5py.SoftLink("/scalar/main/loop")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((2,), np.dtype(ROW))
        layout[:] = h5py.VirtualSource("../../../secret.h5", "scalar/main/secret", (2,))
        file.create_virtual_dataset("scalar/main/bad", layout)

    def external_storage(file: h5py.File) -> None:
        file.create_dataset("scalar/main/bad", (1,), ROW, external=[("../../../secret.h5", 0, 32)])

    def huge(file: h5py.File) -> None:
        file.create_dataset("scalar/main/bad", (2**60,), ROW, chunks=(2**10,))
        file.create_dataset("scalar/main/wide", (2,), [*ROW[:3], ("value", "f8", (2**26,))], chunks=(1,))

    def bomb(file: h5py.File) -> None:
        file.create_dataset("scalar/main/bad", data=np.zeros(2**20, ROW), chunks=(2**17,), compression=9)
        file.create_dataset("scalar/main/worse", (2**40,), ROW, chunks=(2**17,), compression=9)

    def circle(file: h5py.File) -> None:
        file["scalar/main/self"] = file["scalar"]
        deep = file
        for _ in range(500):
            deep = deep.create_group("deep")

    def strings(file: h5py.File) -> None:
        file.attrs["process"] = "x" * 60_000
        file.attrs["start"] = "no number"
        file.attrs["pid"] = np.arange(5000)
        file.create_dataset("text/main/bad", shape=3, dtype=[*ROW[:3], ("value", h5py.string_dtype())])
        file.create_dataset("scalar/main/ref", (1,), [*ROW[:3], ("value", h5py.ref_dtype)])

    yield from (external_link, soft_link, virtual, external_storage, huge, bomb, circle, strings)


def within_limits(step: Callable[[], object], seconds: int = 60, memory: int = 1500 * 2**20) -> int:
    """Do *step* in a child with so much time and memory, more than now; return its exit status."""
    # What pandas takes for itself, a gigabyte of addresses where pyarrow is installed, is no fault of a file.
    pd.DataFrame({"key": ["text"]})
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])

    def limited() -> None:
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        # For what waits and does nothing; the machine may be busy.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(100)
        step()

    return in_a_child(limited)


def values_of(logdir: Path) -> dict[str, list[Any]]:
    """Return all values that can be read."""
    found = {}
    run = allogger.open_run(logdir, attempts="all")
    for key in run:
        try:
            series = run[key]
        except AlloggerError:
            continue
        assert len(series.step) == len(series.time) == len(series.process) == len(series.value)
        found[key] = [np.asarray(value).tolist() for value in series.value]
    run.frame()
    return found


def use(logdir: Path) -> None:
    """Do with a run whatever can be done: nothing fails, and good values are as they were."""
    before = values_of(logdir)
    assert before["root/good"].count(0.25) == 2
    told = verify(logdir)
    json.dumps(told.as_dict())
    assert str(told)
    root = allogger.basic_configure(logdir)
    root.log(7.5, "new")
    root.log(8.5, "good")
    allogger.close()
    after = values_of(logdir)
    assert after["root/new"] == [7.5]
    assert sorted(after["root/good"], key=repr) == sorted([*before["root/good"], 8.5], key=repr)
    repair(logdir)
    again = values_of(logdir)
    assert again["root/good"] == after["root/good"]


def try_groups(folder: Path, size: int, items: Iterable[Any], put: Callable[[Path, Any], None]) -> None:
    """Put some of the *items* at a time into a run that has good values, and use it."""
    rest = iter(items)
    for number in itertools.count():
        logdir = folder / str(number)
        group = list(itertools.islice(rest, size))
        if not group:
            return
        write(a_shard(logdir), GOOD, ("hdf", "csv"), is_closed=True)
        for item in group:
            put(logdir, item)
        try:
            use(logdir)
        except BaseException:
            print(f"one of the items from {number * size} on: {group!r:.2000}", file=sys.stderr)
            raise


def test_hostile_journals(tmp_path: Path) -> None:
    def try_all() -> None:
        try_groups(tmp_path / "runs", 10, journals(tmp_path), lambda logdir, one: one.save(logdir))

    assert within_limits(try_all) == 0


def test_a_hostile_run_json(tmp_path: Path) -> None:
    def try_all() -> None:
        try_groups(tmp_path, 1, json_files(), lambda logdir, content: (logdir / RUN_FILE).write_bytes(content))

    assert within_limits(try_all) == 0


def test_hostile_indexes(tmp_path: Path) -> None:
    def put(logdir: Path, content: bytes) -> None:
        shard = write(a_shard(logdir), [Row("root", "good", 1, 0.5)], is_closed=True)
        shard.path(".index.json").write_bytes(content)

    assert within_limits(lambda: try_groups(tmp_path, 10, json_files(), put)) == 0


@pytest.mark.parametrize("index", ["", "{", "[]", "{}", '{"series": 3}', '{"about": {}, "series": [{}]}'])
def test_steps_go_on_whatever_has_become_of_the_index(tmp_path: Path, index: str) -> None:
    shard = write(a_shard(tmp_path), GOOD, is_closed=True)
    shard.path(".index.json").write_text(index)

    with allogger.run(tmp_path) as logger:
        logger.log(1.0, "good")

    assert allogger.open_run(tmp_path, attempts="all")["root/good"].step.tolist() == [1, 2, 3]


def test_hostile_hdf5_files(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file.create_dataset("scalar/main/secret", data=np.array([(1, 0.0, 0.0, 666.0)] * 2, ROW))

    def put(logdir: Path, make: Callable[[h5py.File], None]) -> None:
        with h5py.File(a_shard(logdir).path(".h5"), "w") as file:
            file.create_dataset("scalar/main/also good", data=np.ones(2, ROW))
            make(file)

    def try_all() -> None:
        try_groups(tmp_path / "runs", 1, hdf_files(), put)
        for number, make in enumerate(hdf_files()):
            found = values_of(tmp_path / "runs" / str(number))
            assert [1.0, 1.0] in found.values(), make.__name__
            assert "666.0" not in repr(found), make.__name__

    assert within_limits(try_all) == 0


@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_keeps_nobody_waiting(tmp_path: Path, what: str) -> None:
    place = {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda path: os.symlink("/dev/zero", path)}[what]

    def put(logdir: Path, suffix: str) -> None:
        place(a_shard(logdir).path(suffix) if suffix != RUN_FILE else logdir / RUN_FILE)

    suffixes = [".journal", ".h5", ".csv", ".index.json", RUN_FILE]
    assert within_limits(lambda: try_groups(tmp_path, 9, suffixes, put)) == 0
