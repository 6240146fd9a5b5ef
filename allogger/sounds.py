"""Sounds: which samples does a WAV file hold, and which bytes are the WAV file of samples?"""

from __future__ import annotations

import io
import struct
import wave
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_wav", "wav_of"]

_UNKNOWN_BYTES = 2**31 - 2**16
# Bytes of a sample -> its dtype; 24 bits come in 3 bytes, which no dtype has.
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("u1"), 2: np.dtype("<i2"), 3: np.dtype("<i4"), 4: np.dtype("<i4")}


def read_wav(file: BinaryIO, most_bytes: int) -> tuple[NDArray[Any], int]:
    """Return the samples of a WAV file, of shape (T,) or (T, C), and their rate.

    8 bits are uint8, 16 int16 and 32 int32; 24 bits are the upper ones of int32. Raises `ValueError` for what is no PCM
    of these sizes, for a file that ends too early, and for one of more than *most_bytes*.
    """
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    if length > most_bytes:
        raise ValueError(f"a WAV file of more than {most_bytes:,} bytes")
    try:
        with wave.open(file, "rb") as sound:
            size, channels, rate = sound.getsampwidth(), sound.getnchannels(), sound.getframerate()
            if size not in _DTYPES:
                raise ValueError(f"a WAV file of {8 * size} bits; 8, 16, 24 and 32 are read")
            claimed = sound.getnframes()
            # It may claim anything, and reading that much would take the memory for it.
            raw = np.frombuffer(sound.readframes(min(claimed, length // (size * channels) + 1)), np.uint8)
    except (wave.Error, EOFError, RuntimeError, struct.error) as error:
        raise ValueError(f"no WAV file of PCM: {str(error) or type(error).__name__}") from None
    count = len(raw) // (size * channels)
    # Who writes into a pipe does not know the length, and claims the largest.
    if count < claimed and claimed * size * channels < _UNKNOWN_BYTES:
        raise ValueError(f"a WAV file that ends after {count} of {claimed} samples")
    if size == 3:
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = raw[: len(padded) * 3].reshape(-1, 3)
        raw = padded.ravel()
    dtype = _DTYPES[size]
    samples = raw[: count * channels * dtype.itemsize].view(dtype).astype(dtype.newbyteorder("="))
    return (samples if channels == 1 else samples.reshape(count, channels)), rate


def wav_of(samples: NDArray[Any], rate: int) -> bytes:
    """Return samples of shape (T,) or (T, C) as a WAV file; raises `ValueError` for more than it can hold.

    uint8, int16 and int32 stay as they are. Floats become 16 bits: they go from -1 to 1, what is beyond is cut off, and
    NaN is 0.
    """
    if samples.dtype.kind == "f":
        samples = np.rint(np.nan_to_num(samples.clip(-1, 1).astype(np.float64)) * 32767).astype(np.int16)
    file = io.BytesIO()
    try:
        with wave.open(file, "wb") as sound:
            sound.setnchannels(samples.shape[1] if samples.ndim > 1 else 1)
            sound.setsampwidth(samples.dtype.itemsize)
            sound.setframerate(rate)
            sound.writeframes(samples.astype(samples.dtype.newbyteorder("<")).tobytes())
    except (wave.Error, struct.error) as error:
        raise ValueError(f"{len(samples)} samples at a rate of {rate} are no WAV file: {error}") from None
    return file.getvalue()
