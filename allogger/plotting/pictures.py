"""Pictures: how are histograms and images shown over the steps?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from numpy.typing import NDArray

from allogger.plotting.figures import label_x, last_part, plain

if TYPE_CHECKING:
    from allogger.store import Run

__all__ = ["draw_histogram", "draw_images"]

_MAX_IMAGES, _MAX_HEAT_COLUMNS, _HEAT_ROWS = 8, 300, 60


def draw_histogram(ax: Axes, run: Run, key: str) -> None:
    """Draw for each step how its numbers are distributed."""
    steps, low, high = _extent(run, key)
    ax.set_title(plain(key), loc="left", fontsize="medium")
    ax.set_ylabel(plain(last_part(key), 32))
    if not len(steps):
        ax.text(0.5, 0.5, "no finite numbers", ha="center", transform=ax.transAxes)
        return
    starts = steps if len(steps) <= _MAX_HEAT_COLUMNS else steps[:: -(-len(steps) // _MAX_HEAT_COLUMNS)]
    edges = _edges(low, high)
    counts = np.zeros((len(edges) - 1, len(starts)))
    for step, values in _histograms(run, key):
        column = np.searchsorted(starts, step, side="right") - 1
        counts[:, column] += np.histogram(values, edges)[0]
    share = counts / np.maximum(counts.sum(axis=0), 1)
    width = starts[-1] - starts[-2] if len(starts) > 1 else 1
    places = label_x(ax, "step", np.append(starts, starts[-1] + width).astype(np.float64))
    # The square root shows what is rare, too.
    mesh = ax.pcolormesh(places, edges, np.where(share > 0, share, np.nan), cmap="viridis", norm=PowerNorm(0.5, 0))
    mesh.set_rasterized(True)
    ax.figure.colorbar(mesh, ax=ax, label="share of the values", pad=0.02)


def _edges(low: float, high: float) -> NDArray[np.float64]:
    if high == low:
        low, high = low - max(abs(low), 1) / 2, high + max(abs(high), 1) / 2
    # Halves, because the width of the largest numbers is no number.
    return np.linspace(low / 2, high / 2, _HEAT_ROWS + 1) * 2


def _extent(run: Run, key: str) -> tuple[NDArray[np.int64], float, float]:
    steps: list[int] = []
    low, high = np.inf, -np.inf
    for step, values in _histograms(run, key):
        steps.append(step)
        low, high = min(low, values.min()), max(high, values.max())
    return np.unique(np.array(steps, np.int64)), float(low), float(high)


def _histograms(run: Run, key: str) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the steps and the finite numbers of a key, where there are any."""
    for portion in run.portions(key):
        for step, item in zip(portion.step.tolist(), portion.value, strict=True):
            array = np.asarray(item)
            if array.dtype.kind in "biuf":
                values = array.astype(np.float64).ravel()
                values = values[np.isfinite(values)]
                if len(values):
                    yield step, values


def draw_images(ax: Axes, run: Run, key: str) -> None:
    """Draw some of the images, from the first to the last, each with its step."""
    images = run.images(key)
    chosen = np.unique(np.linspace(0, len(images) - 1, _MAX_IMAGES).round().astype(int)).tolist()
    found = {number: image for number in chosen if isinstance(image := images[number], np.ndarray)}
    if not found:
        ax.set_title(f"{plain(key)} (figures of plotly; 'allogger images' writes them)", loc="left", fontsize="medium")
        ax.set_axis_off()
        return
    chosen, pictures = list(found), [_pixels(image) for image in found.values()]
    width = max(picture.shape[1] / picture.shape[0] for picture in pictures)
    # The tiles fill axes that are about twice as wide as high.
    columns = min(len(pictures), max(1, round(np.sqrt(len(pictures) * 1.8 / width))))
    for place, (number, picture) in enumerate(zip(chosen, pictures, strict=True)):
        row, column = divmod(place, columns)
        left, bottom = column * (width + 0.08), -row * 1.3
        own = picture.shape[1] / picture.shape[0]
        ax.imshow(picture, extent=(left, left + own, bottom, bottom + 1), interpolation="nearest", aspect="equal")
        ax.text(left + own / 2, bottom - 0.03, f"{images.step[number]}", ha="center", va="top", fontsize="small")
    rows = -(-len(pictures) // columns)
    ax.set_xlim(0, columns * (width + 0.08) - 0.08)
    ax.set_ylim(1.02 - rows * 1.3, 1)
    ax.set_axis_off()
    shown = f", {len(chosen)} of {len(images)}" if len(chosen) < len(images) else ""
    ax.set_title(f"{plain(key)} (below each its step{shown})", loc="left", fontsize="medium")


def _pixels(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image as matplotlib takes it: height, width and colours; floats from 0 to 1."""
    if image.ndim == 3 and image.shape[-1] not in (1, 3, 4):
        image = np.moveaxis(image, 0, -1)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.dtype == np.uint8:
        pixels = image / 255.0
    elif image.dtype.kind in "iu":
        pixels = image.clip(0, 255) / 255.0
    else:
        pixels = np.nan_to_num(image.astype(np.float64).clip(0, 1))
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
