"""Pictures: which pixels are in the bytes of an encoded picture?"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from allogger.errors import MissingDependency
from allogger.png import COLOUR_TYPES, SIGNATURE

__all__ = ["pixels_of"]

_CHANNELS = {colours: channels for channels, colours in COLOUR_TYPES.items()}
# What the modes of Pillow are shown as.
_MODES = {"1": "L", "L": "L", "LA": "RGBA", "P": "RGBA", "RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB"}
# A small file may claim to be a very large picture.
_MOST_PIXELS = 2**26


def pixels_of(encoded: bytes) -> NDArray[np.uint8]:
    """Return the pixels as ``(height, width, channels)``, of an animation those of the first picture.

    A PNG of 8 bits whose rows are not filtered, as allogger writes it, needs no other library, all else Pillow. Raises
    `ValueError` for what is no picture or too large, `MissingDependency` without Pillow.
    """
    found = _plain_png(encoded)
    return _by_pillow(encoded) if found is None else found


def _plain_png(encoded: bytes) -> NDArray[np.uint8] | None:
    if encoded[:8] != SIGNATURE or encoded[12:16] != b"IHDR" or len(encoded) < 33:
        return None
    width, height, depth, colours, *rest = struct.unpack_from(">IIBBBBB", encoded, 16)
    if depth != 8 or colours not in _CHANNELS or any(rest) or not 0 < width * height <= _MOST_PIXELS:
        return None
    row_bytes = 1 + width * _CHANNELS[colours]
    try:
        # Never more than the picture says.
        rows = zlib.decompressobj().decompress(_image_data(encoded), height * row_bytes)
    except zlib.error as error:
        raise ValueError(f"a damaged picture: {error}") from error
    if len(rows) != height * row_bytes:
        raise ValueError("a picture that is not complete")
    table = np.frombuffer(rows, np.uint8).reshape(height, row_bytes)
    if table[:, 0].any():
        return None
    return table[:, 1:].reshape(height, width, _CHANNELS[colours])


def _image_data(encoded: bytes) -> bytes:
    pieces = []
    at = 8
    while at + 12 <= len(encoded):
        (size,) = struct.unpack_from(">I", encoded, at)
        if encoded[at + 4 : at + 8] == b"IDAT":
            pieces.append(encoded[at + 8 : at + 8 + size])
        at += 12 + size
    return b"".join(pieces)


def _by_pillow(encoded: bytes) -> NDArray[np.uint8]:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency("this picture needs Pillow; install it with: pip install 'allogger[images]'") from error
    try:
        with Image.open(io.BytesIO(encoded), formats=["PNG", "JPEG", "GIF", "BMP", "WEBP"]) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"a picture of {image.width} x {image.height} pixels is too large")
            if image.mode not in _MODES:
                raise ValueError(f"a picture with pixels of mode {image.mode}, which are not of 8 bits")
            pixels = np.asarray(image.convert(_MODES[image.mode]), np.uint8)
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"no picture that can be read: {error}") from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
