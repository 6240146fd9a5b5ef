"""Braille: how is a picture of curves made of characters, each of them two dots wide and four high?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from allogger.cli.shown import number
from allogger.names import printable

__all__ = ["Line", "picture"]

Floats = NDArray[np.float64]
Dots = NDArray[np.bool_]

# The bit of each dot of a character, by row and column; Unicode counted the lowest row last.
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)
_BLANK = 0x2800
# Of 256 colours those that can be read on black and on white.
_COLOURS = (33, 208, 35, 160, 134, 172, 30, 200, 100, 67)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MIN_WIDTH, _MIN_HEIGHT = 20, 5


@dataclass(frozen=True, eq=False)
class Line:
    """What is drawn under one name: a line through *y*, NaN where it has gaps.

    Each point also covers what is between *low* and *high*, which are what it stands for; or, with *is_band*, these are
    a band around the line, drawn thinly.
    """

    name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    is_band: bool = False


def picture(
    lines: Sequence[Line],
    *,
    width: int,
    height: int,
    x_name: str = "step",
    logx: bool = False,
    logy: bool = False,
    has_colours: bool = True,
) -> str:
    """Return the *lines* as text of *width* columns and *height* rows; without colours each ends in a letter."""
    lines = [_scaled(line, logx, logy) for line in lines]
    x = _range([line.x for line in lines])
    y = _range([part for line in lines for part in (line.y, line.low, line.high) if part is not None])
    rows = max(height - len(lines) - 3, _MIN_HEIGHT)
    y_ticks = _ticks(*y, max(rows // 3, 3), logy)
    y_labels = {round((1 - _share(at, y)) * (rows - 1)): label for at, label in _labelled(y_ticks, logy, _tick)}
    margin = max(map(len, y_labels.values()), default=0) + 1
    columns = max(width - margin - 1, _MIN_WIDTH)
    masks = [_dots(line, x, y, columns, rows) for line in lines]
    ends = [] if has_colours or len(lines) == 1 else [_end(line, x, y, columns, rows) for line in lines]
    text = [_legend(index, line.name, width, has_colours, len(lines) == 1) for index, line in enumerate(lines)]
    cells = _cells(masks, has_colours, ends)
    text += [f"{y_labels.get(row, ''):>{margin - 1}} │{cells[row]}" for row in range(rows)]
    text.append(" " * margin + "└" + "─" * columns)
    text.append(" " * (margin + 1) + _x_axis(x, columns, logx, x_name))
    text.append(f"{printable(_X_TITLES.get(x_name, x_name)):>{margin + 1 + columns}}")
    return "\n".join(text)


_X_TITLES = {"relative": "time since the run began", "time": "time"}


def _scaled(line: Line, logx: bool, logy: bool) -> Line:
    """Return *line* with the logarithms of what is on a logarithmic axis; what has none is a gap."""

    def scaled(values: Floats | None, log: bool) -> Floats | None:
        if values is None or not log:
            return values
        with np.errstate(all="ignore"):
            return np.where(values > 0, np.log10(values), np.nan)

    x, y = scaled(line.x, logx), scaled(line.y, logy)
    assert x is not None
    assert y is not None
    return Line(line.name, x, y, scaled(line.low, logy), scaled(line.high, logy), line.is_band)


def _range(parts: Sequence[Floats]) -> tuple[float, float]:
    finite = [part[np.isfinite(part)] for part in parts]
    finite = [part for part in finite if len(part)]
    if not finite:
        return 0.0, 1.0
    low, high = min(float(part.min()) for part in finite), max(float(part.max()) for part in finite)
    if low < high:
        return low, high
    margin = abs(low) * 0.1 or 1.0
    most = float(np.finfo(np.float64).max)
    return max(low - margin, -most), min(high + margin, most)


def _share(at: float, of: tuple[float, float]) -> float:
    # Halves, or the width of a range of huge numbers would be infinite.
    return (at / 2 - of[0] / 2) / (of[1] / 2 - of[0] / 2)


# ----------------------------------------------------------------------------------------------------------------- dots


def _dots(line: Line, x: tuple[float, float], y: tuple[float, float], columns: int, rows: int) -> Dots:
    """Return which of the 2 x 4 dots of each character are set."""
    dots = np.zeros((rows * 4, columns * 2), bool)
    across, down = _places(line.x, x, columns * 2), _places(line.y, y, rows * 4)
    _join(dots, across[:-1], down[:-1], across[1:], down[1:])
    _join(dots, across, down, across, down)
    if line.low is not None and line.high is not None:
        low, high = _places(line.low, y, rows * 4), _places(line.high, y, rows * 4)
        if line.is_band:
            dots |= _band(across, low, high, dots.shape)
        else:
            _join(dots, across, low, across, high)
    return dots[::-1]


def _places(values: Floats, of: tuple[float, float], count: int) -> Floats:
    """Return the dot of each value, counted from the low end; NaN for what is none."""
    with np.errstate(all="ignore"):
        shares = (values / 2 - of[0] / 2) / (of[1] / 2 - of[0] / 2)
    return np.where(np.isfinite(shares), np.rint(shares * (count - 1)), np.nan)


def _join(dots: Dots, across: Floats, down: Floats, to_across: Floats, to_down: Floats) -> None:
    """Set the dots on straight lines between two points each; one whose end is NaN is left out."""
    found = np.stack([across, down, to_across, to_down])
    ends = found[:, np.isfinite(found).all(axis=0)].astype(np.int64)
    if not ends.size:
        return
    # Of a million values most lie on the same dots as others. As one number each they are quickly compared.
    sizes = (dots.shape[1], dots.shape[0], dots.shape[1], dots.shape[0])
    ends = np.stack(np.unravel_index(np.unique(np.ravel_multi_index(tuple(ends), sizes)), sizes))
    steps = np.maximum(np.abs(ends[2] - ends[0]), np.abs(ends[3] - ends[1]))
    each = np.repeat(np.arange(len(steps)), steps + 1)
    done = np.arange(len(each)) - np.repeat(np.cumsum(steps + 1) - (steps + 1), steps + 1)
    share = done / np.maximum(steps, 1)[each]
    on_row = np.rint(ends[1][each] + share * (ends[3] - ends[1])[each]).astype(np.int64)
    on_column = np.rint(ends[0][each] + share * (ends[2] - ends[0])[each]).astype(np.int64)
    dots[on_row, on_column] = True


def _band(across: Floats, low: Floats, high: Floats, shape: tuple[int, int]) -> Dots:
    """Return every fourth dot between *low* and *high*, in all columns from the first point to the last."""
    band = np.zeros(shape, bool)
    known = np.isfinite(across) & np.isfinite(low) & np.isfinite(high)
    if not known.any():
        return band
    places = across[known]
    columns = np.arange(places.min(), places.max() + 1)
    order = np.argsort(places, kind="stable")
    bottom = np.interp(columns, places[order], low[known][order])
    top = np.interp(columns, places[order], high[known][order])
    height = np.arange(shape[0])[:, None]
    inside = (height >= np.rint(bottom)) & (height <= np.rint(top))
    grid = (height + columns.astype(np.int64)) % 4 == 0
    band[:, columns.astype(np.int64)] = inside & grid & (columns.astype(np.int64) % 2 == 0)
    return band


# ----------------------------------------------------------------------------------------------------------- characters


def _end(line: Line, x: tuple[float, float], y: tuple[float, float], columns: int, rows: int) -> tuple[int, int]:
    """Return the row and column of the character in which a line ends."""
    across, down = _places(line.x, x, columns), _places(line.y, y, rows)
    known = np.flatnonzero(np.isfinite(across) & np.isfinite(down))
    if not len(known):
        return -1, -1
    return rows - 1 - int(down[known[-1]]), int(across[known[-1]])


def _cells(masks: Sequence[Dots], has_colours: bool, ends: Sequence[tuple[int, int]]) -> list[str]:
    rows, columns = masks[0].shape[0] // 4, masks[0].shape[1] // 2
    bits = np.zeros((rows, columns), np.uint8)
    owner = np.full((rows, columns), -1)
    for index, mask in enumerate(masks):
        its = (mask.reshape(rows, 4, columns, 2) * _BITS[None, :, None, :]).sum(axis=(1, 3)).astype(np.uint8)
        bits |= its
        owner[its > 0] = index
    letters = {end: _LETTERS[index % len(_LETTERS)] for index, end in enumerate(ends)}
    text = []
    for row in range(rows):
        line, colour = "", -1
        for column, (its, whose) in enumerate(zip(bits[row].tolist(), owner[row].tolist(), strict=True)):
            if has_colours and whose not in (colour, -1):
                line, colour = line + _colour(whose), whose
            line += letters.get((row, column)) or (chr(_BLANK + its) if its else " ")
        text.append(line.rstrip() + ("\x1b[0m" if colour >= 0 else ""))
    return text


def _colour(index: int) -> str:
    return f"\x1b[38;5;{_COLOURS[index % len(_COLOURS)]}m"


def _legend(index: int, name: str, width: int, has_colours: bool, is_only: bool) -> str:
    shown = printable(name)
    shown = shown if len(shown) <= width - 4 else "..." + shown[-(width - 7) :]
    if has_colours:
        return f"{_colour(index)}⣿⣿\x1b[0m {shown}"
    return shown if is_only else f"{_LETTERS[index % len(_LETTERS)]}: {shown}"


# ----------------------------------------------------------------------------------------------------------------- axes


def _ticks(low: float, high: float, count: int, log: bool) -> list[float]:
    """Return about *count* round numbers from *low* to *high*; of logarithms whole ones, if there are some."""
    if log and math.floor(high) - math.ceil(low) >= 1:
        every = math.ceil((math.floor(high) - math.ceil(low) + 1) / count)
        return [float(power) for power in range(math.ceil(low), math.floor(high) + 1, every)]
    rough = (high / 2 - low / 2) / count * 2
    power = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 0.0
    size = next((power * unit for unit in (1, 2, 5) if power * unit >= rough), power * 10)
    if not size or not math.isfinite(size):
        return [low, high]
    first, last = math.ceil(low / size), math.floor(high / size)
    if last - first > 2 * count:  # the numbers are so large that they differ in their last digits only
        return [low, high]
    return [step * size for step in range(first, last + 1)]


def _tick(at: float) -> str:
    return number(int(at) if abs(at) < 1e15 and at == int(at) else at)


def _labelled(ticks: Sequence[float], log: bool, shown: Callable[[float], str]) -> list[tuple[float, str]]:
    return [(at, shown(_power_of_ten(at) if log else at)) for at in ticks]


def _power_of_ten(power: float) -> float:
    try:
        return float(10**power)
    except OverflowError:  # the edge around a single value
        return math.inf


def _x_axis(x: tuple[float, float], columns: int, log: bool, x_name: str) -> str:
    shown: Callable[[float], str] = _tick
    ticks = _ticks(*x, max(columns // 16, 2), log)
    if x_name == "time" and not log:
        shown = _clock(x)
    elif x_name == "relative" and not log:
        factor, unit = next(((f, u) for f, u in _SPANS if x[1] >= 2 * f), _SPANS[-1])
        ticks = [at * factor for at in _ticks(x[0] / factor, x[1] / factor, max(columns // 16, 2), log)]

        def shown(at: float) -> str:
            return f"{_tick(at / factor)} {unit}"

    line = ""
    for at, label in _labelled(ticks, log, shown):
        place = max(round(_share(at, x) * (columns - 1)) - len(label) // 2, 0)
        place = min(place, columns - len(label))
        if place >= len(line) + 2 or not line:
            line = line.ljust(place) + label
    return line


_SPANS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


# The longest span in seconds, and what of the time tells its points apart.
_CLOCKS = ((600, "%H:%M:%S"), (86_400, "%H:%M"), (432_000, "%d %b %H:%M"), (math.inf, "%Y-%m-%d"))


def _clock(x: tuple[float, float]) -> Callable[[float], str]:
    form = next(form for most, form in _CLOCKS if x[1] - x[0] <= most)

    def shown(at: float) -> str:
        try:
            return datetime.fromtimestamp(at).strftime(form)
        except (OverflowError, ValueError, OSError):
            return number(at)

    return shown
