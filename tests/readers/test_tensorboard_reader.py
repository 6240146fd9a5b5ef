from __future__ import annotations

import contextlib
import os
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.util.tensor_util import make_ndarray, make_tensor_proto
from tensorboardX import SummaryWriter as XWriter
from torch.utils.tensorboard import SummaryWriter

from allogger.errors import DamagedFile
from allogger.formats import tfscalars
from allogger.formats.tfevents import (
    bytes_field,
    double_field,
    file_version_event,
    frame,
    int_field,
    read_events,
    scalar_events,
)
from allogger.reader import Columns, SeriesId
from allogger.readers.tensorboard import TensorboardReader
from allogger.sounds import wav_of

NAME = "events.out.tfevents.1700000000.host"
EVERYTHING = {"scalars": 0, "tensors": 0, "images": 0, "histograms": 0}


def only_file(folder: Path) -> Path:
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


def read(path: Path, key: str, kind: str = "scalar", scope: str = "root") -> Columns:
    return TensorboardReader(path).read(SeriesId(kind, scope, key))


def written(folder: Path, *events: Event) -> Path:
    path = folder / NAME
    path.write_bytes(file_version_event(1.7e9) + b"".join(frame(event.SerializeToString()) for event in events))
    return path


def event(step: int, *values: Summary.Value, time: float = 1.7e9) -> Event:
    return Event(wall_time=time, step=step, summary=Summary(value=list(values)))


def of_plugin(tag: str, plugin: str, tensor: Any, **how: Any) -> Summary.Value:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
    return Summary.Value(tag=tag, tensor=make_tensor_proto(tensor, **how), metadata=metadata)


# -------------------------------------------------------------------------------------------------------------- scalars


@pytest.mark.parametrize("new_style", [False, True])
def test_scalars_of_torch_come_as_tensorboard_itself_reads_them(tmp_path: Path, new_style: bool) -> None:
    rng = np.random.default_rng(0)
    with SummaryWriter(str(tmp_path)) as writer:
        for step in [*range(300), 2**31, 2**40, 7, 7]:
            for tag in ("loss", "train/accuracy", "a" * 300, "größe"):
                writer.add_scalar(tag, rng.standard_normal(), step, new_style=new_style)
        writer.add_scalar("once", float("nan"), 3)
        writer.add_scalar("zero", 0.0, 0, walltime=0.0)
    expected = EventAccumulator(str(tmp_path), EVERYTHING)
    expected.Reload()
    reader = TensorboardReader(only_file(tmp_path))
    assert {series.key for series in reader.keys()} == {"loss", "train/accuracy", "a" * 300, "größe", "once", "zero"}  # noqa: SIM118
    for tag in ("loss", "train/accuracy", "a" * 300, "größe", "once", "zero"):
        if new_style and tag not in ("once", "zero"):
            rows = [(e.step, e.wall_time, float(make_ndarray(e.tensor_proto))) for e in expected.Tensors(tag)]
        else:
            rows = [(e.step, e.wall_time, e.value) for e in expected.Scalars(tag)]
        got = reader.read(SeriesId("scalar", "root", tag))
        np.testing.assert_array_equal(got.step, [row[0] for row in rows])
        np.testing.assert_array_equal(got.time, [row[1] for row in rows])
        np.testing.assert_array_equal(got.value, [row[2] for row in rows])
    assert not reader.damage


def test_events_with_several_scalars_keep_the_order_among_the_others(tmp_path: Path) -> None:
    def one(tag: str, value: float) -> Summary.Value:
        return Summary.Value(tag=tag, simple_value=value)

    single = [event(step, one("a", step)) for step in range(6)]
    double = event(3, one("a", 100), one("b", 1), one("a", 101))
    path = written(tmp_path, *single[:3], double, *single[3:])
    assert read(path, "a").value.tolist() == [0, 1, 2, 100, 101, 3, 4, 5]
    assert read(path, "b").step.tolist() == [3]


def test_series_of_the_same_length_do_not_mix(tmp_path: Path) -> None:
    events = [event(step, Summary.Value(tag=f"t{n:03d}", simple_value=n)) for step in range(5) for n in range(200)]
    reader = TensorboardReader(written(tmp_path, *events))
    assert len(reader.keys()) == 200
    for n in range(200):
        columns = reader.read(SeriesId("scalar", "root", f"t{n:03d}"))
        assert columns.step.tolist() == list(range(5))
        assert (columns.value == n).all()


def test_a_tag_that_holds_the_bytes_of_an_event_is_nothing_but_a_tag(tmp_path: Path) -> None:
    # Such a tag shifts the fields to where another event of that length has them.
    inner = event(1, Summary.Value(tag="x", simple_value=1)).SerializeToString().decode("latin-1")
    tags = [inner[:n] + "y" * (40 - n) for n in range(0, 30, 3)]
    path = written(tmp_path, *(event(5, Summary.Value(tag=tag, simple_value=2)) for tag in tags for _ in range(5)))
    for tag in tags:
        columns = read(path, tag)
        assert columns.step.tolist() == [5] * 5
        assert columns.value.tolist() == [2] * 5


def test_a_step_that_is_written_twice_is_not_taken_for_a_longer_one(tmp_path: Path) -> None:
    value = bytes_field(5, event(0, Summary.Value(tag="a", simple_value=1)).summary.SerializeToString())
    long = frame(double_field(1, 1.0) + int_field(2, 2**14 + 1) + value)
    twice = frame(double_field(1, 1.0) + int_field(2, 5) + int_field(2, 7) + value)
    path = tmp_path / NAME
    path.write_bytes((long + twice) * 5)
    assert read(path, "a").step.tolist() == [2**14 + 1, 7] * 5


def test_events_that_have_the_same_hash_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfscalars, "_MULTIPLIERS", np.zeros_like(tfscalars._MULTIPLIERS))
    path = written(tmp_path, *(event(s, Summary.Value(tag=t, simple_value=s)) for s in range(1, 9) for t in ("a", "b")))
    for tag in ("a", "b"):
        assert read(path, tag).value.tolist() == list(range(1, 9))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "train/loss", "c" * 130]),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(width=32),
            st.floats(0, 4e9),
        ),
        max_size=40,
    )
)
@settings(max_examples=50, deadline=None)
def test_whatever_our_own_writer_encodes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, float, float]]
) -> None:
    path = tmp_path_factory.mktemp("events") / NAME
    names = ["a", "b", "train/loss", "c" * 130]
    encoded = scalar_events(
        {number: name.encode() for number, name in enumerate(names)},
        np.array([names.index(row[0]) for row in rows], np.uint32),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.float64),
        np.array([row[2] for row in rows], np.float32),
    )
    path.write_bytes(file_version_event(0.0) + encoded)
    reader = TensorboardReader(path)
    for name in names:
        its = [row for row in rows if row[0] == name]
        if its:
            columns = reader.read(SeriesId("scalar", "root", name))
            assert columns.step.tolist() == [row[1] for row in its]
            assert columns.time.tolist() == [row[3] for row in its]
            np.testing.assert_array_equal(columns.value, np.array([row[2] for row in its]))
    assert not reader.damage


def test_a_large_file_is_read_several_times_as_fast_as_by_tensorboard(tmp_path: Path) -> None:
    count = 60_000
    path = tmp_path / NAME
    series = np.arange(count, dtype=np.uint32) % 3
    step = np.arange(count) // 3
    encoded = scalar_events(
        {0: b"a", 1: b"train/loss", 2: b"b"}, series, step, np.full(count, 1.7e9), step.astype(np.float32)
    )
    path.write_bytes(file_version_event(0.0) + encoded)

    begun = time.process_time()
    reader = TensorboardReader(path)
    ours = {series.key: reader.read(series).value.tolist() for series in reader.keys()}  # noqa: SIM118
    between = time.process_time()
    accumulator = EventAccumulator(str(path), EVERYTHING)
    accumulator.Reload()
    theirs = {tag: [event.value for event in accumulator.Scalars(tag)] for tag in ("a", "train/loss", "b")}
    assert ours == theirs
    # Measured: twenty times.
    assert 4 * (between - begun) < time.process_time() - between


# --------------------------------------------------------------------------------------------------------- other values


def test_images_of_torch_and_tensorboardx_are_the_pixels_that_were_added(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), np.uint8)
    for name, cls in (("torch", SummaryWriter), ("x", XWriter)):
        with cls(str(tmp_path / name)) as writer:
            for step, image in enumerate(pixels):
                writer.add_image("picture", image, step, dataformats="HWC")
        columns = read(only_file(tmp_path / name), "picture", "image")
        np.testing.assert_array_equal(columns.value, pixels)
        assert columns.step.tolist() == [0, 1]
        assert columns.attrs[1] == {"layout": "HWC"}


def test_histograms_come_as_the_bins_that_tensorboard_shows(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(3):
            writer.add_histogram("weights", np.random.default_rng(step).standard_normal(1000), step)
    expected = EventAccumulator(str(tmp_path), EVERYTHING)
    expected.Reload()
    columns = read(only_file(tmp_path), "weights", "array")
    for got, want in zip(columns.value, expected.Histograms("weights"), strict=True):
        its = want.histogram_value
        assert got[:, 2].tolist() == its.bucket
        assert got[:-1, 1].tolist() == its.bucket_limit[:-1]
        assert (got[0, 0], got[-1, 1]) == (its.min, its.max)
        assert got[:, 2].sum() == 1000
    assert columns.attrs[0] == {"columns": ["left", "right", "count"]}


def test_texts_are_read(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_text("note", "grün, *gut*", 4)
    columns = read(only_file(tmp_path), "note/text_summary", "text")
    assert columns.value.tolist() == ["grün, *gut*"]
    assert columns.step.tolist() == [4]


@pytest.mark.parametrize("dtype", "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 ? c8 c16".split())
def test_a_tensor_of_any_dtype_is_the_array_that_tensorboard_makes_of_it(tmp_path: Path, dtype: str) -> None:
    array = (np.arange(6).reshape(2, 3) - (0 if dtype[0] in "u?" else 2)).astype(dtype)
    as_list = make_tensor_proto(array.tolist(), dtype=array.dtype)
    values = [of_plugin("t", "mine", array), Summary.Value(tag="t", tensor=as_list)]
    path = written(tmp_path, *(event(step, value) for step, value in enumerate(values)))
    columns = read(path, "t", "array")
    assert columns.value.dtype == array.dtype
    np.testing.assert_array_equal(columns.value, [make_ndarray(value.tensor) for value in values])


def test_scalars_that_tensorflow_writes_as_tensors_are_scalars(tmp_path: Path) -> None:
    numbers = [np.float32(0.1), np.float64(0.1), np.int64(2**40)]
    values = [of_plugin(f"s{n}", "scalars", number) for n, number in enumerate(numbers)]
    # Only the first value of a tag must say what it is.
    values.append(Summary.Value(tag="s1", tensor=make_tensor_proto(np.float64(0.2))))
    path = written(tmp_path, *(event(step, value) for step, value in enumerate(values)))
    assert read(path, "s0").value.tolist() == [float(np.float32(0.1))]
    assert read(path, "s1").value.tolist() == [0.1, 0.2]
    assert read(path, "s2").value.tolist() == [2.0**40]


def test_hyperparameters_are_params_and_no_series(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_hparams({"lr": 0.1, "name": "adam", "nesterov": True}, {"score": 1.0}, run_name=".")
    reader = TensorboardReader(max(tmp_path.iterdir(), key=os.path.getmtime))
    assert reader.params == {"lr": 0.1, "name": "adam", "nesterov": True}
    assert [series.key for series in reader.keys()] == ["score"]  # noqa: SIM118


def test_sounds_of_others_are_read(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for step in (1, 2):
            writer.add_audio("beep", torch.tensor([[0.0, 0.5, -1.0]]), step, sample_rate=8000)
    reader = TensorboardReader(max(tmp_path.iterdir(), key=os.path.getmtime))
    columns = reader.read(SeriesId("audio", "root", "beep"))
    assert columns.value.tolist() == [[0, 16383, -32767]] * 2
    assert columns.attrs == dict.fromkeys(range(2), {"layout": "T", "rate": 8000})
    assert reader.damage == []


def test_a_sound_that_is_no_wav_and_one_that_is_a_tensor_are_told(tmp_path: Path) -> None:
    good = Summary.Value(tag="beep", audio=Summary.Audio(encoded_audio_string=wav_of(np.zeros(3, np.uint8), 1)))
    bad = Summary.Value(tag="beep", audio=Summary.Audio(encoded_audio_string=b"x"))
    reader = TensorboardReader(
        written(tmp_path, event(1, good), event(2, bad), event(3, of_plugin("v2", "audio", np.array([["a", ""]]))))
    )
    assert reader.keys() == [SeriesId("audio", "root", "beep")]
    assert reader.read(SeriesId("audio", "root", "beep")).step.tolist() == [1]
    assert ["1 x audio under 'v2'" in what or "no WAV file" in what for what in reader.damage] == [True, True]


# ------------------------------------------------------------------------------------------------------ growing, damage


def test_a_file_that_grows_gives_what_came_since_and_a_torn_event_later(tmp_path: Path) -> None:
    whole = [frame(event(step, Summary.Value(tag="a", simple_value=step)).SerializeToString()) for step in range(1, 21)]
    path = tmp_path / NAME
    path.write_bytes(file_version_event(0.0))
    reader = TensorboardReader(path)
    assert reader.keys() == []
    data = b"".join(whole)
    for cut in (0, 5, 13, len(data) // 2, len(data) - 1, len(data)):
        path.write_bytes(file_version_event(0.0) + data[:cut])
        reader.refresh()
        count = cut // len(whole[0])
        if count:
            assert reader.read(SeriesId("scalar", "root", "a")).step.tolist() == list(range(1, count + 1))
        assert not reader.damage


@given(st.integers(0, 2**30), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_changed_byte_costs_no_more_than_its_event_and_is_told(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    whole = [frame(event(step, Summary.Value(tag="a", simple_value=step)).SerializeToString()) for step in range(1, 9)]
    data = bytearray(file_version_event(1.0) + b"".join(whole))
    place %= len(data)
    data[place] ^= change
    path = tmp_path_factory.mktemp("events") / NAME
    path.write_bytes(data)
    reader = TensorboardReader(path)
    got = reader.read(reader.keys()[0]).step.tolist()
    assert set(got) <= set(range(1, 9))
    at_the_end = place >= len(data) - len(whole[-1])
    assert len(got) >= 7
    assert reader.damage or at_the_end
    assert all(str(path) in what and "byte" in what for what in reader.damage)


def test_a_file_of_noise_or_zeros_is_told_in_a_few_sentences(tmp_path: Path) -> None:
    for data in (np.random.default_rng(0).bytes(3_000_000), bytes(1_000_000), b""):
        path = tmp_path / NAME
        path.write_bytes(data)
        reader = TensorboardReader(path)
        assert reader.keys() == []
        assert len(reader.damage) == (1 if data else 0)


def test_many_damaged_places_end_the_reading(tmp_path: Path) -> None:
    good = frame(event(1, Summary.Value(tag="a", simple_value=1)).SerializeToString())
    path = tmp_path / NAME
    path.write_bytes((good + b"?") * 5000)
    reader = TensorboardReader(path)
    reader.keys()
    assert len(reader.damage) < 250
    assert "too much damage" in reader.damage[-1]


@pytest.mark.parametrize("length", [2**31, 2**63, 2**64 - 1])
def test_a_length_that_no_file_has_claims_no_memory(tmp_path: Path, length: int) -> None:
    packed = struct.pack("<Q", length)
    path = written(tmp_path, event(1, Summary.Value(tag="a", simple_value=1)))
    from allogger.formats.crc32c import masked_crc

    path.write_bytes(path.read_bytes() + packed + struct.pack("<I", masked_crc(packed)) + bytes(100))
    assert read(path, "a").step.tolist() == [1]


@pytest.mark.parametrize(
    "value",
    [
        of_plugin("t", "images", [b"1", b"1", b"no picture"]),
        Summary.Value(tag="t", image=Summary.Image(encoded_image_string=b"\x89PNG\r\n\x1a\n" + bytes(40))),
        Summary.Value(tag="t", tensor={"dtype": 1, "tensor_content": b"123", "tensor_shape": {"dim": [{"size": 2}]}}),
        Summary.Value(tag="t", tensor={"dtype": 1, "float_val": [1] * 9, "tensor_shape": {"dim": [{"size": 2}]}}),
        Summary.Value(tag="t", tensor={"dtype": 1, "float_val": [1], "tensor_shape": {"dim": [{"size": 9999}]}}),
    ],
)
def test_a_value_that_contradicts_itself_is_told_when_it_is_read(tmp_path: Path, value: Summary.Value) -> None:
    reader = TensorboardReader(written(tmp_path, event(1, value)))
    (series,) = reader.keys()
    with pytest.raises(DamagedFile, match="cannot be read"):
        reader.read(series)


def test_a_tensor_that_claims_to_be_huge_is_left_out(tmp_path: Path) -> None:
    huge = Summary.Value(
        tag="t", tensor={"dtype": 1, "float_val": [1], "tensor_shape": {"dim": [{"size": 2**20}, {"size": 2**20}]}}
    )
    reader = TensorboardReader(written(tmp_path, event(1, huge)))
    assert reader.keys() == []
    assert "a tensor of shape" in reader.damage[0]


def test_a_pipe_or_a_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / NAME)
    for path in (tmp_path / NAME, tmp_path):
        with pytest.raises(DamagedFile, match="no regular file"):
            TensorboardReader(path)


# ---------------------------------------------------------------------------------------------------------------- names


def test_a_tag_of_allogger_02_names_its_scope(tmp_path: Path) -> None:
    path = written(tmp_path, *(event(s, Summary.Value(tag="root.main.inner/a/b", simple_value=s)) for s in range(5)))
    assert read(path, "a/b", scope="root.main.inner").step.tolist() == list(range(5))


def test_torch_tensors_are_untouched_by_reading(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss", torch.tensor(0.5), 1)
    columns = read(only_file(tmp_path), "loss")
    columns.value[0] = 7
    assert read(only_file(tmp_path), "loss").value.tolist() == [0.5]


# ------------------------------------------------------------------------------------------------------ hostile content


def test_events_of_any_content_end_in_values_or_in_a_sentence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with SummaryWriter(str(tmp_path / "good")) as writer:
        writer.add_scalar("a", 1.0, 1)
        writer.add_scalar("b", 1.0, 1, new_style=True)
        writer.add_histogram("h", rng.standard_normal(20), 1)
        writer.add_image("i", rng.integers(0, 256, (4, 5, 3), np.uint8), 1, dataformats="HWC")
        writer.add_text("t", "text", 1)
        writer.add_tensor("x", torch.arange(6).reshape(2, 3), 1)
    good = list(read_events(only_file(tmp_path / "good"), []))
    path = tmp_path / NAME
    for _ in range(300):
        changed = []
        for one in [good[n] for n in rng.integers(0, len(good), 8)]:
            data = bytearray(one)
            for _ in range(rng.integers(1, 4)):
                data[rng.integers(0, len(data))] = rng.integers(0, 256)
            changed += [frame(bytes(data))] * int(rng.integers(1, 6))
        path.write_bytes(b"".join(changed))
        reader = TensorboardReader(path)
        for series in reader.keys():  # noqa: SIM118
            with contextlib.suppress(DamagedFile):
                columns = reader.read(series)
                assert len(columns.step) == len(columns.time) == len(columns.value)
        assert all(str(path) in what for what in reader.damage)
