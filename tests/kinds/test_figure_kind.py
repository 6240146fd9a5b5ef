"""FigureKind: is a figure kept as the picture that it shows, and left alone?"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import plotly
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger
from allogger.formats.picture import pixels_of
from allogger.kinds.figure import FigureKind
from allogger.plain import Unstorable
from tests.everywhere import series_of


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
    assert "a figure is one of matplotlib, its axes, pyplot, or one of plotly, not a value of type float" in caplog.text
    assert "2 values were not stored" in caplog.text


def test_a_program_without_matplotlib_does_not_import_it(tmp_path: Path) -> None:
    code = (
        "import sys, allogger\n"
        f"with allogger.run({str(tmp_path)!r}) as root:\n"
        "    root.log(object(), 'a')\n    root.log(object(), 'b', data_type='figure')\n"
        "assert 'matplotlib' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --------------------------------------------------------------------------------------------------------------- plotly

NUMBERS = of_numpy.arrays(st.sampled_from(["f4", "f8", "i4", "u1"]), st.integers(0, 5))


@settings(max_examples=5, deadline=None)
@given(st.lists(st.tuples(NUMBERS, st.text(max_size=5), st.floats(allow_nan=False)), min_size=1, max_size=2))
def test_figures_of_plotly_come_back_as_the_same_figures(
    tmp_path_factory: pytest.TempPathFactory, parts: list[Any]
) -> None:
    figures = [
        go.Figure([go.Scatter(x=x, y=x[::-1], name=name), go.Bar(y=[size, None])], {"title": {"text": name}})
        for x, name, size in parts
    ]

    for series in series_of(tmp_path_factory.mktemp("run"), "figure", figures):
        assert series.kind == "figure"
        assert series.meta == {"library": "plotly"}
        for shown, figure in zip(series.value, figures, strict=True):
            assert shown == json.loads(figure.to_json())
            assert json.loads(go.Figure(shown).to_json()) == shown


def _of_plotly() -> go.Figure:
    return go.Figure(go.Surface(z=np.arange(6.0).reshape(2, 3)))


def test_tensorboard_says_once_that_it_shows_no_figures_of_plotly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with allogger.run(tmp_path, ["tensorboard"]) as root:
        for _ in range(3):
            root.log(_of_plotly(), "plot")
        root.log(_figure(), "plot")

    assert len([text for text in caplog.messages if "shows no figures of plotly" in text]) == 1
    assert "cannot represent 3 values: 'root/plot' 3" in caplog.text
    run = allogger.open_run(tmp_path)
    assert [type(value) for value in run["root/plot"].value] == [dict, dict, dict, np.ndarray]
    axes = run.plot("plot")
    assert len(axes.images) == 1


def test_a_key_of_figures_of_plotly_alone_can_be_plotted(tmp_path: Path) -> None:
    with allogger.run(tmp_path) as root:
        root.log(_of_plotly(), "plot")

    assert "figures of plotly" in allogger.open_run(tmp_path).plot("plot").get_title(loc="left")


def test_a_figure_of_plotly_becomes_a_page_that_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with allogger.run(tmp_path / "run") as root:
        root.log(_of_plotly(), "plot")
        root.log(_figure(), "plot")
    media = allogger.open_run(tmp_path / "run").media("root/plot")

    page, picture = media.save(tmp_path)

    text = page.read_text()
    assert page.name == "plot-1-0.html"
    # The library itself, not a link to it, and the data.
    assert plotly.offline.get_plotlyjs()[:1000] in text
    assert "<script src=" not in text
    assert '"bdata"' in text
    np.testing.assert_array_equal(plt.imread(picture)[..., :3] * 255, media[1])
    with pytest.raises(allogger.UnknownName, match="did you mean 'html'"):
        media.save(tmp_path, "htm")
    with pytest.raises(ValueError, match="HTML or JSON"):
        media.save_one(0, tmp_path, "png")
    with pytest.raises(ValueError, match="only a figure of plotly"):
        media.save_one(1, tmp_path, "html")
    # Without plotly it is what plotly reads.
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "plotly.io", None)
        path = media.save_one(0, tmp_path)
        with pytest.raises(allogger.MissingDependency, match="pip install plotly"):
            media.save_one(0, tmp_path, "html")
    assert path.name == "plot-1-0.json"
    assert json.loads(path.read_text()) == json.loads(_of_plotly().to_json())


@pytest.mark.parametrize("value", [{"data": 3}, {"data": [], "axes": 1}, {"data": [np.zeros(2)]}])
def test_a_dict_that_plotly_would_not_take_is_no_figure(value: Any) -> None:
    with pytest.raises(Unstorable, match="plotly"):
        FigureKind().encode(value)
