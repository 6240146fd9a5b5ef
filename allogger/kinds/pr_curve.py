"""PrCurveKind: how is precision over recall stored?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allogger.kind import Kind
from allogger.plain import Unstorable, copied
from allogger.record import Payload

__all__ = ["THRESHOLDS", "PrCurveKind"]

#: As many as TensorBoard's own summaries have.
THRESHOLDS = 201
_COUNTED = ("true_positives", "false_positives", "true_negatives", "false_negatives", "precision", "recall")
_GIVEN = ("precision", "recall", "thresholds")


class PrCurveKind(Kind):
    """Precision and recall at rising thresholds, from whichever is at hand::

        {"labels": [0, 1, 1], "scores": [0.2, 0.9, 0.4]}
        {"precision": precision, "recall": recall, "thresholds": thresholds}

    The payload has one row of float64 for each of the attribute ``rows``, one column for each of ``thresholds``. From
    scores from 0 to 1 there are six rows, the counts of true and false positives and negatives before the others, at
    201 thresholds from 0 to 1. From a curve, such as that of scikit-learn, there are as many columns as it has points;
    a last point without a threshold is beyond all scores.
    """

    name = "pr_curve"

    def accepts(self, value: Any) -> bool:
        """Return False: a dict of which nobody says more is one series for each leaf."""
        return False

    def encode(self, value: Any) -> tuple[Payload, Mapping[str, Any]]:
        """Return the rows, and what they are; raises `Unstorable` for what is no such curve."""
        names = set(value) if isinstance(value, Mapping) else set()
        if names == {"labels", "scores"}:
            labels, scores = (_numbers(name, value[name]) for name in ("labels", "scores"))
            thresholds, rows = np.linspace(0, 1, THRESHOLDS), _counted(labels, scores)
            return rows, {"rows": list(_COUNTED), "thresholds": thresholds.tolist()}
        if names == set(_GIVEN):
            precision, recall, thresholds = (_numbers(name, value[name]) for name in _GIVEN)
            return np.stack(_same_length(precision, recall)), {
                "rows": ["precision", "recall"],
                "thresholds": _rising(thresholds, len(precision)),
            }
        raise Unstorable("of a curve there are 'labels' and 'scores', or 'precision', 'recall' and 'thresholds'")


def _numbers(name: str, values: Any) -> NDArray[np.float64]:
    found = copied(values)
    if found.ndim != 1 or found.dtype.kind not in "biuf" or not np.isfinite(found).all():
        raise Unstorable(f"the {name} of a curve are finite numbers in one axis")
    return found.astype(np.float64)


def _same_length(*columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    if len({len(column) for column in columns}) > 1:
        raise Unstorable(f"a curve with columns of the lengths {[len(column) for column in columns]}")
    return columns


def _counted(labels: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    labels, scores = _same_length(labels, scores)
    if not np.isin(labels, (0, 1)).all():
        raise Unstorable("the labels of a curve are 0 and 1")
    if ((scores < 0) | (scores > 1)).any():
        raise Unstorable("the scores of a curve go from 0 to 1")
    # A score is taken for positive at the thresholds up to its own.
    thresholds = np.linspace(0, 1, THRESHOLDS)
    positive, negative = (
        len(its) - np.searchsorted(np.sort(its), thresholds) for its in (scores[labels == 1], scores[labels == 0])
    )
    all_positive, all_negative = labels.sum(), len(labels) - labels.sum()
    with np.errstate(invalid="ignore"):
        precision = np.nan_to_num(positive / (positive + negative))
        recall = np.nan_to_num(positive / all_positive)
    return np.stack([positive, negative, all_negative - negative, all_positive - positive, precision, recall])


def _rising(thresholds: NDArray[np.float64], points: int) -> list[float]:
    if points - len(thresholds) not in (0, 1) or not points or (np.diff(thresholds) < 0).any():
        raise Unstorable(f"the thresholds of a curve rise, and are as many as its {points} points or one less")
    return [float(threshold) for threshold in thresholds]
