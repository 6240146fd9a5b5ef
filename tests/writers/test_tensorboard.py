from __future__ import annotations

import io
import multiprocessing
import os
import resource
import shutil
import socket
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.directory_watcher import DirectoryWatcher
from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE, EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader, LegacyEventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PluginEventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.util import tensor_util

import allogger
from allogger.errors import ConfigError
from allogger.record import BOOL, FLOAT, INT, Batch, Record, Series, file_name
from allogger.rundir import JOURNAL, Shard, new_shard
from allogger.writers.tensorboard import TensorboardWriter

LOSS = Series(0, "root.main", "loss")

Row = tuple[Series, int, float, Any]


def batch_of(rows: Sequence[Row] = (), objects: Sequence[Record] = (), at: Sequence[int] = ()) -> Batch:
    """Return a batch of numbers, given as (series, step, time, value), and objects."""
    every = {series.index: series for series in [row[0] for row in rows] + [record.series for record in objects]}
    values = [row[3] for row in rows]
    code = [BOOL if isinstance(v, bool) else INT if isinstance(v, int) else FLOAT for v in values]
    bits = [v if isinstance(v, int) else int(np.float64(v).view(np.int64)) for v in values]
    return Batch(
        [every.get(index, Series(index, "root", str(index))) for index in range(max(every, default=-1) + 1)],
        np.array([row[0].index for row in rows], np.uint32),
        np.array(code, np.uint8),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.array(bits, np.int64),
        tuple(objects),
        tuple(at),
    )


def object_of(payload: Any, kind: str, step: int = 1, time: float = 0.5, series: Series = LOSS, **attrs: Any) -> Record:
    return Record(series, kind, step, time, payload, attrs)


def written(tmp_path: Path, *batches: Batch, **params: Any) -> TensorboardWriter:
    writer = TensorboardWriter(new_shard(tmp_path), **params)
    for batch in batches:
        writer.write(batch)
    writer.close()
    return writer


def files(tmp_path: Path) -> list[Path]:
    return sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != JOURNAL)


def run_of(folder: Path) -> EventAccumulator:
    """Read a folder as TensorBoard's library does, without sampling."""
    return EventAccumulator(str(folder), size_guidance=STORE_EVERYTHING_SIZE_GUIDANCE).Reload()


def main_run(tmp_path: Path) -> EventAccumulator:
    return run_of(tmp_path / "events" / "MainProcess")


def scalars(tmp_path: Path, tag: str = "main/loss") -> list[tuple[int, float, float]]:
    return [(event.step, event.wall_time, event.value) for event in main_run(tmp_path).Scalars(tag)]


def shown(tmp_path: Path) -> list[Any]:
    """Return the events of the only file as the web page gets them: brought into their present form by TensorBoard."""
    [path] = files(tmp_path)
    version, *events = EventFileLoader(str(path)).Load()
    assert version.file_version == "brain.Event:2"
    return events


# -------------------------------------------------------------------------------------------------------------- scalars


def test_every_scalar_is_listed_with_its_exact_step_and_wall_time(tmp_path: Path) -> None:
    keys = ["loss", "train/loss", "größe/温度 °C", "a b\n\0%", "/", ""]
    series = [Series(index, "root.agent.critic", key) for index, key in enumerate(keys)]
    steps = [-(2**63), -1, 0, 1, 127, 128, 2**32 + 1, 5, 5, 3, 2**63 - 1]
    rows = [
        (s, step, 1.7e9 + index / 7 + s.index, index / 8 - s.index) for index, step in enumerate(steps) for s in series
    ]
    writer = written(tmp_path, batch_of(rows[:30]), batch_of(rows[30:]))
    run = main_run(tmp_path)
    assert sorted(run.Tags()["scalars"]) == sorted(f"agent.critic/{key}" for key in keys)
    for s in series:
        expected = [(step, time, value) for owner, step, time, value in rows if owner is s]
        assert scalars(tmp_path, s.full_key) == expected
    assert not writer.rejected


def test_numbers_become_float32_and_none_is_dropped(tmp_path: Path) -> None:
    values = [0.1, 1e300, -1e300, float("inf"), float("-inf"), 5e-324, -0.0, 2**53 + 1, -(2**63), True, False]
    written(tmp_path, batch_of([(LOSS, step, 0.0, value) for step, value in enumerate(values)]))
    found = [value for _, _, value in scalars(tmp_path)]
    inf = float("inf")
    assert found == [float(np.float32(0.1)), inf, -inf, inf, -inf, 0, 0, 2.0**53, -(2.0**63), 1, 0]


def test_nan_is_a_value(tmp_path: Path) -> None:
    written(tmp_path, batch_of([(LOSS, 1, 0.0, 1.0), (LOSS, 2, 0.0, float("nan")), (LOSS, 3, 0.0, 2.0)]))
    assert np.array_equal([value for _, _, value in scalars(tmp_path)], [1, np.nan, 2], equal_nan=True)


def test_the_web_page_gets_the_scalars_as_scalars(tmp_path: Path) -> None:
    written(tmp_path, batch_of([(LOSS, -7, 12.25, 0.5)]))
    [event] = shown(tmp_path)
    [value] = event.summary.value
    assert (event.step, event.wall_time, value.tag) == (-7, 12.25, "main/loss")
    assert value.metadata.plugin_data.plugin_name == "scalars"
    assert tensor_util.make_ndarray(value.tensor) == np.float32(0.5)


def test_scalars_that_came_as_arrays_stand_where_they_were_logged(tmp_path: Path) -> None:
    arrays = [np.array(value) for value in (np.float16(1.5), np.uint64(2**63), np.longdouble(3), np.True_)]
    batch = batch_of(
        [(LOSS, step, float(step), float(step)) for step in (10, 300, 20)],
        [object_of(array, "scalar", step=200, time=9.0) for array in arrays],
        at=(0, 1, 1, 3),
    )
    writer = written(tmp_path, batch)
    assert scalars(tmp_path) == [
        (200, 9.0, 1.5),
        (10, 10.0, 10.0),
        (200, 9.0, 2.0**63),
        (200, 9.0, 3.0),
        (300, 300.0, 300.0),
        (20, 20.0, 20.0),
        (200, 9.0, 1.0),
    ]
    assert not writer.rejected


def test_a_value_that_tensorboard_cannot_show_is_counted_and_takes_no_other_along(tmp_path: Path) -> None:
    class Angry:
        def __str__(self) -> str:
            raise RuntimeError("no")

    surrogate = Series(1, "root", "\ud800")
    bad = [
        object_of(np.array(1 + 2j), "scalar"),
        object_of(np.array("text"), "scalar"),
        object_of(np.array([1 + 2j]), "histogram"),
        object_of(np.zeros((5, 4, 2)), "image"),
        object_of(np.zeros((4, 0)), "image"),
        object_of(np.zeros((4, 4), complex), "image"),
        object_of(Angry(), "text"),
        object_of(np.zeros(3), "unknown"),
        object_of(np.array(1.0), "scalar", series=surrogate),
        object_of("text", "text", series=surrogate),
    ]
    good = object_of(np.array(3.0), "scalar", step=3)
    rows = [(LOSS, 1, 0.5, 1.0), (surrogate, 1, 0.5, 1.0), (LOSS, 2, 0.5, 2.0), (surrogate, 2, 0.5, 1.0)]
    writer = written(tmp_path, batch_of(rows, [*bad, good]))
    assert scalars(tmp_path) == [(1, 0.5, 1.0), (2, 0.5, 2.0), (3, 0.5, 3.0)]
    assert {key: count for key, (count, _) in writer.rejected.items()} == {"main/loss": 8, "root/\ud800": 4}


def test_a_batch_of_nothing_but_rejects_makes_no_file(tmp_path: Path) -> None:
    writer = written(tmp_path, batch_of([], [object_of(np.array(1j), "scalar")]))
    count, why = writer.rejected["main/loss"]
    assert count == 1
    assert "complex128" in why
    assert files(tmp_path) == []


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(0, 4e9),
            st.one_of(st.floats(), st.integers(-(2**63), 2**63 - 1), st.booleans()),
            st.booleans(),
        ),
        max_size=15,
    )
)
def test_any_scalars_read_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, int, float, Any, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    keys = list(dict.fromkeys(key for key, *_ in values))
    series = {key: Series(index, "root.main", key) for index, key in enumerate(keys)}
    rows: list[Row] = []
    objects, at = [], []
    for key, step, time, value, as_object in values:
        if as_object:
            objects.append(object_of(np.array(value), "scalar", step, time, series[key]))
            at.append(len(rows))
        else:
            rows.append((series[key], step, time, value))
    written(folder, batch_of(rows, objects, at))
    if not values:
        return
    for key in keys:
        found = [(e.step, e.wall_time, e.value) for e in main_run(folder).Scalars(f"main/{key}")]
        with np.errstate(over="ignore"):
            expected = [(step, time, float(np.float32(v))) for owner, step, time, v, _ in values if owner == key]
        np.testing.assert_array_equal(np.array(found, object)[:, :2], np.array(expected, object)[:, :2])
        np.testing.assert_array_equal([v for *_, v in found], [v for *_, v in expected])


# ----------------------------------------------------------------------------------------------------------- histograms


def histogram(tmp_path: Path, payload: np.ndarray[Any, Any], **params: Any) -> Any:
    written(tmp_path, batch_of([], [object_of(payload, "histogram", step=7, time=1.25)]), **params)
    # The percentiles that TensorBoard makes of the bins overflow.
    with np.errstate(over="ignore"):
        [event] = main_run(tmp_path).Histograms("main/loss")
    assert (event.step, event.wall_time) == (7, 1.25)
    return event.histogram_value


def test_a_histogram_has_the_bins_of_numpy(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(20, 50))
    found = histogram(tmp_path, values, bins=12)
    counts, edges = np.histogram(values, 12)
    assert found.bucket == counts.tolist()
    assert found.bucket_limit == edges[1:].tolist()
    assert (found.min, found.max, found.num) == (values.min(), values.max(), 1000)
    assert found.sum == pytest.approx(values.sum())
    assert found.sum_squares == pytest.approx((values**2).sum())


@pytest.mark.parametrize(
    "payload",
    [
        np.array([True, False, True]),
        np.arange(-3, 3, dtype=np.int8),
        np.array([0, 2**64 - 1], np.uint64),
        np.array([-(2**63), 2**63 - 1]),
        np.array([1, 2, np.inf, np.nan], np.float16),
        np.array([-np.inf, 1.0, np.nan, np.inf]),
        np.array([1e300, 1e300]),
        np.array([1e16, 1e16 + 2]),
        np.array([5e-324, 1e-323]),
        np.array([-1.7e308, 0, 1.7e308]),
        np.array([1, 2, 3], np.longdouble),
        np.array([4.0]),
    ],
    ids=str,
)
def test_what_is_finite_is_counted_whatever_the_type_and_range(tmp_path: Path, payload: np.ndarray[Any, Any]) -> None:
    finite = payload[np.isfinite(payload)].astype(np.float64)
    found = histogram(tmp_path, payload)
    assert sum(found.bucket) == found.num == len(finite)
    assert (found.min, found.max) == (finite.min(), finite.max())
    assert len(found.bucket) == len(found.bucket_limit)
    assert np.isfinite(found.bucket_limit).all()
    assert found.bucket_limit == sorted(found.bucket_limit)


def test_a_range_wider_than_a_float_has_its_bins_too(tmp_path: Path) -> None:
    assert histogram(tmp_path, np.array([-1.7e308, 0, 1.7e308]), bins=4).bucket == [1, 0, 1, 1]


@pytest.mark.parametrize("payload", [np.array([]), np.array([np.nan, np.inf]), np.empty((0, 3), np.int32)], ids=str)
def test_without_a_finite_value_the_histogram_is_empty(tmp_path: Path, payload: np.ndarray[Any, Any]) -> None:
    assert histogram(tmp_path, payload).num == 0
    [event] = shown(tmp_path)
    assert tensor_util.make_ndarray(event.summary.value[0].tensor).shape == (0, 3)


def test_the_web_page_gets_the_bins_as_a_histogram(tmp_path: Path) -> None:
    histogram(tmp_path, np.array([0.0, 1.0, 1.0, 2.0]), bins=2)
    [event] = shown(tmp_path)
    [value] = event.summary.value
    assert value.metadata.plugin_data.plugin_name == "histograms"
    assert tensor_util.make_ndarray(value.tensor).tolist() == [[0, 1, 1], [1, 2, 3]]


# --------------------------------------------------------------------------------------------------------------- images


def image(tmp_path: Path, payload: np.ndarray[Any, Any], **attrs: Any) -> np.ndarray[Any, Any]:
    """Write an image and return the pixels that its PNG has, with the channels last."""
    written(tmp_path, batch_of([], [object_of(payload, "image", step=7, time=1.25, **attrs)]))
    [event] = main_run(tmp_path).Images("main/loss")
    assert (event.step, event.wall_time) == (7, 1.25)
    pixels = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    assert pixels.shape[:2] == (event.height, event.width)
    [loaded] = shown(tmp_path)
    assert loaded.summary.value[0].metadata.plugin_data.plugin_name == "images"
    return pixels


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("layout", ["HWC", "CHW"])
@pytest.mark.parametrize("is_told", [True, False])
def test_bytes_are_shown_as_they_are_in_each_layout(tmp_path: Path, channels: int, layout: str, is_told: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    payload = pixels if layout == "HWC" else pixels.transpose(2, 0, 1)
    found = image(tmp_path, payload, **({"layout": layout} if is_told else {}))
    assert np.array_equal(found, pixels)


def test_two_axes_are_a_grey_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4), np.uint8)
    assert np.array_equal(image(tmp_path, pixels)[:, :, 0], pixels)


def test_where_both_ends_could_be_channels_it_is_the_last_unless_told(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 4), np.uint8)
    assert np.array_equal(image(tmp_path / "a", pixels), pixels)
    assert np.array_equal(image(tmp_path / "b", pixels, layout="CHW"), pixels.transpose(1, 2, 0)[:, :, :3])


def test_the_colour_space_is_the_number_of_channels(tmp_path: Path) -> None:
    written(
        tmp_path, batch_of([], [object_of(np.zeros((2, 3, c), np.uint8), "image", layout="HWC") for c in (1, 3, 4)])
    )
    [path] = files(tmp_path)
    _, *events = LegacyEventFileLoader(str(path)).Load()
    assert [event.summary.value[0].image.colorspace for event in events] == [1, 3, 4]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (np.array([[True, False]]), [255, 0]),
        (np.array([[-5, 0, 200, 255, 2**40]]), [0, 0, 200, 255, 255]),
        (np.array([[0, 2**63]], np.uint64), [0, 255]),
        (np.array([[0, 0.5, 1, -1, 7, np.nan, np.inf, -np.inf]]), [0, 128, 255, 0, 255, 0, 255, 0]),
        (np.array([[0, 1, np.nan, 6e4]], np.float16), [0, 255, 0, 255]),
        (np.array([[1, 1e400]], np.longdouble), [255, 255]),
        (np.arange(256, dtype=np.float32)[None] / 255, list(range(256))),
        (np.arange(256, dtype=np.float16)[None] / np.float16(255), list(range(256))),
    ],
    ids=["bool", "int64", "uint64", "float64", "float16", "longdouble", "all float32", "all float16"],
)
def test_other_pixels_become_bytes(tmp_path: Path, payload: np.ndarray[Any, Any], expected: list[int]) -> None:
    assert image(tmp_path, payload)[0, :, 0].tolist() == expected


def test_a_view_with_strides_is_the_image_that_it_shows(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    assert np.array_equal(image(tmp_path, pixels[::-2, 1::2]), pixels[::-2, 1::2])


# ---------------------------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize("text", ["", "one **two**", "größe 温度\n\0", "x" * 10_000])
def test_texts_are_shown_as_they_are(tmp_path: Path, text: str) -> None:
    written(tmp_path, batch_of([], [object_of(text, "text", step=7, time=1.25)]))
    run = PluginEventAccumulator(str(tmp_path / "events" / "MainProcess"), {"tensors": 0}).Reload()
    assert list(run.PluginTagToContent("text")) == ["main/loss"]
    [event] = run.Tensors("main/loss")
    assert (event.step, event.wall_time) == (7, 1.25)
    assert [item.decode() for item in tensor_util.make_ndarray(event.tensor_proto)] == [text]


def test_a_lone_surrogate_in_a_text_is_written_out(tmp_path: Path) -> None:
    written(tmp_path, batch_of([], [object_of("a\udc80b", "text")]))
    [event] = shown(tmp_path)
    assert tensor_util.make_ndarray(event.summary.value[0].tensor).tolist() == [b"a\\udc80b"]


# ---------------------------------------------------------------------------------------------------------------- files


def test_nothing_is_made_before_the_first_value(tmp_path: Path) -> None:
    writer = TensorboardWriter(new_shard(tmp_path))
    writer.write(batch_of())
    writer.flush()
    writer.sync()
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_values_are_readable_as_soon_as_write_returns(tmp_path: Path) -> None:
    writer = TensorboardWriter(new_shard(tmp_path))
    for step in range(3):
        writer.write(batch_of([(LOSS, step, 0.0, 1.0)]))
        assert len(scalars(tmp_path)) == step + 1
    writer.sync()
    writer.close()
    writer.close()


def test_a_file_torn_at_the_end_stays_readable(tmp_path: Path) -> None:
    written(tmp_path, batch_of([(LOSS, step, 0.0, 1.0) for step in range(3)]))
    [path] = files(tmp_path)
    os.truncate(path, path.stat().st_size - 1)
    assert [step for step, _, _ in scalars(tmp_path)] == [0, 1]


def test_a_write_that_fits_in_part_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    writer = TensorboardWriter(new_shard(tmp_path))
    writer.write(batch_of([(LOSS, 0, 0.0, 1.0)]))
    [path] = files(tmp_path)
    whole = path.read_bytes()
    batch = batch_of([(LOSS, step, 0.0, 1.0) for step in (1, 2)], [object_of(np.array(1j), "scalar")])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 70, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            writer.write(batch)
        assert path.read_bytes() == whole
        assert not writer.rejected
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.write(batch)
    writer.close()
    assert [step for step, _, _ in scalars(tmp_path)] == [0, 1, 2]
    assert writer.rejected["main/loss"][0] == 1


def test_a_folder_that_vanished_is_made_again(tmp_path: Path) -> None:
    writer = TensorboardWriter(new_shard(tmp_path))
    writer.write(batch_of([(LOSS, 1, 0.0, 1.0)]))
    shutil.rmtree(tmp_path / "events")
    writer.write(batch_of([(LOSS, 2, 0.0, 1.0)]))
    assert [step for step, _, _ in scalars(tmp_path)] == [2]
    writer.close()


def test_a_logdir_that_cannot_be_made_is_an_os_error_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    writer = TensorboardWriter(new_shard(tmp_path / "run"))
    with pytest.raises(OSError, match="directory"):
        writer.write(batch_of([(LOSS, 1, 0.0, 1.0)]))
    (tmp_path / "run").unlink()
    writer.write(batch_of([(LOSS, 1, 0.0, 1.0)]))
    writer.close()
    assert len(scalars(tmp_path / "run")) == 1


# -------------------------------------------------------------------------------------------------------------- folders


def folders(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "events").iterdir() if path.is_dir())


def test_file_and_folder_say_who_wrote_them(tmp_path: Path) -> None:
    shard = new_shard(tmp_path, "../Process 1")
    writer = TensorboardWriter(shard)
    writer.write(batch_of([(LOSS, 1, 0.0, 1.0)]))
    writer.close()
    host = file_name(socket.gethostname(), 60)
    [path] = files(tmp_path)
    assert path.parent == tmp_path / "events" / "%2E%2E%2FProcess%201"
    assert path.name == f"events.out.tfevents.{int(shard.start):010d}.{host}.{shard.name}"


def test_a_later_attempt_goes_on_in_the_same_folder_and_reads_as_one_run(tmp_path: Path) -> None:
    for step in range(12):
        written(tmp_path, batch_of([(LOSS, step, 0.0, 1.0)]))
    assert folders(tmp_path) == ["MainProcess"]
    assert [step for step, _, _ in scalars(tmp_path)] == list(range(12))


def test_an_attempt_is_read_last_even_if_the_clock_went_back(tmp_path: Path) -> None:
    written(tmp_path, batch_of([(LOSS, 1, 0.0, 1.0)]))
    shard = new_shard(tmp_path)
    earlier = Shard(tmp_path, f"20010101T000000.000000-{shard.name.partition('-')[2]}", start=978307200.0)
    writer = TensorboardWriter(earlier)
    writer.write(batch_of([(LOSS, 2, 0.0, 1.0)]))
    writer.close()
    assert [step for step, _, _ in scalars(tmp_path)] == [1, 2]


def test_a_writer_that_goes_on_after_close_hides_nothing(tmp_path: Path) -> None:
    writer = TensorboardWriter(new_shard(tmp_path))
    for step in range(3):
        writer.write(batch_of([(LOSS, step, 0.0, 1.0)]))
        writer.close()
    assert [step for step, _, _ in scalars(tmp_path)] == [0, 1, 2]


def test_two_live_writers_of_one_name_get_folders_of_their_own(tmp_path: Path) -> None:
    first, second = TensorboardWriter(new_shard(tmp_path)), TensorboardWriter(new_shard(tmp_path))
    first.write(batch_of([(LOSS, 1, 0.0, 1.0)]))
    # TensorBoard would go on to any other file in the folder, and never come back.
    untouched = (tmp_path / "events" / "MainProcess").stat().st_mtime_ns
    second.write(batch_of([(LOSS, 2, 0.0, 1.0)]))
    assert (tmp_path / "events" / "MainProcess").stat().st_mtime_ns == untouched
    first.write(batch_of([(LOSS, 3, 0.0, 1.0)]))
    own = f"MainProcess@{second.shard.name.partition('-')[2]}"
    assert folders(tmp_path) == ["MainProcess", own]
    assert [step for step, _, _ in scalars(tmp_path)] == [1, 3]
    assert [event.step for event in run_of(tmp_path / "events" / own).Scalars("main/loss")] == [2]
    first.close()
    second.close()


@pytest.mark.parametrize(("age_seconds", "count"), [(0, 2), (3600, 1)])
def test_a_file_of_another_host_that_grew_lately_is_left_alone(tmp_path: Path, age_seconds: int, count: int) -> None:
    shard = new_shard(tmp_path)
    other = f"{shard.name.partition('-')[0]}-elsewhere-1-0"
    path = tmp_path / "events" / "MainProcess" / f"events.out.tfevents.{int(shard.start)}.elsewhere.{other}"
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (shard.start - age_seconds,) * 2)
    written(tmp_path, batch_of([(LOSS, 1, 0.0, 1.0)]))
    assert len(folders(tmp_path)) == count


@pytest.mark.parametrize(
    "name",
    [
        "events.out.tfevents.1700000000.host.123.0",
        "events.out.tfevents.1700000000.host.20009999T999999.000000-host-1-0",
    ],
)
def test_event_files_of_other_programs_do_not_matter(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "events" / "MainProcess"
    folder.mkdir(parents=True)
    (folder / name).touch()
    written(tmp_path, batch_of([(LOSS, 1, 0.0, 1.0)]))
    assert len(scalars(tmp_path)) == 1


def write_one_and_stay(logdir: Path, together: Barrier, mine: Connection) -> None:
    writer = TensorboardWriter(new_shard(logdir))
    together.wait(60)
    writer.write(batch_of([(LOSS, os.getpid(), 0.0, 1.0)]))
    together.wait(60)
    mine.send(os.getpid())
    mine.recv()


def test_programs_that_start_at_the_same_instant_never_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        logdir = tmp_path / str(attempt)
        together = context.Barrier(6)
        pipes = [context.Pipe() for _ in range(6)]
        children = [context.Process(target=write_one_and_stay, args=(logdir, together, theirs)) for _, theirs in pipes]
        for child in children:
            child.start()
        pids = {ours.recv() for ours, _ in pipes}
        try:
            found = [
                [e.step for e in run_of(folder).Scalars("main/loss")]
                for folder in (logdir / "events").iterdir()
                if files(folder)
            ]
        finally:
            for child, (ours, _) in zip(children, pipes, strict=True):
                ours.send("go")
                child.join(60)
        assert sorted(found) == sorted([pid] for pid in pids)


def write_one_and_die(logdir: Path) -> None:
    TensorboardWriter(new_shard(logdir)).write(batch_of([(LOSS, 1, 0.0, 1.0)]))
    os._exit(9)


def test_the_folder_of_a_process_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=write_one_and_die, args=(tmp_path,))
    child.start()
    child.join(60)
    written(tmp_path, batch_of([(LOSS, 2, 0.0, 1.0)]))
    assert [step for step, _, _ in scalars(tmp_path)] == [1, 2]


def abandon_and_report(writer: TensorboardWriter, mine: Connection) -> None:
    before = len(os.listdir("/proc/self/fd"))
    writer.abandon()
    mine.send(before - len(os.listdir("/proc/self/fd")))


def test_a_forked_child_closes_what_it_inherited_and_writes_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writer = TensorboardWriter(new_shard(tmp_path))
    writer.write(batch_of([(LOSS, 1, 0.0, 1.0)]))
    ours, theirs = context.Pipe()
    child = context.Process(target=abandon_and_report, args=(writer, theirs))
    child.start()
    assert ours.recv() == 1
    child.join(60)
    writer.write(batch_of([(LOSS, 2, 0.0, 1.0)]))
    writer.close()
    assert [step for step, _, _ in scalars(tmp_path)] == [1, 2]


def test_tensorboard_follows_a_run_through_its_attempts(tmp_path: Path) -> None:
    writer = TensorboardWriter(new_shard(tmp_path))
    writer.write(batch_of([(LOSS, 1, 0.0, 1.0)]))
    page = DirectoryWatcher(
        str(tmp_path / "events" / "MainProcess"),
        EventFileLoader,
        lambda path: "tfevents" in path,
    )

    def new_steps() -> list[int]:
        return [event.step for event in page.Load() for value in event.summary.value if value.WhichOneof("value")]

    seen = new_steps()
    writer.write(batch_of([(LOSS, 2, 0.0, 1.0)]))
    writer.close()
    written(tmp_path, batch_of([(LOSS, 3, 0.0, 1.0)]))
    assert seen + new_steps() == [1, 2, 3]


# ----------------------------------------------------------------------------------------------------------- parameters


def test_it_takes_what_tensorboard_shows(tmp_path: Path) -> None:
    writer = TensorboardWriter(new_shard(tmp_path), use_hdf_hook=False)
    kinds = ("scalar", "histogram", "image", "text", "array", "unknown")
    assert [writer.accepts(kind) for kind in kinds] == [True] * 4 + [False] * 2
    assert (writer.lane, writer.use_hdf_hook) == ("disk", False)
    assert TensorboardWriter(new_shard(tmp_path)).use_hdf_hook


def test_parameters_of_the_root_are_in_the_dashboard_of_hyperparameters(tmp_path: Path) -> None:
    odd = {"none": None, "list": [1, {"a": 2}], "empty": {}, "nan": float("nan"), "large": 10**400, "\ud800": "\udc80"}
    for rate in (0.1, 0.2):
        params = {"optim": {"rate": rate, "name": "adam", "nesterov": True}, "odd": odd}
        logdir, writer_params = tmp_path / str(rate), {"use_hdf_hook": False}
        with allogger.run(logdir, ["tensorboard"], tensorboard_writer_params=writer_params) as root:
            root.log(params, "params", data_type="params")
            root.log({"optim": {"rate": 7}}, "later", data_type="params")
            allogger.get_logger("below").log({"rate": 8}, "params", data_type="params")
            root.log(rate * 2, "loss")
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    context = Context(TBContext(data_provider=provider, logdir=str(tmp_path)))

    def ask(metadata: Any) -> Any:
        return context.experiment_from_metadata(RequestContext(), "", True, metadata, [])

    experiment = ask(context.hparams_metadata(RequestContext(), ""))
    domains = {info.name: info for info in experiment.hparam_infos}
    assert domains.keys() == {
        *("optim.rate", "optim.name", "optim.nesterov", "odd.none", "odd.list", "odd.empty", "odd.nan", "odd.large"),
        "odd.\\ud800",
    }
    rates = domains["optim.rate"].domain_interval
    assert (rates.min_value, rates.max_value) == (0.1, 0.2)
    assert [v.string_value for v in domains["optim.name"].domain_discrete.values] == ["adam"]
    assert [v.bool_value for v in domains["optim.nesterov"].domain_discrete.values] == [True]
    assert [info.name.tag for info in experiment.metric_infos] == ["root/loss"]
    params = allogger.open_run(tmp_path / "0.1").params
    assert (params["optim.rate"], params["optim.nesterov"], params["odd.list"]) == (0.1, True, '[1, {"a": 2}]')


@pytest.mark.parametrize("params", [{"bins": 0}, {"bins": 2.5}, {"bins": True}, {"use_hdf_hook": "no"}])
def test_parameters_that_cannot_work_are_refused(tmp_path: Path, params: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(params))):
        TensorboardWriter(new_shard(tmp_path), **params)
