"""TextKind: how is a text stored?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allogger.kind import Kind
from allogger.plain import Unstorable
from allogger.record import Payload

__all__ = ["TextKind"]


class TextKind(Kind):
    """A text; of any other object that is explicitly logged as text, its ``str()``."""

    name = "text"

    def accepts(self, value: Any) -> bool:
        """Return whether *value* is a str."""
        return isinstance(value, str)

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return ``str(value)``; raises `Unstorable` if that raises."""
        try:
            # str() may return an instance of a subclass, which somebody else's __str__ made.
            return str.__str__(str(value)), {}
        except Exception as error:
            raise Unstorable(f"str() of the value raises {type(error).__name__}") from error
