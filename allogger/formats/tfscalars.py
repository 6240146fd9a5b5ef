"""Event files: which scalars do the events hold? Taken apart many at a time.

A program writes the events of one scalar alike but for the time, the step and the number. So of all events of one
length, one is taken apart; those that differ from it, or from another event of the same build, in these places only are
cut there in one go.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from allogger.formats.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field, fields, integer
from allogger.formats.tfframes import Frames
from allogger.formats.tfvalues import SCALARS, plugin_of

__all__ = ["ROW", "ScalarTable"]

#: A scalar: the number of its tag, the step, Unix seconds and the value.
ROW = np.dtype([("tag", "u4"), ("step", "i8"), ("time", "f8"), ("value", "f8")])

_FEWEST, _LONGEST, _MOST_BUILDS = 4, 2**12, 8
_MOST_KNOWN = 2**16
_MULTIPLIERS = np.random.default_rng(0).integers(2**63, size=_LONGEST // 8, dtype=np.uint64) | np.uint64(1)


class _Build(NamedTuple):
    """Where in an event the numbers are; -1 where the event leaves one out, which means 0."""

    time: int
    step: int
    step_size: int
    value: int


class ScalarTable:
    """The tags by number, and what turns events into rows."""

    def __init__(self) -> None:
        self.tags: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        self._known: dict[bytes, tuple[_Build, int] | None] = {}

    def number(self, tag: bytes) -> int:
        """Return the number of a tag."""
        found = self._numbers.setdefault(tag, len(self.tags))
        if found == len(self.tags):
            self.tags.append(tag)
        return found

    def take(self, frames: Frames) -> tuple[NDArray[np.void], NDArray[np.bool_]]:
        """Return a row for each event, and which of the events are nothing but one scalar; the other rows are void."""
        rows = np.zeros(len(frames.start), ROW)
        taken = np.zeros(len(frames.start), np.bool_)
        raw = np.frombuffer(frames.data, np.uint8)
        order = np.argsort(frames.length, kind="stable")
        lengths, first = np.unique(frames.length[order], return_index=True)
        for length, which in zip(lengths.tolist(), np.split(order, first[1:]), strict=True):
            if len(which) >= _FEWEST and length <= _LONGEST:
                events = np.lib.stride_tricks.sliding_window_view(raw, length)[frames.start[which]]
                self._take_alike(events, which, rows, taken)
        return rows, taken

    def _take_alike(
        self, events: NDArray[np.uint8], which: NDArray[np.intp], rows: NDArray[np.void], taken: NDArray[np.bool_]
    ) -> None:
        for _ in range(_MOST_BUILDS):
            if not len(events):
                return
            build = _taken_apart(events[0].tobytes())[0]
            if build is None:
                events, which = events[1:], which[1:]
                continue
            tag = self._tags_of(events, build)
            good = tag >= 0
            rows[which[good]] = _rows(events[good], tag[good], build)
            taken[which[good]] = True
            events, which = events[~good], which[~good]

    def _tags_of(self, events: NDArray[np.uint8], build: _Build) -> NDArray[np.int64]:
        """Return the number of the tag of each event that has this build, -1 for the others."""
        count, length = events.shape
        constant = np.zeros((count, -(-length // 8) * 8), np.uint8)
        constant[:, :length] = events
        for at, size in ((build.time, 8), (build.value, 4)):
            if at >= 0:
                constant[:, at : at + size] = 0
        constant[:, build.step : build.step + build.step_size] &= 0x80
        words = constant.view("<u8")
        hashes = (words * _MULTIPLIERS[: words.shape[1]]).sum(axis=1, dtype=np.uint64)
        _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
        tags = np.array([self._tag_of(constant[row], events[row], build) for row in first.tolist()], np.int64)
        # Two that differ may have the same hash.
        same = (words == words[first][which]).all(axis=1)
        return np.where(same, tags[which], -1)

    def _tag_of(self, constant: NDArray[np.uint8], event: NDArray[np.uint8], build: _Build) -> int:
        key = constant.tobytes()
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            found, tag = _taken_apart(event.tobytes())
            self._known[key] = None if found is None else (found, self.number(tag))
        known = self._known[key]
        return known[1] if known is not None and known[0] == build else -1


def _rows(events: NDArray[np.uint8], tag: NDArray[np.int64], build: _Build) -> NDArray[np.void]:
    rows = np.zeros(len(events), ROW)
    rows["tag"] = tag
    if build.time >= 0:
        rows["time"] = np.ascontiguousarray(events[:, build.time : build.time + 8]).view("<f8")[:, 0]
    rows["value"] = np.ascontiguousarray(events[:, build.value : build.value + 4]).view("<f4")[:, 0]
    step = np.zeros(len(events), np.uint64)
    for place in range(build.step_size):
        step |= (events[:, build.step + place] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * place)
    rows["step"] = step.view(np.int64)
    return rows


# The numbers of the fields are those of TensorBoard's event.proto, summary.proto and tensor.proto.


def _taken_apart(event: bytes) -> tuple[_Build | None, bytes]:
    """Return where the numbers are in an event that is one float32 scalar, and its tag; None for any other event."""
    try:
        parts = list(fields(event))
        found = {field.number: field for field in parts}
        if not found.keys() <= {1, 2, 5} or len(found) != len(parts):
            return None, b""
        time, step, summary = (found.get(number) for number in (1, 2, 5))
        if summary is None or (time and time.wire != FIXED64) or (step and step.wire != VARINT):
            return None, b""
        (value,) = fields(event, summary.start, summary.stop)
        if (value.number, value.wire) != (1, BYTES):
            return None, b""
        number_at, tag = _scalar_at(event, value)
    except ValueError:
        return None, b""
    step_at, step_size = (step.start, step.stop - step.start) if step else (-1, 0)
    build = _Build(time.start if time else -1, step_at, step_size, number_at)
    return (build, tag) if number_at >= 0 else (None, b"")


def _scalar_at(event: bytes, value: Field) -> tuple[int, bytes]:
    """Return where the number of a value is, -1 if it is no scalar, and its tag."""
    parts = list(fields(event, value.start, value.stop))
    found = {field.number: field for field in parts}
    tag = found.get(1)
    if tag is None or tag.wire != BYTES or len(found) != len(parts) or not found.keys() <= {1, 2, 7, 8, 9}:
        return -1, b""
    name = event[tag.start : tag.stop]
    if 9 in found and plugin_of(event, found[9]) not in ("", SCALARS):
        return -1, b""
    if 2 in found and 8 not in found:
        return (found[2].start if found[2].wire == FIXED32 else -1), name
    return (_only_float_at(event, found[8]) if 8 in found else -1), name


def _only_float_at(event: bytes, tensor: Field) -> int:
    """Return where the number of a float32 tensor without axes is, -1 for any other tensor."""
    at = -1
    kind = 0
    for field in fields(event, tensor.start, tensor.stop):
        if field.number == 1:
            kind = integer(event, field)
        elif field.number == 2 and field.start != field.stop:
            return -1
        elif field.number in (4, 5) and at < 0 and field.stop - field.start == 4:
            at = field.start
        elif field.number > 3:
            return -1
    return at if kind == 1 else -1
