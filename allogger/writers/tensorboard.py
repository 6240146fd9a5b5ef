"""TensorboardWriter: how do values become event files that TensorBoard shows as they are written?"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence, Set
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from allogger.errors import ConfigError
from allogger.formats.append import AppendFile
from allogger.formats.shown import (
    NotShown,
    animation,
    confusion_pixels,
    file_text,
    mesh_tensors,
    pr_curve_rows,
    sound,
    table_text,
)
from allogger.formats.tfevents import (
    bytes_field,
    double_field,
    file_version_event,
    float_field,
    int_field,
    replace_events,
    scalar_events,
    summary_event,
)
from allogger.png import bytes_of, channels_last, png_of
from allogger.record import Batch, Payload, Record, Series, file_name
from allogger.rundir import Shard, is_live, shard_of
from allogger.writer import Writer

__all__ = ["TensorboardWriter"]

_IN_PARTS = ("mesh", "point_cloud")
_KINDS = frozenset(
    {
        *("scalar", "histogram", "image", "text", "params", "figure", "table", "confusion", "pr_curve", "video"),
        *("audio", *_IN_PARTS),
        *("artifact", "model", "checkpoint"),
    }
)
# TensorBoard's numbers of the parts of a mesh, and of the dtypes of these. Each part has a tag of its own.
_PARTS = {"VERTEX": (1, 1), "FACE": (2, 3), "COLOR": (3, 4)}


class _Refused(Exception):
    """A value that TensorBoard cannot show; the message says why."""


class TensorboardWriter(Writer):
    """Writes what TensorBoard has a place for, under the full key and with exact step and time.

    The files of a process lie in ``events/<process>/``. A later attempt of the same process adds a file to the folder,
    which TensorBoard shows as one run: of each key it replaces what there was from the step on at which it begins.
    While another process that may still be alive writes there, the folder is ``<process>@<host>-<pid>-<n>``.

    What TensorBoard's format cannot take is changed thus: scalars become float32 (too large ones infinite), complex
    ones are rejected; histograms count finite values only, and are empty where there are none; images become 8-bit
    PNG, where floats go from 0 to 1 and NaN is black; a lone surrogate in a text is written as ``\\udc80``, in a key
    it rejects the values. Parameters and tables become Markdown, confusion matrices and figures images, videos animated
    images, sounds WAV files, and meshes and point clouds a tag for each of their parts; see `allogger.formats.shown`.
    The parameters ``root/params`` also go to the dashboard of hyperparameters, where nested names have dots. Of files
    there is a line of text. Arrays and figures of plotly have no place.

    *use_hdf_hook* is kept for the manager, which then routes the values to HDF5 too. *bins* is the number of bins of a
    histogram. Raises `ConfigError` for other values than a bool and a positive int.
    """

    lane: ClassVar[str] = "disk"

    def __init__(self, shard: Shard, *, use_hdf_hook: bool = True, bins: int = 30) -> None:
        super().__init__(shard)
        if not isinstance(use_hdf_hook, bool):
            raise ConfigError(f"use_hdf_hook must be True or False, not {use_hdf_hook!r}")
        if type(bins) is not int or bins < 1:
            raise ConfigError(f"bins must be a positive whole number, not {bins!r}")
        self.use_hdf_hook = use_hdf_hook
        self.bins = bins
        self._file: AppendFile | None = None
        # Tags that have taken the place of what earlier attempts wrote; None where there is nothing of the kind.
        self._replaced: set[bytes] | None = None

    def accepts(self, kind: str) -> bool:
        """Return whether TensorBoard has a place for values of this kind."""
        return kind in _KINDS

    def write(self, batch: Batch) -> None:
        """Append the batch to the event file in one piece; raises `OSError` and leaves the file as it was."""
        events, refusals = _encoded(batch, self.bins)
        if events:
            file = self._open()
            begun = {} if self._replaced is None else _first_steps(batch, self._replaced)
            file.write(replace_events(begun, self.shard.start) + events if begun else events)
            if self._replaced is not None:
                self._replaced.update(begun)
        # Not before, because a batch that could not be written comes again.
        for refusal in refusals:
            self.reject(*refusal)

    def sync(self) -> None:
        """Force everything written so far onto the disk."""
        if self._file is not None:
            self._file.sync()

    def close(self) -> None:
        """Close the event file; may be called twice. A later write begins a new file."""
        self._let_go(AppendFile.close)

    def abandon(self) -> None:
        """Close the inherited descriptor in a forked child and touch nothing else."""
        self._let_go(AppendFile.abandon)

    def _open(self) -> AppendFile:
        if self._file is None:
            path = _claim_file(self.shard)
            self._file = AppendFile(path, self._preamble)
            self._replaced = set() if _is_later_attempt(path.parent, self.shard) else None
            _open_here.add(self.shard.name)
        return self._file

    def _let_go(self, how: Callable[[AppendFile], None]) -> None:
        file, self._file = self._file, None
        if file is not None:
            _open_here.discard(self.shard.name)
            how(file)

    def _preamble(self) -> bytes:
        return file_version_event(self.shard.start)


# --------------------------------------------------------------------------------------------------------------- values


class _Refusal(NamedTuple):
    series: Series
    values: int
    why: str


class _Scalars(NamedTuple):
    """Scalars in columns, as `scalar_events` takes them."""

    series: NDArray[np.uint32]
    step: NDArray[np.int64]
    time: NDArray[np.float64]
    value: NDArray[np.float32]

    def select(self, keep: NDArray[np.bool_]) -> _Scalars:
        """Return some of the rows."""
        return _Scalars(self.series[keep], self.step[keep], self.time[keep], self.value[keep])

    def insert(self, rows: Sequence[tuple[int, int, float, np.float32]], places: Sequence[int]) -> _Scalars:
        """Return the columns with each of the further *rows* put before the row at its place."""
        series, step, time, value = zip(*rows, strict=True)
        return _Scalars(
            np.insert(self.series, places, series),
            np.insert(self.step, places, step),
            np.insert(self.time, places, time),
            np.insert(self.value, places, value),
        )


def _encoded(batch: Batch, bins: int) -> tuple[bytes, list[_Refusal]]:
    """Return the events of the batch, and what TensorBoard cannot show of it."""
    events: list[bytes] = []
    rows: list[tuple[int, int, float, np.float32]] = []
    places: list[int] = []
    refusals: list[_Refusal] = []
    for record, place in zip(batch.objects, batch.places, strict=True):
        try:
            if record.kind == "scalar":
                rows.append((record.series.index, record.step, record.time, _number(record.payload)))
                places.append(place)
            else:
                values = _values(record, bins).items()
                events += [summary_event(tag, record.step, record.time, value) for tag, value in values]
        # Whatever goes wrong with one value must not take the others along.
        except Exception as error:
            why = str(error) if isinstance(error, _Refused | NotShown) else f"it cannot be encoded: {error!r:.200}"
            refusals.append(_Refusal(record.series, 1, why))
    scalars = _Scalars(batch.series, batch.step, batch.time, _as_float32(batch.floats))
    if rows:
        scalars = scalars.insert(rows, places)
    return b"".join([_scalar_events(scalars, batch.names, refusals), *events]), refusals


def _scalar_events(scalars: _Scalars, names: Sequence[Series], refusals: list[_Refusal]) -> bytes:
    tags: dict[int, bytes] = {}
    keep = np.ones(len(scalars.series), np.bool_)
    for index in np.unique(scalars.series).tolist():
        try:
            tags[index] = _tag(names[index])
        except _Refused as refused:
            rows = scalars.series == index
            keep &= ~rows
            refusals.append(_Refusal(names[index], int(rows.sum()), str(refused)))
    if not keep.all():
        scalars = scalars.select(keep)
    return scalar_events(tags, *scalars)


@lru_cache(maxsize=2**14)
def _tag(series: Series) -> bytes:
    try:
        return series.full_key.encode()
    except UnicodeEncodeError:
        # Readers refuse the whole event around such a string.
        raise _Refused("TensorBoard takes no key with lone surrogates") from None


def _first_steps(batch: Batch, known: Set[bytes]) -> dict[bytes, int]:
    """Return by tag the step of its first value in the batch, of the tags that are not *known*."""
    indices, rows = np.unique(batch.series, return_index=True)
    # The first record of a series in front, so that it is the one that stays.
    firsts = {record.series: (record.time, record.step) for record in reversed(batch.objects)}
    for index, row in zip(indices.tolist(), rows.tolist(), strict=True):
        first = float(batch.time[row]), int(batch.step[row])
        firsts[batch.names[index]] = min(firsts.get(batch.names[index], first), first)
    in_parts = {record.series for record in batch.objects if record.kind in _IN_PARTS}
    found = {}
    for series, (_, step) in firsts.items():
        with contextlib.suppress(_Refused):
            tags = [_tag(series), *(_part(series, part) for part in (_PARTS if series in in_parts else ()))]
            found.update({tag: step for tag in tags if tag not in known})
    return found


def _as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float32)


def _number(payload: Payload | float) -> np.float32:
    value = np.asarray(payload)
    if value.size != 1 or value.dtype.kind not in "biuf":
        raise _Refused(f"TensorBoard has no scalars of type {value.dtype}")
    number: np.float32 = _as_float32(value).reshape(1)[0]
    return number


def _part(series: Series, part: str) -> bytes:
    return _tag(series) + f"_{part}".encode()


def _values(record: Record, bins: int) -> dict[bytes, bytes]:
    """Return by tag the fields of TensorBoard's ``Summary.Value`` that show a record."""
    if record.kind not in _IN_PARTS:
        values = {_tag(record.series): _value(record, bins)}
        if record.kind == "params" and record.full_key == "root/params":
            # Those of the run, which the dashboard of hyperparameters compares. It takes the first that there are.
            values[_SESSION] = _session(json.loads(str(record.payload)), record.time)
        return values
    parts = mesh_tensors(record.kind, np.asarray(record.payload), record.attrs)
    components = sum(1 << _PARTS[part][0] for part in parts)
    name = _tag(record.series)
    return {_part(record.series, part): _mesh(name, part, its, components) for part, its in parts.items()}


def _value(record: Record, bins: int) -> bytes:
    if record.kind == "histogram":
        value = bytes_field(_HISTOGRAM, _histogram(np.asarray(record.payload), bins))
    elif record.kind == "figure" and isinstance(record.payload, str):
        raise _Refused("TensorBoard shows no figures of plotly; 'allogger images' writes them as HTML")
    elif record.kind in ("image", "figure"):
        value = bytes_field(_IMAGE, _image(np.asarray(record.payload), record.attrs.get("layout")))
    elif record.kind == "text":
        value = _TEXT_METADATA + bytes_field(_TENSOR, _text(str(record.payload)))
    elif record.kind == "params":
        value = _TEXT_METADATA + bytes_field(_TENSOR, _text(_indented(str(record.payload))))
    elif record.kind in ("artifact", "model", "checkpoint"):
        value = _TEXT_METADATA + bytes_field(_TENSOR, _text(file_text(_stored(record))))
    elif record.kind == "table":
        value = _TEXT_METADATA + bytes_field(_TENSOR, _text(table_text(_stored(record), record.attrs)))
    elif record.kind == "confusion":
        value = bytes_field(_IMAGE, _image(confusion_pixels(np.asarray(record.payload)), "HWC"))
    elif record.kind == "pr_curve":
        value = _pr_curve(pr_curve_rows(np.asarray(record.payload), record.attrs))
    elif record.kind == "video":
        value = bytes_field(_IMAGE, _encoded_image(*animation(np.asarray(record.payload), record.attrs)))
    elif record.kind == "audio":
        value = bytes_field(_AUDIO, _audio(*sound(np.asarray(record.payload), record.attrs)))
    else:
        raise _Refused(f"TensorBoard has no place for values of kind {record.kind!r}")
    return value


def _stored(record: Record) -> Payload:
    return record.payload if isinstance(record.payload, str) else np.asarray(record.payload)


# The messages below are those of TensorBoard's summary.proto and tensor.proto; here their fields have numbers only.
_IMAGE, _HISTOGRAM, _AUDIO, _TENSOR, _METADATA = 4, 5, 6, 8, 9


def _histogram(payload: NDArray[Any], bins: int) -> bytes:
    if payload.dtype.kind not in "biuf":
        raise _Refused(f"values of type {payload.dtype} have no histogram")
    # Longer floats may overflow to infinity here, sums and squares below.
    with np.errstate(over="ignore", invalid="ignore"):
        values = payload.astype(np.float64).ravel()
        values = values[np.isfinite(values)]
        if not len(values):
            return bytes_field(6, bytes(8)) + bytes_field(7, bytes(8))
        counts, limits = _binned(values, bins)
        # min, max, num, sum, sum_squares; bucket_limit, bucket
        numbers = (values.min(), values.max(), len(values), values.sum(), np.dot(values, values))
        fields = [double_field(place, number) for place, number in enumerate(numbers, 1)]
        return b"".join([*fields, bytes_field(6, _doubles(limits)), bytes_field(7, _doubles(counts))])


def _doubles(numbers: NDArray[Any]) -> bytes:
    return numbers.astype("<f8").tobytes()


def _binned(values: NDArray[np.float64], bins: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return how many of the finite *values* are in each bin, and the upper limit of each."""
    # The width of all bins together must be a finite number too.
    scale = 1.0 if np.isfinite(values.max() - values.min()) else 0.25
    try:
        counts, edges = np.histogram(values * scale, bins)
    except ValueError:
        # The values are so close together that there are no floats between them for the edges.
        return np.array([len(values)]), values.max(keepdims=True)
    return counts, edges[1:] / scale


# plugin_data { plugin_name }
_TEXT_METADATA = bytes_field(_METADATA, bytes_field(1, bytes_field(1, b"text")))
# dtype: DT_STRING, tensor_shape { dim { size: 1 } }
_ONE_TEXT = int_field(1, 7) + bytes_field(2, bytes_field(2, int_field(1, 1)))
# The tag of the parameters of a run, in TensorBoard's ``plugins/hparams/metadata.py``.
_SESSION = b"_hparams_/session_start_info"


def _indented(params: str) -> str:
    """Return JSON as Markdown that TensorBoard shows line by line."""
    return "".join(
        f"    {line}\n" for line in json.dumps(json.loads(params), indent=2, ensure_ascii=False).splitlines()
    )


def _text(text: str) -> bytes:
    return _ONE_TEXT + bytes_field(8, _utf8(text))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _pr_curve(rows: NDArray[np.float32]) -> bytes:
    # DT_FLOAT; content { num_thresholds }
    return _tensor(b"pr_curves", int_field(2, rows.shape[1]), 1, rows.astype("<f4"))


def _session(params: Any, time: float) -> bytes:
    """Return parameters as TensorBoard's plug-in for hyperparameters takes them, see its ``plugin_data.proto``."""
    # Entries of a map: key, value.
    entries = [
        bytes_field(1, bytes_field(1, _utf8(name)) + bytes_field(2, value)) for name, value in _parameters(params)
    ]
    # session_start_info { hparams, start_time_secs }
    content = bytes_field(3, b"".join(entries) + double_field(5, time))
    return _tensor(b"hparams", content, 1, np.empty(0, "<f4"))


def _parameters(params: Any, name: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield the parameters in what JSON gave, nested names with a dot, as messages ``google.protobuf.Value``."""
    if isinstance(params, dict) and params:
        for key, value in params.items():
            yield from _parameters(value, f"{name}.{key}" if name else key)
    elif isinstance(params, bool):
        yield name, int_field(4, params)
    elif isinstance(params, int | float) and abs(params) < 2**1023:
        yield name, double_field(2, float(params))
    else:
        yield name, bytes_field(3, _utf8(params if isinstance(params, str) else json.dumps(params)))


def _mesh(name: bytes, part: str, rows: NDArray[Any], components: int) -> bytes:
    content_type, dtype = _PARTS[part]
    # A batch of one.
    batch = rows[None]
    shape = b"".join(int_field(6, size) for size in batch.shape)
    # content { name, content_type, json_config, shape, components }
    content = bytes_field(2, name) + int_field(3, content_type) + bytes_field(5, b"{}")
    return _tensor(b"mesh", content + shape + int_field(7, components), dtype, batch)


def _tensor(plugin: bytes, content: bytes, dtype: int, items: NDArray[Any]) -> bytes:
    """Return an array, little-endian, and what a plug-in of TensorBoard is told of it."""
    # plugin_data { plugin_name, content }
    metadata = bytes_field(1, bytes_field(1, plugin) + bytes_field(2, content))
    shape = b"".join(bytes_field(2, int_field(1, size)) for size in items.shape)
    # dtype, tensor_shape, tensor_content
    tensor = int_field(1, dtype) + bytes_field(2, shape) + bytes_field(4, items.tobytes())
    return bytes_field(_METADATA, metadata) + bytes_field(_TENSOR, tensor)


def _audio(rate: int, channels: int, frames: int, encoded: bytes) -> bytes:
    # sample_rate, num_channels, length_frames, encoded_audio_string, content_type
    front = float_field(1, rate) + int_field(2, channels) + int_field(3, frames)
    return front + bytes_field(4, encoded) + bytes_field(5, b"audio/wav")


# --------------------------------------------------------------------------------------------------------------- images

_PNG_LEVEL = 3


def _image(payload: NDArray[Any], layout: str | None) -> bytes:
    try:
        pixels = bytes_of(channels_last(payload, layout))
    except ValueError as error:
        raise _Refused(str(error)) from None
    height, width, channels = pixels.shape
    if not height or not width:
        raise _Refused(f"an image of shape {payload.shape} has no pixels")
    # TensorBoard's colour space is the number of channels.
    return _encoded_image(height, width, png_of(pixels, _PNG_LEVEL), channels)


def _encoded_image(height: int, width: int, encoded: bytes, channels: int = 3) -> bytes:
    return int_field(1, height) + int_field(2, width) + int_field(3, channels) + bytes_field(4, encoded)


# -------------------------------------------------------------------------------------------------------------- folders

_EVENT_FILE = re.compile(r"events\.out\.tfevents\.(\d{10})\..+\.(\d{8}T\d{6}\.\d{6}-.+-\d+-\d+)")
# Of a process on another host we only see whether its files grew lately.
_QUIET_SECONDS = 60.0
# Names of the shards whose event files this process has open.
_open_here: set[str] = set()


class _EventFile(NamedTuple):
    path: Path
    seconds: int
    shard_name: str


def _claim_file(shard: Shard) -> Path:
    """Make an empty event file in a folder where no other live process has one, and return its path.

    Of two processes that want the same folder at the same time, each makes its file first and looks for the other's
    afterwards; so at least one sees the other and goes elsewhere.
    """
    label = file_name(shard.process)
    shared = shard.events / label
    if not _is_taken(shared, shard):
        path = _make_file(shared, shard)
        if not _is_taken(shared, shard):
            return path
        with contextlib.suppress(OSError):
            path.unlink()
    _, _, host_pid_number = shard.name.partition("-")
    return _make_file(shard.events / f"{label}@{host_pid_number}", shard)


def _make_file(folder: Path, shard: Shard) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "a symbolic link is not followed", str(folder))
    # TensorBoard goes through the files in the order of their names and never back, however the clock was set.
    seconds = max([int(shard.start), *(file.seconds + 1 for file in _event_files(folder))])
    _, host, _ = shard_of(shard.name)
    path = folder / f"events.out.tfevents.{seconds:010d}.{host}.{shard.name}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    return path


def _event_files(folder: Path) -> Iterator[_EventFile]:
    """Yield the event files in *folder* that allogger wrote."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        if match := _EVENT_FILE.fullmatch(name):
            yield _EventFile(folder / name, int(match[1]), match[2])


def _is_taken(folder: Path, shard: Shard) -> bool:
    """Return whether a process that may still be alive writes another shard into *folder*, or it is a link."""
    return folder.is_symlink() or any(
        file.shard_name != shard.name and _may_be_live(file, shard) for file in _event_files(folder)
    )


def _is_later_attempt(folder: Path, shard: Shard) -> bool:
    """Return whether all other files in *folder* are of earlier attempts than that of *shard*, and there are some."""
    try:
        begin, _, _ = shard_of(shard.attempt or shard.name)
        starts = [shard_of(file.shard_name)[0] for file in _event_files(folder) if file.shard_name != shard.name]
    except ValueError:
        return False
    return bool(starts) and max(starts) < begin


def _may_be_live(file: _EventFile, shard: Shard) -> bool:
    try:
        _, host, pid = shard_of(file.shard_name)
        _, our_host, our_pid = shard_of(shard.name)
        if (host, pid) == (our_host, our_pid):
            return file.shard_name in _open_here
        if is_live(shard.events, file.shard_name):
            return True
        return host != our_host and time.time() - file.path.stat().st_mtime < _QUIET_SECONDS
    except (OSError, ValueError):
        # The file has vanished, or its name only looks like one of ours.
        return False
