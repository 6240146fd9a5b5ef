"""EnergyMeter: how much energy has the machine used, as far as it measures that?"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from allogger.errors import ConfigError
from allogger.plain import Unstorable
from allogger.system import gpus

__all__ = ["EnergyMeter", "Rates"]

POWERCAP = Path("/sys/class/powercap")
JOULES_PER_KWH = 3.6e6
# More than a socket takes that does not say how much it takes at most.
_MOST_WATTS = 1000.0


@dataclass(frozen=True, slots=True)
class Rates:
    """What only the user knows: the CO2 that a kWh costs, and what a busy core takes where nobody measures it."""

    grams_co2_per_kwh: float | None = None
    cpu_watts: float | None = None

    @classmethod
    def of(cls, grams_co2_per_kwh: Any, cpu_watts: Any) -> Rates:
        """Return checked rates; raises `ConfigError`."""
        return cls(_rate("grams_co2_per_kwh", grams_co2_per_kwh), _rate("cpu_watts", cpu_watts))

    @property
    def are_given(self) -> bool:
        """Whether the user gave any."""
        return self.grams_co2_per_kwh is not None or self.cpu_watts is not None


def _rate(name: str, value: Any) -> float | None:
    if value is None:
        return None
    rate = math.nan if isinstance(value, bool) or not hasattr(type(value), "__float__") else float(value)
    if not 0 <= rate < math.inf:
        raise ConfigError(f"{name} must be a number of 0 or more, not {value!r}")
    return rate


class EnergyMeter:
    """Counts the energy from when it was made, over all that the machine measures.

    That is what its processor packages and their memory (RAPL, files below *powercap*) and its NVIDIA GPUs (NVML) have
    used, for whichever program. Where no processor is measured it is the processor time of this process, times
    ``cpu_watts``, if those are given.
    """

    def __init__(self, rates: Rates, powercap: Path = POWERCAP) -> None:
        self._rates, self._pid = rates, os.getpid()
        packages = list(_packages(powercap))
        self._sources: list[Callable[[], float]] = [*packages, *_gpus()]
        if not packages and rates.cpu_watts is not None:
            self._sources.append(_growth(time.process_time, rates.cpu_watts))

    def is_mine(self) -> bool:
        """Return whether the calling process has made it."""
        return self._pid == os.getpid()

    def measure(self) -> dict[str, float]:
        """Return ``joules``, ``kwh`` and, if it is known what a kWh costs, ``grams_co2``.

        Raises `Unstorable` if it cannot be known.
        """
        if not self._sources:
            raise Unstorable(
                "this machine does not measure energy for us (no readable RAPL counters, no NVIDIA GPU with "
                "nvidia-ml-py); give cpu_watts to estimate that of the processor"
            )
        joules = sum(source() for source in self._sources)
        kwh = joules / JOULES_PER_KWH
        found = {"joules": joules, "kwh": kwh}
        if self._rates.grams_co2_per_kwh is not None:
            found["grams_co2"] = kwh * self._rates.grams_co2_per_kwh
        return found


def _growth(count: Callable[[], float], joules_per_count: float) -> Callable[[], float]:
    """Return what gives the joules from now on by a counter that only grows."""
    began = count()
    return lambda: (count() - began) * joules_per_count


# ----------------------------------------------------------------------------------------------------------- processors


def _packages(powercap: Path) -> Iterator[Callable[[], float]]:
    """Yield the counters of processor packages, and of memory that is counted apart, as far as we may read them."""
    for folder in sorted(powercap.glob("*-rapl:*")):
        with contextlib.suppress(OSError, ValueError):
            name = (folder / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                yield _RaplCounter(folder)


class _RaplCounter:
    """A counter of microjoules that begins again from 0 when it has reached its range."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "energy_uj"
        self._range = int((folder / "max_energy_range_uj").read_text())
        try:
            watts = int((folder / "constraint_0_max_power_uw").read_text()) / 1e6
        except (OSError, ValueError):
            watts = 0.0
        # Looked at less often than this, it may have begun again more than once. It can take more than it says.
        self._most_seconds = self._range / 1e6 / (2 * watts or _MOST_WATTS)
        self._joules = 0.0
        self._last = self._count()
        self._looked = time.monotonic()

    def _count(self) -> int:
        return int(self._file.read_text())

    def __call__(self) -> float:
        count, now = self._count(), time.monotonic()
        if now - self._looked > self._most_seconds:
            raise Unstorable(
                f"the energy counters of this machine have to be looked at every {self._most_seconds:.0f} s at least; "
                "log it more often"
            )
        self._joules += (count - self._last) % (self._range + 1) / 1e6
        self._last, self._looked = count, now
        return self._joules


# ----------------------------------------------------------------------------------------------------------------- GPUs


def _gpus() -> list[Callable[[], float]]:
    """Return the counters of NVIDIA GPUs; none without nvidia-ml-py, a driver, or GPUs that count."""
    nvml, handles = gpus()
    counters = []
    for handle in handles:
        with contextlib.suppress(nvml.NVMLError):
            # In millijoules.
            counters.append(_growth(partial(nvml.nvmlDeviceGetTotalEnergyConsumption, handle), 1e-3))
    return counters
