"""Plots: what can be drawn of a run, of a series, and of several runs?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes

from allogger.comparing import By
from allogger.errors import ConfigError, NoSuchKey
from allogger.kind import PICTURES
from allogger.plotting.bands import Band, draw_bands
from allogger.plotting.curves import curve_of, distinct, draw_curve, draw_curves, set_colours
from allogger.plotting.figures import Options, Smooth, finish, last_part, new_axes, plain
from allogger.plotting.pictures import draw_histogram, draw_images

if TYPE_CHECKING:
    from allogger.series import Series
    from allogger.store import Run

__all__ = ["plot_run", "plot_runs", "plot_series"]

_MAX_AXES = 40
_DRAWN = ("mixed", "scalar", "histogram", *PICTURES)


def plot_run(
    run: Run,
    pattern: str | None = None,
    x: str = "step",
    *,
    smooth: Smooth | None = None,
    points: int = 2000,
    logx: bool = False,
    logy: bool = False,
    ax: Axes | None = None,
) -> Any:
    """Draw the keys in which *pattern* is found; return the axes: one, or an array of them.

    Curves whose keys end alike (``train/loss``, ``val/loss``) share axes; histograms become a map over the steps, of
    images some are shown. With *ax*, all curves go there. The other options are those of `Options`. In a program that
    uses pyplot the figure is one of pyplot's; otherwise it belongs to nobody else and ``axes.figure.savefig`` keeps it.
    """
    options = Options(x, smooth, points, logx, logy)
    keys = [key for key in run.keys(pattern) if _has_picture(run, key)]
    if not keys:
        what = f"that match {pattern!r} " if pattern else ""
        raise NoSuchKey(f"{str(run.logdir)!r} has no keys {what}of which there is a picture")
    if ax is not None:
        curves = [key for key in keys if run.kinds[key] in ("scalar", "mixed")]
        if len(keys) == 1 and not curves:
            _draw_group(ax, run, keys, options)
        else:
            draw_curves(ax, run, curves, options)
        return ax
    groups = _groups(run, keys)
    if len(groups) > _MAX_AXES:
        raise ConfigError(f"{len(keys)} keys would take {len(groups)} axes; choose some with a pattern")
    axes = new_axes(len(groups))
    for place, group in zip(axes.flat, groups, strict=False):
        _draw_group(place, run, group, options)
    if len(groups) > 1:
        axes.flat[0].figure.suptitle(plain(run.logdir.name), x=0.01, ha="left", weight="bold")
    return axes.flat[0] if len(groups) == 1 else axes


def plot_series(
    series: Series,
    x: str = "step",
    *,
    smooth: Smooth | None = None,
    points: int = 2000,
    logx: bool = False,
    logy: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw one series of numbers; return the axes. The options are those of `plot_run`."""
    options = Options(x, smooth, points, logx, logy)
    ax = ax if ax is not None else new_axes(1).flat[0]
    draw_curve(ax, series.curve(x).binned(points) if len(series) > points else series.curve(x), options, None)
    unit = series.meta.get("unit")
    finish(ax, series.key, f"{last_part(series.key)} ({unit})" if unit else last_part(series.key), options)
    return ax


def plot_runs(
    runs: Sequence[Run],
    key: str,
    by: By | None = None,
    band: Band | None = "std",
    x: str = "step",
    *,
    smooth: Smooth | None = None,
    grid: int = 500,
    points: int = 2000,
    logx: bool = False,
    logy: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw one key of several runs; return the axes.

    Without *by*, a curve for each run. With it, a curve and a band for each group of runs, as `aggregate` makes them:
    ``by="seed"`` puts together what differs in nothing but the seed. *band*: ``"std"`` (mean and standard deviation),
    ``"iqr"`` (median and quartiles), ``"minmax"``, ``"ci95"`` (95 % interval of the mean) or None.
    *grid*: over another *x* than the step, the runs are compared at so many places.
    """
    options = Options(x, smooth, points, logx, logy)
    ax = ax if ax is not None else new_axes(1).flat[0]
    having = [run for run in runs if key in run]
    if not having:
        raise NoSuchKey(f"none of {len(runs)} runs has values of {key!r}")
    if by is None:
        set_colours(ax, len(having))
        for name, run in zip(distinct([str(run.logdir) for run in having]), having, strict=True):
            draw_curve(ax, curve_of(run, key, options), options, name)
        title = key
    else:
        title = draw_bands(ax, having, key, by, band, grid, options)
    finish(ax, title, last_part(key), options)
    return ax


def _has_picture(run: Run, key: str) -> bool:
    kind = run.kinds[key]
    # Complex numbers, and numbers mixed with texts, have no curve.
    return kind in _DRAWN and (kind in ("histogram", *PICTURES) or run.summary(key).min is not None)


def _groups(run: Run, keys: Sequence[str]) -> list[list[str]]:
    """Return the keys that share axes: curves of one name; anything else has axes of its own."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        is_curve = run.kinds[key] in ("scalar", "mixed")
        groups.setdefault(last_part(key) if is_curve else f"{key}/", []).append(key)
    # The curves first.
    return sorted(groups.values(), key=lambda keys: _DRAWN.index(run.kinds[keys[0]]))


def _draw_group(ax: Axes, run: Run, keys: Sequence[str], options: Options) -> None:
    kind = run.kinds[keys[0]]
    if kind == "histogram":
        draw_histogram(ax, run, keys[0])
    elif kind in PICTURES:
        draw_images(ax, run, keys[0])
    else:
        draw_curves(ax, run, keys, options)
