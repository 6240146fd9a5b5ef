from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorboard.compat.proto.event_pb2 import Event
from tensorboardX.crc32c import _crc32c as reference_crc32c
from tensorboardX.record_writer import RecordWriter

from allogger.formats.tfevents import crc32c, frame, masked_crc, read_events, scalar_events

EVENTS = [b"first", b"", b"x" * 300, bytes(range(256)) * 5, b"last"]


def events_in(data: bytes, folder: Path) -> tuple[list[bytes], list[str]]:
    path = folder / "events.out.tfevents.1"
    path.write_bytes(data)
    damage: list[str] = []
    return list(read_events(path, damage)), damage


# ------------------------------------------------------------------------------------------------------------ checksums


@pytest.mark.parametrize(
    ("message", "crc"),
    [
        (b"", 0),
        (b"a", 0xC1D04330),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_the_checksum_agrees_with_published_values(message: bytes, crc: int) -> None:
    assert crc32c(message) == crc


@pytest.mark.parametrize("length", [1, 3, 4, 5, 255, 256, 257, 511, 512, 513, 768, 1280, 4095, 4096, 4097, 50_001])
def test_messages_of_one_and_of_many_lanes_have_the_checksum_that_tensorboardx_computes(length: int) -> None:
    message = np.random.default_rng(length).bytes(length)
    assert crc32c(message) == reference_crc32c(message)


def test_zeros_at_the_start_of_a_long_message_count() -> None:
    assert crc32c(bytes(1000)) == reference_crc32c(bytes(1000)) != crc32c(bytes(1001))


@given(st.binary(max_size=3000))
def test_any_message_has_the_checksum_that_tensorboardx_computes(message: bytes) -> None:
    assert crc32c(message) == reference_crc32c(message)


def test_frames_are_those_of_tensorboardx(tmp_path: Path) -> None:
    writer = RecordWriter(str(tmp_path / "peer"))
    for event in EVENTS:
        writer.write(event)
    writer.close()
    assert b"".join(map(frame, EVENTS)) == (tmp_path / "peer").read_bytes()


# -------------------------------------------------------------------------------------------------------------- scalars

TAGS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), min_size=1, max_size=4, unique=True)
SMALL_AND_LARGE_STEPS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.builds(lambda bits, off: 2**bits + off, st.integers(0, 62), st.integers(-1, 1)),
)


@st.composite
def scalar_rows(draw: st.DrawFn) -> tuple[list[str], list[tuple[int, int, float, float]]]:
    tags = draw(TAGS)
    row = st.tuples(
        st.integers(0, len(tags) - 1), SMALL_AND_LARGE_STEPS, st.floats(), arrays.from_dtype(np.dtype(np.float32))
    )
    return tags, draw(st.lists(row, max_size=20))


@given(scalar_rows())
def test_scalars_read_back_bit_for_bit_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[list[str], list[tuple[int, int, float, float]]]
) -> None:
    tags, rows = drawn
    series, step, time, value = zip(*rows, strict=True) if rows else ((), (), (), ())
    values = np.array(value, np.float32)
    data = scalar_events(
        {index: tag.encode() for index, tag in enumerate(tags)},
        np.array(series, np.uint32),
        np.array(step, np.int64),
        np.array(time, np.float64),
        values,
    )
    found, damage = events_in(data, tmp_path_factory.mktemp("events"))
    events = [Event.FromString(event) for event in found]
    assert not damage
    assert [event.summary.value[0].tag for event in events] == [tags[index] for index in series]
    assert [event.step for event in events] == list(step)
    assert [struct.pack("<d", event.wall_time) for event in events] == [struct.pack("<d", t) for t in time]
    # A signalling NaN becomes a quiet one on its way through Python; everything else keeps its bits.
    read = np.array([event.summary.value[0].simple_value for event in events], np.float32)
    np.testing.assert_array_equal(read, values)
    assert np.signbit(read[~np.isnan(read)]).tolist() == np.signbit(values[~np.isnan(values)]).tolist()


def test_a_large_batch_keeps_its_order_and_its_checksums(tmp_path: Path) -> None:
    count = 5000
    rng = np.random.default_rng(0)
    tags = {index: b"main/" + b"k" * index for index in range(0, 400, 40)}
    series = rng.choice(list(tags), count).astype(np.uint32)
    step = rng.integers(0, 300, count)
    value = rng.random(count, np.float32)
    found, damage = events_in(scalar_events(tags, series, step, np.arange(count) + 0.5, value), tmp_path)
    events = [Event.FromString(event) for event in found]
    assert not damage
    assert [e.wall_time for e in events] == [row + 0.5 for row in range(count)]
    assert [e.step for e in events] == step.tolist()
    assert [e.summary.value[0].tag.encode() for e in events] == [tags[index] for index in series.tolist()]
    assert [e.summary.value[0].simple_value for e in events] == value.tolist()


def test_columns_that_are_not_contiguous_are_taken_as_they_are(tmp_path: Path) -> None:
    rows = np.zeros(6, [("step", "<i8"), ("time", "<f8"), ("value", "<f4")])
    rows["step"], rows["time"], rows["value"] = range(6), np.arange(6) / 4, np.arange(6) * 2
    data = scalar_events(
        {0: b"a"}, np.zeros(12, np.uint32)[::2], rows["step"][::-1], rows["time"][::-1], rows["value"][::-1]
    )
    events = [Event.FromString(event) for event in events_in(data, tmp_path)[0]]
    assert [(e.step, e.wall_time, e.summary.value[0].simple_value) for e in events] == [
        (step, step / 4, step * 2.0) for step in range(5, -1, -1)
    ]


# -------------------------------------------------------------------------------------------------------------- reading


def test_a_file_torn_at_any_byte_gives_the_events_before_and_no_damage(tmp_path: Path) -> None:
    frames = [frame(event) for event in EVENTS[:3]]
    data = b"".join(frames)
    ends = np.cumsum([len(part) for part in frames])
    for size in range(len(data)):
        found, damage = events_in(data[:size], tmp_path)
        assert (found, damage) == (EVENTS[: int((ends <= size).sum())], [])


def test_a_flipped_bit_costs_one_event_and_is_reported(tmp_path: Path) -> None:
    events = [b"first", b"", b"x" * 300, b"last"]
    frames = [frame(event) for event in events]
    data = b"".join(frames)
    ends = np.cumsum([len(part) for part in frames])
    for place in range(len(data)):
        hurt = bytearray(data)
        hurt[place] ^= 1 << place % 8
        lost = int((ends <= place).sum())
        found, damage = events_in(bytes(hurt), tmp_path)
        assert found == events[:lost] + events[lost + 1 :]
        assert len(damage) == 1
        assert f"byte {ends[lost] - len(frames[lost])}" in damage[0]


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"garbage", np.random.default_rng(1).bytes(3 * 2**20)])
def test_events_behind_garbage_are_found(tmp_path: Path, garbage: bytes) -> None:
    data = frame(b"before") + garbage + frame(b"behind") + frame(b"end")
    found, damage = events_in(data, tmp_path)
    assert found == [b"before", b"behind", b"end"]
    assert len(damage) == 1


def test_garbage_at_the_end_is_reported(tmp_path: Path) -> None:
    found, damage = events_in(frame(b"before") + bytes(50), tmp_path)
    assert found == [b"before"]
    assert len(damage) == 1


def test_a_length_out_of_all_proportion_claims_no_memory(tmp_path: Path) -> None:
    packed = struct.pack("<Q", 2**62)
    found, damage = events_in(frame(b"before") + packed + struct.pack("<I", masked_crc(packed)) + bytes(50), tmp_path)
    assert (found, damage) == ([b"before"], [])


def test_a_reader_goes_on_when_the_file_has_grown(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(frame(b"one"))
    events = read_events(path, [])
    assert next(events) == b"one"
    with open(path, "ab") as file:
        file.write(frame(b"two"))
    assert list(events) == [b"two"]


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(read_events(tmp_path / "nothing", []))
