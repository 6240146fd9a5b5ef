"""ConfusionKind: is a confusion matrix kept with the names of its classes, and shown?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger
from allogger.formats.picture import pixels_of
from allogger.formats.shown import confusion_pixels
from allogger.kinds.confusion import ConfusionKind
from allogger.plain import Unstorable


@given(
    st.integers(0, 4).flatmap(
        lambda n: st.tuples(
            of_numpy.arrays(of_numpy.integer_dtypes() | of_numpy.floating_dtypes(), (n, n)),
            st.lists(st.text(), min_size=n, max_size=n),
        )
    )
)
def test_a_matrix_and_its_names_are_kept(given_both: tuple[Any, list[str]]) -> None:
    matrix, names = given_both
    names = [name.rstrip("\0") for name in names]

    payload, attrs = ConfusionKind().encode({"matrix": matrix, "names": names})

    np.testing.assert_array_equal(payload, matrix, strict=True)
    assert attrs == {"names": names}
    assert ConfusionKind().encode(matrix)[1] == {}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (np.zeros((2, 3)), "square"),
        (np.zeros((2, 2, 2)), "square"),
        (np.array([["a"]]), "square"),
        ({"matrix": np.eye(2), "names": ["a"]}, "2 classes with 1 names"),
        ({"matrix": np.eye(2), "labels": ["a", "b"]}, "'matrix' and 'names'"),
        ({}, "'matrix' and 'names'"),
    ],
    ids=str,
)
def test_what_is_no_confusion_matrix_is_refused(value: Any, why: str) -> None:
    with pytest.raises(Unstorable, match=why):
        ConfusionKind().encode(value)


@pytest.mark.parametrize("is_closed", [False, True])
def test_matrices_are_read_back_and_shown_as_pictures(tmp_path: Path, is_closed: bool) -> None:
    matrix = np.array([[8, 2], [0, 5]])
    root = allogger.basic_configure(tmp_path, ["tensorboard"])
    root.log({"matrix": matrix, "names": ["cat", "dog"]}, "confusion", data_type="confusion")
    root.log({"matrix": matrix + 1, "names": ["cat", "dog"]}, "confusion", data_type="confusion")
    allogger.close() if is_closed else allogger.flush()

    series = allogger.open_run(tmp_path)["root/confusion"]
    assert series.kind == "confusion"
    assert series.meta == {"names": ["cat", "dog"]}
    np.testing.assert_array_equal(series.value, [matrix, matrix + 1])
    reader = EventAccumulator(str(tmp_path / "events/MainProcess"), {"images": 0}).Reload()
    first, second = (pixels_of(event.encoded_image_string) for event in reader.Images("root/confusion"))
    assert first.shape == second.shape == (320, 320, 3)
    corners = first[0, 0], first[0, -1], first[-1, 0], first[-1, -1]
    # All of the second row is right, none of it wrong.
    assert corners[3].tolist() == [8, 48, 107]
    assert corners[2].tolist() == [247, 251, 255]
    assert int(corners[0].sum()) < int(corners[1].sum())


def test_of_many_classes_neighbours_share_a_square() -> None:
    pixels = confusion_pixels(np.eye(2500))

    assert pixels.shape == (834, 834, 3)
    assert pixels[0, 0].tolist() == [8, 48, 107]
    assert pixels[0, 1].tolist() == [247, 251, 255]


def test_a_matrix_of_odd_numbers_is_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with allogger.run(tmp_path, ["tensorboard"]) as root:
        root.log(np.full((2, 2), np.nan), "nan", data_type="confusion")
        root.log(np.array([[np.inf, -1], [0, 0]]), "odd", data_type="confusion")
        root.log(np.zeros((0, 0)), "empty", data_type="confusion")

    reader = EventAccumulator(str(tmp_path / "events/MainProcess"), {"images": 0}).Reload()
    assert sorted(reader.Tags()["images"]) == ["root/nan", "root/odd"]
    assert "a confusion matrix without classes" in caplog.text
    assert "cannot be encoded" not in caplog.text
