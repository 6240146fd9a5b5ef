"""Plotting: does a picture show what was logged, and does drawing leave the program as it was?"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh

import allogger
from allogger.errors import ConfigError, MissingDependency, NoSuchKey, UnknownName
from allogger.manager import manager
from allogger.plotting import plot_run, plot_runs, plot_series
from allogger.plotting.curves import distinct, smoothed
from allogger.series import Series
from allogger.store import Runs
from allogger.testing.rows import ODD_NAMES


def a_run(logdir: Path, log: Callable[[Any], None], scope: str = "main") -> allogger.Run:
    with allogger.run(logdir, ["hdf"]):
        log(allogger.get_logger(scope))
    manager.reset()
    return allogger.open_run(logdir)


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    """Where another test has imported pyplot, figures are pyplot's, which keeps them."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def run(tmp_path: Path) -> allogger.Run:
    def log(logger: Any) -> None:
        for step in range(100):
            logger.log(np.cos(step / 10), "train/loss", step)
            logger.log(1.5 * np.cos(step / 10), "valid/loss", step)
            logger.log(32 * step, "samples", step)
            logger.log("a text", "note", step)
        for step in range(5):
            logger.log(np.arange(100.0) + step, "weights", step)
            logger.log(np.full((4, 6, 3), step, np.uint8), "picture", step)

    return a_run(tmp_path / "run", log)


def drawn(ax: Axes) -> None:
    ax.figure.canvas.draw()  # type: ignore[union-attr]


def test_curves_of_one_name_share_axes_with_a_legend_beside_the_data(run: allogger.Run) -> None:
    axes = run.plot("loss|samples|weights|picture")

    assert [ax.get_title(loc="left").split(" (")[0] for ax in axes] == [
        *("main/samples", "loss", "main/weights", "main/picture"),
    ]
    samples, loss, _, _ = axes
    assert [line.get_ydata()[10] for line in loss.lines] == [np.cos(1), 1.5 * np.cos(1)]
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("step", "loss")
    legend = loss.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["train", "valid"]
    assert samples.get_legend() is None
    drawn(loss)
    assert not legend.get_window_extent().overlaps(loss.get_window_extent())


def test_a_single_group_gives_single_axes(run: allogger.Run) -> None:
    ax = run.plot("train/loss")

    assert isinstance(ax, Axes)
    assert ax.get_title(loc="left") == "main/train/loss"


def test_what_is_drawn_over_another_key_lies_at_its_values(run: allogger.Run) -> None:
    (line,) = run.plot("train/loss", x="samples").lines

    assert line.get_xdata().tolist() == [32 * step for step in range(100)]


@pytest.mark.parametrize(
    ("seconds", "unit", "last"),
    [(0.2, "ms", 200), (90, "s", 90), (1800, "min", 30), (36000, "h", 10), (864000, "d", 10)],
)
def test_times_have_a_unit_that_suits_them(seconds: float, unit: str, last: float) -> None:
    times = np.linspace(0, seconds, 5)
    series = Series("main/x", "scalar", np.arange(5), times, np.arange(5.0), np.full(5, "MainProcess", object))

    ax = plot_series(series, "relative")

    assert ax.get_xlabel() == f"time since the start ({unit})"
    assert ax.lines[0].get_xdata()[-1] == pytest.approx(last)


def test_wall_times_are_dates(run: allogger.Run) -> None:
    ax = run.plot("train/loss", x="time")

    drawn(ax)
    assert ax.get_xlabel() == "time (UTC)"
    first = run["main/train/loss"].time[0]
    assert ax.lines[0].get_xdata()[0].astype("M8[us]").astype(int) == pytest.approx(first * 1e6, abs=1)


def test_many_curves_have_different_colours_and_a_legend_that_ends(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", lambda logger: [logger.log(n, f"block{n}/x", n) for n in range(20)])

    ax = run.plot("x")

    assert len({str(line.get_color()) for line in ax.lines}) == 20
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [*(f"block{n}" for n in range(11)), "and 9 more"]


def test_a_smoothed_curve_has_the_raw_one_faintly_behind_it(run: allogger.Run) -> None:
    smooth, raw = run.plot("train/loss", smooth=0.9).lines

    assert raw.get_alpha() < 0.5
    assert raw.get_zorder() < smooth.get_zorder()
    assert raw.get_color() == smooth.get_color()
    assert smooth.get_ydata().tolist() == run.curve("main/train/loss").smooth(ema=0.9).y.tolist()
    window = run.plot("train/loss", smooth=7).lines[0]
    assert window.get_ydata().tolist() == run.curve("main/train/loss").smooth(window=7).y.tolist()


def test_what_happened_once_in_very_many_values_is_drawn(tmp_path: Path) -> None:
    values = np.zeros(300_000)
    values[123_456] = 7
    run = a_run(tmp_path / "run", lambda logger: [logger.log(value, "x") for value in values.tolist()])

    started = time.perf_counter()
    ax = run.plot()
    drawn(ax)

    (line,) = ax.lines
    assert len(line.get_ydata()) < 5000
    assert line.get_ydata().max() == 7
    assert abs(line.get_xdata()[np.argmax(line.get_ydata())] - 123_457) < 300_000 / 500
    assert time.perf_counter() - started < 5


def test_smoothing_few_points_is_like_smoothing_the_values_behind_them(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=100_000).cumsum()
    run = a_run(tmp_path / "run", lambda logger: [logger.log(value, "x") for value in values.tolist()])

    few = smoothed(run.curve("main/x", points=1000), 0.9999)
    all_of_them = run.curve("main/x").smooth(ema=0.9999)

    assert len(few) <= 1000
    there = np.interp(few.x[100:], all_of_them.x, all_of_them.y)
    assert np.abs(few.y[100:] - there).max() < 0.02 * np.ptp(values)


def test_histograms_are_a_map_over_the_steps(run: allogger.Run) -> None:
    ax = run.plot("weights")

    (mesh,) = [item for item in ax.collections if isinstance(item, QuadMesh)]
    share = np.ma.filled(mesh.get_array(), 0.0)
    np.testing.assert_allclose(np.nansum(share, axis=0), 1)
    assert ax.get_ylim() == (0.0, 103.0)


def test_images_are_shown_with_their_steps(run: allogger.Run) -> None:
    ax = run.plot("picture")

    assert len(ax.images) == 5
    assert [text.get_text() for text in ax.texts] == list("01234")
    np.testing.assert_allclose(np.asarray(ax.images[3].get_array())[0, 0], 3 / 255)


@pytest.mark.parametrize("value", [np.ones((3, 5, 7), np.float32), np.ones((5, 4), bool), np.zeros((5, 4, 1))])
def test_images_of_every_layout_can_be_drawn(value: Any, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", lambda logger: logger.log(value, "x", data_type="image"))

    ax = run.plot()

    drawn(ax)
    assert np.asarray(ax.images[0].get_array()).shape[2] == 3


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(
        [
            a_run(tmp_path / f"seed{seed}", lambda logger, seed=seed: [logger.log(seed + n, "x", n) for n in range(10)])
            for seed in range(5)
        ]
    )


@pytest.mark.parametrize(
    ("band", "low", "high"),
    [("std", 2 - np.sqrt(2.5), 2 + np.sqrt(2.5)), ("iqr", 1, 3), ("minmax", 0, 4), ("ci95", 0.0368, 3.9632)],
)
def test_the_band_of_a_group_is_what_it_says(band: str, low: float, high: float, runs: Runs) -> None:
    ax = runs.plot("main/x", by=lambda run: "all", band=band)

    (line,) = ax.lines
    (area,) = [item for item in ax.collections if isinstance(item, PolyCollection)]
    assert line.get_ydata()[0] == 2
    ends = area.get_paths()[0].vertices
    at_zero = ends[ends[:, 0] == 0, 1]
    assert (at_zero.min(), at_zero.max()) == pytest.approx((low, high), abs=1e-4)
    assert line.get_label() == "all (n=5)"


def test_without_groups_each_run_has_a_curve(runs: Runs) -> None:
    ax = runs.plot("main/x")

    assert [line.get_label() for line in ax.lines] == [f"seed{n}" for n in range(5)]


def test_groups_over_time_are_compared_on_a_grid(runs: Runs) -> None:
    ax = plot_runs(runs, "main/x", by=lambda run: "all", x="relative", grid=20)

    assert len(ax.lines[0].get_ydata()) == 20


def test_a_series_draws_itself(run: allogger.Run) -> None:
    ax = plot_series(run["main/train/loss"], logy=True)

    assert ax.lines[0].get_ydata().tolist() == run["main/train/loss"].value.tolist()
    assert ax.get_yscale() == "log"
    assert run["main/train/loss"].plot(ax=ax) is ax
    assert len(ax.lines) == 2


def test_drawing_changes_nothing_for_the_program(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    result = run_python(
        """
        import allogger
        with allogger.run("run", ["hdf"]) as root:
            root.log(1.0, "x")
            root.log(2.0, "x")
        import matplotlib, sys
        before = dict(dict.items(matplotlib.rcParams))
        ax = allogger.open_run("run").plot()
        ax.figure.savefig("x.png")
        assert "matplotlib.pyplot" not in sys.modules
        assert dict(dict.items(matplotlib.rcParams)) == before
        """
    )

    assert result.returncode == 0, result.stderr
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_where_pyplot_is_in_use_the_figure_is_one_of_its_own(run: allogger.Run, monkeypatch: Any) -> None:
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: pytest.fail("shown"))
    ax = plot_run(run, "train")

    assert plt.gcf() is ax.figure
    plt.close("all")
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot")
    plot_run(run, "train")
    assert not plt.get_fignums()


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_every_name_can_be_drawn(tmp_path: Path) -> None:
    def log(logger: Any) -> None:
        for name in (*ODD_NAMES, "$x$", "$", "_hidden", "a" * 200, r"\frac"):
            logger.log(1.0, f"{name}x")
            logger.log(2.0, f"{name}x")

    run = a_run(tmp_path / "run", log)

    drawn(np.ravel(run.plot())[0])


def test_nan_and_infinity_are_gaps(tmp_path: Path) -> None:
    values = [1.0, np.nan, np.inf, 2.0, -np.inf, 3.0]
    run = a_run(tmp_path / "run", lambda logger: [logger.log(value, "x") for value in values])
    none = a_run(tmp_path / "none", lambda logger: logger.log(np.nan, "x"))

    for ax in (run.plot(), run.plot(smooth=0.5), none.plot(), none.plot(x="time")):
        drawn(ax)


def test_what_cannot_be_drawn_is_said(run: allogger.Run, runs: Runs) -> None:
    with pytest.raises(NoSuchKey, match=r"no keys that match 'los\+x'"):
        run.plot("los+x")
    with pytest.raises(NoSuchKey, match="no keys that match 'note'"):
        run.plot("note")
    with pytest.raises(NoSuchKey, match="none of 5 runs"):
        runs.plot("main/y")
    with pytest.raises(UnknownName, match="did you mean 'std'"):
        runs.plot("main/x", by=lambda run: "all", band="stdd")


def test_too_many_axes_are_refused(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", lambda logger: [logger.log(1, f"x{n}") for n in range(100)])

    with pytest.raises(ConfigError, match="100 keys would take 100 axes; choose some with a pattern"):
        run.plot()
    assert len(run.plot(ax=run.plot("x0$")).lines) == 101


def test_labels_say_what_differs() -> None:
    assert distinct(["main/train/loss", "main/valid/loss"]) == ["train", "valid"]
    assert distinct(["a/loss", "b/c/loss"]) == ["a", "b/c"]
    assert distinct(["runs/1", "runs/2"]) == ["1", "2"]
    assert distinct(["a/a/x", "a/x"]) == ["a/x", "x"]


def test_without_matplotlib_the_extra_is_named(run: allogger.Run, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    for module in [name for name in sys.modules if name.startswith("allogger.plotting")]:
        monkeypatch.delitem(sys.modules, module)

    with pytest.raises(MissingDependency, match=r"needs matplotlib; install it with: pip install 'allogger\[plot\]'"):
        run.plot()


def test_what_has_no_picture_does_not_keep_the_rest_from_being_drawn(tmp_path: Path) -> None:
    def log(logger: Any) -> None:
        logger.log(1j, "complex")
        logger.log(1, "mixed")
        logger.log("one", "mixed")
        logger.log(np.full(5, np.nan), "nothing")
        logger.log(np.zeros(0), "nothing")
        logger.log(np.full(5, 7), "same")
        logger.log(True, "flag")
        logger.log(2**63 - 1, "large")

    axes = a_run(tmp_path / "run", log).plot()

    drawn(axes[0])
    assert [ax.get_title(loc="left") for ax in axes] == [
        f"main/{name}" for name in ("flag", "large", "nothing", "same")
    ]
    assert [text.get_text() for text in axes[2].texts] == ["no finite numbers"]
