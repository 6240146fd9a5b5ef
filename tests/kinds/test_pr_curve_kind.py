"""PrCurveKind: are precision and recall right, kept, and shown?"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve
from tensorboard.backend.event_processing import data_provider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext

import allogger
from allogger.kinds.pr_curve import PrCurveKind
from allogger.plain import Unstorable

LABELS, SCORES = np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.9, 0.4, 0.5, 0.8])


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1))
def test_counts_are_those_of_their_definition(cases: list[tuple[bool, float]]) -> None:
    labels, scores = np.array([label for label, _ in cases]), np.array([score for _, score in cases])

    payload, attrs = PrCurveKind().encode({"labels": labels, "scores": scores})

    assert isinstance(payload, np.ndarray)
    assert len(attrs["thresholds"]) == payload.shape[1]
    for threshold, column in zip(attrs["thresholds"], payload.T, strict=True):
        taken = scores >= threshold
        counts = [(taken & labels).sum(), (taken & ~labels).sum(), (~taken & ~labels).sum(), (~taken & labels).sum()]
        right = counts[0]
        parts = [right / taken.sum() if taken.any() else 0, right / labels.sum() if labels.any() else 0]
        np.testing.assert_array_equal(column, [*counts, *parts])


@given(st.integers(0, 1), st.integers(0, 5).flatmap(lambda n: st.lists(st.floats(0, 1), min_size=n, max_size=n)))
def test_a_given_curve_is_kept(more: int, thresholds: list[float]) -> None:
    points = len(thresholds) + more
    precision, recall = np.linspace(0.5, 1, points), np.linspace(1, 0, points)
    curve = {"precision": precision, "recall": recall, "thresholds": np.array(sorted(thresholds))}
    if not points:
        with pytest.raises(Unstorable):
            PrCurveKind().encode(curve)
        return

    payload, attrs = PrCurveKind().encode(curve)

    np.testing.assert_array_equal(payload, [precision, recall])
    assert attrs == {"rows": ["precision", "recall"], "thresholds": sorted(thresholds)}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([0.1, 0.2], "'labels' and 'scores'"),
        ({"labels": [1]}, "'labels' and 'scores'"),
        ({"labels": [1, 0], "scores": [1]}, "lengths"),
        ({"labels": [1, 2], "scores": [1, 1]}, "0 and 1"),
        ({"labels": [1, 0], "scores": [1, 1.5]}, "from 0 to 1"),
        ({"labels": [1, 0], "scores": [1, np.nan]}, "finite"),
        ({"precision": [1, 1], "recall": [1], "thresholds": [0, 1]}, "lengths"),
        ({"precision": [1, 1], "recall": [1, 0], "thresholds": [1, 0]}, "rise"),
        ({"precision": [1, 1], "recall": [1, 0], "thresholds": []}, "rise"),
    ],
    ids=str,
)
def test_what_is_no_curve_is_refused(value: Any, why: str) -> None:
    with pytest.raises(Unstorable, match=why):
        PrCurveKind().encode(value)


def _shown(logdir: Path, key: str) -> Any:
    """Return what TensorBoard's own plug-in sends to its page."""
    with warnings.catch_warnings():
        # A library inside of it is deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        from tensorboard.plugins.pr_curve.pr_curves_plugin import PrCurvesPlugin
    multiplexer = EventMultiplexer()
    multiplexer.AddRun(str(logdir / "events/MainProcess"), "run")
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(logdir))
    plugin = PrCurvesPlugin(TBContext(logdir=str(logdir), data_provider=provider))
    return plugin.pr_curves_impl(RequestContext(), "experiment", ["run"], key)["run"]


@pytest.mark.parametrize("is_closed", [False, True])
def test_curves_are_read_back_and_shown(tmp_path: Path, is_closed: bool) -> None:
    precision, recall, thresholds = precision_recall_curve(LABELS, SCORES)
    value = {"labels": LABELS, "scores": SCORES}
    root = allogger.basic_configure(tmp_path, ["tensorboard"])
    root.log(value, "curve", data_type="pr_curve")
    root.log({"precision": precision, "recall": recall, "thresholds": thresholds}, "given", data_type="pr_curve")
    allogger.close() if is_closed else allogger.flush()

    run = allogger.open_run(tmp_path)
    payload, attrs = PrCurveKind().encode(value)
    assert run.kinds == {"root/curve": "pr_curve", "root/given": "pr_curve"}
    np.testing.assert_array_equal(run["root/curve"].value[0], payload)
    assert run["root/curve"].meta == attrs
    np.testing.assert_array_equal(run["root/given"].value[0], [precision, recall])
    (counted,), (given_one,) = (_shown(tmp_path, f"root/{key}") for key in ("curve", "given"))
    # TensorBoard leaves out the end, where nothing is positive.
    points = len(counted["precision"])
    np.testing.assert_allclose(counted["precision"], payload[4, :points], rtol=1e-6)
    np.testing.assert_allclose(counted["recall"], payload[5, :points], rtol=1e-6)
    assert counted["true_positives"] == payload[0, :points].tolist()
    # Both are curves of the same scores.
    np.testing.assert_allclose(given_one["precision"][:points], counted["precision"], rtol=1e-6)
    np.testing.assert_allclose(given_one["recall"][:points], counted["recall"], rtol=1e-6)


def test_a_curve_beyond_the_thresholds_of_tensorboard_is_read_back_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with allogger.run(tmp_path, ["tensorboard"]) as root:
        root.log({"precision": [0.5, 1], "recall": [1, 0], "thresholds": [-3, 7]}, "curve", data_type="pr_curve")

    assert "TensorBoard's thresholds go from 0 to 1" in caplog.text
    assert allogger.open_run(tmp_path)["root/curve"].value.tolist() == [[[0.5, 1], [1, 0]]]
