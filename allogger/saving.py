"""Saving: which file, for other programs to show or play, does a value become?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.errors import ConfigError, MissingDependency, UnknownName
from allogger.extras import load
from allogger.films import NoFfmpeg, gif, mp4, pictures_of, webp
from allogger.ply import ply
from allogger.png import png
from allogger.sounds import wav_of

__all__ = ["FORMATS", "file_of"]

#: The formats of each kind; without a choice it is the first that can be made here.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "image": ("png",),
    "figure": ("png", "html", "json"),
    "video": ("webp", "gif", "mp4"),
    "audio": ("wav",),
    "mesh": ("ply",),
    "point_cloud": ("ply",),
}

_DEFAULT_FPS = 10.0


def file_of(kind: str, value: Any, attrs: Mapping[str, Any], format: str | None = None) -> tuple[str, bytes]:
    """Return the format, which is the suffix too, and the bytes of the file.

    A figure of plotly becomes a page of HTML that needs no network or, without plotly, JSON. Raises `UnknownName` for a
    format that the kind does not have, `MissingDependency` or `ConfigError` where a library or the program ``ffmpeg``
    is missing, and `ValueError` for a value that the format cannot hold.
    """
    if format is not None and format not in FORMATS[kind]:
        raise UnknownName.of(f"file format for the kind {kind!r}:", format, FORMATS[kind])
    try:
        return _file_of(kind, value, attrs, format)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        # A file that was read may say anything.
        raise ValueError(f"a value of kind {kind} that is none: {error!r:.200}") from None


def _file_of(kind: str, value: Any, attrs: Mapping[str, Any], format: str | None) -> tuple[str, bytes]:
    if kind == "figure" and isinstance(value, Mapping):
        return _of_plotly(value, format)
    if kind == "video":
        return _of_video(np.asarray(value), attrs, format or "webp")
    if format in ("html", "json"):
        raise ValueError(f"only a figure of plotly becomes {format.upper()}")
    if kind == "audio":
        samples = np.asarray(value)
        return "wav", wav_of(samples.T if attrs["layout"] == "CT" else samples, int(attrs["rate"]))
    if kind in ("mesh", "point_cloud"):
        return "ply", ply(value)
    return "png", png(np.asarray(value), str(attrs.get("layout", "")))


def _of_plotly(figure: Mapping[str, Any], format: str | None) -> tuple[str, bytes]:
    if format == "png":
        raise ValueError("a figure of plotly becomes HTML or JSON; only a browser makes pixels of it")
    if format != "json":
        try:
            from plotly.io import to_html
        except ImportError:
            if format is not None:
                raise MissingDependency("this needs plotly; install it with: pip install plotly") from None
        else:
            return "html", str(to_html(dict(figure), include_plotlyjs=True, validate=False)).encode()
    return "json", json.dumps(figure).encode()


def _of_video(frames: NDArray[Any], attrs: Mapping[str, Any], format: str) -> tuple[str, bytes]:
    pictures, fps = pictures_of(frames, attrs["layout"]), float(attrs.get("fps", _DEFAULT_FPS))
    if format == "mp4":
        try:
            return format, mp4(pictures, fps)
        except NoFfmpeg as error:
            raise ConfigError(f"{error}, which makes MP4; choose the format 'webp' or 'gif'") from None
    # It says what to install.
    load("PIL.Image", "images")
    return format, webp(pictures, fps) if format == "webp" else gif(pictures, fps)
