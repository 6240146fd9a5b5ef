"""ImageKind: how is a picture stored, and which of its axes are the colours?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.kind import Kind
from allogger.plain import Unstorable, copied
from allogger.record import Payload

__all__ = ["ImageKind"]

CHANNELS = (1, 3, 4)


class ImageKind(Kind):
    """A picture of bool, integer or float pixels, unchanged; the attribute ``layout`` names its axes.

    ``HW`` is grey; ``HWC`` and ``CHW`` have 1 (grey), 3 (RGB) or 4 (RGBA) channels. Where both the first and the last
    axis could be the channels, such as in ``(3, 64, 3)``, it is the last.
    """

    name = "image"

    def accepts(self, value: Any) -> bool:
        """Return whether *value* is a 3-d array that can be a picture; one of 2 axes is an array unless you say so."""
        return isinstance(value, np.ndarray) and value.ndim == 3 and layout(value) is not None

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return a copy of the same shape and dtype, and its ``layout``; raises `Unstorable` for what is no picture."""
        found = copied(value)
        axes = layout(found)
        if axes is None:
            raise Unstorable(
                "an image has bool, integer or float pixels and the shape (H, W), (H, W, C) or (C, H, W) with "
                f"1, 3 or 4 channels C, not dtype {found.dtype} and shape {found.shape}"
            )
        return found, {"layout": axes}


def layout(pixels: NDArray[Any]) -> str | None:
    """Return ``HW``, ``HWC`` or ``CHW``, or None if the array cannot be a picture.

    >>> layout(np.zeros((3, 480, 640))), layout(np.zeros((480, 640, 3))), layout(np.zeros((480, 640, 2)))
    ('CHW', 'HWC', None)
    """
    if pixels.size == 0 or pixels.dtype.kind not in "biuf":
        return None
    if pixels.ndim == 2:
        return "HW"
    if pixels.ndim != 3:
        return None
    return "HWC" if pixels.shape[-1] in CHANNELS else "CHW" if pixels.shape[0] in CHANNELS else None
