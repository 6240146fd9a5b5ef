"""ModelKind: how is the state of a model stored?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from allogger.files import Files
from allogger.kind import FileKind
from allogger.states import write_state
from allogger.tensorfile import SUFFIX

__all__ = ["ModelKind"]


class ModelKind(FileKind):
    """A nested state: dicts, lists and tuples of arrays, tensors, numbers, texts and None, or what has a state.

    That is what has a ``state_dict()``, such as a model or an optimizer of torch, or ``get_weights()``, such as a model
    of Keras. It becomes a file in the format safetensors; see `allogger.states`.
    """

    name = "model"

    def store(self, value: Any, files: Files) -> Mapping[str, Any]:
        """Write the state; the same state is stored once."""
        name = (files.key.rpartition("/")[2] or "model") + SUFFIX
        return files.put_written(partial(write_state, state=value), name).about()
