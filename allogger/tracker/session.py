"""Session: what does a tracker keep from the beginning of its context to the end?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from allogger.extras import load
from allogger.logger import Logger
from allogger.settings import Settings
from allogger.tracker.energy import EnergyMeter, Rates

__all__ = ["Session"]


class Session:
    """The time for which a tracker has its *logger*.

    If the run is that of the tracker alone, *before* are the settings that the logger had, else None. With *rates* the
    energy is measured from now on, else from when it is first asked for.
    """

    def __init__(self, logger: Logger, rates: Rates, before: Settings | None, rank: int) -> None:
        self.logger = logger
        self.before = before
        # Another one after each close.
        self._collectors: object = logger.manager.collectors
        self.rank = rank
        self._rates = rates
        self._began = time.perf_counter()
        # What was logged as parameters so far: readers take the last of them, which is to hold all.
        self._params: dict[str, Any] = {}
        self._energy: EnergyMeter | None = EnergyMeter(rates) if rates.are_given else None
        self._system: Any = None

    def is_over(self) -> bool:
        """Return whether everything was closed since it began."""
        return self._collectors is not None and self._collectors is not self.logger.manager.collectors

    def seconds(self) -> float:
        """Return the seconds since its beginning."""
        return time.perf_counter() - self._began

    def add_params(self, params: Any, options: Mapping[str, Any]) -> None:
        """Log parameters together with all that came before; raises `Unstorable`."""
        kind = self.logger.manager.kind("params")
        # By way of JSON, so that it does not matter what later becomes of the user's objects.
        self._params.update(kind.decode(*kind.encode(params)))
        self.logger.log(dict(self._params), "params", data_type="params", **options)

    def energy(self) -> dict[str, float]:
        """Return what the energy is, see `EnergyMeter.measure`."""
        # A forked child has used nothing yet.
        if self._energy is None or not self._energy.is_mine():
            self._energy = EnergyMeter(self._rates)
        return self._energy.measure()

    def system(self) -> dict[str, float]:
        """Return what the machine is doing; raises `MissingDependency`."""
        if self._system is None:
            self._system = load("allogger.system", "system").Meter()
        measured: dict[str, float] = self._system.measure()
        return measured

    def __getstate__(self) -> dict[str, Any]:
        # In another process they begin anew.
        return {**self.__dict__, "_energy": None, "_system": None, "_collectors": None}
