"""VideoKind: how are moving pictures stored, and which of their axes are what?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allogger.inputs import MOST_BYTES, is_path, opened
from allogger.kind import Kind
from allogger.kinds.image import layout
from allogger.plain import Unstorable, copied, plain
from allogger.record import Payload

if TYPE_CHECKING:
    from allogger.films import Film

__all__ = ["VideoKind"]


class VideoKind(Kind):
    """Pictures of uint8, or of floats from 0 to 1, one after the other; the attribute ``layout`` names the axes.

    ``THW`` is grey; ``THWC`` and ``TCHW`` have 1 (grey), 3 (RGB) or 4 (RGBA) channels. Where both could be meant, it is
    ``THWC``. With the speed, ``{"frames": frames, "fps": 30}``, the attribute ``fps`` has it.

    The value, or the frames, may also be the path of an animated GIF, WebP or PNG, which Pillow reads, or of an MP4 or
    WebM, which the program ``ffmpeg`` reads. It unfolds to at most 512 MiB.
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
        if is_path(value):
            film = _of_file(value)
            value, speed = film.frames, {**({"fps": film.fps} if film.fps else {}), **speed}
        frames = copied(value)
        # A picture of the same axes but the first.
        axes = layout(frames[0]) if frames.ndim in (3, 4) and len(frames) else None
        if axes is None or not (frames.dtype == np.uint8 or frames.dtype.kind == "f"):
            raise Unstorable(
                "a video has pixels of uint8 or floats and the shape (T, H, W), (T, H, W, C) or (T, C, H, W) with 1, 3 "
                f"or 4 channels C, not dtype {frames.dtype} and shape {frames.shape}"
            )
        return frames, {"layout": f"T{axes}", **speed}


def _of_file(path: Any) -> Film:
    # Most programs log no films, and what starts ffmpeg takes some milliseconds to import.
    from allogger.films import NoFfmpeg, read_film, read_mp4

    with opened(path) as file:
        start = file.read(12)
        file.seek(0)
        try:
            # An MP4, and what WebM is a part of.
            if start[4:8] == b"ftyp" or start[:4] == b"\x1a\x45\xdf\xa3":
                return read_mp4(Path(path), MOST_BYTES)
            return read_film(file, MOST_BYTES)
        except NoFfmpeg as error:
            raise Unstorable(
                f"{error}, which reads {str(path)!r:.200}; data_type='artifact' keeps the file as it is"
            ) from None
        except ImportError:
            raise Unstorable(f"{str(path)!r:.200} needs Pillow: pip install 'allogger[images]'") from None
        except Exception as error:
            raise Unstorable(f"{str(path)!r:.200} is {error}") from None


def _fps(value: Any) -> float:
    found = plain(value)
    if isinstance(found, int | float) and math.isfinite(found) and found > 0:
        return float(found)
    raise Unstorable("the fps of a video are a positive number")
