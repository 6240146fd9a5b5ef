"""AudioKind: how is a sound stored, and which of its axes are the channels?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.inputs import MOST_BYTES, is_path, opened
from allogger.kind import Kind
from allogger.plain import Unstorable, copied, description, plain
from allogger.record import Payload
from allogger.sounds import read_wav

__all__ = ["AudioKind"]

_GIVEN = "a sound is {'samples': ..., 'rate': ...}, a pair (samples, rate) or the path of a WAV file"


class AudioKind(Kind):
    """Samples of uint8, int16, int32, or of floats from -1 to 1, unchanged; the attribute ``rate`` has their rate.

    The attribute ``layout`` names the axes: ``T`` is mono, ``TC`` and ``CT`` have channels. Without ``"layout"`` in the
    dict, the shorter axis counts the channels; of equal ones it is the last.
    """

    name = "audio"

    def accepts(self, value: Any) -> bool:
        """Return False: an array of which nobody says more is a histogram or an array."""
        return False

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return a copy of the samples, and what is known; raises `Unstorable` for what is no sound."""
        if is_path(value):
            samples, rate, axes = *_of_file(value), None
        else:
            given, rate, axes = _parts(value)
            samples = copied(given)
        # Of either byte order.
        if not (samples.dtype.kind == "f" or samples.dtype.str[1:] in ("u1", "i2", "i4")):
            raise Unstorable(f"a sound has samples of uint8, int16, int32 or floats, not of {samples.dtype}")
        if samples.ndim not in (1, 2) or not samples.size:
            raise Unstorable(f"a sound has the shape (T,), (T, C) or (C, T), not {samples.shape}")
        return samples, {"layout": _layout(samples, axes), "rate": _rate(rate)}


def _of_file(path: Any) -> tuple[NDArray[Any], int]:
    with opened(path) as file:
        try:
            return read_wav(file, MOST_BYTES)
        except (OSError, ValueError) as error:
            raise Unstorable(f"{str(path)!r:.200} is {error}") from None


def _parts(value: Any) -> tuple[Any, Any, Any]:
    """Return the samples, their rate, and the layout if it is given."""
    if isinstance(value, Mapping):
        if not {"samples", "rate"} <= value.keys() <= {"samples", "rate", "layout"}:
            raise Unstorable(_GIVEN)
        return value["samples"], value["rate"], value.get("layout")
    if isinstance(value, tuple | list) and len(value) == 2:
        samples, rate = value
        # scipy gives the rate first, all others give it last.
        return (rate, samples, None) if _is_number(samples) else (samples, rate, None)
    raise Unstorable(f"{_GIVEN}, not {description(value)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating)


def _layout(samples: NDArray[Any], given: Any) -> str:
    if samples.ndim == 1:
        found = "T"
    else:
        found = "CT" if samples.shape[0] < samples.shape[1] else "TC"
        if given in ("TC", "CT"):
            return str(given)
    if given not in (None, found):
        raise Unstorable(f"the layout of a sound of shape {samples.shape} is not {given!r:.40}")
    return found


def _rate(value: Any) -> int:
    found = plain(value)
    if isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < 2**32 and found == int(found):
        return int(found)
    raise Unstorable("the rate of a sound is a whole number of samples per second")
