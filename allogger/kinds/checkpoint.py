"""CheckpointKind: how is the state of a program stored, from which it can go on?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from allogger.files import Files, Request
from allogger.kind import FileKind
from allogger.states import write_state

__all__ = ["CheckpointKind"]


class CheckpointKind(FileKind):
    """A nested state as a model is, in a file of its own; `Logger.checkpoint` removes it again when newer ones came."""

    name = "checkpoint"

    def store(self, value: Any, files: Files) -> Mapping[str, Any]:
        """Write the state."""
        request = value if isinstance(value, Request) else Request(value, {})
        stored = files.put_checkpoint(partial(write_state, state=request.state))
        request.stored = stored.path
        return {**stored.about(), **request.about}
