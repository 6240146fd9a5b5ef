"""Html: how do runs and series show themselves in a notebook, without JavaScript and without a network?"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from allogger.errors import AlloggerError

if TYPE_CHECKING:
    from allogger.curves import Curve
    from allogger.series import Series
    from allogger.store import Run

__all__ = ["run_html", "runs_html", "series_html"]

_MAX_KEYS, _MAX_RUNS, _MAX_PARAMS, _MAX_TEXT = 20, 30, 6, 80
_MAX_COLUMNS = 4
# What XML has no place for.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COLOUR = "#1f77b4"
_LEFT, _RIGHT = "text-align:left", "text-align:right"
_NOTHING = "–"  # noqa: RUF001  # a dash, as tables have it


def run_html(run: Run) -> str:
    """Return a table of the keys of a run, with their last values and small curves, as an HTML fragment."""
    keys = run.keys()
    rows = [_key_row(run, key) for key in keys[:_MAX_KEYS]]
    began = _when(run.began)
    facts = [run.state, *([f"began {began}"] if began else []), _count(len(keys), "key")]
    if len(run.processes) > 1:
        facts.append(_count(len(run.processes), "process", "processes"))
    if run.damage:
        facts.append(_count(len(run.damage), "damaged place"))
    more = f"<p>and {len(keys) - _MAX_KEYS} more keys</p>" if len(keys) > _MAX_KEYS else ""
    table = _table(["key", "kind", "values", "last step", "last", "min", "max", ""], rows, 2) if rows else ""
    return f"<div>{_title('Run', str(run.logdir), facts)}{table}{more}</div>"


def _key_row(run: Run, key: str) -> list[str]:
    kind = run.kinds[key]
    try:
        found = run.summary(key)
        numbers = [
            str(found.count),
            _number(found.last_step),
            _value(found.last),
            *map(_number, (found.min, found.max)),
        ]
        curve = _picture(lambda: run.curve(key, points=150)) if found.min is not None else ""
    except AlloggerError as error:
        return [_text(key), _text(kind), _text(str(error)), *[""] * 5]
    return [_text(key), _text(kind), *numbers, curve]


def series_html(series: Series) -> str:
    """Return the ends and extremes of a series in a table, and its curve if it has numbers, as an HTML fragment."""
    found = series.summary()
    names = ["values", "steps", "first", "last", "min", "max", "mean"]
    steps = f"{_number(found.first_step)} … {_number(found.last_step)}" if found.count else ""
    cells = [str(found.count), steps, _value(found.first), _value(found.last)]
    cells += [_number(number) for number in (found.min, found.max, found.mean)]
    curve = ""
    if found.min is not None:
        span = float(series.step.min()), float(series.step.max())
        curve = _picture(lambda: series.curve().binned(600), 480, 140, span)
    facts = [
        series.kind,
        str(series.value.dtype),
        *(["x".join(map(str, series.value.shape[1:]))] * (series.value.ndim > 1)),
    ]
    return f"<div>{_title('Series', series.key, facts)}{_table(names, [cells], 0)}{curve}</div>"


def runs_html(runs: Sequence[Run]) -> str:
    """Return a table of runs with their states, parameters and some last values, as an HTML fragment."""
    from allogger.comparing import flattened

    shown = list(runs[:_MAX_RUNS])
    params = [flattened(run.params) for run in shown]
    names = list(dict.fromkeys(name for its in params for name in its))[:_MAX_PARAMS]
    keys = _common_keys(shown)
    rows = [
        [
            _text(str(run.logdir)),
            _text(run.state),
            _text(_when(run.began)),
            str(len(run)),
            *(_value(its[name]) if name in its else "" for name in names),
            *(_last(run, key) for key in keys),
        ]
        for run, its in zip(shown, params, strict=True)
    ]
    heads = ["run", "state", "began", "keys", *names, *(f"last {key}" for key in keys)]
    more = f"<p>and {len(runs) - _MAX_RUNS} more runs</p>" if len(runs) > _MAX_RUNS else ""
    return f"<div>{_title('Runs', _count(len(runs), 'run'), [])}{_table(heads, rows, 3) if rows else ''}{more}</div>"


def _common_keys(runs: Sequence[Run]) -> list[str]:
    """Return some keys of numbers, those that most runs have first."""
    counts: dict[str, int] = {}
    for run in runs:
        for key, kind in run.kinds.items():
            if kind == "scalar":
                counts[key] = counts.get(key, 0) + 1
    return sorted(sorted(counts, key=lambda key: (-counts[key], key))[:_MAX_COLUMNS])


def _last(run: Run, key: str) -> str:
    try:
        return _value(run.summary(key).last) if key in run else ""
    except AlloggerError:
        return _NOTHING  # has been told


# -------------------------------------------------------------------------------------------------------------- pieces


def _title(what: str, name: str, facts: Iterable[str]) -> str:
    return f"<p><b>{what}</b> {_text(name)} {_text(' · '.join(['', *facts]).strip())}</p>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    """Return a table whose first *texts* columns are texts; *rows* are HTML, *heads* are not."""
    sides = [_LEFT if column < texts else _RIGHT for column in range(len(heads))]
    head = "".join(f'<th style="{side}">{_text(name)}</th>' for side, name in zip(sides, heads, strict=True))
    body = "".join(
        "<tr>" + "".join(f'<td style="{side}">{cell}</td>' for side, cell in zip(sides, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(text: str) -> str:
    shown = text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT // 2]}…{text[-_MAX_TEXT // 2 :]}"
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", shown))


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, np.ndarray) and value.ndim:
        return _text(f"{value.dtype} {'x'.join(map(str, value.shape))}")
    return _number(value.item() if isinstance(value, np.ndarray | np.generic) else value)


def _number(number: Any) -> str:
    if number is None:
        return _NOTHING
    if isinstance(number, float):
        return f"{number:.6g}"
    return _text(str(number))


def _count(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _when(time: float) -> str:
    try:
        return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return ""


# -------------------------------------------------------------------------------------------------------------- curves


def _picture(
    curve: Callable[[], Curve], width: int = 120, height: int = 24, span: tuple[float, float] | None = None
) -> str:
    """Return a curve as SVG; with *span*, the ends of the x-axis, those of both axes stand beside it."""
    try:
        found = curve()
    except AlloggerError:
        return ""
    x, y = _outline(found)
    is_shown = np.isfinite(x) & np.isfinite(y)
    if not is_shown.any():
        return ""
    first, last = span or (float(x[is_shown].min()), float(x[is_shown].max()))
    low, high = float(y[is_shown].min()), float(y[is_shown].max())
    left, bottom = (70, 18) if span else (2, 2)
    places = _scaled(x, first, last, left, width - 4), _scaled(y, low, high, height - bottom, 4)
    stroke = f'fill="none" stroke="{_COLOUR}" stroke-width="1.2" stroke-linejoin="round"'
    drawn = f'<path d="{_path(*places, is_shown)}" {stroke} stroke-linecap="round"/>'
    labels = _labels(found.x_name, (first, last, low, high), left, width, height) if span else ""
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{labels}{drawn}</svg>'


def _outline(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a line that covers all values that the points stand for."""
    if curve.low is None or curve.high is None:
        return curve.x, curve.y
    return np.repeat(curve.x, 2), np.stack([curve.low, curve.high], axis=1).ravel()


def _scaled(values: NDArray[np.float64], low: float, high: float, start: float, end: float) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        # Halves, because the width of the largest numbers is no number.
        width = high / 2 - low / 2
        share = (values / 2 - low / 2) / width if width > 0 else np.full(len(values), 0.5)
    return start + share * (end - start)


def _path(x: NDArray[np.float64], y: NDArray[np.float64], is_shown: NDArray[np.bool_]) -> str:
    """Return the ``d`` of an SVG path through the points, with gaps where nothing is shown."""
    return "".join(_steps(x.tolist(), y.tolist(), is_shown.tolist()))


def _steps(x: Sequence[float], y: Sequence[float], is_shown: Sequence[bool]) -> Iterator[str]:
    begins = True
    for place, value, shown in zip(x, y, is_shown, strict=True):
        if shown:
            # A point alone is a line to itself, which round ends make visible.
            yield f"M{place:.1f},{value:.1f}L{place:.1f},{value:.1f}" if begins else f"L{place:.1f},{value:.1f}"
        begins = not shown


def _labels(x_name: str, ends: Sequence[float], left: int, width: int, height: int) -> str:
    first, last, low, high = (f"{end:.6g}" if math.isfinite(end) else "" for end in ends)
    line = f'<path d="M{left - 3},2V{height - 15}H{width - 2}" fill="none" stroke="currentColor" stroke-opacity="0.4"/>'
    texts = [
        (left - 6, 11, "end", high),
        (left - 6, height - 16, "end", low),
        (left, height - 3, "start", first),
        ((left + width) / 2, height - 3, "middle", x_name),
        (width - 4, height - 3, "end", last),
    ]
    return line + "".join(
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="10" fill="currentColor">{_text(text)}</text>'
        for x, y, anchor, text in texts
    )
