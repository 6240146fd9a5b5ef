"""ArtifactKind: how is a file or folder of the program stored?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allogger.files import Files
from allogger.kind import FileKind
from allogger.plain import Unstorable, description

__all__ = ["ArtifactKind"]


class ArtifactKind(FileKind):
    """The path of a file or a folder, as a str or path, or bytes; these with a name of their own, if they are given as
    ``{"name": "notes.txt", "data": b"..."}``, else with that of the key.
    """

    name = "artifact"

    def store(self, value: Any, files: Files) -> Mapping[str, Any]:
        """Copy it by its content."""
        if isinstance(value, bytes | bytearray | memoryview):
            value = {"name": files.key.rpartition("/")[2], "data": value}
        if isinstance(value, Mapping):
            return _put_bytes(value, files)
        if not isinstance(value, str | os.PathLike):
            raise Unstorable(f"an artifact is a path, or bytes, not {description(value)}")
        if not os.fspath(value):
            raise Unstorable("an artifact is a path, and this one is empty")
        path = Path(os.fsdecode(value))
        try:
            stored = files.put_folder(path) if path.is_dir() else files.put_file(path)
        except ValueError as error:
            raise Unstorable(f"{str(path)!r} is no path: {error}") from error
        return stored.about()


def _put_bytes(value: Mapping[Any, Any], files: Files) -> Mapping[str, Any]:
    name, data = value.get("name"), value.get("data")
    if len(value) != 2 or not isinstance(name, str) or not isinstance(data, bytes | bytearray | memoryview):
        raise Unstorable("of an artifact that is no path there are 'name', a text, and 'data', bytes")
    return files.put_bytes(data, name).about()
