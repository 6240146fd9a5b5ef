"""Xarray: a series as a DataArray with the steps as its first axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

if TYPE_CHECKING:
    from allogger.series import Series

__all__ = ["array_of"]


def array_of(series: Series) -> xr.DataArray:
    """Return the values over the coordinates ``step``, ``time`` and ``process``; the other axes are ``dim_1``, ..."""
    dims = ["step", *(f"dim_{n}" for n in range(1, series.value.ndim))]
    coords = {"step": series.step, "time": ("step", series.time), "process": ("step", series.process)}
    return xr.DataArray(series.value, coords, dims, name=series.key, attrs=dict(series.meta))
