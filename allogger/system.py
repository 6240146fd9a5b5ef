"""System: what does this machine do: its processors, memory, disks, network and NVIDIA GPUs?"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from allogger.errors import MissingDependency, words_of

__all__ = ["Meter", "gpus", "require"]

# Over less, the ticks of the system's clocks would show: they count in hundredths of a second.
_SHORTEST_SECONDS = 0.01
# A fork waits no longer for a measurement: a driver may hang.
_PATIENCE_SECONDS = 1.0
_LOOPBACK = ("lo", "lo0")


class _Counter(NamedTuple):
    """Two numbers that only grow; what is measured is how much *total* grows while *base* grows by 1."""

    total: float
    base: float

    def is_soon_after(self, before: _Counter) -> bool:
        """Return whether there is no rate yet."""
        return 0 <= self.base - before.base < _SHORTEST_SECONDS

    def since(self, before: _Counter) -> float | None:
        """Return the rate; None for a counter that has begun anew."""
        grown, passed = self.total - before.total, self.base - before.base
        return grown / passed if grown >= 0 and passed > 0 else None


_Readings: TypeAlias = dict[str, "float | _Counter"]


class Meter:
    """Measures the machine and, of its processes, the own one. To be used by one thread at a time.

    Nothing that it asks for waits for a disk or a network. Needs psutil, else it raises `MissingDependency`; without
    pynvml or a driver of NVIDIA there are no values of GPUs.

    >>> meter = Meter()
    >>> values = meter.measure()
    >>> values["memory/process_rss_bytes"] < values["memory/used_bytes"] + values["memory/available_bytes"]
    True
    """

    def __init__(self) -> None:
        psutil = require()
        self._sources: dict[str, Callable[[], _Readings]] = {
            "cpu": partial(_cpu, psutil),
            "memory": partial(_memory, psutil),
            "disk": partial(_disk, psutil),
            "network": partial(_network, psutil),
            **_gpus(),
        }
        if (group := limited_group()) is not None:
            self._sources["memory of the control group"] = partial(_group_memory, group)
        self._before: _Readings = {}
        #: What could not be measured, and why it could not the last time.
        self.failures: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what the last `measure` has read, with those of the rates that the next one may give."""
        return tuple(self._before)

    def measure(self) -> dict[str, float]:
        """Return what is the case now, by names that end in their units; never raises.

        Rates and percentages of processors are means since the last measurement that had them, so the first has none,
        nor has one that follows in less than a hundredth of a second.
        """
        before, now = self._before, self._read()
        self._before = now
        found: dict[str, float] = {}
        for name, reading in now.items():
            if not isinstance(reading, _Counter):
                found[name] = reading
            elif isinstance(last := before.get(name), _Counter):
                if reading.is_soon_after(last):
                    now[name] = last
                elif (rate := reading.since(last)) is not None:
                    found[name] = rate
        return found

    def _read(self) -> _Readings:
        found: _Readings = {}
        with _forks.lock:
            for what, source in self._sources.items():
                try:
                    found.update(source())
                except Exception as error:
                    self.failures[what] = f"{type(error).__name__}: {words_of(error)}"
        return found


def require() -> Any:
    """Return psutil; raises `MissingDependency`."""
    try:
        import psutil
    except ImportError as error:
        raise MissingDependency(
            "what the machine does is measured by psutil; install it with: pip install 'allogger[system]'"
        ) from error
    return psutil


# -------------------------------------------------------------------------------------------------------------- sources


def _cpu(psutil: Any) -> _Readings:
    # Not psutil.cpu_percent, which has one memory for all who call it in a thread, and says 0.0 where it has none.
    times = psutil.cpu_times()
    # In ticks, which are whole: a difference of seconds would make 100.00000001 percent.
    ticks = {name: round(100 * seconds) for name, seconds in times._asdict().items()}
    idle = ticks["idle"] + ticks.get("iowait", 0)
    # The time of guests is in that of users, too.
    busy = sum(ticks.get(name, 0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    return {
        "cpu/percent": _Counter(100 * busy, busy + idle),
        "cpu/process_percent": _Counter(100 * time.process_time(), time.monotonic()),
    }


def _memory(psutil: Any) -> _Readings:
    machine = psutil.virtual_memory()
    return {
        "memory/used_bytes": float(machine.used),
        "memory/available_bytes": float(machine.available),
        # Asked for anew, because one that was made before a fork shows the parent.
        "memory/process_rss_bytes": float(psutil.Process().memory_info().rss),
    }


# Without `nowrap`, which remembers under a lock what everybody in this process was told.
def _disk(psutil: Any) -> _Readings:
    now, total = time.monotonic(), psutil.disk_io_counters(nowrap=False)
    if total is None:  # a container
        return {}
    return {
        "disk/read_bytes_per_second": _Counter(total.read_bytes, now),
        "disk/written_bytes_per_second": _Counter(total.write_bytes, now),
    }


def _network(psutil: Any) -> _Readings:
    now, cards = time.monotonic(), psutil.net_io_counters(pernic=True, nowrap=False)
    totals = [total for name, total in cards.items() if name not in _LOOPBACK]
    return {
        "network/sent_bytes_per_second": _Counter(sum(total.bytes_sent for total in totals), now),
        "network/received_bytes_per_second": _Counter(sum(total.bytes_recv for total in totals), now),
    }


def limited_group(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Path | None:
    """Return the folder of the nearest control group (v2) around this process whose memory is limited, if any.

    psutil shows the memory of the machine, also in a container or job that may use a part of it only.
    """
    try:
        paths = [line.removeprefix("0::/") for line in own.read_text().splitlines() if line.startswith("0::/")]
    except OSError:
        return None
    for folder in [root / path for path in paths]:
        for group in (folder, *folder.parents):
            with suppress(OSError):
                if group.is_relative_to(root) and (group / "memory.max").read_text().strip() != "max":
                    return group
    return None


def _group_memory(group: Path) -> _Readings:
    return {
        "memory/group_used_bytes": float((group / "memory.current").read_text()),
        "memory/group_limit_bytes": float((group / "memory.max").read_text()),
    }


_OF_GPU: Mapping[str, Callable[[Any, Any], float]] = {
    "utilization_percent": lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
    "memory_used_bytes": lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
    "power_watts": lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    "temperature_celsius": lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
}


def gpus() -> tuple[Any, list[Any]]:
    """Return NVML and its handles of the GPUs, in its order, which knows nothing of ``CUDA_VISIBLE_DEVICES``."""
    try:
        import pynvml as nvml

        nvml.nvmlInit()
        return nvml, [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    except Exception:
        # Without a driver, which is no mistake of anybody.
        return None, []


def _gpus() -> dict[str, Callable[[], _Readings]]:
    nvml, handles = gpus()
    return {f"gpu{index}": partial(_gpu, nvml, f"gpu{index}", gpu) for index, gpu in enumerate(handles)}


def _gpu(nvml: Any, name: str, gpu: Any) -> _Readings:
    found: _Readings = {}
    for value, read in _OF_GPU.items():
        # Not every GPU, nor every part of one, has all of them.
        with suppress(nvml.NVMLError_NotSupported, nvml.NVMLError_NoPermission):
            found[f"{name}/{value}"] = float(read(nvml, gpu))
    return found


# ---------------------------------------------------------------------------------------------------------------- forks


class _Forks:
    """Keeps forks waiting while something is measured.

    NVML has locks of its own: a child that is forked while a thread has one of them could never use NVML.
    """

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Know nothing of the parent, in the child."""
        #: Held while something is measured.
        self.lock = threading.Lock()
        self._mine = threading.local()

    def wait(self) -> None:
        """Wait for the measurement that is under way, before a fork."""
        self._mine.has_lock = self.lock.acquire(timeout=_PATIENCE_SECONDS)

    def go_on(self) -> None:
        """Let measurements begin again, in the parent."""
        if getattr(self._mine, "has_lock", False):
            self.lock.release()


_forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.wait, after_in_parent=_forks.go_on, after_in_child=_forks.begin_anew)
