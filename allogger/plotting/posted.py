"""Posted: how is what a HoldingLogger has held drawn, without pyplot and without a window?"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from allogger.plotting.figures import plain
from allogger.rundir import PLOT_MARK, atomic_write

if TYPE_CHECKING:
    from allogger.holding.windows import Observed

__all__ = ["PLOTS", "new_figure", "save"]

_BINS: Final = 50


def new_figure() -> Figure:
    """Return an empty figure, which pyplot does not know and nobody has to close."""
    return Figure(figsize=(6.4, 4.0), layout="constrained")


def save(figure: Figure, folder: Path, stem: str) -> Path:
    """Save *figure* as PNG under a name that no file of *folder* has; return its path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": PLOT_MARK})
    folder.mkdir(parents=True, exist_ok=True)
    path = _reserved(folder, stem)
    atomic_write(path, buffer.getvalue(), durable=False)
    return path


def _reserved(folder: Path, stem: str) -> Path:
    for number in itertools.count(1):
        path = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        # Several processes, and several starts of the program, may draw in one folder.
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
            break
    return path


def loss_curve(figure: Figure, *losses: Observed) -> None:
    """Draw numbers over their steps, all on the same axes."""
    axes = figure.add_subplot()
    for loss in losses:
        axes.plot(loss.place, _numbers(loss), label=plain(loss.key))
    axes.set_xlabel("step")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def weight_histogram(figure: Figure, *weights: Observed) -> None:
    """Draw how the numbers of the latest values are distributed."""
    axes = figure.add_subplot()
    for weight in weights:
        numbers = np.asarray(weight.value[-1], np.float64).ravel()
        finite = numbers[np.isfinite(numbers)]
        axes.hist(finite, _BINS, alpha=0.6, label=plain(f"{weight.key} ({weight.place[-1]})"))
    axes.set_ylabel("count")
    axes.legend(frameon=False)


def panels(figure: Figure, *inputs: Observed) -> None:
    """Draw the latest value of each input side by side: images as images, all others as curves."""
    places = figure.subplots(1, len(inputs), squeeze=False)[0]
    for axes, each in zip(places, inputs, strict=True):
        _draw(axes, np.asarray(each.value[-1]))
        axes.set_title(plain(f"{each.key} ({each.place[-1]})", 32), fontsize="medium")


def _draw(axes: Axes, value: NDArray[Any]) -> None:
    if value.ndim == 2 or (value.ndim == 3 and value.shape[-1] in (3, 4)):
        axes.imshow(value, cmap="gray")
        axes.set_axis_off()
    else:
        axes.plot(np.atleast_1d(value).reshape(len(np.atleast_1d(value)), -1), marker=".")


def _numbers(observed: Observed) -> NDArray[np.float64]:
    """Return a number for each value: that of what has several is their mean."""
    return np.array([np.mean(np.asarray(value, np.float64)) for value in observed.value])


#: The plots that are known by name; they draw on the figure what they are given of their inputs.
PLOTS: Final[dict[str, Callable[..., None]]] = {
    "loss_curve": loss_curve,
    "weight_histogram": weight_histogram,
    "panels": panels,
}
