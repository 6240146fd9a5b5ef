"""VideoKind: how are moving pictures stored, and which of their axes are what?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from allogger.kind import Kind
from allogger.kinds.image import layout
from allogger.plain import Unstorable, copied, plain
from allogger.record import Payload

__all__ = ["VideoKind"]


class VideoKind(Kind):
    """Pictures of uint8, or of floats from 0 to 1, one after the other; the attribute ``layout`` names the axes.

    ``THW`` is grey; ``THWC`` and ``TCHW`` have 1 (grey), 3 (RGB) or 4 (RGBA) channels. Where both could be meant, it is
    ``THWC``. With the speed, ``{"frames": frames, "fps": 30}``, the attribute ``fps`` has it.
    """

    name = "video"

    def accepts(self, value: Any) -> bool:
        """Return False: an array of four axes of which nobody says more is an array."""
        return False

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return a copy of the same shape and dtype, and what is known; raises `Unstorable` for what is no video."""
        speed = {}
        if isinstance(value, Mapping):
            if "frames" not in value or not value.keys() <= {"frames", "fps"}:
                raise Unstorable("of a video there are 'frames' and 'fps'")
            value, speed = value["frames"], {"fps": _fps(value["fps"])} if "fps" in value else {}
        frames = copied(value)
        # A picture of the same axes but the first.
        axes = layout(frames[0]) if frames.ndim in (3, 4) and len(frames) else None
        if axes is None or not (frames.dtype == np.uint8 or frames.dtype.kind == "f"):
            raise Unstorable(
                "a video has pixels of uint8 or floats and the shape (T, H, W), (T, H, W, C) or (T, C, H, W) with 1, 3 "
                f"or 4 channels C, not dtype {frames.dtype} and shape {frames.shape}"
            )
        return frames, {"layout": f"T{axes}", **speed}


def _fps(value: Any) -> float:
    found = plain(value)
    if isinstance(found, int | float) and math.isfinite(found) and found > 0:
        return float(found)
    raise Unstorable("the fps of a video are a positive number")
