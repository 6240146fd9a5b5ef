"""FigureKind: how is a figure of matplotlib stored?"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from allogger.kind import Kind
from allogger.plain import Unstorable, description
from allogger.record import Payload

__all__ = ["FigureKind"]


class FigureKind(Kind):
    """A figure of matplotlib, as the pixels that it has when it is logged; the figure stays as it is.

    The value may also be axes, of which the whole figure is taken, or ``pyplot``, of which the current figure is. The
    attributes are the ``layout`` of the pixels, ``dpi``, and ``size``: width and height in inches.
    """

    name = "figure"

    def accepts(self, value: Any) -> bool:
        """Return whether *value* is a figure or axes of matplotlib, or ``pyplot`` itself."""
        is_drawn = _is_a(value, "matplotlib.figure", "FigureBase") or _is_a(value, "matplotlib.axes", "Axes")
        return is_drawn or _is_pyplot(value)

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return the pixels; raises `Unstorable` for what is no figure, and for one that matplotlib cannot draw."""
        if not self.accepts(value):
            raise Unstorable(f"a figure is one of matplotlib, its axes, or pyplot, not {description(value)}")
        # Of matplotlib, which the program has imported: that is where the value comes from.
        from allogger.drawing import pixels_of

        try:
            figure = _figure_of(value)
            width, height = figure.get_size_inches().tolist()
            return pixels_of(figure), {"layout": "HWC", "dpi": float(figure.dpi), "size": [width, height]}
        except Unstorable:
            raise
        except Exception as error:
            raise Unstorable(f"matplotlib cannot draw the figure: {_words(error)}") from error


def _figure_of(value: Any) -> Any:
    """Return the figure that axes, a part of a figure, or pyplot belong to."""
    if _is_pyplot(value):
        # `gcf` would make one.
        if not value.get_fignums():
            raise Unstorable("pyplot has no figure")
        return value.gcf()
    figure = value
    while figure.figure is not figure:
        figure = figure.figure
    return figure


def _words(error: Exception) -> str:
    """Return an error in one line, which those about formulas are not."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _is_a(value: Any, module: str, name: str) -> bool:
    """Return whether *value* is of a class of matplotlib, which need not be installed."""
    cls = getattr(sys.modules.get(module), name, None)
    return isinstance(cls, type) and issubclass(type(value), cls)


def _is_pyplot(value: Any) -> bool:
    return isinstance(value, ModuleType) and value is sys.modules.get("matplotlib.pyplot")
