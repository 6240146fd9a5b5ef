"""Png: how does an array become a picture that every program shows?"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["png"]

# Number of channels -> colour type.
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}


def png(image: NDArray[Any], layout: str = "") -> bytes:
    """Return an image as a PNG file; raises `ValueError` if it is none.

    *layout* is ``HWC`` or ``CHW``; without it the axis of length 1, 3 or 4 tells, the last before the first. Floats go
    from 0 to 1, NaN is black.
    """
    pixels = _bytes_of(_channels_last(image, layout))
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    # In front of each row stands the number of its filter: none.
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, width * channels)], axis=1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _channels_last(image: NDArray[Any], layout: str) -> NDArray[Any]:
    if image.ndim == 2:
        image = image[..., None]
    elif layout == "CHW" or (layout != "HWC" and image.ndim == 3 and image.shape[2] not in _COLOUR_TYPES):
        image = np.moveaxis(image, 0, -1)
    if image.ndim != 3 or image.shape[2] not in _COLOUR_TYPES or 0 in image.shape:
        raise ValueError(f"an array of shape {' x '.join(map(str, image.shape))} is no image")
    return image


def _bytes_of(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype == bool:
        pixels = pixels.astype(np.float64)
    if pixels.dtype.kind == "f":
        pixels = np.clip(np.nan_to_num(pixels.astype(np.float64)), 0, 1) * 255 + 0.5
    elif pixels.dtype.kind not in "iu":
        raise ValueError(f"values of type {pixels.dtype} are no image")
    found: NDArray[np.uint8] = np.clip(pixels, 0, 255).astype(np.uint8)
    return found
