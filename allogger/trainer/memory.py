"""Memory: how much do this process and its GPU use?"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from typing import Any, Final

from allogger.logger import Logger, get_logger

__all__ = ["MemoryLogger", "gpu_memory", "resident_bytes"]


# Nobody has to print them.
_MOST_LINES: Final = 1000


class MemoryLogger:
    """Logs how much memory is in use, and by how much it has changed since the call before, in MiB.

    Keys begin with the description: ``<description>/resident``, ``<description>/resident_change`` and, once the program
    uses CUDA through torch, ``<description>/cuda`` and ``<description>/cuda_change``.
    """

    def __init__(self, logger: Logger | None = None) -> None:
        self._logger = get_logger("memory") if logger is None else logger
        self._before: dict[str, float] = {}
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)

    def log_memory(self, description: str) -> None:
        """Log what is in use now, under *description*."""
        now = {name: number / 2**20 for name, number in _in_use().items()}
        changes = {name: number - self._before.get(name, number) for name, number in now.items()}
        self._before = now
        self._logger.log({**now, **{f"{name}_change": change for name, change in changes.items()}}, description)
        shown = ", ".join(f"{name} {now[name]:.1f} MiB ({changes[name]:+.1f})" for name in now)
        self._lines.append(f"{description}: {shown}")

    def print_logs(self) -> None:
        """Write a line for each of the latest calls since the last time to the text log and the console."""
        for line in list(self._lines):
            self._logger.info("%s", line, to_stdout=True)
        self._lines.clear()


def _in_use() -> dict[str, int]:
    found = {"resident": resident_bytes()}
    if (cuda := _cuda()) is not None:
        found["cuda"] = int(cuda.memory_allocated())
    return found


def resident_bytes() -> int:
    """Return how much of the machine's memory this process has; where nobody knows, the most that it ever had."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def gpu_memory() -> tuple[float, float] | None:
    """Return the memory in bytes that torch has reserved on its CUDA device, and all of it; None without CUDA."""
    cuda = _cuda()
    if cuda is None:
        return None
    try:
        device = cuda.current_device()
        return cuda.memory_reserved(device), cuda.get_device_properties(device).total_memory
    except RuntimeError:  # the device has failed, which the program hears from its own calls
        return None


def _cuda() -> Any:
    """Return ``torch.cuda`` if the program uses it; to ask must not start it."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return cuda if cuda is not None and cuda.is_available() and cuda.is_initialized() else None
