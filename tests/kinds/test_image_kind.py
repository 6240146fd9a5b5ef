"""Are pixels kept as they are, and is the layout told apart?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from allogger.kinds.image import ImageKind
from allogger.plain import Unstorable


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((4, 5), "HW"),
        ((1, 1), "HW"),
        ((3, 6, 5), "CHW"),
        ((1, 6, 5), "CHW"),
        ((4, 6, 2), "CHW"),
        ((6, 5, 3), "HWC"),
        ((2, 5, 1), "HWC"),
        ((3, 64, 3), "HWC"),
        ((1, 1, 1), "HWC"),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "?", ">i2", "f2", "f8"])
def test_pixels_are_kept_and_the_layout_is_told(shape: tuple[int, ...], layout: str, dtype: str) -> None:
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)

    payload, attrs = ImageKind().encode(pixels)

    assert isinstance(payload, np.ndarray)
    assert payload.dtype == pixels.dtype
    np.testing.assert_array_equal(payload, pixels, strict=True)
    assert not np.shares_memory(payload, pixels)
    assert attrs == {"layout": layout}


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((6, 5, 2)),
        np.zeros((2, 3, 6, 5)),
        np.zeros(5),
        np.zeros((0, 5)),
        np.zeros((3, 0, 5)),
        np.zeros((5, 5), complex),
        np.zeros((5, 5), "S1"),
        1.0,
        "a",
    ],
    ids=lambda value: f"{getattr(value, 'shape', value)}",
)
def test_what_is_no_picture_is_refused(value: Any) -> None:
    with pytest.raises(Unstorable, match="image"):
        ImageKind().encode(value)
