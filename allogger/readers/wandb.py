"""WandbReader: which series are in the file of a run that Weights & Biases recorded offline?

The file is a log as LevelDB has it: a header, then blocks of 32 KiB with pieces of records; a record is a protocol
buffer. No library of W&B is needed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from allogger.errors import DamagedFile
from allogger.formats.protobuf import BYTES, Field, fields, signed, text
from allogger.formats.regular import open_regular
from allogger.reader import SeriesId
from allogger.readers.growing import Growing, GrowingReader
from allogger.record import MAIN_PROCESS

__all__ = ["WandbReader"]

_MAGIC = b":W&B\xe1\xbe"
_BLOCK_BYTES = 2**15
_PIECE = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_CRC_OF_TYPE = {piece: zlib.crc32(bytes([piece])) for piece in (_FULL, _FIRST, _MIDDLE, _LAST)}
_LARGEST_RECORD = 2**28
_MOST_NOTES = 100
# The record about the run is one of the first.
_NEAR_THE_START = 20
# Of wandb_internal.proto.
_HISTORY, _CONFIG, _RUN = 2, 5, 17
_OWN_KEYS = {"_step", "_timestamp", "_runtime"}


class WandbReader(GrowingReader):
    """Reads a ``run-*.wandb``, at the first look whole; what is torn at its end is not there yet.

    Numbers and texts are series of the root, other values (media, histograms) are left out and told in `damage`. Raises
    `OSError` if the file cannot be opened, `DamagedFile` if it is none of W&B's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self._params: dict[str, Any] = {}
        self._left_out: dict[str, int] = {}
        with open_regular(path) as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise DamagedFile(f"{path} is no file of Weights & Biases")

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """What the name of the file says, and the start of the run."""
        name = self.path.stem
        return {"name": name, "process": MAIN_PROCESS, "attempt": name, "start": self._began(), "system": "wandb"}

    def _began(self) -> float:
        with open_regular(self.path) as file, contextlib.suppress(ValueError):
            for _, record in itertools.islice(self._records(file, []), _NEAR_THE_START):
                for run in fields(record):
                    if run.number == _RUN and run.wire == BYTES:
                        for time in fields(record, run.start, run.stop):
                            if time.number == 17 and time.wire == BYTES:
                                told = {f.number: signed(record, f) for f in fields(record, time.start, time.stop)}
                                return told.get(1, 0) + told.get(2, 0) / 1e9
        return 0.0

    @property
    def params(self) -> Mapping[str, Any]:
        """The configuration of the run, without what W&B itself puts there."""
        self.keys()
        return self._params

    @cached_property
    def _series(self) -> dict[SeriesId, Growing]:
        found: dict[SeriesId, Growing] = {}
        with open_regular(self.path) as file:
            for offset, record in self._records(file, self.damage):
                try:
                    for part in fields(record):
                        if part.number == _HISTORY and part.wire == BYTES:
                            self._take_history(record, part, found)
                        elif part.number == _CONFIG and part.wire == BYTES:
                            self._take_config(record, part)
                        elif part.number == _RUN and part.wire == BYTES:
                            for inner in fields(record, part.start, part.stop):
                                if inner.number == 4 and inner.wire == BYTES:
                                    self._take_config(record, inner)
                except ValueError as error:
                    self._note(f"the record at byte {offset} cannot be understood: {error}", self.damage)
        for key, count in self._left_out.items():
            self._note(f"{count} values under {key!r} are neither numbers nor texts, and left out", self.damage)
        return found

    def _records(self, file: BinaryIO, damage: list[str]) -> Iterator[tuple[int, bytes]]:
        """Yield the whole records, each with its place."""
        pieces: list[bytes] = []
        began = base = 0
        while block := file.read(_BLOCK_BYTES):
            # The first block holds the file's own header.
            at = 7 if base == 0 else 0
            while at + _PIECE.size <= len(block):
                crc, size, kind = _PIECE.unpack_from(block, at)
                data = block[at + _PIECE.size : at + _PIECE.size + size]
                if kind not in _CRC_OF_TYPE or len(data) < size or zlib.crc32(data, _CRC_OF_TYPE[kind]) != crc:
                    # The last block may be on its way; zeros fill one up.
                    if len(block) == _BLOCK_BYTES and any(block[at:]):
                        self._note(f"what begins at byte {base + at} does not agree with its checksum", damage)
                    pieces = []
                    break
                if kind in (_FULL, _FIRST):
                    pieces, began = [], base + at
                pieces.append(data)
                if kind in (_FULL, _LAST):
                    yield began, b"".join(pieces)
                    pieces = []
                elif len(pieces) * _BLOCK_BYTES > _LARGEST_RECORD:
                    self._note(f"the record at byte {began} is too large, and left out", damage)
                    pieces = []
                at += _PIECE.size + size
            base += len(block)

    # -- records

    def _take_history(self, record: bytes, part: Field, found: dict[SeriesId, Growing]) -> None:
        values: dict[str, Any] = {}
        step = 0
        for field in fields(record, part.start, part.stop):
            if field.number == 1 and field.wire == BYTES:
                key, value = _item(record, field)
                values[key] = value
            elif field.number == 2 and field.wire == BYTES:
                for number in fields(record, field.start, field.stop):
                    step = signed(record, number) if number.number == 1 else step
        told = values.get("_timestamp")
        time = float(told) if isinstance(told, int | float) and math.isfinite(told) else max(self._last_time, 0.0)
        self._last_time = max(self._last_time, time)
        for key, value in values.items():
            if isinstance(value, bool | int | float | str):
                if key not in _OWN_KEYS:
                    kind = "text" if isinstance(value, str) else "scalar"
                    found.setdefault(SeriesId(kind, "root", key), Growing()).add(step, time, value)
            elif value is not None:
                self._left_out[key] = self._left_out.get(key, 0) + 1

    def _take_config(self, record: bytes, part: Field) -> None:
        for field in fields(record, part.start, part.stop):
            if field.number == 1 and field.wire == BYTES:
                key, value = _item(record, field)
                if not key.startswith("_"):
                    self._params[key] = value

    def _note(self, what: str, damage: list[str]) -> None:
        if len(damage) < _MOST_NOTES:
            damage.append(f"{self.path}: {what}")


def _item(record: bytes, item: Field) -> tuple[str, Any]:
    """Return the name and the value of an item of the history or of the configuration."""
    nested: list[str] = []
    name, value = "", None
    for field in fields(record, item.start, item.stop):
        if field.number == 1:
            name = text(record, field)
        elif field.number == 2:
            nested.append(text(record, field))
        elif field.number == 16:
            try:
                value = json.loads(text(record, field))
            except RecursionError as error:
                raise ValueError("a value that is nested too deeply") from error
    return "/".join(nested) or name, value
