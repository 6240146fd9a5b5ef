"""Plots: which functions draw what was posted, of which inputs, and where do the pictures go?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from allogger.errors import ConfigError, UnknownName, words_of
from allogger.extras import load
from allogger.holding.windows import Held, History, Observation, Observed
from allogger.logger import Logger
from allogger.manager import manager
from allogger.names import file_name
from allogger.plain import plain
from allogger.rundir import PLOTS

__all__ = ["PlotFunction", "Plots"]

#: Draws on the figure that comes first what it is given of its inputs.
PlotFunction = Callable[..., object]
#: How many values an input has had, and those that can be shown now, if there are any.
Inputs = Mapping[str, tuple[int, Observed | None]]


@dataclass(eq=False)
class _Plot:
    name: str
    function: PlotFunction
    inputs: tuple[str, ...]
    #: How many values of each input there were when it was last drawn.
    drawn: tuple[int, ...] = ()


class Plots:
    """The plots of one HoldingLogger, and what they need beside the values that are held."""

    def __init__(self, logger: Logger, saves_files: bool) -> None:
        self._logger = logger
        self._saves_files = saves_files
        self._plots: dict[str, _Plot] = {}
        self._inputs: set[str] = set()
        self._histories: dict[str, History] = {}
        self._static: dict[str, Observation] = {}

    def add_known(self, name: str, inputs: Sequence[str]) -> None:
        """Add one of those that allogger has; raises `UnknownName`."""
        known = load("allogger.plotting.posted", "plot").PLOTS
        if name not in known:
            raise UnknownName.of("plot", name, known)
        self.add(name, known[name], inputs)

    def add(self, name: str, function: PlotFunction, inputs: Sequence[str]) -> None:
        """Add a plot, or replace that of the same name; raises `ConfigError`."""
        load("allogger.plotting.posted", "plot")
        if not callable(function):
            raise ConfigError(f"the function of plot {name!r} is no function: {function!r:.80}")
        if isinstance(inputs, str) or not inputs or not all(isinstance(each, str) for each in inputs):
            raise ConfigError(f"the inputs of plot {name!r} are a list of keys, not {inputs!r:.80}")
        self._plots[name] = _Plot(name, function, tuple(inputs))
        self._inputs |= set(inputs)
        for key in inputs:
            self.remember(key)

    def remember(self, label: str) -> None:
        """Keep the numbers of *label* from now on."""
        self._histories.setdefault(label, History())

    def want(self, key: str) -> bool:
        """Return whether a plot shows *key*."""
        return key in self._inputs

    def see(self, label: str, step: Any, value: Any) -> None:
        """Take up a number that was summarized."""
        history = self._histories.get(label)
        if history is not None:
            # What is no number was told by the logger.
            with contextlib.suppress(Exception):
                history.add(int(step), float(plain(value)))  # type: ignore[arg-type]

    def see_static(self, key: str, value: Any) -> None:
        """Take up a static value."""
        self._static[key] = Observation(value, 0)

    def history(self, label: str) -> History:
        """Return the numbers of a label that is remembered."""
        return self._histories[label]

    def inputs(self, held: Mapping[str, Held]) -> Inputs:
        """Return what the plots are given."""
        found: dict[str, tuple[int, Observed | None]] = {}
        for key in self._inputs:
            if key in held:
                now = list(held[key].observations)
                found[key] = held[key].count, Observed.of(key, now) if now else None
            elif key in self._static:
                found[key] = 1, Observed.of(key, [self._static[key]])
            elif count := self._histories[key].count:
                found[key] = count, self._histories[key].observed(key)
        return found

    def draw(self, inputs: Inputs, step: int | None, number: int) -> None:
        """Draw each plot that has something new; files are called by *number*. Never raises."""
        for plot in list(self._plots.values()):
            if missing := [key for key in plot.inputs if key not in inputs]:
                names = ", ".join(map(repr, missing))
                what = f"plot {plot.name!r} needs {names}, which nobody has held or summarized yet"
                manager.accounts.tell_once(what)
                continue
            counts = tuple(inputs[key][0] for key in plot.inputs)
            shown = [observed for key in plot.inputs if (observed := inputs[key][1]) is not None]
            if counts != plot.drawn and len(shown) == len(plot.inputs):
                plot.drawn = counts
                self._draw(plot, shown, step, number)

    def _draw(self, plot: _Plot, inputs: Sequence[Observed], step: int | None, number: int) -> None:
        try:
            posted = load("allogger.plotting.posted", "plot")
            figure = posted.new_figure()
            plot.function(figure, *inputs)
            self._logger.log(figure, f"plots/{plot.name}", step, data_type="figure")
            logdir = self._logger.logdir
            if self._saves_files and logdir is not None:
                posted.save(figure, logdir / PLOTS, f"{file_name(plot.name)}-{number:06d}")
        except Exception as error:
            what = f"plot {plot.name!r} cannot be drawn: {type(error).__name__}: {words_of(error)}"
            manager.accounts.tell_once(what)
