"""FigureKind: is a figure kept as the picture that it shows, and left alone?"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger
from allogger.formats.picture import pixels_of
from allogger.kinds.figure import FigureKind
from allogger.plain import Unstorable


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    plt.switch_backend("agg")
    yield
    plt.close("all")


def _figure(dpi: float = 50, size: tuple[float, float] = (3, 2), face: str = "white") -> Figure:
    figure = Figure(figsize=size, dpi=dpi, facecolor=face)
    figure.add_subplot().plot([1, 4, 2, 3], "o-r")
    return figure


def _as_saved(figure: Figure) -> Any:
    file = io.BytesIO()
    figure.savefig(file, format="rgba", dpi=figure.dpi)
    return np.frombuffer(file.getvalue(), np.uint8).reshape(*np.round(figure.bbox.size[::-1]).astype(int), 4)


@settings(max_examples=10, deadline=None)
@given(st.integers(20, 90), st.integers(1, 4), st.integers(1, 4), st.sampled_from(["white", "none", "#ff000080"]))
def test_the_pixels_are_those_that_matplotlib_saves(dpi: int, width: int, height: int, face: str) -> None:
    figure = _figure(dpi, (width, height), face)

    payload, attrs = FigureKind().encode(figure)

    saved = _as_saved(figure)
    assert isinstance(payload, np.ndarray)
    np.testing.assert_array_equal(payload, saved if face != "white" else saved[:, :, :3], strict=True)
    assert attrs == {"layout": "HWC", "dpi": float(dpi), "size": [float(width), float(height)]}


@pytest.mark.parametrize("is_closed", [False, True])
def test_figures_are_read_back_from_a_live_and_from_a_finished_run(tmp_path: Path, is_closed: bool) -> None:
    figure = _figure()
    pixels, attrs = FigureKind().encode(figure)
    root = allogger.basic_configure(tmp_path, ["tensorboard"])
    root.log(figure, "plot")
    root.log(figure.axes[0], "plot")
    root.log(_figure(20), "plot", data_type="figure")
    allogger.close() if is_closed else allogger.flush()

    run = allogger.open_run(tmp_path)
    assert run.kinds == {"root/plot": "figure"}
    np.testing.assert_array_equal(run["root/plot"].value[0], pixels, strict=True)
    images = run.images("root/plot")
    assert [image.shape for image in images] == [(100, 150, 3), (100, 150, 3), (40, 60, 3)]
    np.testing.assert_array_equal(images[1], pixels, strict=True)
    assert images.attrs(0) == attrs
    reader = EventAccumulator(str(tmp_path / "events/MainProcess"), {"images": 0}).Reload()
    shown = [pixels_of(event.encoded_image_string) for event in reader.Images("root/plot")]
    np.testing.assert_array_equal(shown[0], pixels, strict=True)
    assert len(shown) == 3


def test_a_figure_and_pyplot_stay_as_they_are() -> None:
    figure, other = plt.figure(figsize=(2, 1), dpi=40), plt.figure()
    axes = figure.add_subplot()
    (line,) = axes.plot([1, 2], animated=True)
    canvas = FigureCanvasSVG(figure)
    drawn: list[Any] = []
    canvas.mpl_connect("draw_event", drawn.append)

    pixels, _ = FigureKind().encode(figure)

    assert figure.canvas is canvas
    assert figure.stale
    assert not drawn
    assert (figure.dpi, figure.get_size_inches().tolist()) == (40, [2, 1])
    assert plt.get_fignums() == [1, 2]
    assert plt.gcf() is other
    assert plt.get_backend() == "agg"
    # What an animation draws is in the picture.
    line.set_visible(False)
    assert not np.array_equal(FigureKind().encode(figure)[0], pixels)


def test_of_pyplot_the_current_figure_is_taken(tmp_path: Path) -> None:
    with pytest.raises(Unstorable, match="pyplot has no figure"):
        FigureKind().encode(plt)
    assert plt.get_fignums() == []
    plt.figure(figsize=(2, 1), dpi=30).add_subplot().plot([1, 2])

    with allogger.run(tmp_path) as root:
        root.log(plt, "plot")

    assert allogger.open_run(tmp_path)["root/plot"].value.shape == (1, 30, 60, 3)


def test_a_figure_that_cannot_be_drawn_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    figure = _figure()
    figure.axes[0].set_title("$\\no such thing$")
    canvas = figure.canvas
    root = allogger.basic_configure(tmp_path)

    root.log(figure, "plot")
    root.log(0.5, "number", data_type="figure")
    allogger.close()

    assert figure.canvas is canvas
    assert "matplotlib cannot draw the figure: ValueError: \\no such thing" in caplog.text
    assert "a figure is one of matplotlib, its axes, or pyplot, not a value of type float" in caplog.text
    assert "2 values were not stored" in caplog.text


def test_a_program_without_matplotlib_does_not_import_it(tmp_path: Path) -> None:
    code = (
        "import sys, allogger\n"
        f"with allogger.run({str(tmp_path)!r}) as root:\n"
        "    root.log(object(), 'a')\n    root.log(object(), 'b', data_type='figure')\n"
        "assert 'matplotlib' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
