"""Device: how is a number taken from an accelerator without making the program wait for it?"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.plain import Unstorable

__all__ = ["Promise", "promise_of"]

# Device -> the stream on which its numbers are copied.
_streams: dict[Any, Any] = {}


class Promise:
    """A number on its way to *host*, a 0-d tensor in the memory of this machine; *wait* returns when it is there."""

    __slots__ = ("_host", "_wait")
    nbytes = 64

    def __init__(self, host: Any, wait: Callable[[], object]) -> None:
        self._host, self._wait = host, wait

    def array(self) -> NDArray[Any]:
        """Wait, and return the number as a 0-d array: float64, int64 or bool, which is exact."""
        self._wait()
        return np.asarray(self._host.item())


def promise_of(value: Any) -> Promise | None:
    """Return the promise of the number in a CUDA tensor of torch with one element; None for everything else.

    Nothing waits: a copy of the number is ordered behind what the program has ordered so far, so that later changes of
    the tensor do not matter, and brought to the host beside what it orders next. Raises `Unstorable` while a CUDA graph
    is recorded, which must not be disturbed.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor) or not value.is_cuda:
        return None
    if value.numel() != 1 or value.is_complex() or value.is_quantized or value.layout is not torch.strided:
        return None
    try:
        return _promised(torch, value)
    except (RuntimeError, AttributeError):
        # There is no pinned memory, say: then the program has to wait.
        return None


def _promised(torch: Any, value: Any) -> Promise:
    with torch.cuda.device(value.device), torch.no_grad():
        if torch.cuda.is_current_stream_capturing():
            raise Unstorable("a CUDA graph is being recorded, so there is no number yet")
        side = _streams.get(value.device)
        if side is None:
            side = _streams[value.device] = torch.cuda.Stream()
        copy = value.detach().reshape(()).clone()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            # Only into pinned memory a copy goes on its own.
            host = torch.empty((), dtype=copy.dtype, pin_memory=True)
            host.copy_(copy, non_blocking=True)
            copy.record_stream(side)
            # Blocking: whoever waits sleeps, and does not ask again and again.
            event = torch.cuda.Event(blocking=True)
            event.record(side)
    return Promise(host, event.synchronize)
