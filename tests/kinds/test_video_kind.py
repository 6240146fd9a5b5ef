"""VideoKind: are frames kept as they are, and do they move in TensorBoard?"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger
from allogger.kinds.video import VideoKind
from allogger.plain import Unstorable
from tests.everywhere import series_of

# A white square that goes to the right.
FRAMES = np.zeros((4, 8, 16, 3), np.uint8)
for _number, _frame in enumerate(FRAMES):
    _frame[:, 4 * _number : 4 * _number + 4] = 255


ANY_FRAMES = st.one_of(
    of_numpy.arrays(np.dtype(dtype), shape)
    for dtype in ("u1", "f4", ">f8")
    for shape in ((2, 3, 5), (2, 6, 5, 1), (1, 6, 5, 4), (3, 3, 6, 5))
)


@settings(max_examples=10, deadline=None)
@given(st.lists(ANY_FRAMES, min_size=1, max_size=3))
def test_videos_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    for series in series_of(tmp_path_factory.mktemp("run"), "video", values):
        for shown, value in zip(series.value, values, strict=True):
            assert (shown.dtype, shown.shape, shown.tobytes()) == (value.dtype, value.shape, value.tobytes())


@given(ANY_FRAMES)
def test_frames_are_kept_and_the_layout_is_told(frames: Any) -> None:
    payload, attrs = VideoKind().encode({"frames": frames, "fps": 24})

    np.testing.assert_array_equal(payload, frames, strict=True)
    layout = {(2, 3, 5): "THW", (3, 3, 6, 5): "TCHW"}.get(frames.shape, "THWC")
    assert attrs == {"layout": layout, "fps": 24.0}
    assert VideoKind().encode(frames)[1] == {"layout": layout}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (FRAMES[0, :, :, 0], "a video has"),
        (FRAMES[:0], "a video has"),
        (FRAMES[..., :2], "a video has"),
        (FRAMES.astype(int), "a video has"),
        (FRAMES[:, :0], "a video has"),
        ({"frames": FRAMES, "fps": 0}, "positive"),
        ({"frames": FRAMES, "fps": float("inf")}, "positive"),
        ({"frames": FRAMES, "fps": "fast"}, "positive"),
        ({"frames": FRAMES, "speed": 3}, "'frames' and 'fps'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_video_is_refused(value: Any, why: str) -> None:
    with pytest.raises(Unstorable, match=why):
        VideoKind().encode(value)


def _gifs(logdir: Path, key: str) -> list[Any]:
    reader = EventAccumulator(str(logdir / "events/MainProcess"), {"images": 0}).Reload()
    return [Image.open(io.BytesIO(event.encoded_image_string)) for event in reader.Images(key)]


@pytest.mark.parametrize("is_closed", [False, True])
def test_videos_are_read_back_and_shown_as_animations(tmp_path: Path, is_closed: bool) -> None:
    root = allogger.basic_configure(tmp_path, ["tensorboard"])
    root.log({"frames": FRAMES, "fps": 4}, "video", data_type="video")
    root.log({"frames": FRAMES.transpose(0, 3, 1, 2) / 255, "fps": 4}, "floats", data_type="video")
    root.log(FRAMES[..., 0], "grey", data_type="video")
    root.log({"frames": FRAMES, "fps": 1e-300}, "slow", data_type="video")
    root.log({"frames": FRAMES, "fps": 1e300}, "fast", data_type="video")
    allogger.close() if is_closed else allogger.flush()

    run = allogger.open_run(tmp_path)
    assert set(run.kinds.values()) == {"video"}
    assert run["root/video"].meta == {"layout": "THWC", "fps": 4.0}
    np.testing.assert_array_equal(run["root/video"].value, FRAMES[None], strict=True)
    for key, milliseconds in (("video", 250), ("floats", 250), ("grey", 100), ("slow", 655_350), ("fast", 20)):
        (gif,) = _gifs(tmp_path, f"root/{key}")
        assert (gif.format, gif.n_frames, gif.size) == ("GIF", 4, (16, 8))
        for number, frame in enumerate(FRAMES):
            gif.seek(number)
            assert gif.info["duration"] == milliseconds
            np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), frame)


def test_of_a_long_video_only_some_frames_are_shown(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (70, 256, 256, 1), np.uint8)
    with allogger.run(tmp_path, ["tensorboard"]) as root:
        root.log({"frames": frames, "fps": 50}, "video", data_type="video")

    (gif,) = _gifs(tmp_path, "root/video")
    assert (gif.n_frames, gif.info["duration"], gif.size) == (35, 40, (256, 256))
    assert allogger.open_run(tmp_path)["root/video"].value.shape == (1, 70, 256, 256, 1)


def test_a_video_of_large_frames_is_shown_smaller(tmp_path: Path) -> None:
    frames = np.zeros((2, 2049, 2048, 3), np.uint8)
    frames[1] = 255
    with allogger.run(tmp_path, ["tensorboard"]) as root:
        root.log(frames, "video", data_type="video")

    (gif,) = _gifs(tmp_path, "root/video")
    assert (gif.n_frames, gif.size) == (2, (1024, 1025))


def test_without_pillow_tensorboard_says_that_it_cannot_show_a_video(tmp_path: Path) -> None:
    code = (
        "import sys, numpy, allogger\n"
        "sys.modules['PIL'] = None\n"
        f"with allogger.run({str(tmp_path)!r}, ['tensorboard']) as root:\n"
        "    for _ in range(3): root.log(numpy.zeros((2, 4, 4, 3)), 'video', data_type='video')\n"
    )

    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)

    assert done.stderr.count("pip install 'allogger[images]'") == 1
    assert len(allogger.open_run(tmp_path)["root/video"]) == 3


# ---------------------------------------------------------------------------------------------------------------- files


def _animation(path: Path, frames: Any = FRAMES, milliseconds: int | list[int] = 40) -> Path:
    first, *others = [Image.fromarray(frame) for frame in frames]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=others, duration=milliseconds, loop=0, **options)
    return path


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_animated_files_are_read(tmp_path: Path, suffix: str) -> None:
    path = _animation(tmp_path / f"film.{suffix}")

    for value, fps in ((path, 25.0), (str(path), 25.0), ({"frames": path, "fps": 3}, 3.0)):
        frames, attrs = VideoKind().encode(value)
        np.testing.assert_array_equal(frames, FRAMES, strict=True)
        assert attrs == {"layout": "THWC", "fps": fps}


def test_frames_of_a_file_keep_their_opacity_and_mean_speed(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 4), np.uint8)

    read, attrs = VideoKind().encode(_animation(tmp_path / "film.webp", frames, [100, 200, 300]))

    is_seen = frames[..., 3] > 0
    np.testing.assert_array_equal(np.asarray(read)[is_seen], frames[is_seen])
    assert attrs == {"layout": "THWC", "fps": 5.0}
    still, attrs = VideoKind().encode(_animation(tmp_path / "still.png", frames[:1, :, :, :3]))
    assert (np.asarray(still).shape, attrs) == ((1, 4, 5, 3), {"layout": "THWC"})


def test_a_file_that_unfolds_to_too_much_is_refused(tmp_path: Path) -> None:
    # 3 kB that are 20 GB of pixels.
    pixel = _animation(tmp_path / "pixel.gif", np.arange(900).reshape(300, 1, 1, 3).astype(np.uint8))
    data = pixel.read_bytes()
    (tmp_path / "bomb.gif").write_bytes(data[:6] + b"\x00\x10\x00\x10" + data[10:])

    with pytest.raises(Unstorable, match="frames of 4096 x 4096 pixels: more than 536,870,912 bytes"):
        VideoKind().encode(tmp_path / "bomb.gif")


def test_a_frame_that_makes_the_picture_larger_is_refused_before_it_is_unfolded(tmp_path: Path) -> None:
    data = _animation(tmp_path / "film.gif").read_bytes()
    # What says of a frame where it lies, here in the corner, and how wide and high it is.
    at = data.rindex(b"\x2c\x00\x00\x00\x00")
    (tmp_path / "bomb.gif").write_bytes(data[: at + 5] + b"\x40\x1f\x40\x1f" + data[at + 9 :])

    with pytest.raises(Unstorable, match="frame 1 of 8000 x 8000 pixels, not 16 x 8"):
        VideoKind().encode(tmp_path / "bomb.gif")


def test_a_picture_of_16_bits_is_refused_as_pillow_would_cut_it_off(tmp_path: Path) -> None:
    Image.fromarray(np.arange(0, 2**16, 2**10, dtype=np.uint16).reshape(8, 8)).save(tmp_path / "grey.png")

    with pytest.raises(Unstorable, match="16 bits"):
        VideoKind().encode(tmp_path / "grey.png")


def test_what_is_no_film_is_refused(tmp_path: Path) -> None:
    whole = _animation(tmp_path / "film.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(whole[:200])
    (tmp_path / "text.gif").write_text("GIF89a and so on")
    os.mkfifo(tmp_path / "pipe.gif")

    for path, why in (
        (tmp_path / "no.gif", "cannot be read"),
        (tmp_path, "no regular file"),
        (tmp_path / "pipe.gif", "no regular file"),
        (tmp_path / "cut.gif", "no file of moving pictures"),
        (tmp_path / "text.gif", "no file of moving pictures"),
        (Path(__file__), "no file of moving pictures"),
    ):
        with pytest.raises(Unstorable, match=why):
            VideoKind().encode(path)


_MP4 = b"\0\0\0\x18ftypisom and so on"


def test_without_ffmpeg_an_mp4_is_counted_and_the_way_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "film.mp4").write_bytes(_MP4)

    with allogger.run(tmp_path / "run") as root:
        root.log(tmp_path / "film.mp4", "film", data_type="video")
        root.log(FRAMES, "frames", data_type="video")

    assert "ffmpeg is not on PATH" in caplog.text
    assert "data_type='artifact' keeps the file" in caplog.text
    assert "1 values were not stored: 'root/film' 1" in caplog.text
    with pytest.raises(allogger.ConfigError, match="'webp' or 'gif'"):
        allogger.open_run(tmp_path / "run").media("root/frames").save(tmp_path, "mp4")


# Writes what it is given, and reads what it has written; ffmpeg itself is asked where there is one.
_STAND_IN = """#!{python}
import sys
*options, name = sys.argv[1:]
if name == "-":
    path = options[options.index("-i") + 1].removeprefix("file:")
    data = open(path, "rb").read()
    sys.stderr.write("Input: Video, 4x4, 30 fps\\nOutput: ppm, 12.5 fps\\n")
    if data.endswith(b"broken"):
        sys.exit("moov atom not found")
    for frame in data.removesuffix(b"|torn").split(b"|")[1:]:
        size, _, pixels = frame.partition(b";")
        sys.stdout.buffer.write(b"P6\\n%s\\n255\\n%s" % (size, bytes.fromhex(pixels.decode())))
    if data.endswith(b"|torn"):
        sys.exit("the rest is missing")
else:
    pixels, size = sys.stdin.buffer.read(), options[options.index("-s") + 1]
    if size == "3x3":
        sys.exit("no such codec")
    width, height = map(int, size.split("x"))
    frames = [pixels[at : at + width * height * 3] for at in range(0, len(pixels), width * height * 3)]
    body = b"".join(b"|%d %d;%s" % (width, height, frame.hex().encode()) for frame in frames)
    open(name, "wb").write(b"\\0\\0\\0\\x18ftypisom" + options[options.index("-r") + 1].encode() + body)
"""


@pytest.fixture
def _ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(_STAND_IN.format(python=sys.executable).replace("\\\\", "\\"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.usefixtures("_ffmpeg")
def test_ffmpeg_writes_and_reads_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with allogger.run(tmp_path / "run") as root:
        root.log({"frames": FRAMES, "fps": 12.5}, "film", data_type="video")
        root.log(FRAMES[:, :3, :3], "odd", data_type="video")
    run = allogger.open_run(tmp_path / "run")

    (path,) = run.media("root/film").save(tmp_path, "mp4")

    assert path.read_bytes().startswith(b"\0\0\0\x18ftypisom12.5|16 8;")
    frames, attrs = VideoKind().encode(path)
    np.testing.assert_array_equal(frames, FRAMES, strict=True)
    assert attrs == {"layout": "THWC", "fps": 12.5}
    with pytest.raises(ValueError, match="ffmpeg cannot write the film: no such codec"):
        run.media("root/odd").save(tmp_path, "mp4")
    (tmp_path / "broken.mp4").write_bytes(_MP4 + b"broken")
    with pytest.raises(Unstorable, match="no film that ffmpeg can read to its end: moov atom not found"):
        VideoKind().encode(tmp_path / "broken.mp4")
    (tmp_path / "torn.mp4").write_bytes(path.read_bytes() + b"|torn")
    with pytest.raises(Unstorable, match="to its end: the rest is missing"):
        VideoKind().encode(tmp_path / "torn.mp4")
    with monkeypatch.context() as patch:
        patch.setattr("allogger.films._FFMPEG_SECONDS", 0.0)
        with pytest.raises(Unstorable, match="to its end"):
            VideoKind().encode(path)
    monkeypatch.setattr("allogger.kinds.video.MOST_BYTES", FRAMES.nbytes - 1)
    with pytest.raises(Unstorable, match="take more than"):
        VideoKind().encode(path)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_real_ffmpeg_writes_and_reads_films(tmp_path: Path) -> None:
    frames = np.zeros((10, 33, 48, 3), np.uint8)
    frames[:5, :, :24], frames[5:, :, 24:] = (200, 30, 30), (30, 30, 200)
    with allogger.run(tmp_path / "run") as root:
        root.log({"frames": frames, "fps": 12.5}, "film", data_type="video")

    (path,) = allogger.open_run(tmp_path / "run").media("root/film").save(tmp_path, "mp4")
    read, attrs = VideoKind().encode(path)

    assert np.asarray(read).shape == (10, 34, 48, 3)
    assert attrs == {"layout": "THWC", "fps": 12.5}
    assert np.abs(np.asarray(read)[:, :32].astype(int) - frames[:, :32]).mean() < 12


@pytest.mark.parametrize("format", ["webp", "gif"])
def test_videos_become_files_that_other_programs_play(tmp_path: Path, format: str) -> None:
    with allogger.run(tmp_path / "run") as root:
        root.log({"frames": FRAMES.transpose(0, 3, 1, 2), "fps": 4}, "film", data_type="video")
        root.log(FRAMES[..., 0], "film", data_type="video")

    paths = allogger.open_run(tmp_path / "run").media("root/film").save(tmp_path, format)

    assert [path.name for path in paths] == [f"film-1-0.{format}", f"film-2-1.{format}"]
    for path, fps in zip(paths, (4.0, 10.0), strict=True):
        frames, attrs = VideoKind().encode(path)
        np.testing.assert_array_equal(frames, FRAMES)
        assert attrs["fps"] == fps
