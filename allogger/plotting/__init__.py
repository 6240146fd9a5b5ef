"""Plotting: what do series, runs and groups of runs look like? The one package that imports matplotlib."""

from __future__ import annotations

from allogger.plotting.plots import plot_run, plot_runs, plot_series

__all__ = ["plot_run", "plot_runs", "plot_series"]
