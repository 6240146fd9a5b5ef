"""Films: which frames does a file of moving pictures hold, and which file do frames become?

Animated GIF, WebP and PNG are Pillow's, everything else is that of the program ``ffmpeg``. All functions that need
Pillow raise `ImportError` without it.
"""

from __future__ import annotations

import io
import math
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from allogger.png import bytes_of

__all__ = ["Film", "NoFfmpeg", "gif", "mp4", "pictures_of", "read_film", "read_mp4", "webp"]

# A GIF has 16 bits for hundredths of a second, and viewers slow down what is faster than 50 pictures per second.
_GIF_MILLISECONDS = 20, 655_350
# So many pixels say which colours there are.
_SAMPLE = 2**16
# ffmpeg must not keep a program waiting for ever.
_FFMPEG_SECONDS = 120.0
_FPS = re.compile(rb"([\d.]+)(k?) fps")


class Film(NamedTuple):
    """Frames of shape (T, H, W, 3), or 4 with opacity, and how many there are per second, None if nobody knows."""

    frames: NDArray[np.uint8]
    fps: float | None


class NoFfmpeg(Exception):
    """The program ``ffmpeg`` is not there."""


def pictures_of(frames: NDArray[Any], layout: str) -> NDArray[Any]:
    """Return frames with their axes as number, height, width and channels, of which there may be none in *layout*."""
    return frames[..., None] if layout == "THW" else np.moveaxis(frames, 1, -1) if layout == "TCHW" else frames


# -------------------------------------------------------------------------------------------------------------- reading


def read_film(file: BinaryIO, most_bytes: int) -> Film:
    """Return what is in an animated GIF, WebP or PNG; frames of different length count alike.

    Raises `ValueError` for anything else, and for what would take more than *most_bytes*.
    """
    from PIL import Image

    try:
        with Image.open(file, formats=("GIF", "WEBP", "PNG")) as image:
            count = getattr(image, "n_frames", 1)
            width, height = image.size
            if image.mode.startswith("I"):
                raise ValueError("a picture of 16 bits, which Pillow would cut off")
            if count * width * height * 4 > most_bytes:
                raise ValueError(f"{count} frames of {width} x {height} pixels: more than {most_bytes:,} bytes")
            frames = np.empty((count, height, width, 4), np.uint8)
            milliseconds = 0.0
            for number in range(count):
                image.seek(number)
                # A frame of a GIF may go beyond the edges, which makes the picture as large as it says.
                if image.size != (width, height):
                    raise ValueError(f"frame {number} of {image.width} x {image.height} pixels, not {width} x {height}")
                frames[number] = np.asarray(image.convert("RGBA"))
                milliseconds += float(image.info.get("duration") or 0)
    except (OSError, EOFError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"no file of moving pictures: {error}") from None
    if (frames[..., 3] == 255).all():
        frames = np.ascontiguousarray(frames[..., :3])
    return Film(frames, 1000 * count / milliseconds if milliseconds else None)


def read_mp4(path: Path, most_bytes: int) -> Film:
    """Return what is in a film that ffmpeg reads; raises like `read_film`, and `NoFfmpeg`."""
    # Without a shell, and with nothing but this file: a film may name others, and places in the network.
    options = ["-protocol_whitelist", "file,pipe", "-i", f"file:{path}", "-map", "0:v:0"]
    with tempfile.TemporaryFile() as told:
        command = [_ffmpeg(), "-nostdin", "-hide_banner", "-nostats", *options, "-f", "image2pipe", "-c:v", "ppm", "-"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=told) as program:
            timer = threading.Timer(_FFMPEG_SECONDS, program.kill)
            timer.start()
            stream = cast("IO[bytes]", program.stdout)
            try:
                frames = _ppms(stream, most_bytes)
                # Should it write on, it ends.
                stream.close()
                program.wait()
            except BaseException:
                program.kill()
                raise
            finally:
                timer.cancel()
        told.seek(0)
        words = told.read(2**20)
    if program.returncode or not frames:
        # Some frames are not the film.
        raise ValueError(f"no film that ffmpeg can read to its end: {_last_line(words)}")
    # What it says of its output comes last.
    rates = _FPS.findall(words)
    fps = float(rates[-1][0]) * (1000 if rates[-1][1] else 1) if rates else None
    return Film(np.stack(frames), fps or None)


def _ppms(stream: IO[bytes], most_bytes: int) -> list[NDArray[np.uint8]]:
    """Return the pictures that come one after the other, up to the first that is incomplete."""
    found: list[NDArray[np.uint8]] = []
    left = most_bytes
    while stream.readline(16) == b"P6\n":
        width, height = (int(number) for number in stream.readline(32).split())
        stream.readline(16)
        size = width * height * 3
        left -= size
        if left < 0:
            raise ValueError(f"a film whose frames take more than {most_bytes:,} bytes")
        raw = stream.read(size)
        if len(raw) < size:
            break
        found.append(np.frombuffer(raw, np.uint8).reshape(height, width, 3))
    return found


# -------------------------------------------------------------------------------------------------------------- writing


def gif(pictures: NDArray[Any], fps: float) -> bytes:
    """Return pictures (T, H, W, C) as an animated GIF of at most 256 colours, without their opacity."""
    from PIL import Image

    pixels = bytes_of(pictures[..., 0] if pictures.shape[3] == 1 else pictures[..., :3])
    if max(pixels.shape[1:3]) >= 2**16:
        raise ValueError(f"a GIF has no pictures of {pixels.shape[2]} x {pixels.shape[1]} pixels")
    shown = [Image.fromarray(picture) for picture in np.ascontiguousarray(pixels)]
    if shown[0].mode == "RGB":
        # One set of colours for all pictures: Pillow takes much longer to choose them for each.
        colours = np.ascontiguousarray(pixels).reshape(-1, 3)
        sample = Image.fromarray(colours[None, :: math.ceil(len(colours) / _SAMPLE)])
        palette = sample.quantize(256)
        shown = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in shown]
    return _saved(shown, "GIF", int(np.clip(round(1000 / max(fps, 1e-3)), *_GIF_MILLISECONDS)))


def webp(pictures: NDArray[Any], fps: float) -> bytes:
    """Return pictures (T, H, W, C) as an animated WebP, which loses nothing."""
    from PIL import Image

    pixels = bytes_of(np.repeat(pictures, 3, axis=3) if pictures.shape[3] == 1 else pictures)
    if max(pixels.shape[1:3]) >= 2**14:
        raise ValueError(f"a WebP has no pictures of {pixels.shape[2]} x {pixels.shape[1]} pixels")
    shown = [Image.fromarray(picture) for picture in np.ascontiguousarray(pixels)]
    return _saved(shown, "WEBP", int(np.clip(round(1000 / max(fps, 1e-3)), 1, 2**24 - 1)), lossless=True)


def _saved(pictures: Sequence[Any], name: str, milliseconds: int, **options: Any) -> bytes:
    file = io.BytesIO()
    first, *others = pictures
    first.save(file, name, save_all=True, append_images=others, duration=milliseconds, loop=0, **options)
    return file.getvalue()


def mp4(pictures: NDArray[Any], fps: float) -> bytes:
    """Return pictures (T, H, W, C) as an MP4 that every player takes; raises `ValueError`, and `NoFfmpeg`."""
    program = _ffmpeg()
    pixels = np.ascontiguousarray(bytes_of(np.repeat(pictures, 3, axis=3) if pictures.shape[3] == 1 else pictures))
    height, width, channels = pixels.shape[1:]
    given = ["-f", "rawvideo", "-pix_fmt", "rgba" if channels == 4 else "rgb24", "-s", f"{width}x{height}"]
    given += ["-r", str(float(fps)), "-i", "-"]
    # Players take half the resolution of colours only, for which the sides must be even.
    made = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "film.mp4")
        command = [program, "-hide_banner", "-loglevel", "error", *given, *made, str(path)]
        try:
            done = subprocess.run(command, input=pixels.data, capture_output=True, timeout=_FFMPEG_SECONDS)
        except subprocess.TimeoutExpired:
            raise ValueError(f"ffmpeg was not done in {_FFMPEG_SECONDS:g} seconds") from None
        if done.returncode or not path.is_file():
            raise ValueError(f"ffmpeg cannot write the film: {_last_line(done.stderr)}")
        return path.read_bytes()


def _ffmpeg() -> str:
    found = shutil.which("ffmpeg")
    if found is None:
        raise NoFfmpeg("the program ffmpeg is not on PATH")
    return found


def _last_line(words: bytes) -> str:
    lines = words.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "it says nothing"
