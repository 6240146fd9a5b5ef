"""AudioKind: are samples kept as they are, with their rate, and heard in TensorBoard?"""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger
from allogger.formats.tfevents import frame, read_events
from allogger.kinds.audio import AudioKind
from allogger.plain import Unstorable
from tests.everywhere import series_of

SINE = np.sin(np.arange(800) / 5)
STEREO = np.arange(6, dtype=np.int16).reshape(3, 2)


@st.composite
def sounds(draw: st.DrawFn) -> dict[str, Any]:
    dtype = draw(st.sampled_from(["u1", "i2", "i4", ">i2", "f2", "f4", "f8"]))
    shape = draw(st.sampled_from([(1,), (9,), (9, 2), (2, 9), (3, 3)]))
    return {"samples": draw(of_numpy.arrays(dtype, shape)), "rate": draw(st.integers(1, 2**32 - 1))}


@settings(max_examples=10, deadline=None)
@given(st.lists(sounds(), min_size=1, max_size=3))
def test_sounds_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]]) -> None:
    for series in series_of(tmp_path_factory.mktemp("run"), "audio", values):
        assert series.kind == "audio"
        for shown, value in zip(series.value, values, strict=True):
            assert (shown.dtype, shown.shape) == (value["samples"].dtype, value["samples"].shape)
            assert shown.tobytes() == value["samples"].tobytes()
        if len(values) == 1:
            assert series.meta["rate"] == values[0]["rate"]


@pytest.mark.parametrize(
    ("value", "layout", "rate"),
    [
        ((SINE, 8000), "T", 8000),
        ((8000, SINE), "T", 8000),  # as scipy gives it
        ([torch.tensor(SINE), np.float64(8000)], "T", 8000),
        ((STEREO, 1), "TC", 1),
        ((STEREO.T, 1), "CT", 1),
        ((STEREO[:2], 1), "TC", 1),
        ({"samples": STEREO[:2], "rate": 1, "layout": "CT"}, "CT", 1),
    ],
)
def test_the_axes_and_the_rate_are_told(value: Any, layout: str, rate: int) -> None:
    assert AudioKind().encode(value)[1] == {"layout": layout, "rate": rate}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (SINE, "a sound is"),
        ({"samples": SINE}, "a sound is"),
        ({"samples": SINE, "rate": 1, "volume": 2}, "a sound is"),
        ((SINE, 0), "whole number"),
        ((SINE, 0.5), "whole number"),
        ((SINE, float("inf")), "whole number"),
        ((SINE, "fast"), "whole number"),
        ((np.arange(3), 1), "not of int64"),
        ((SINE[:0], 1), "shape"),
        ((np.zeros((2, 2, 2)), 1), "shape"),
        ({"samples": SINE, "rate": 1, "layout": "TC"}, "layout"),
        ("no such file.wav", "cannot be read"),
        (Path("."), "no regular file"),
        (Path(__file__), "no WAV file"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_sound_is_refused(value: Any, why: str) -> None:
    with pytest.raises(Unstorable, match=why):
        AudioKind().encode(value)


def _wav(path: Path, bits: int, channels: int, raw: bytes) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(bits // 8)
        file.setframerate(44_100)
        file.writeframes(raw)
    return path


def test_wav_files_of_all_sizes_are_read(tmp_path: Path) -> None:
    raw = {
        8: np.array([0, 128, 255, 7], "u1"),
        16: np.array([-(2**15), 2**15 - 1, 0, -1], "<i2"),
        32: np.array([-(2**31), 2**31 - 1, 0, -1], "<i4"),
    }
    for bits, samples in raw.items():
        for channels in (1, 2):
            path = _wav(tmp_path / f"{bits}-{channels}.wav", bits, channels, samples.tobytes())
            read, attrs = AudioKind().encode(path)
            expected = samples if channels == 1 else samples.reshape(2, 2)
            np.testing.assert_array_equal(read, expected, strict=True)
            assert attrs == {"layout": "T" if channels == 1 else "TC", "rate": 44_100}
    # As loud as they were.
    read, _ = AudioKind().encode(str(_wav(tmp_path / "24.wav", 24, 1, b"\0\0\x80\xff\xff\x7f\xff\xff\xff")))
    np.testing.assert_array_equal(read, np.array([-(2**31), 2**31 - 2**8, -(2**8)], np.int32), strict=True)
    # As it comes out of a pipe, without its length.
    endless = (tmp_path / "16-1.wav").read_bytes()
    (tmp_path / "endless.wav").write_bytes(endless[:40] + b"\xff\xff\xff\xff" + endless[44:])
    np.testing.assert_array_equal(AudioKind().encode(tmp_path / "endless.wav")[0], raw[16], strict=True)


def test_a_file_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    path = _wav(tmp_path / "cut.wav", 16, 2, bytes(40))
    path.write_bytes(path.read_bytes()[:-3])

    with pytest.raises(Unstorable, match="ends after 9 of 10 samples"):
        AudioKind().encode(path)


def test_a_part_that_goes_beyond_the_end_is_no_wav_file_in_event_files_neither(tmp_path: Path) -> None:
    path = _wav(tmp_path / "odd.wav", 16, 1, bytes(40))
    data = path.read_bytes().replace(b"fmt \x10", b"fmt \x7f")
    path.write_bytes(data)
    with pytest.raises(Unstorable, match="no WAV file of PCM"):
        AudioKind().encode(path)

    with allogger.run(tmp_path / "run", ["tensorboard"], tensorboard_writer_params={"use_hdf_hook": False}) as root:
        for number in range(2):
            root.log((np.full(20, number, np.int16), 8000), "sound", data_type="audio")
    (events,) = (tmp_path / "run/events/MainProcess").iterdir()
    event = list(read_events(events, []))[1]
    events.write_bytes(events.read_bytes() + frame(event.replace(b"fmt \x10", b"fmt \x7f")))

    run = allogger.open_run(tmp_path / "run")
    assert run["root/sound"].value[:, 0].tolist() == [0, 1]
    assert "no WAV file of PCM" in run.damage[0]


def test_a_file_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _wav(tmp_path / "long.wav", 8, 1, bytes(1000))
    monkeypatch.setattr("allogger.kinds.audio.MOST_BYTES", 999)

    with pytest.raises(Unstorable, match="more than 999 bytes"):
        AudioKind().encode(path)


def test_tensorboard_plays_sounds(tmp_path: Path) -> None:
    with allogger.run(tmp_path, ["tensorboard"]) as root:
        root.log((STEREO.T, 8000), "stereo", data_type="audio")
        root.log((np.array([2.0, -1.0, np.nan, 0.5]), 44_100), "floats", data_type="audio")
        root.log((SINE, 2**32 - 1), "fast", data_type="audio")
        root.log((np.full(2, "1e4000", np.longdouble), 8000), "long", data_type="audio")

    reader = EventAccumulator(str(tmp_path / "events/MainProcess"), {"audio": 0}).Reload()
    heard = {}
    for key, rate, frames in (("stereo", 8000, 3), ("floats", 44_100, 4), ("long", 8000, 2)):
        (event,) = reader.Audio(f"root/{key}")
        assert (event.content_type, event.sample_rate, event.length_frames) == ("audio/wav", rate, frames)
        with wave.open(io.BytesIO(event.encoded_audio_string)) as sound:
            assert sound.getframerate() == rate
            heard[key] = np.frombuffer(sound.readframes(9), "<i2").reshape(-1, sound.getnchannels())
    np.testing.assert_array_equal(heard["stereo"], STEREO)
    assert heard["floats"].ravel().tolist() == [32767, -32767, 0, 16384]
    assert len(allogger.open_run(tmp_path)["root/fast"]) == 1


def test_a_sound_becomes_a_file_that_reads_back(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-(2**31), 2**31, (2, 50)).astype(np.int32)
    with allogger.run(tmp_path / "run") as root:
        root.log((noise, 8000), "noise", data_type="audio")
        root.log((np.arange(9, dtype=np.uint8), 8000), "noise", data_type="audio")

    media = allogger.open_run(tmp_path / "run").media("root/noise")
    first, second = media.save(tmp_path)
    assert first == tmp_path / "root" / "noise-1-0.wav"
    np.testing.assert_array_equal(AudioKind().encode(first)[0], noise.T, strict=True)
    np.testing.assert_array_equal(AudioKind().encode(second)[0], np.arange(9, dtype=np.uint8), strict=True)
