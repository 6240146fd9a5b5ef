"""Do the hooks count, post and save when it is due, and say so to the loop?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import allogger
from allogger.holding import HoldingLogger

NOTHING, SAVE = {"save_weights": False}, {"save_weights": True}


@pytest.fixture
def root(tmp_path: Path) -> allogger.Logger:
    return allogger.basic_configure(tmp_path)


def test_every_hook_says_what_the_loop_is_to_do(root: allogger.Logger) -> None:
    holder = HoldingLogger(checkpoint_every=2)
    found = [holder.on_train_begin()]
    for _ in range(3):
        found += [holder.on_epoch_begin(), holder.on_step_begin(), holder.on_step_end(), holder.on_epoch_end()]
    found.append(holder.on_train_end())

    assert found == [NOTHING, *[NOTHING] * 4, *[NOTHING] * 3, SAVE, *[NOTHING] * 4, SAVE]
    assert (holder.epoch, holder.step) == (3, 3)
    assert holder.on_train_end() == NOTHING


@pytest.mark.parametrize(("post_every", "steps"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (None, [5])])
def test_windows_are_posted_every_so_many_epochs_and_at_the_end(
    root: allogger.Logger, tmp_path: Path, post_every: int | None, steps: list[int]
) -> None:
    holder = HoldingLogger(post_every=post_every)
    with holder.training():
        for epoch in holder.epochs(5):
            holder.hold(epoch, "x", stride="epoch")
    allogger.flush()

    series = allogger.open_run(tmp_path)["root/x"]
    assert series.step.tolist() == steps
    assert np.concatenate(series.value).tolist() == [1, 2, 3, 4, 5]


def test_a_training_that_raises_posts_what_it_has(root: allogger.Logger, tmp_path: Path) -> None:
    holder = HoldingLogger(post_every=None)

    def train() -> None:
        with holder.training():
            for _ in holder.epochs(5):
                for batch in holder.steps([10, 20]):
                    holder.hold(batch, "x")
                    if holder.epoch == 2:
                        raise KeyError

    with pytest.raises(KeyError):
        train()
    allogger.flush()

    run = allogger.open_run(tmp_path)
    assert run["root/x"].value.tolist() == [[10, 20, 10]]
    assert run["root/step"].value.tolist() == [[1, 2]]


def test_labels_of_lists_that_nobody_has_held_are_told(root: allogger.Logger, caplog: pytest.LogCaptureFixture) -> None:
    holder = HoldingLogger(collect_blacklist=["image"], write_whitelist=["activatons", "x"])
    with holder.training():
        holder.hold(1, "x")
        holder.hold(2, "image")

    assert "white and black lists name 'activatons', which nobody has held" in caplog.text


def test_a_program_that_is_started_again_replaces_what_it_repeats(tmp_path: Path) -> None:
    for first, last, saved in ((0, 4, None), (2, 5, {"epoch": 2, "step": 4})):
        with allogger.run(tmp_path):
            holder = HoldingLogger()
            if saved:
                holder.load_state_dict(saved)
            for epoch in holder.epochs(last):
                for _ in holder.steps(range(2)):
                    holder.hold(10 * first + epoch, "x")

    run = allogger.open_run(tmp_path)
    assert run["root/x"].step.tolist() == [1, 2, 3, 4, 5]
    assert run["root/x"].value.tolist() == [[1, 1], [2, 2], [23, 23], [24, 24], [25, 25]]
    assert run["root/step"].value.ravel().tolist() == list(range(1, 11))
    assert "root/x/step" not in run


@pytest.mark.parametrize("state", [{}, {"epoch": "two", "step": 1}, {"epoch": None, "step": []}])
def test_a_state_of_something_else_is_an_error(state: Any) -> None:
    with pytest.raises(allogger.ConfigError, match="state_dict"):
        HoldingLogger().load_state_dict(state)


# --------------------------------------------------------------------------------------------------------- checkpoints


def test_the_last_checkpoints_and_the_best_are_kept(root: allogger.Logger, tmp_path: Path) -> None:
    weights = np.zeros(3)
    holder = HoldingLogger(
        state=lambda: {"weights": weights, **holder.state_dict()},
        checkpoint_every=1,
        metric="test/loss",
        keep_last=2,
        keep_best=1,
    )
    with holder.training():
        for epoch in holder.epochs(6):
            weights += 1
            holder.summarize(epoch, [("loss", abs(epoch - 2))], writer="test")
    allogger.flush()

    there = [one for one in allogger.open_run(tmp_path).checkpoints() if not one.is_removed]
    assert [one.step for one in there] == [2, 5, 6]
    assert [one.metric for one in there] == [0, 3, 4]
    best = next(one for one in there if "best" in one.aliases)
    assert best.step == 2
    np.testing.assert_equal(best.load()["weights"], np.full(3, 2.0))


def test_a_checkpoint_has_no_metric_that_was_measured_for_another(root: allogger.Logger, tmp_path: Path) -> None:
    holder = HoldingLogger(state=lambda: {"epoch": holder.epoch}, checkpoint_every=1, metric="test/loss")
    with holder.training():
        for epoch in holder.epochs(5):
            if epoch % 2:
                holder.summarize(epoch, [("loss", 1 / epoch)], writer="test")
    allogger.flush()

    there = allogger.open_run(tmp_path).checkpoints()
    assert [one.metric for one in there] == [1, None, 1 / 3, None, 1 / 5]


def test_a_state_that_fails_is_told_and_ends_nothing(
    root: allogger.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    holder = HoldingLogger(state=lambda: {}["weights"], checkpoint_every=1, metric="test/los")
    with holder.training():
        for epoch in holder.epochs(2):
            assert holder.epoch == epoch

    assert "there is no checkpoint of epoch 1: KeyError: 'weights'" in caplog.text
    assert "there is no checkpoint of epoch 2" in caplog.text


def test_callbacks_are_added_once_each(root: allogger.Logger) -> None:
    holder = HoldingLogger()
    one, two, three = object(), object(), object()
    holder.add_callback(one)
    holder.add_callback([two, three])

    assert holder.callbacks == [one, two, three]
