"""Do other programs see in our PNG files the images that were logged?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from allogger.png import png

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (5, 7, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "layout", "expected"),
    [
        (COLOURS, "HWC", COLOURS),
        (COLOURS, "", COLOURS),
        (np.moveaxis(COLOURS, -1, 0), "CHW", COLOURS),
        (np.moveaxis(COLOURS, -1, 0), "", COLOURS),
        (COLOURS[..., 0], "", COLOURS[..., 0]),
        (COLOURS[..., :1], "HWC", COLOURS[..., 0]),
        (COLOURS.astype(np.int64) * 2 - 100, "", np.clip(COLOURS.astype(np.int64) * 2 - 100, 0, 255)),
        (COLOURS / 255.0, "", COLOURS),
        (np.array([[0.0, np.nan, 1.0, 2.0, -1.0]]), "", np.array([[0, 0, 255, 255, 0]])),
        (COLOURS[..., 0] > 99, "", (COLOURS[..., 0] > 99) * 255),
        (RANDOM.integers(0, 256, (2, 3, 4), np.uint8), "HWC", None),
    ],
)
def test_an_image_is_read_back(image: Any, layout: str, expected: Any, tmp_path: Path) -> None:
    reader = pytest.importorskip("matplotlib.image")
    (tmp_path / "image.png").write_bytes(png(image, layout))

    read = np.rint(reader.imread(tmp_path / "image.png") * 255)

    assert np.array_equal(read, image if expected is None else expected)


@pytest.mark.parametrize("image", [np.zeros(3), np.zeros((2, 2, 2)), np.zeros((0, 3)), np.array([["a"]])])
def test_what_is_no_image_is_refused(image: Any) -> None:
    with pytest.raises(ValueError, match="no image"):
        png(image)
