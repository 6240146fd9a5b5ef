"""Does a TrainerLogger store what a training loop gives it, under the right names and steps, each value once?"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import pickle
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allogger
from allogger import MemoryLogger, TrainerLogger
from tests.conftest import Result
from tests.naming import shown

LOSS = {"metric": ["loss"]}


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(logdir: Path, tracked: Mapping[str, list[str]] = LOSS, **config: Any) -> TrainerLogger:
    """Return a quiet TrainerLogger for those variables."""
    given = {"root_dir": logdir, "tracked_variables": tracked, "loggers": list(tracked), "print_every_n_seconds": None}
    return TrainerLogger(given, **config)


def iteration(epoch: int = 0, phase: str = "train", done: int = 0, **values: Any) -> dict[str, Any]:
    return {"epoch": epoch, "phase": phase, "total_iters": done, "batch_size": 1, **values}


def read(logdir: Path, key: str) -> list[tuple[int, Any]]:
    """Return the steps and values of a key of the scope ``default``."""
    allogger.flush()
    series = allogger.open_run(logdir)[f"default/{key}"]
    return [(step, np.asarray(value).tolist()) for step, value in zip(series.step.tolist(), series.value, strict=True)]


def keys(logdir: Path) -> list[str]:
    allogger.flush()
    return [key.removeprefix("default/") for key in allogger.open_run(logdir).keys()]  # noqa: SIM118  # a method of Run


# ------------------------------------------------------------------------------------------------------------- metrics


def test_a_metric_has_a_series_of_batches_one_of_epochs_and_a_histogram(tmp_path: Path) -> None:
    logger = make(tmp_path)
    for epoch in (3, 4):
        for batch, (loss, size) in enumerate([(1.0, 32), (4.0, 16)]):
            logger.log_iter(iteration(epoch, done=10 * epoch + batch, loss=loss) | {"batch_size": size})
        logger.log_epoch()
    logger.end_log()

    assert keys(tmp_path) == [f"Metric-{what}/loss/train" for what in ("BatchWise", "EpochWise", "Hist")]
    assert read(tmp_path, "Metric-BatchWise/loss/train") == [(31, 1.0), (32, 4.0), (41, 1.0), (42, 4.0)]
    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(3, 2.0), (4, 2.0)]
    assert read(tmp_path, "Metric-Hist/loss/train") == [(3, [1.0, 4.0]), (4, [1.0, 4.0])]


@settings(max_examples=15)
@given(
    values=st.lists(
        st.tuples(st.sampled_from(["train", "val", "a/b"]), st.floats(-1e6, 1e6), st.integers(1, 64), st.booleans()),
        min_size=1,
        max_size=60,
    )
)
def test_the_means_of_epochs_are_those_of_numpy_however_phases_interleave(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, float, int, bool]]
) -> None:
    logdir = tmp_path_factory.mktemp("run")
    epochs = dict.fromkeys(["train", "val", "a/b"], 0)
    logged: dict[tuple[str, int], list[tuple[float, int]]] = {}
    with make(logdir) as logger:
        for phase, loss, size, is_last in values:
            logger.log_iter(iteration(epochs[phase], phase, loss=loss) | {"batch_size": size})
            logged.setdefault((phase, epochs[phase]), []).append((loss, size))
            # Of this phase only: the others are in the middle of theirs, and nobody says that this one is over.
            epochs[phase] += is_last

    for phase in epochs:
        own = {epoch: pairs for (of, epoch), pairs in logged.items() if of == phase}
        means = read(logdir, f"Metric-EpochWise/loss/{phase}") if own else []
        expected = [
            np.average(losses, weights=sizes) for losses, sizes in (zip(*pairs, strict=True) for pairs in own.values())
        ]
        assert [step for step, _ in means] == list(own)
        np.testing.assert_allclose([mean for _, mean in means], expected, rtol=1e-9, atol=1e-9)
        histograms = read(logdir, f"Metric-Hist/loss/{phase}") if own else []
        assert histograms == [(epoch, [loss for loss, _ in pairs]) for epoch, pairs in own.items()]
    allogger.close()


def test_a_loop_that_goes_on_without_log_epoch_ends_the_epoch_itself(tmp_path: Path) -> None:
    with make(tmp_path) as logger:
        for epoch, loss in [(0, 1.0), (0, 3.0), (1, 5.0)]:
            logger.log_iter(iteration(epoch, loss=loss))

    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(0, 2.0), (1, 5.0)]


def test_each_leaf_of_a_metric_that_is_a_dict_is_a_metric(tmp_path: Path) -> None:
    with make(tmp_path, {"metric": ["loss"]}) as logger:
        for number in (1.0, 3.0):
            logger.log_iter(iteration(loss={"pixel": number, "kl": {"z": 10 * number}}))

    assert read(tmp_path, "Metric-EpochWise/loss/pixel/train") == [(0, 2.0)]
    assert read(tmp_path, "Metric-BatchWise/loss/kl/z/train") == [(1, 10.0), (1, 30.0)]


def test_metrics_whose_names_would_be_the_same_stay_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with make(tmp_path, {"metric": ["a", "a/b"]}) as logger:
        logger.log_iter(iteration(**{"a": {"b": 1.0}, "a/b": 5.0}))

    assert read(tmp_path, "Metric-EpochWise/a/b/train") == [(0, 1.0)]
    assert read(tmp_path, "Metric-EpochWise/a/b/train~") == [(0, 5.0)]
    assert "two things would be called 'Metric-EpochWise/a/b/train'" in caplog.text


def test_what_is_not_tracked_or_missing_or_none_is_left_out(tmp_path: Path) -> None:
    with make(tmp_path, {"metric": ["loss", "accuracy"]}) as logger:
        logger.log_iter(iteration(loss=1.0, accuracy=None, secret=2.0))
        logger.log_iter(iteration(loss=2.0, accuracy=0.5))

    assert read(tmp_path, "Metric-EpochWise/accuracy/train") == [(0, 0.5)]
    assert not [key for key in keys(tmp_path) if "secret" in key]


def test_a_regex_takes_all_keys_in_which_it_is_found_but_not_what_an_iteration_says_of_itself(tmp_path: Path) -> None:
    with make(tmp_path, {"metric": ["re:^(loss|b)", "accuracy"]}) as logger:
        logger.log_iter(iteration(loss_pixel=1.0, my_loss=2.0, accuracy=0.5))

    assert [key for key in keys(tmp_path) if "BatchWise" in key] == [
        "Metric-BatchWise/accuracy/train",
        "Metric-BatchWise/loss_pixel/train",
    ]


def test_log_freq_thins_out_the_batches_while_the_means_are_of_all(tmp_path: Path) -> None:
    with make(tmp_path, log_freq=5) as logger:
        for batch in range(10):
            logger.log_iter(iteration(done=batch, loss=float(batch)) | {"batch_current": batch + 1})

    assert read(tmp_path, "Metric-BatchWise/loss/train") == [(1, 0.0), (6, 5.0)]
    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(0, 4.5)]


def test_a_hist_is_gathered_over_the_epoch_and_written_once(tmp_path: Path) -> None:
    weights = np.arange(4.0)
    with make(tmp_path, {"hist": ["weights", "gradient"]}) as logger:
        for batch in range(3):
            logger.log_iter(iteration(7, done=batch, weights=weights + 10 * batch, gradient=batch))

    assert read(tmp_path, "Hist/weights/train") == [(7, [*range(4), *range(10, 14), *range(20, 24)])]
    assert read(tmp_path, "Hist/gradient/train") == [(7, [0, 1, 2])]


# ------------------------------------------------------------------------------------------- pictures, shapes, videos


def test_the_pictures_of_a_batch_and_of_views_never_overwrite_each_other(tmp_path: Path) -> None:
    batch = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    views = [batch, batch[:, :1] / np.float32(255)]
    with make(tmp_path, {"image": ["input", "views", "one"]}) as logger:
        for done in range(2):
            logger.log_iter(iteration(done=done, input=batch, views=views, one=batch[0]))

    names = [
        "input/train/0",
        "input/train/1",
        "one/train",
        *(f"views/train/view{v}/{n}" for v in (0, 1) for n in (0, 1)),
    ]
    assert keys(tmp_path) == [f"Image/{name}" for name in names]
    assert read(tmp_path, "Image/input/train/1") == [(1, batch[1].tolist()), (2, batch[1].tolist())]
    grey = allogger.open_run(tmp_path)["default/Image/views/train/view1/0"]
    assert grey.kind == "image"
    assert grey.value.dtype == np.float32
    assert np.array_equal(grey.value[0], views[1][0])


def test_meshes_and_point_clouds_are_told_apart(tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh")
    clouds = np.random.default_rng(1).random((2, 10, 6)).astype(np.float32)
    box = trimesh.creation.box()
    triangle = {"vertices": np.eye(3), "faces": [[0, 1, 2]]}
    with make(tmp_path, {"mesh": ["clouds", "shapes", "lone"]}) as logger:
        logger.log_iter(iteration(clouds=clouds, shapes=[box, triangle, clouds[0, :5, :3]], lone=clouds[0]))

    allogger.flush()
    kinds = {key.removeprefix("default/Mesh/"): kind for key, kind in allogger.open_run(tmp_path).kinds.items()}
    assert kinds == {
        **dict.fromkeys(["clouds/train/0", "clouds/train/1", "lone/train", "shapes/train/2"], "point_cloud"),
        **dict.fromkeys(["shapes/train/0", "shapes/train/1"], "mesh"),
    }
    found = allogger.open_run(tmp_path)["default/Mesh/shapes/train/0"].value[0]
    assert np.array_equal(found["faces"], box.faces)


@pytest.mark.parametrize(("layout", "axes"), [("BFCHW", (0, 1, 2, 3, 4)), ("BCFHW", (0, 2, 1, 3, 4))])
def test_videos_come_in_either_order_of_axes(tmp_path: Path, layout: str, axes: tuple[int, ...]) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, 7, 3, 8, 8), dtype=np.uint8)
    with make(tmp_path, {"video": ["clip"]}, video_layout=layout, video_fps=4) as logger:
        logger.log_iter(iteration(clip=frames.transpose(axes)))

    allogger.flush()
    series = allogger.open_run(tmp_path)["default/Video/clip/train/1"]
    assert series.kind == "video"
    assert series.meta["fps"] == 4
    assert np.array_equal(series.value[0], frames[1])


def test_the_tensors_of_the_caller_stay_as_they_are(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.rand(3, requires_grad=True)
    data = iteration(
        loss=(weight * 2).sum(),
        input=torch.rand(2, 3, 4, 4),
        clip=torch.rand(1, 5, 3, 4, 4),
        cloud=torch.rand(2, 8, 3),
        weight=weight,
    )
    before = {name: value.detach().clone() for name, value in data.items() if isinstance(value, torch.Tensor)}
    tracked = {"metric": ["loss"], "image": ["input"], "video": ["clip"], "mesh": ["cloud"], "hist": ["weight"]}
    with make(tmp_path, tracked) as logger:
        logger.log_iter(data)

    for name, value in before.items():
        assert torch.equal(data[name], value)
    data["loss"].backward()
    assert torch.equal(weight.grad, torch.full((3,), 2.0))
    assert read(tmp_path, "Image/input/train/0") == [(1, before["input"][0].tolist())]
    assert allogger.open_run(tmp_path)["default/Hist/weight/train"].value[0].tolist() == before["weight"].tolist()


# ------------------------------------------------------------------------------------------------------------ the ends


def test_what_is_pending_is_logged_exactly_once(tmp_path: Path) -> None:
    with make(tmp_path) as logger:
        logger.log_iter(iteration(2, loss=1.0))
        logger.end_log()
        logger.end_log()
    allogger.close()

    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(2, 1.0)]


def test_a_loop_that_raises_loses_nothing(tmp_path: Path) -> None:
    def train() -> None:
        with make(tmp_path) as logger:
            logger.log_iter(iteration(0, loss=1.0))
            logger.log_epoch()
            logger.log_iter(iteration(1, loss=3.0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()

    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(0, 1.0), (1, 3.0)]


ENDS = """
import os, signal
from allogger import TrainerLogger

logger = TrainerLogger(root_dir="run", tracked_variables={"metric": ["loss"]}, print_every_n_seconds=None)
for phase, epoch in [("train", 5), ("val", 3)]:
    for loss in (1.0, 2.0):
        logger.log_iter({"epoch": epoch, "phase": phase, "total_iters": 0, "loss": loss})
END
"""


@pytest.mark.parametrize("end", ["", "raise KeyError", "os.kill(os.getpid(), signal.SIGTERM); signal.pause()"])
def test_a_program_that_ends_without_end_log_has_its_means_at_their_epochs(
    tmp_path: Path, run_python: Callable[..., Result], end: str
) -> None:
    result = run_python(ENDS.replace("END", end))

    assert result.returncode == {"": 0, "raise KeyError": 1}.get(end, -signal.SIGTERM), result.stderr
    assert read(tmp_path / "run", "Metric-EpochWise/loss/train") == [(5, 1.5)]
    assert read(tmp_path / "run", "Metric-EpochWise/loss/val") == [(3, 1.5)]
    assert read(tmp_path / "run", "Metric-Hist/loss/val") == [(3, [1.0, 2.0])]


def test_a_logger_made_after_the_end_of_one_of_that_name_goes_on_with_it(tmp_path: Path) -> None:
    for epoch in range(3):
        with make(tmp_path) as logger:
            logger.log_iter(iteration(epoch, loss=float(epoch)))

    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_a_copy_logs_what_it_is_given_and_the_original_the_rest(tmp_path: Path) -> None:
    logger = make(tmp_path)
    logger.log_iter(iteration(1, loss=1.0))
    logger.log_epoch()
    logger.log_iter(iteration(2, loss=2.0))
    copied = pickle.loads(pickle.dumps(logger))
    copied.log_iter(iteration(2, "val", loss=3.0))
    copied.end_log()
    logger.end_log()

    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(1, 1.0), (2, 2.0)]
    assert read(tmp_path, "Metric-EpochWise/loss/val") == [(2, 3.0)]


def test_several_loggers_have_variables_of_their_own(tmp_path: Path) -> None:
    loggers = [
        make(tmp_path / name, {kind: ["loss"]}, name=name) for name, kind in [("one", "metric"), ("two", "hist")]
    ]
    for logger in loggers:
        logger.log_iter(iteration(loss=0.5))
    for logger in loggers:
        logger.end_log()

    assert allogger.open_run(tmp_path / "one").keys("EpochWise") == ["one/Metric-EpochWise/loss/train"]
    assert allogger.open_run(tmp_path / "two").keys() == ["two/Hist/loss/train"]


@pytest.mark.parametrize("phase", ["train", "val", None])
def test_an_epoch_of_allogger_has_no_part_in_those_of_the_loop(tmp_path: Path, phase: str | None) -> None:
    root = allogger.basic_configure(tmp_path)
    logger = make(tmp_path)
    logger.log_iter(iteration(2, loss=1.0))
    with root.epoch(9, phase):
        root.mean(4.0, "other")
        logger.log_iter(iteration(2, loss=3.0))
    logger.log_iter(iteration(2, loss=5.0))
    logger.end_log()

    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(2, 3.0)]
    assert allogger.open_run(tmp_path)[f"root/{phase}/other" if phase else "root/other"].step.tolist() == [9]


def test_a_checkpoint_is_at_the_epoch_of_the_latest_iteration(tmp_path: Path) -> None:
    with make(tmp_path) as logger:
        for epoch, loss in enumerate([3.0, 1.0, 2.0]):
            logger.log_iter(iteration(epoch, loss=loss))
            logger.checkpoint({"weight": np.full(3, loss)}, loss, keep_last=1)

    run = allogger.open_run(tmp_path)
    found = {alias: run.checkpoint(alias, "default/checkpoint") for alias in ("best", "latest")}
    assert {alias: one and one.step for alias, one in found.items()} == {"best": 1, "latest": 2}


def test_a_reduction_that_does_not_exist_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with make(tmp_path) as logger:
        logger.log_iter(iteration(loss=1.0))
        logger.log_epoch(reduce="rank")

    assert "there is no reduction 'rank'; did you mean 'ranks'?" in caplog.text
    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(0, 1.0)]


# ------------------------------------------------------------------------------------------------------- odd iterations


@pytest.mark.parametrize(
    "data",
    [
        None,
        [1, 2],
        {},
        {"loss": 1.0},
        {"loss": object(), "epoch": "three", "phase": None, "total_iters": float("nan")},
        {"loss": [[1], [2, 3]], "epoch": 1, "phase": "train", "total_iters": 0, "batch_size": "many"},
        {"epoch": 1, "phase": "train", "total_iters": 0, "loss": float("inf"), "batch_size": -1, 7: 3},
    ],
    ids=shown,
)
def test_no_iteration_makes_the_loop_fail(tmp_path: Path, data: Any, caplog: pytest.LogCaptureFixture) -> None:
    with make(tmp_path, {"metric": ["loss"], "image": ["re:."], "mesh": ["re:."], "video": ["re:."]}) as logger:
        logger.log_iter(data)
        logger.log_iter(iteration(1, loss=2.0))

    assert (1, 2.0) in read(tmp_path, "Metric-BatchWise/loss/train")
    assert caplog.text  # nothing of it was silent


def test_what_an_iteration_does_not_say_is_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with make(tmp_path) as logger:
        for loss in (1.0, 3.0):
            logger.log_iter({"loss": loss})

    assert read(tmp_path, "Metric-BatchWise/loss/train") == [(1, 1.0), (2, 3.0)]
    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(0, 2.0)]
    assert caplog.text.count("an iteration has epoch, phase and total_iters") == 1


def test_epochs_of_which_nobody_says_the_number_are_counted(tmp_path: Path) -> None:
    with make(tmp_path) as logger:
        for loss in (1.0, 2.0, 3.0):
            logger.log_iter({"loss": loss})
            logger.log_iter({"loss": loss})
            logger.log_epoch()
        logger.log_iter({"loss": 4.0, "phase": "val"})

    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(0, 1.0), (1, 2.0), (2, 3.0)]
    assert read(tmp_path, "Metric-EpochWise/loss/val") == [(0, 4.0)]
    # The next one does not begin where this one has ended.
    with make(tmp_path) as logger:
        logger.log_iter({"loss": 5.0})
    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(0, 1.0), (1, 2.0), (2, 3.0), (0, 5.0)]


def test_a_tracked_name_that_never_came_is_told_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with make(tmp_path, {"metric": ["loss", "acuracy", "re:^lr$"]}) as logger:
        logger.log_iter(iteration(loss=1.0, accuracy=0.5))

    assert "tracked_variables['metric'] names what no iteration had: acuracy, re:^lr$" in caplog.text


# ------------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({'gpu_summarize": true': None}, "did you mean 'gpu_summarize'"),
        ({"trakced_variables": {}}, "did you mean 'tracked_variables'"),
        ({"default_output": ["hdf"]}, "did you mean 'default_outputs'"),
        ({"loggers": ["metrics"]}, "no routine in loggers 'metrics'; did you mean 'metric'"),
        ({"tracked_variables": {"images": ["x"]}}, "did you mean 'image'"),
        ({"tracked_variables": {"metric": ["x"], "image": ["y"]}}, "tracked_variables names 'image', which loggers="),
        ({"loggers": ["metric"]}, "tracked_variables names nothing for it"),
        ({"tracked_variables": {"metric": "loss"}}, "must be a list of texts, not 'loss'"),
        ({"tracked_variables": {"metric": ["re:["]}}, "is no regular expression"),
        ({"logint": "aim"}, "default_outputs, such as"),
        ({"api_key": "secret"}, "default_outputs, such as"),
        ({"logdir": "x"}, "is its root_dir"),
        ({"run_name": "x", "tracked_variables": LOSS}, "give root_dir, too"),
        ({"root_dir": "x", "run_name": "../y"}, "the name of a folder"),
        ({"print_every_n_seconds": "often"}, "must be a number of seconds"),
        ({"gpu_summarize": 1}, "must be True or False"),
        ({"video_layout": "BFHWC"}, "known: BCFHW, BFCHW"),
        ({"tracked_variables": LOSS, "default_outputs": ["hdff"]}, "did you mean 'hdf'"),
        (42, "a mapping or the path of a file"),
        ("config.ini", "ends in .toml, .yaml or .json"),
    ],
    ids=repr,
)
def test_a_mistake_in_the_configuration_is_said_with_the_fix(config: Any, message: str) -> None:
    with pytest.raises(allogger.ConfigError, match=r".*".join(message.split())):
        TrainerLogger(config)


def test_a_second_logger_of_the_same_name_is_refused(tmp_path: Path) -> None:
    logger = make(tmp_path)

    with pytest.raises(allogger.ConfigError, match="a TrainerLogger named 'default' already"):
        make(tmp_path)
    logger.end_log()


def test_after_a_close_a_logger_may_have_the_name_of_one_that_has_not_ended(tmp_path: Path) -> None:
    loggers = []
    for number in range(2):
        loggers.append(make(tmp_path / str(number)))
        loggers[-1].log_iter(iteration(loss=float(number)))
        allogger.close()

        assert read(tmp_path / str(number), "Metric-EpochWise/loss/train") == [(0, number)]


@pytest.mark.parametrize("source", ["dict", "yaml", "toml", "json", "omegaconf", "keywords"])
def test_a_configuration_may_come_from_anywhere(tmp_path: Path, source: str) -> None:
    given: dict[str, Any] = {
        "root_dir": str(tmp_path),
        "run_name": "first",
        "tags": ["baseline", "small"],
        "loggers": ["metric"],
        "tracked_variables": {"metric": ["loss"]},
        "default_outputs": ["hdf", "csv"],
    }
    config: Any = given
    if source in ("yaml", "json"):
        import json

        config = tmp_path / f"config.{source}"
        config.write_text(json.dumps(given))
    elif source == "toml":
        config = tmp_path / "config.toml"
        config.write_text(
            f'root_dir = "{tmp_path}"\nrun_name = "first"\ntags = ["baseline", "small"]\nloggers = ["metric"]\n'
            'default_outputs = ["hdf", "csv"]\n[tracked_variables]\nmetric = ["loss"]\n'
        )
    elif source == "omegaconf":
        omegaconf = pytest.importorskip("omegaconf")
        config = omegaconf.OmegaConf.create({**given, "root_dir": "${oc.env:HERE}"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HERE", str(tmp_path))
        logger = TrainerLogger(**given) if source == "keywords" else TrainerLogger(config)
    with logger:
        logger.log_iter(iteration(loss=1.0))
    assert logger.logger.default_outputs == ["hdf", "csv"]
    assert read(tmp_path / "first", "Metric-EpochWise/loss/train") == [(0, 1.0)]
    assert read(tmp_path / "first", "tags") == [(1, "baseline, small")]
    allogger.close()
    assert list((tmp_path / "first").glob("events/*.csv"))


def test_a_configuration_of_hydra_makes_it_and_is_its_hyperparameters(tmp_path: Path) -> None:
    hydra = pytest.importorskip("hydra", reason="Hydra is not installed")
    instantiate = pytest.importorskip("hydra.utils").instantiate
    (tmp_path / "config.yaml").write_text(
        f"""
rate: 0.1
trainer:
  root_dir: {tmp_path}
  loggers: [metric, hparams]
  tracked_variables: {{metric: [loss]}}
model: {{rate: "${{rate}}", size: 3}}
tracker: {{_target_: allogger.Tracker, logdir: {tmp_path}/tracked, log_freq: 2}}
"""
    )
    with hydra.initialize_config_dir(str(tmp_path), version_base=None):
        config = hydra.compose("config", overrides=["rate=0.2"])
    with TrainerLogger(config.trainer) as logger:
        logger.log_hyperparams(config.model)
        logger.log_iter(iteration(loss=1.0))
    allogger.close()
    with instantiate(config.tracker).start_logging() as tracker:
        tracker.log([1, 2], ["a", "b"], batch_idx=2)

    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(0, 1.0)]
    assert allogger.open_run(tmp_path).params == {"rate": 0.2, "size": 3}
    assert allogger.open_run(tmp_path / "tracked").keys() == ["root/a", "root/b"]


def test_in_a_program_that_is_configured_it_logs_to_the_run_of_the_root(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path)
    with TrainerLogger(tracked_variables=LOSS, print_every_n_seconds=None) as logger:
        logger.log_iter(iteration(loss=1.0))

    assert logger.logdir == tmp_path
    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(0, 1.0)]


def test_where_allogger_is_switched_off_nothing_happens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    allogger.basic_configure(enable=False)
    with make(tmp_path / "run", print_every_n_seconds=0.0) as logger:
        logger.log_iter(iteration(loss=1.0))
        logger.log_epoch()

    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------------------------------------------ hyperparameters


@dataclasses.dataclass
class Hyperparameters:
    rate: float
    model: dict[str, Any]


HYPERPARAMETERS = {"rate": 0.1, "model": {"size": 64, "name": "mlp"}}


@pytest.mark.parametrize("form", [dict, lambda **kw: argparse.Namespace(**kw), Hyperparameters, "omegaconf"])
def test_hyperparameters_are_those_of_the_run(tmp_path: Path, form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    if form == "omegaconf":
        params = pytest.importorskip("omegaconf").OmegaConf.create(HYPERPARAMETERS)
    else:
        params = form(**HYPERPARAMETERS)
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad = False
    with make(tmp_path, {"hparams": ["re:."]}, tags=["baseline"]) as logger:
        logger.log_hyperparams(params, {"accuracy": 0.9}, model=model, seed=1)

    run = allogger.open_run(tmp_path)
    assert run.params == {
        **HYPERPARAMETERS,
        "model_parameters": {"total": 8, "trainable": 6, "frozen": 2},
        "seed": 1,
        "tags": ["baseline"],
        "SLURM_JOB_ID": "4711",
    }
    assert run["default/hparams/accuracy"].value.tolist() == [0.9]


def test_tracked_hyperparameters_are_chosen_by_their_paths(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with make(tmp_path, {"hparams": ["model/size", "epoch", "momentum"]}) as logger:
        logger.log_hyperparams({**HYPERPARAMETERS, "epoch": 5})

    assert allogger.open_run(tmp_path).params == {"model": {"size": 64}, "epoch": 5}
    assert "tracked_variables['hparams'] names what is no hyperparameter: momentum" in caplog.text


def test_without_its_routine_log_hyperparams_is_a_mistake(tmp_path: Path) -> None:
    with make(tmp_path) as logger, pytest.raises(allogger.ConfigError, match="needs 'hparams' in loggers"):
        logger.log_hyperparams({"rate": 0.1})


def test_a_model_that_cannot_be_counted_costs_no_hyperparameters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with TrainerLogger(root_dir=tmp_path, loggers=["hparams"]) as logger:
        logger.log_hyperparams(HYPERPARAMETERS, model="no model")

    assert allogger.open_run(tmp_path).params == HYPERPARAMETERS
    assert "the parameters of the model cannot be counted: AttributeError" in caplog.text


def test_a_value_that_raises_when_it_is_looked_at_costs_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Hostile(list[Any]):
        def __iter__(self) -> Any:
            raise RuntimeError(f"do not look at {id(self)}")

    hostile = [Hostile(), Hostile()]
    with make(tmp_path, {"image": ["picture"], "metric": ["loss"]}) as logger:
        for picture in hostile:
            logger.log_iter(iteration(picture=picture, loss=1.0))

    assert read(tmp_path, "Metric-EpochWise/loss/train") == [(0, 1.0)]
    assert f"'picture' cannot be logged: RuntimeError: do not look at {id(hostile[0])}" in caplog.text
    assert caplog.text.count("do not look") == 1


def test_hyperparameters_that_cannot_be_stored_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with TrainerLogger(root_dir=tmp_path, loggers=["hparams"]) as logger:
        logger.log_hyperparams([1, 2])
        logger.log_hyperparams({"rate": 0.1}, 0.9)  # type: ignore[arg-type]

    assert "these hyperparameters cannot be logged" in caplog.text
    assert "the metrics of log_hyperparams are a dict, and cannot be logged: TypeError" in caplog.text
    assert allogger.open_run(tmp_path).params == {"rate": 0.1}


# ------------------------------------------------------------------------------------------------------------- console


def test_a_line_tells_how_far_it_is_every_so_many_seconds(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    position = {"max_epochs": 2, "batch_total": 46, "batch_size": 32}
    with make(tmp_path, print_every_n_seconds=10, clock=clock) as logger:
        for batch in range(1, 32):
            logger.log_iter(iteration(1, loss=0.25) | position | {"batch_current": batch})
            clock.now += 2
        capsys.readouterr()
        clock.now -= 2
        logger.log_epoch()

        assert capsys.readouterr().out == "train | epoch 1/2 done in 0:01:00 | loss 0.25\n"
        clock.now += 10
        logger.log_iter(iteration(2, "val", loss={"kl": 0.5}) | position | {"batch_current": 1})
        assert capsys.readouterr().out == "val | epoch 2/2 | steps 1/46 | samples 32/1472 | 0:00:00 | loss/kl 0.5\n"


@pytest.mark.parametrize("is_shown", [True, False])
def test_the_line_of_an_epoch_has_the_memory_of_the_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_shown: bool
) -> None:
    torch = pytest.importorskip("torch")
    gpu = argparse.Namespace(total_memory=2**34)
    for name, found in {
        "is_available": True,
        "is_initialized": True,
        "current_device": 1,
        "memory_reserved": 2**30,
        "get_device_properties": gpu,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *device, found=found: found)
    with make(tmp_path, print_every_n_seconds=10, gpu_summarize=is_shown) as logger:
        logger.log_iter(iteration(loss=0.5))
        logger.log_epoch()

    end = " | GPU memory 1.0/16.0 GiB" if is_shown else ""
    assert capsys.readouterr().out == f"train | epoch 0 done in 0:00:00 | loss 0.5{end}\n"


def test_between_two_lines_there_is_the_time_that_was_asked_for(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with make(tmp_path, print_every_n_seconds=10, clock=clock) as logger:
        for batch in range(1, 41):
            logger.log_iter(iteration(loss=1.0) | {"batch_current": batch, "batch_total": 40})
            clock.now += 1

        lines = capsys.readouterr().out.splitlines()
        assert [line.split(" | ")[2] for line in lines] == ["steps 11/40", "steps 21/40", "steps 31/40"]
        assert "0:00:10, 0:00:29 left" in lines[0]


@pytest.mark.parametrize("config", [{"rank": 1}, {"print_every_n_seconds": None}])
def test_other_ranks_and_those_who_want_no_lines_get_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: dict[str, Any]
) -> None:
    with make(tmp_path, **{"print_every_n_seconds": 0, **config}) as logger:
        logger.log_iter(iteration(loss=1.0))

    assert capsys.readouterr().out == ""


def test_the_first_rank_prints_even_if_it_is_a_child(tmp_path: Path, run_python: Callable[..., Result]) -> None:
    result = run_python(
        """
        import multiprocessing
        from allogger import TrainerLogger

        def work(rank):
            tracked = {"metric": ["loss"]}
            with TrainerLogger(root_dir="run", tracked_variables=tracked, print_every_n_seconds=0, rank=rank) as logger:
                logger.log_iter({"epoch": rank, "phase": "train", "total_iters": 0, "loss": 1.0})

        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            for rank in (0, 1):
                child = context.Process(target=work, args=(rank,))
                child.start()
                child.join()
        """
    )

    assert [line.split(" | ")[:2] for line in result.stdout.splitlines()] == [
        ["train", "epoch 0"],
        ["train", "epoch 0 done in 0:00:00"],
    ], result.stderr
    run = allogger.open_run(tmp_path / "run")
    assert run["default/Metric-EpochWise/loss/train"].step.tolist() == [0, 1]


def test_lines_go_above_a_progress_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tqdm = pytest.importorskip("tqdm")
    with make(tmp_path, print_every_n_seconds=0) as logger:
        for _ in tqdm.tqdm([1, 2], desc="bar"):
            logger.log_iter(iteration(loss=1.0))

    out, err = capsys.readouterr()
    assert [line.partition(" |")[0] for line in out.splitlines()] == ["train"] * 3
    assert "train" not in err


# ------------------------------------------------------------------------------------------------------- as it is used


def test_a_training_of_torch_reads_back_as_it_was(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    model, losses = torch.nn.Linear(4, 1), {"train": [], "val": []}  # type: dict[str, list[list[float]]]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs = torch.rand(50, 4)
    targets = inputs.sum(1, keepdim=True)
    done = itertools.count()
    with make(tmp_path, {"metric": ["loss"], "hist": ["weight"]}, default_outputs=["hdf", "csv"]) as logger:
        for epoch in range(3):
            for phase, indices in [("train", range(40)), ("val", range(40, 50))]:
                losses[phase].append([])
                for batch in torch.tensor(indices).split(16):
                    with torch.set_grad_enabled(phase == "train"):
                        loss = torch.nn.functional.mse_loss(model(inputs[batch]), targets[batch])
                    if phase == "train":
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()
                    losses[phase][-1].append(loss.item())
                    data = {"loss": loss, "weight": model.weight, "batch_size": len(batch)}
                    logger.log_iter(iteration(epoch, phase, next(done)) | data)
                logger.log_epoch()
    allogger.close()

    for phase, sizes in [("train", [16, 16, 8]), ("val", [10])]:
        expected = [np.average(of_epoch, weights=sizes) for of_epoch in losses[phase]]
        found = read(tmp_path, f"Metric-EpochWise/loss/{phase}")
        assert found == [(epoch, pytest.approx(mean)) for epoch, mean in enumerate(expected)]
        assert [loss for _, loss in read(tmp_path, f"Metric-BatchWise/loss/{phase}")] == [
            loss for of_epoch in losses[phase] for loss in of_epoch
        ]
    assert len(read(tmp_path, "Hist/weight/train")[0][1]) == 12


def test_a_memory_logger_tells_what_is_in_use_and_what_has_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    allogger.basic_configure(tmp_path)
    memory = MemoryLogger()
    memory.log_memory("before")
    block = np.ones(2**23)
    memory.log_memory("after")
    memory.print_logs()
    allogger.flush()

    run = allogger.open_run(tmp_path)
    assert run["memory/after/resident"].value[0] > run["memory/before/resident"].value[0] > 1
    assert run["memory/after/resident_change"].value[0] == pytest.approx(block.nbytes / 2**20, abs=16)
    assert len(capsys.readouterr().out.splitlines()) == 2
    for _ in range(1200):
        memory.log_memory("after")
    memory.print_logs()
    memory.print_logs()
    assert len(capsys.readouterr().out.splitlines()) == 1000
