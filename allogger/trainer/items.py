"""Items: which single pictures, shapes and videos are in what a training loop calls a batch of them?

Nothing is copied or changed here: arrays are views, and the log call copies them. What cannot be taken apart is yielded
as it is, so that the log call counts it and says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from allogger.plain import Unstorable, plain

__all__ = ["Item", "images", "meshes", "videos"]

_CLOUD_WIDTHS = (3, 6, 7)


class Item(NamedTuple):
    """One value of several; *parts* end its name. No *data_type* if the value says by itself what it is."""

    parts: tuple[str, ...]
    data_type: str | None
    value: Any


def images(value: Any) -> Iterator[Item]:
    """Yield the pictures of (N, C, H, W) or (N, H, W, C), of a single picture, or of several views of these."""
    for view, found in _parts(value, "view"):
        for number, picture in _samples(found, batch_axes=4):
            yield Item(view + number, "image", picture)


def meshes(value: Any) -> Iterator[Item]:
    """Yield the point clouds of (B, N, 3) or (N, 3), with colours 6 or 7 wide, or the meshes and clouds of a list."""
    if isinstance(value, Mapping):
        yield Item((), "mesh" if "faces" in value else "point_cloud", value)
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            for item in meshes(one):
                yield item._replace(parts=(str(place), *item.parts))
    else:
        found = _array(value)
        # An object of trimesh or open3d is known by its kind.
        is_cloud = isinstance(found, np.ndarray) and found.ndim > 1 and found.shape[-1] in _CLOUD_WIDTHS
        for number, cloud in _samples(found, batch_axes=3):
            yield Item(number, "point_cloud" if is_cloud else None, cloud)


def videos(value: Any, layout: str, fps: float | None) -> Iterator[Item]:
    """Yield the videos of an array with the axes *layout*, ``BFCHW`` or ``BCFHW``, or of a single one without B."""
    for view, found in _parts(value, "view"):
        if isinstance(found, Mapping):  # frames with their own speed
            yield Item(view, "video", found)
            continue
        for number, frames in _samples(found, batch_axes=5):
            if layout == "BCFHW" and isinstance(frames, np.ndarray) and frames.ndim == 4:
                frames = frames.swapaxes(0, 1)
            yield Item(view + number, "video", frames if fps is None else {"frames": frames, "fps": fps})


def _parts(value: Any, what: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a part of a name and a value for each entry of a list, or the value itself."""
    if isinstance(value, list | tuple):
        for number, one in enumerate(value):
            yield (f"{what}{number}",), _array(one)
    else:
        yield (), _array(value)


def _samples(found: Any, batch_axes: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each sample of an array that has the axes of a batch, or the value itself."""
    if isinstance(found, np.ndarray) and found.ndim == batch_axes:
        for number, one in enumerate(found):
            yield (str(number),), one
    else:
        yield (), found


def _array(value: Any) -> NDArray[Any] | Any:
    """Return a tensor or the like as an array, a view where that is possible; anything else as it is."""
    if isinstance(value, Mapping):
        return value
    try:
        return plain(value, as_array=True)
    except Unstorable:
        return value
