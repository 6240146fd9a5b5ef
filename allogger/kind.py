"""Kind: what a value is, how it becomes an array or a text, and how it comes back."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from allogger.plain import Unstorable, description
from allogger.record import Payload

if TYPE_CHECKING:
    from allogger.files import Files

__all__ = ["MEDIA", "PICTURES", "STATES", "FileKind", "Kind", "is_known", "kind_of"]

#: The kinds whose payloads are pictures, as ``image`` describes them.
PICTURES = ("image", "figure")
#: The kinds of which each value can be a file that other programs show or play.
MEDIA = (*PICTURES, "video", "audio", "mesh", "point_cloud")
#: The kinds of which each value is a file with a nested state.
STATES = ("model", "checkpoint")


class Kind(ABC):
    """What a value is. Every payload is an array or a text plus small attributes, so any writer can take any kind.

    A kind has no state; one object of it serves all threads.
    """

    #: The name used in ``data_type=`` and as the first part of a dataset's path.
    name: ClassVar[str]

    @abstractmethod
    def accepts(self, value: Any) -> bool:
        """Return whether *value* is of this kind when the caller did not say so; cheap, and never raises."""

    @abstractmethod
    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return a payload that shares no memory with *value*, and attributes that JSON can hold.

        Raises `Unstorable` for a value that would not read back as it is.
        """

    def decode(self, payload: Payload, attrs: Mapping[str, Any]) -> Any:
        """Return what a reader shows for a payload that `encode` made."""
        return payload


class FileKind(Kind):
    """A kind whose values are files of the run; the payload is a small JSON object that says where and what they are.

    They are stored by the log call itself, after the filters: what is logged is what there was at that moment.
    """

    @abstractmethod
    def store(self, value: Any, files: Files) -> Mapping[str, Any]:
        """Put *value* into the file store of the run; return what its record says, as `allogger.files.Stored` has it.

        More JSON values may be beside that. Raises `Unstorable` or `OSError`, and then leaves nothing behind.
        """

    def accepts(self, value: Any) -> bool:
        """Return False: nobody expects a file of a value of which nothing was said."""
        return False

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return the payload for what a record says; raises `Unstorable` for a value that is not stored yet."""
        if not (type(value) is dict and isinstance(value.get("path"), str)):
            raise Unstorable(f"{description(value)} is stored as a file, which needs a logdir")
        return json.dumps(value), {}

    def decode(self, payload: Payload, attrs: Mapping[str, Any]) -> Any:
        """Return what a record says as a dict; of a damaged one the text."""
        try:
            told = json.loads(str(payload))
        except (ValueError, RecursionError):
            return str(payload)
        return told if isinstance(told, dict) else str(payload)


# An image is also an array, and so on: the first kind that accepts is the right one.
_OWN_KINDS = (
    "text",
    "scalar",
    "image",
    "histogram",
    "array",
    "params",
    "figure",
    "table",
    "confusion",
    "pr_curve",
    "video",
    "audio",
    "mesh",
    "point_cloud",
    "artifact",
    "model",
    "checkpoint",
)


_OWN = frozenset(_OWN_KINDS)


def kind_of(value: Any, kinds: Mapping[str, Kind]) -> Kind:
    """Return the first of *kinds* that accepts *value*, which `plain` made: plug-ins first, then allogger's own.

    A value that `plain` refuses may be given as it is; a plug-in may know it. Raises `Unstorable` if no kind does.
    """
    for name, kind in kinds.items():
        if name not in _OWN and _accepts(kind, value):
            return kind
    for name in _OWN_KINDS:
        if name in kinds and _accepts(kinds[name], value):
            return kinds[name]
    raise Unstorable(f"no kind takes {description(value)}")


def is_known(value: Any, kinds: Mapping[str, Kind]) -> bool:
    """Return whether any of *kinds* accepts *value*."""
    return any(_accepts(kind, value) for kind in kinds.values())


def _accepts(kind: Kind, value: Any) -> bool:
    try:
        return bool(kind.accepts(value))
    except Exception:
        return False
