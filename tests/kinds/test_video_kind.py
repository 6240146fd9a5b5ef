"""VideoKind: are frames kept as they are, and do they move in TensorBoard?"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger
from allogger.kinds.video import VideoKind
from allogger.plain import Unstorable

# A white square that goes to the right.
FRAMES = np.zeros((4, 8, 16, 3), np.uint8)
for _number, _frame in enumerate(FRAMES):
    _frame[:, 4 * _number : 4 * _number + 4] = 255


@given(
    st.one_of(
        of_numpy.arrays(np.dtype(dtype), shape)
        for dtype in ("u1", "f4", ">f8")
        for shape in ((2, 3, 5), (2, 6, 5, 1), (1, 6, 5, 4), (3, 3, 6, 5))
    )
)
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
