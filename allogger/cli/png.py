"""Png: how does an array become a picture that every program shows?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.png import channels_last, png_of

__all__ = ["png"]


def png(image: NDArray[Any], layout: str = "") -> bytes:
    """Return an image as a PNG file; raises `ValueError` if it is none.

    *layout* is ``HWC`` or ``CHW``; without it the axis of length 1, 3 or 4 tells, the last before the first. Floats go
    from 0 to 1, NaN is black.
    """
    pixels = _bytes_of(channels_last(image, layout))
    if not pixels.size:
        raise ValueError(f"an array of shape {image.shape} is no image")
    return png_of(pixels)


def _bytes_of(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == bool:
        pixels = pixels.astype(np.float64)
    if pixels.dtype.kind == "f":
        pixels = np.clip(np.nan_to_num(pixels.astype(np.float64)), 0, 1) * 255 + 0.5
    elif pixels.dtype.kind not in "iu":
        raise ValueError(f"values of type {pixels.dtype} are no image")
    found: NDArray[np.uint8] = np.clip(pixels, 0, 255).astype(np.uint8)
    return found
