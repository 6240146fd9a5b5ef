"""Does a picture made of braille characters show what the numbers are?"""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from allogger.cli.braille import Line, picture

NAN = float("nan")
FLOATS = st.floats(width=64)


def drawn(y: list[float], x: list[float] | None = None, **options: object) -> list[str]:
    """Return the rows of the picture of one curve, without the axes."""
    line = Line("curve", np.array(x if x is not None else range(len(y)), float), np.array(y, float))
    text = picture([line], **{"width": 60, "height": 14, "has_colours": False, **options})  # type: ignore[arg-type]
    return [row.partition("│")[2] for row in text.splitlines() if "│" in row]


def columns(rows: list[str]) -> set[int]:
    return {place for row in rows for place, c in enumerate(row) if c != " "}


def test_a_line_goes_from_corner_to_corner() -> None:
    rows = drawn([0.0, 1.0])

    ends = [columns([row]) for row in rows]
    assert max(ends[0]) == max(columns(rows))
    assert min(ends[-1]) == 0
    assert columns(rows) == set(range(max(columns(rows)) + 1))


def test_nan_is_a_gap() -> None:
    rows = drawn([1.0, 1.0, NAN, NAN, 1.0, 1.0])

    seen = columns(rows)
    assert min(seen) == 0
    assert max(np.diff(sorted(seen))) > 10


def test_a_point_alone_is_seen() -> None:
    assert len(columns(drawn([NAN, 3.0, NAN]))) == 1
    assert len(columns(drawn([3.0]))) == 1


def test_low_and_high_of_a_point_are_seen() -> None:
    x, y = np.arange(9.0), np.zeros(9)
    line = Line("x", x, y, np.where(x == 4, -5.0, 0.0), np.where(x == 4, 5.0, 0.0))

    rows = picture([line], width=60, height=14, has_colours=False).splitlines()[1:-3]

    assert all(any(0x2800 < ord(c) < 0x2900 for c in row) for row in rows)


def test_a_power_law_is_straight_on_logarithmic_axes_and_has_round_labels() -> None:
    x = [10**power for power in np.linspace(0, 4, 50)]
    line = Line("x", np.array(x), np.array(x) ** -1.0)

    text = picture([line], width=80, height=20, logx=True, logy=True, has_colours=False)

    rows = [row.partition("│")[2] for row in text.splitlines() if "│" in row]
    middles = [np.mean(sorted(columns([row]))) for row in rows]
    assert np.ptp(np.diff(middles)) < 2
    labels = re.findall(r"^ *(\S+) │", text, re.MULTILINE)
    assert labels == ["1", "0.1", "0.01", "0.001", "0.0001"]
    assert text.splitlines()[-2].split() == ["1", "100", "10,000"]


def test_what_has_no_logarithm_is_a_gap() -> None:
    assert len(columns(drawn([-1.0, 0.0, 10.0, 10.0], logy=True))) < 30


@pytest.mark.parametrize(
    ("x_name", "end", "label"),
    [
        ("step", 2e6, "1,000,000"),
        ("relative", 7200.0, "1.5 h"),
        ("relative", 3 * 86400.0, "2 d"),
        ("loss", 0.02, "0.01"),
    ],
)
def test_the_x_axis_has_units(x_name: str, end: float, label: str) -> None:
    line = Line("x", np.array([0.0, end]), np.array([0.0, 1.0]))

    assert label in picture([line], width=80, height=14, x_name=x_name, has_colours=False)


def test_wall_time_is_shown_as_clocks_show_it() -> None:
    line = Line("x", 1_700_000_000 + np.array([0.0, 3600.0]), np.array([0.0, 1.0]))

    assert re.search(r"\d\d:\d\d +\d\d:\d\d", picture([line], width=80, height=14, x_name="time", has_colours=False))


@settings(max_examples=200, deadline=None)
@given(
    points=st.lists(st.tuples(FLOATS, FLOATS), max_size=30),
    width=st.integers(0, 200),
    height=st.integers(0, 50),
    logs=st.tuples(st.booleans(), st.booleans()),
    x_name=st.sampled_from(["step", "time", "relative", "a\nb"]),
)
@example([], 80, 20, (False, False), "step")
@example([(0.0, 1.7e308), (1.0, -1.7e308)], 80, 20, (False, False), "relative")
@example([(5e-324, 5e-324), (1e-323, 0.0)], 80, 20, (True, True), "time")
@example([(0.0, 1.7e308)], 0, 0, (False, False), "step")
@example([(0.0, 1.7e308)], 0, 0, (True, True), "step")
@example([(1e300, 1.0), (-1e300, 2.0)], 80, 20, (False, False), "time")
def test_whatever_the_numbers_are_there_is_a_picture(
    points: list[tuple[float, float]], width: int, height: int, logs: tuple[bool, bool], x_name: str
) -> None:
    x, y = np.array(points, float).reshape(-1, 2).T
    line = Line("a\x1b[31m", x, y, y, y)

    text = picture([line, line], width=width, height=height, x_name=x_name, logx=logs[0], logy=logs[1])

    rows = text.splitlines()
    assert len(rows) == max(height - 5, 5) + 5
    assert "\x1b[31m" not in text
