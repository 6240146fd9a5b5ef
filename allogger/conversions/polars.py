"""Polars: a series as a polars DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from allogger.series import Series

__all__ = ["frame_of"]


def frame_of(series: Series) -> pl.DataFrame:
    """Return one row per value: ``step``, ``time``, ``process``, ``value``; arrays of one shape as polars arrays."""
    value = series.value
    column = pl.Series("value", value) if value.dtype != object else _objects(list(value))
    process = pl.Series("process", series.process.tolist(), pl.String)
    return pl.DataFrame(
        [pl.Series("step", series.step), pl.Series("time", series.time), process, column.rename("value")]
    )


def _objects(values: list[object]) -> pl.Series:
    if all(isinstance(value, str) for value in values):
        return pl.Series("value", values, pl.String)
    return pl.Series("value", values, pl.Object)
