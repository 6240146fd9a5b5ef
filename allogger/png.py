"""Png: which bytes are the PNG file of an array of pixels?"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLOUR_TYPES", "SIGNATURE", "bytes_of", "channels_last", "png", "png_of"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Number of channels -> colour type.
COLOUR_TYPES = {1: 0, 3: 2, 4: 6}


def png_of(pixels: NDArray[np.uint8], level: int = -1) -> bytes:
    """Return pixels of shape (height, width, channels) as a PNG file, compressed at that level of zlib."""
    height, width, channels = pixels.shape
    # Each row starts with the number of its filter: none.
    rows = np.zeros((height, 1 + width * channels), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), level)), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def channels_last(image: NDArray[Any], layout: str | None) -> NDArray[Any]:
    """Return an image with its axes as height, width and channels; raises `ValueError` for what is none.

    *layout* is ``HWC`` or ``CHW``; without it the axis of length 1, 3 or 4 tells, the last before the first.
    """
    shape = image.shape
    if image.ndim == 2:
        image = image[:, :, None]
    elif image.ndim == 3 and (layout == "CHW" or (not layout and shape[2] not in COLOUR_TYPES)):
        image = image.transpose(1, 2, 0)
    if image.ndim != 3 or image.shape[2] not in COLOUR_TYPES:
        raise ValueError(f"an array of shape {shape} is no image of 1, 3 or 4 channels")
    return image


def png(image: NDArray[Any], layout: str = "") -> bytes:
    """Return an image of any numbers as a PNG file; raises `ValueError` if it is none, *layout* as `channels_last`."""
    pixels = bytes_of(channels_last(image, layout))
    if not pixels.size:
        raise ValueError(f"an array of shape {image.shape} is no image")
    return png_of(pixels)


def bytes_of(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return how light pixels or colours are, from 0 to 255; raises `ValueError` for what are no real numbers.

    Floats and bools go from 0 to 1, and NaN is black.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind in "fb":
        values = np.rint(np.nan_to_num(values.clip(0, 1).astype(np.float64)) * 255)
    elif values.dtype.kind not in "iu":
        raise ValueError(f"values of type {values.dtype} are no image")
    found: NDArray[np.uint8] = values.clip(0, 255).astype(np.uint8)
    return found
