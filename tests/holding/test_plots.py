"""Are the plots drawn of what was posted, when there is something new, and without harm to anything else?"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import allogger
from allogger.holding import HoldingLogger, Observed

pytest.importorskip("matplotlib", reason="plots need matplotlib")


@pytest.fixture
def root(tmp_path: Path) -> allogger.Logger:
    return allogger.basic_configure(tmp_path)


def names(logdir: Path) -> list[str]:
    return sorted(path.name for path in (logdir / "plots").iterdir())


def test_the_plots_that_are_built_in_are_logged_and_saved(root: allogger.Logger, tmp_path: Path) -> None:
    from PIL import Image

    holder = HoldingLogger(
        plots={
            "loss_curve": ["train/loss", "test/loss"],
            "weight_histogram": ["weights"],
            "panels": ["image", "answer", "labels"],
        },
        write_blacklist=["image"],
    )
    holder.hold(["no", "yes"], "labels", stride="static")
    holder.hold([0.0, 1.0], "labels", stride="static")
    with holder.training():
        for _ in holder.epochs(2):
            for _ in holder.steps(range(2)):
                holder.summarize(None, [("loss", 1 / holder.step)])
                holder.hold(np.eye(8), "image")
                holder.hold([0.5, 0.5], "answer")
            holder.summarize(None, [("loss", 0.5)], writer="test")
            holder.hold(np.arange(9.0), "weights", stride="epoch")
    allogger.close()

    run = allogger.open_run(tmp_path)
    assert run.keys("^root/plots/") == ["root/plots/loss_curve", "root/plots/panels", "root/plots/weight_histogram"]
    assert "root/image" not in run
    for key in run.keys("^root/plots/"):
        assert run.kinds[key] == "figure"
        assert run[key].step.tolist() == [1, 2]
        assert len(np.unique(run[key].value[0])) > 10
    expected = [f"{name}-00000{epoch}.png" for name in ("loss_curve", "panels", "weight_histogram") for epoch in (1, 2)]
    assert names(tmp_path) == expected
    with Image.open(tmp_path / "plots" / expected[0]) as picture:
        np.testing.assert_array_equal(np.asarray(picture)[:, :, :3], run["root/plots/loss_curve"].value[0])


def test_a_function_is_given_the_window_of_each_input(root: allogger.Logger) -> None:
    seen: list[tuple[Observed, ...]] = []
    holder = HoldingLogger(write_blacklist=["ragged"])
    holder.register_plot("own", lambda figure, *inputs: seen.append(inputs), ["x", "ragged", "train/loss"])
    for epoch in holder.epochs(2):
        for _ in holder.steps(range(3)):
            holder.hold(holder.step, "x")
            holder.hold(np.arange(holder.step), "ragged")
            holder.summarize(None, [("loss", epoch)])

    (_, _, first), (x, ragged, second) = seen
    assert (x.key, x.place.tolist(), x.value.tolist()) == ("x", [4, 5, 6], [4, 5, 6])
    assert [each.tolist() for each in ragged.value] == [[0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]]
    assert (first.place.tolist(), first.value.tolist()) == ([1, 2, 3], [1, 1, 1])
    assert second.value.tolist() == [1, 1, 1, 2, 2, 2]


def test_a_history_of_many_numbers_is_thinned_out(root: allogger.Logger) -> None:
    seen: list[Observed] = []
    holder = HoldingLogger(plot_files=False)
    holder.register_plot("own", lambda figure, loss: seen.append(loss), ["train/loss"])
    for step in range(20_000):
        holder.summarize(step, [("loss", float(step))])
    holder.post()

    assert 2000 < len(seen[0].place) < 5000
    assert seen[0].place.tolist() == seen[0].value.tolist()
    assert set(np.diff(seen[0].place)) == {8}


def test_a_plot_that_fails_and_one_that_lacks_an_input_are_told_once_and_harm_nothing(
    root: allogger.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = []
    holder = HoldingLogger(plot_files=False)
    holder.register_plot("broken", lambda figure, x: 1 / 0, ["x"])
    holder.register_plot("lacking", lambda figure, x, y: drawn.append("lacking"), ["x", "y"])
    holder.register_plot("good", lambda figure, x: drawn.append("good"), ["x"])
    for number in range(3):
        holder.hold(number, "x")
        holder.post()
    allogger.close()

    assert drawn == ["good"] * 3
    assert caplog.text.count("plot 'broken' cannot be drawn: ZeroDivisionError") == 1
    assert caplog.text.count("plot 'lacking' needs 'y', which nobody has held or summarized yet") == 1
    assert allogger.open_run(tmp_path)["root/x"].value.tolist() == [[0], [1], [2]]


def test_nothing_new_is_drawn_once(root: allogger.Logger, tmp_path: Path) -> None:
    holder = HoldingLogger(plots={"loss_curve": ["train/loss"], "panels": ["x"]})
    holder.on_epoch_begin()
    holder.summarize(1, [("loss", 0.5)])
    holder.hold(0.5, "x")
    for _ in range(3):
        holder.post()
    assert names(tmp_path) == ["loss_curve-000001.png", "panels-000001.png"]

    holder.hold(0.5, "x")
    holder.post()
    assert names(tmp_path) == ["loss_curve-000001.png", "panels-000001-2.png", "panels-000001.png"]


def test_drawing_changes_neither_logging_nor_pyplot(root: allogger.Logger, tmp_path: Path) -> None:
    had_pyplot = "matplotlib.pyplot" in sys.modules
    levels = logging.root.level, logging.getLogger("matplotlib").level
    holder = HoldingLogger(plots={"loss_curve": ["train/loss"]}, plot_files=False)
    holder.summarize(1, [("loss", 0.5)])
    holder.post()

    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot
    assert (logging.root.level, logging.getLogger("matplotlib").level) == levels
    assert not (tmp_path / "plots").exists()


def test_plots_are_cleared_with_the_run_and_a_strangers_file_is_not(tmp_path: Path) -> None:
    for _ in range(2):
        with allogger.run(tmp_path, default_path_exists="clear"):
            holder = HoldingLogger(plots={"loss_curve": ["train/loss"]})
            holder.summarize(1, [("loss", 0.5)])
            holder.post()
            (tmp_path / "plots" / "mine.png").touch()

    assert names(tmp_path) == ["loss_curve-000001.png", "mine.png"]


@pytest.mark.parametrize(("function", "inputs"), [("no function", ["x"]), (print, []), (print, "x"), (print, [1])])
def test_an_impossible_plot_is_an_error(function: Any, inputs: Any) -> None:
    with pytest.raises(allogger.ConfigError, match="'own'"):
        HoldingLogger().register_plot("own", function, inputs)
