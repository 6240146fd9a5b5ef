"""Drawing: which pixels does a figure of matplotlib have?"""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

__all__ = ["pixels_of"]


class _Snapshot(FigureCanvasAgg):
    def is_saving(self) -> bool:
        """Return True, so that artists of an animation are drawn too."""
        return True


def pixels_of(figure: Figure) -> NDArray[np.uint8]:
    """Return a figure as ``(height, width, channels)``, RGB if all of it is opaque, else RGBA.

    The figure keeps its canvas, and a window that shows it still knows whether it has to draw it anew.
    """
    canvas, is_stale = figure.canvas, figure.stale
    try:
        snapshot = _Snapshot(figure)
        # A program that logs at each drawing must not hear of this one.
        with snapshot.callbacks.blocked(signal="draw_event"):
            snapshot.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(snapshot.buffer_rgba())  # type: ignore[no-untyped-call]
    finally:
        figure.set_canvas(canvas)
        # Setting `stale` would tell pyplot to draw at once.
        figure._stale = is_stale  # type: ignore[attr-defined]
    return np.array(pixels[:, :, :3] if (pixels[:, :, 3] == 255).all() else pixels, order="C")
