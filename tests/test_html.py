"""Html: is what a notebook shows well-formed, whole in itself, and safe whatever was logged?"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import allogger
from allogger.manager import manager
from allogger.series import Series
from allogger.store import Runs
from allogger.testing.rows import ODD_NAMES, ODD_VALUES

TAGS = set("div p b table thead tbody tr th td svg path text".split())
ATTRIBUTES = {
    *("style", "width", "height", "d", "x", "y", "fill", "font-size", "text-anchor"),
    *("stroke", "stroke-width", "stroke-opacity", "stroke-linejoin", "stroke-linecap"),
}
SVG = "{http://www.w3.org/2000/svg}"


def a_run(logdir: Path, log: Callable[[Any], None]) -> allogger.Run:
    with allogger.run(logdir, ["hdf"]):
        log(allogger.get_logger("main"))
    manager.reset()
    return allogger.open_run(logdir)


def parsed(html: str) -> ElementTree.Element:
    """Return the tree of a fragment, which is checked to be well-formed and to need nothing from elsewhere."""
    tree = ElementTree.fromstring(html)
    for element in tree.iter():
        assert element.tag.removeprefix(SVG) in TAGS
        assert set(element.keys()) <= ATTRIBUTES
        assert re.fullmatch("text-align:(left|right)|", element.get("style", ""))
    return tree


def rows(tree: ElementTree.Element) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in row] for row in tree.iter("tr")]


def test_a_run_shows_its_keys_with_last_values_and_curves(tmp_path: Path) -> None:
    def log(logger: Any) -> None:
        for step in range(10):
            logger.log(step / 4, "loss", step)
        logger.log("halved", "note", 3)
        logger.log(np.eye(2), "matrix", 5)

    html = a_run(tmp_path / "run", log)._repr_html_()

    tree = parsed(html)
    heads, *body = rows(tree)
    assert heads == ["key", "kind", "values", "last step", "last", "min", "max", ""]
    assert body == [
        ["main/loss", "scalar", "10", "9", "2.25", "0", "2.25", ""],
        ["main/matrix", "array", "1", "5", "float64 2x2", "–", "–", ""],  # noqa: RUF001
        ["main/note", "text", "1", "3", "halved", "–", "–", ""],  # noqa: RUF001
    ]
    assert len(list(tree.iter(f"{SVG}svg"))) == 1
    assert "finished" in html
    assert "3 keys" in html


def test_a_run_of_very_many_keys_is_cut_and_says_so(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", lambda logger: [logger.log(1, f"x{n:03}") for n in range(100)])

    assert len(rows(parsed(run._repr_html_()))) == 21
    assert "and 80 more keys" in run._repr_html_()


def test_a_series_shows_its_curve(tmp_path: Path) -> None:
    values = np.zeros(100_000)
    values[70_000] = 5
    run = a_run(tmp_path / "run", lambda logger: [logger.log(value, "x") for value in values.tolist()])

    html = run["main/x"]._repr_html_()

    tree = parsed(html)
    assert rows(tree)[1] == ["100000", "1 … 100000", "0", "0", "0", "5", "5e-05"]
    curve = list(tree.iter(f"{SVG}path"))[-1].get("d") or ""
    heights = [float(pair.split(",")[1]) for pair in re.findall(r"[\d.]+,[\d.]+", curve)]
    assert min(heights) == 4
    assert len(html) < 40_000


def test_runs_show_their_parameters_and_last_values(tmp_path: Path) -> None:
    runs = Runs([a_run(tmp_path / f"run{n}", lambda logger, n=n: logger.log(n, "loss")) for n in range(3)])

    heads, *body = rows(parsed(runs._repr_html_()))

    assert heads == ["run", "state", "began", "keys", "last main/loss"]
    assert [row[-1] for row in body] == ["0", "1", "2"]
    assert rows(parsed(Runs([])._repr_html_())) == []


def test_every_name_and_value_is_escaped(tmp_path: Path) -> None:
    bad = '"><script>alert(1)</script><img src=x onerror=alert(1)>'

    def log(logger: Any) -> None:
        for name in (*ODD_NAMES, bad):
            logger.log(1.0, name)
        for n, (kind, value) in enumerate(ODD_VALUES):
            allogger.get_logger("a").log(value, f"{n}{kind}", data_type=kind)
        allogger.get_logger(bad).log(bad, bad)

    run = a_run(tmp_path / "<run>&", log)

    parsed(Runs([run])._repr_html_())
    for start in range(0, len(run), 20):
        keys = run.keys()[start : start + 20]
        run.__dict__["keys"] = lambda pattern=None, keys=keys: keys
        parsed(run._repr_html_())
        del run.__dict__["keys"]
    for key in run:
        parsed(run[key]._repr_html_())


@given(st.lists(st.floats() | st.integers(-(2**63), 2**63 - 1).map(float), max_size=30), st.text())
def test_every_curve_is_well_formed(values: list[float], key: str) -> None:
    steps = np.arange(len(values))
    process = np.full(len(values), "MainProcess", object)
    series = Series(key, "scalar", steps, steps / 2, np.array(values, float), process)

    tree = parsed(series._repr_html_())

    for path in tree.iter(f"{SVG}path"):
        assert re.fullmatch(r"[MLVH\d.,-]+", path.get("d") or "")


def test_a_damaged_key_does_not_hide_the_others(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", lambda logger: [logger.log(np.full(9, n), "a", n) for n in range(3)])
    (file,) = (tmp_path / "run" / "events").glob("*.h5")
    file.write_bytes(file.read_bytes()[:-100])

    parsed(allogger.open_run(run.logdir)._repr_html_())


@pytest.mark.parametrize("values", [[1.0], [3.0, 3.0, 3.0], [np.nan], [np.nan, 1.0, np.nan], [-1.7e308, 1.7e308]])
def test_curves_of_few_or_extreme_values_are_drawn(values: list[float], tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", lambda logger: [logger.log(value, "x") for value in values])

    paths = [path.get("d") for path in parsed(run["main/x"]._repr_html_()).iter(f"{SVG}path")]

    assert len(paths) == (0 if np.isnan(values).all() else 2)
