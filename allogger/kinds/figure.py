"""FigureKind: how is a figure of matplotlib or plotly stored?"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from allogger.kind import Kind
from allogger.plain import Unstorable, description
from allogger.record import Payload

__all__ = ["PLOTLY", "FigureKind"]

#: The attribute ``library`` of a figure of plotly.
PLOTLY = "plotly"
_OF_PLOTLY = {"data", "layout", "frames"}


class FigureKind(Kind):
    """A figure of matplotlib, as the pixels that it has when it is logged, or one of plotly, as its JSON.

    The value may also be matplotlib's axes, of which the whole figure is taken, or ``pyplot``, of which the current
    figure is. The attributes are the ``layout`` of the pixels, ``dpi``, and ``size``: width and height in inches. The
    figure stays as it is.

    That of plotly, or the dict that one is made of, has the attribute ``library``. It reads back as a dict, of which
    ``plotly.graph_objects.Figure`` makes the same figure.
    """

    name = "figure"

    def accepts(self, value: Any) -> bool:
        """Return whether *value* is a figure or axes of matplotlib, ``pyplot`` itself, or a figure of plotly."""
        is_drawn = _is_a(value, "matplotlib.figure", "FigureBase") or _is_a(value, "matplotlib.axes", "Axes")
        return is_drawn or _is_pyplot(value) or _is_of_plotly(value)

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return pixels or JSON; raises `Unstorable` for what is no figure, and for one that cannot be drawn."""
        if _is_of_plotly(value) or isinstance(value, Mapping):
            return _json(value), {"library": PLOTLY}
        if not self.accepts(value):
            raise Unstorable(
                f"a figure is one of matplotlib, its axes, pyplot, or one of plotly, not {description(value)}"
            )
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

    def decode(self, payload: Payload, attrs: Mapping[str, Any]) -> Any:
        """Return the pixels, or of plotly a dict."""
        return json.loads(payload) if isinstance(payload, str) else payload


def _json(value: Any) -> str:
    """Return a figure of plotly, or the dict that one is made of, as plotly writes it."""
    if isinstance(value, Mapping) and not (isinstance(value.get("data"), list) and value.keys() <= _OF_PLOTLY):
        raise Unstorable("of a figure of plotly there are 'data', a list, and 'layout' and 'frames'")
    try:
        text = json.dumps(value, separators=(",", ":")) if isinstance(value, Mapping) else value.to_json()
        return str.__str__(text)
    except Exception as error:
        raise Unstorable(f"plotly cannot write the figure: {_words(error)}") from error


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
    """Return whether *value* is of a class of a library, which need not be installed."""
    cls = getattr(sys.modules.get(module), name, None)
    return isinstance(cls, type) and issubclass(type(value), cls)


def _is_of_plotly(value: Any) -> bool:
    return _is_a(value, "plotly.basedatatypes", "BaseFigure")


def _is_pyplot(value: Any) -> bool:
    return isinstance(value, ModuleType) and value is sys.modules.get("matplotlib.pyplot")
