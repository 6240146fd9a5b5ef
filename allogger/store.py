"""Store: how do the shards of a run become series, one per full key?"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from allogger.artifacts import Artifact, artifacts_of, is_file_kind
from allogger.attempts import State, attempts_of, state_of
from allogger.curves import Curve, aligned, check_points, numbers_of
from allogger.errors import AlloggerError, ConfigError, DamagedFile, NoSuchKey, NotARun, UnknownName
from allogger.extras import load
from allogger.follow import Event, Follower
from allogger.kind import MEDIA, PICTURES
from allogger.media import Media
from allogger.merging import Attempts, checked_attempts, merged, parts_of
from allogger.opening import OpenShard, ends_of, open_foreign, open_others, open_shards, tell_damage
from allogger.portions import portions_of
from allogger.reader import SeriesId
from allogger.record import full_key
from allogger.rundir import EVENTS, RUN_FILE, load_json
from allogger.series import Series
from allogger.summaries import pieces_of, reduced_curve, summary_of
from allogger.summary import Summary
from allogger.textlog import Message, messages_of

if TYPE_CHECKING:
    import pandas as pd

    from allogger.comparing import By, Difference

__all__ = ["Attempts", "Run", "Runs", "Series", "open_run", "open_runs"]


class Run:
    """Everything under one logdir, as it was on disk when it was opened; `refresh` looks again."""

    def __init__(self, logdir: str | os.PathLike[str], attempts: Attempts = "last") -> None:
        self.logdir = Path(logdir)
        self.attempts = checked_attempts(attempts)
        self._unreadable: list[str] = []
        self._told: set[str] = set()
        self._shards: list[OpenShard] = []
        self.refresh()
        if not (self._shards or _is_run(self.logdir)):
            raise NotARun(
                f"{str(self.logdir)!r} is no run: it has neither {EVENTS}/ nor {RUN_FILE}, nor files of others"
            )

    def refresh(self) -> None:
        """Take up what was written since."""
        for name in ("about", "starts", "kinds", "_by_key", "_ends"):
            self.__dict__.pop(name, None)
        events = self.logdir / EVENTS
        self._shards, self._unreadable = open_shards(events)
        self._shards += open_others(events, self._shards)
        if not (self._shards or self._unreadable):
            self._shards = open_foreign(self.logdir)
        tell_damage(self.damage, self._told)

    @property
    def damage(self) -> list[str]:
        """One sentence for each damaged place that was found so far, and each file that cannot be read."""
        return [*self._unreadable, *(what for shard in self._shards for what in shard.damage)]

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """What ``run.json`` says; empty if there is none."""
        return load_json(self.logdir / RUN_FILE)

    # -- about the run

    @property
    def processes(self) -> list[str]:
        """The labels of the processes that logged something, in the order of their start."""
        return list(dict.fromkeys(shard.process for shard in self._shards))

    @cached_property
    def starts(self) -> list[dict[str, Any]]:
        """What is known of each start of the program: ``attempt``, ``start``, ``end``, ``state``, ``host``, ``pid``...

        ``start`` and ``end`` are Unix seconds, ``end`` is None if nobody knows.
        """
        return attempts_of(self.logdir / EVENTS, self.about, self._shards)

    @property
    def state(self) -> State:
        """``"live"`` while any process may log, else ``"killed"`` or ``"finished"`` as the last start of the program.

        As it was when the run was opened.
        """
        return state_of(self.starts)

    @property
    def meta(self) -> Mapping[str, Any]:
        """Under which circumstances the run took place: what `report_env` found, and when the run was ``created``."""
        environments = [start["environment"] for start in self.starts if isinstance(start.get("environment"), dict)]
        created = self.about.get("created")
        return {**({"created": created} if created is not None else {}), **(environments[-1] if environments else {})}

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters of the run: those logged as ``params`` by the root logger, others under their full keys."""
        told = [self.about.get("params"), *(getattr(shard.reader, "params", None) for shard in self._shards)]
        for key in [key for key, kind in self.kinds.items() if kind == "params"]:
            told.append(self[key].last if key == "root/params" else {key: self[key].last})
        return {name: value for params in told if isinstance(params, Mapping) for name, value in params.items()}

    @property
    def began(self) -> float:
        """When the run began (Unix seconds), NaN if nobody knows."""
        return min((shard.start for shard in self._shards), default=math.nan)

    @overload
    def text(self) -> list[Message]: ...
    @overload
    def text(self, key: str) -> Series: ...
    def text(self, key: str | None = None) -> list[Message] | Series:
        """Return the messages of text of all processes, or the texts that were logged under a full key."""
        if key is None:
            return messages_of(self.logdir)
        self._check_kind(key, "text")
        return self.series(key)

    # -- series

    @cached_property
    def _by_key(self) -> dict[str, list[tuple[OpenShard, SeriesId]]]:
        found: dict[str, list[tuple[OpenShard, SeriesId]]] = {}
        # Ten thousand keys are of few scopes.
        scopes: dict[str, str] = {}
        for shard in self._shards:
            for series in shard.reader.keys():  # noqa: SIM118  # no mapping
                scope = scopes.get(series.scope)
                if scope is None:
                    scope = scopes[series.scope] = full_key(series.scope, "")
                found.setdefault(scope + series.key, []).append((shard, series))
        return found

    def keys(self, pattern: str | None = None) -> list[str]:
        """Return the full keys, in alphabetical order, in which the regular expression *pattern* is found."""
        regex = _compiled(pattern)
        return sorted(key for key in self._by_key if regex.search(key))

    def scopes(self) -> list[str]:
        """Return the scopes that have keys, as they stand in front of the full keys: ``root``, ``agent.critic``."""
        return sorted({key.partition("/")[0] for key in self._by_key})

    @cached_property
    def kinds(self) -> dict[str, str]:
        """The kind of each full key, ``"mixed"`` if it has values of several."""
        return {key: _kind_of(found) for key, found in sorted(self._by_key.items())}

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._by_key)

    def __contains__(self, key: object) -> bool:
        return key in self._by_key

    def __getitem__(self, key: str) -> Series:
        """Return all values of a full key; raises `NoSuchKey`, or `DamagedFile` if there is nothing left of them."""
        return self.series(key)

    def series(self, key: str, attempts: Attempts | None = None) -> Series:
        """Return all values of a full key, of the last or of all attempts, as ``run[key]`` does."""
        found = self._found(key)
        with self._telling():
            parts = parts_of(found, checked_attempts(attempts or self.attempts), self._ends)
        return merged(key, parts, self.began)

    def _found(self, key: str) -> list[tuple[OpenShard, SeriesId]]:
        if key not in self._by_key:
            raise NoSuchKey(str(UnknownName.of(f"key in {str(self.logdir)!r}:", key, self._by_key)))
        return self._by_key[key]

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        finally:
            tell_damage(self.damage, self._told)

    def _check_kind(self, key: str, *kinds: str) -> None:
        if all(series.kind not in kinds for _, series in self._found(key)):
            raise ConfigError(f"{key!r} is of kind {self.kinds[key]}, not {kinds[0]}")

    @property
    def last(self) -> Mapping[str, Any]:
        """The last value of each full key, looked up when it is asked for."""
        return _Lasts(self)

    def summary(self, key: str) -> Summary:
        """Return count, ends, smallest, largest and mean value of a full key, as far as possible from the index."""
        with self._telling():
            summary = summary_of(pieces_of(self._found(key), self.attempts, self._ends))
        return self.series(key).summary() if summary is None else summary

    def images(self, key: str) -> Media:
        """Return the images, or figures, of a full key, to be read one by one."""
        return self._media(key, PICTURES)

    def media(self, key: str) -> Media:
        """Return the images, figures, videos, sounds, meshes or point clouds of a full key, to be saved as files."""
        return self._media(key, MEDIA)

    def _media(self, key: str, kinds: Sequence[str]) -> Media:
        self._check_kind(key, *kinds)
        with self._telling():
            # Whatever a later attempt began with, it replaces pictures from there on.
            pieces = pieces_of(self._found(key), self.attempts, self._ends)
            return Media.of(key, [piece for piece in pieces if piece.series.kind in kinds])

    def artifacts(self, pattern: str | None = None) -> list[Artifact]:
        """Return the files, folders and models that were logged under the full keys in which *pattern* is found."""
        return self._files(pattern, lambda kind: is_file_kind(kind) and kind != "checkpoint")

    def checkpoints(self, pattern: str | None = None) -> list[Artifact]:
        """Return the checkpoints of these keys, in the order of their time; those that were removed say so."""
        return self._files(pattern, lambda kind: kind == "checkpoint")

    def checkpoint(self, alias: str = "latest", pattern: str | None = None) -> Artifact | None:
        """Return the ``"latest"`` or the ``"best"`` checkpoint of these keys; None if there is none."""
        if alias not in ("latest", "best"):
            raise UnknownName.of("checkpoint", alias, ["best", "latest"])
        found = [one for one in self.checkpoints(pattern) if alias in one.aliases]
        if len(found) > 1:
            names = ", ".join(repr(one.key) for one in found)
            raise ConfigError(f"several keys have a {alias} checkpoint ({names}); choose one by pattern=")
        return found[0] if found else None

    def _files(self, pattern: str | None, wanted: Callable[[str], bool]) -> list[Artifact]:
        files: list[Artifact] = []
        for key in self.keys(pattern):
            found = [(shard, series) for shard, series in self._by_key[key] if wanted(series.kind)]
            # One key that is lost must not cost the others; the loss has been told.
            with contextlib.suppress(DamagedFile), self._telling():
                more, problems = artifacts_of(self.logdir, key, found, self.attempts, self._ends)
                tell_damage(problems, self._told)
                files += more
        return files

    def follow(
        self, pattern: str | None = None, poll_seconds: float = 0.5, until: Callable[[], bool] | None = None
    ) -> Iterator[Event]:
        """Yield what is logged from now on: every value that came after the run was opened, or looked at again, once.

        *pattern* chooses full keys; the files are looked at every *poll_seconds*. It ends when no process can write any
        more, or when *until*, asked after each look, says so. Reads each file only from where it has read to.
        """
        regex = _compiled(pattern)
        followed = Follower(self.logdir, self._shards)
        return followed.events(lambda key: regex.search(key) is not None, poll_seconds, until)

    def curve(self, key: str, x: str = "step", points: int | None = None) -> Curve:
        """Return the values of a full key to be drawn over *x*.

        *x*: ``"step"``, ``"time"`` (Unix seconds), ``"relative"`` (seconds since the run began), or another key, of the
        same scope or a full one: then the points are the values at steps at which both have one.

        *points*: no more than so many, at least 3. Where there are more values, each point is the mean of some, and
        ``low`` and ``high`` are their smallest and largest; very many values are not even read for that.
        """
        if points is not None:
            check_points(points)
        if points is not None and x in ("step", "time", "relative"):
            with self._telling():
                pieces = pieces_of(self._found(key), self.attempts, self._ends)
                curve = reduced_curve(key, pieces, "step" if x == "step" else "time", points)
            if curve is not None:
                return replace(curve, x=curve.x - self.began, x_name=x) if x == "relative" else curve
        series = self.series(key)
        curve = series.curve(x) if x in ("step", "time", "relative") else self._curve_over(series, x)
        return curve if points is None else curve.binned(points)

    def _curve_over(self, series: Series, x: str) -> Curve:
        """Return the values at steps at which the key *x* has a value, too."""
        beside = f"{series.key.partition('/')[0]}/{x}"
        other = self.series(beside if beside in self else x)
        numbers = numbers_of(other.key, other.value)
        places = aligned(series.step, series.process, other.step, other.process, numbers)
        rows = ~np.isnan(places)
        if not rows.any():
            raise ConfigError(f"{series.key!r} and {other.key!r} have no step in common")
        return Curve(series.key, x, places[rows], numbers_of(series.key, series.value)[rows], count=int(rows.sum()))

    def portions(self, key: str, rows: int = 2**16) -> Iterator[Series]:
        """Yield what ``run[key]`` gives in pieces of about *rows* values, so that not all of them are in memory."""
        if key not in self._by_key:
            raise NoSuchKey(str(UnknownName.of(f"key in {str(self.logdir)!r}:", key, self._by_key)))
        try:
            yield from portions_of(key, self._by_key[key], self.attempts, self._ends, rows, self.began)
        finally:
            tell_damage(self.damage, self._told)

    def _readable(self, pattern: str | None, attempts: Attempts | None) -> Iterator[Series]:
        for key in self.keys(pattern):
            # One key that is lost must not cost the others; the loss has been told.
            with contextlib.suppress(DamagedFile):
                yield self.series(key, attempts)

    @cached_property
    def _ends(self) -> dict[str, float]:
        return ends_of(self._shards)

    def frame(self, pattern: str | None = None, attempts: Attempts | None = None) -> pd.DataFrame:
        """Return a DataFrame with one row per value: ``key``, ``step``, ``time``, ``process``, ``value``."""
        from allogger.frames import long_frame

        return long_frame(list(self._readable(pattern, attempts)))

    def wide(self, pattern: str | None = None, attempts: Attempts | None = None) -> pd.DataFrame:
        """Return a DataFrame with one column per full key and the steps as its index.

        Where a key has several values at a step, the last of them is shown.
        """
        from allogger.frames import wide_frame

        return wide_frame(list(self._readable(pattern, attempts)))

    def plot(self, pattern: str | None = None, **options: Any) -> Any:
        """Draw the keys in which *pattern* is found; return matplotlib's axes, see `allogger.plotting.plot_run`."""
        return load("allogger.plotting", "plot").plot_run(self, pattern, **options)

    def export(self, path: str | os.PathLike[str], format: str | None = None, **options: Any) -> Path:
        """Write all values to a file of another format, see `allogger.export.export`."""
        from allogger.export import export

        return export(self, path, format, **options)

    def _repr_html_(self) -> str:
        from allogger.html import run_html

        return run_html(self)

    def __repr__(self) -> str:
        return f"<Run {str(self.logdir)!r}: {len(self)} keys, {len(self._shards)} shards>"


class Runs(Sequence[Run]):
    """Several runs, in the order of their paths."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = list(runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def keys(self, pattern: str | None = None) -> list[str]:
        """Return the full keys of all runs."""
        return sorted({key for run in self for key in run.keys(pattern)})

    def frame(self, pattern: str | None = None) -> pd.DataFrame:
        """Return the frames of all runs one below the other, with a column ``run`` in front (the logdir)."""
        from allogger.frames import stacked_frames

        return stacked_frames({str(run.logdir): run.frame(pattern) for run in self})

    def table(self, keys: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Return a row for each run with its parameters and its last values, see `allogger.comparing.table`."""
        from allogger.comparing import table

        return table(self, keys)

    def aggregate(
        self, key: str, by: By | None = None, x: str = "step", grid: int | Sequence[float] | None = None
    ) -> pd.DataFrame | dict[Any, pd.DataFrame]:
        """Return mean, spread and 95 % interval of a key over the runs, see `allogger.aggregation.aggregate`."""
        from allogger.aggregation import aggregate

        return aggregate(self, key, by, x, grid)

    def diff(self, one: int, other: int) -> Difference:
        """Return in which parameters and in what of the environment two of the runs, given by number, differ."""
        from allogger.comparing import diff

        return diff(self[one], self[other])

    def plot(self, key: str, by: By | None = None, **options: Any) -> Any:
        """Draw a key of all runs, or of groups of them; return matplotlib's axes, see `allogger.plotting.plot_runs`."""
        return load("allogger.plotting", "plot").plot_runs(self, key, by, **options)

    def export(self, path: str | os.PathLike[str], format: str | None = None, **options: Any) -> Path:
        """Write all values of all runs to a file of another format, see `allogger.export.export`."""
        from allogger.export import export

        return export(self, path, format, **options)

    def _repr_html_(self) -> str:
        from allogger.html import runs_html

        return runs_html(self)

    def __repr__(self) -> str:
        return f"<Runs: {len(self)}>"


def open_run(logdir: str | os.PathLike[str], *, attempts: Attempts = "last") -> Run:
    """Open a run for reading, be it finished, killed or still being written; raises `NotARun`.

    *logdir* may also be what other systems have written: a folder of TensorBoard, ALLogger 0.2, MLflow or W&B, or a CSV
    file of Lightning, stable-baselines3 or Keras.

    *attempts*: with ``"last"`` a later start of the program replaces the earlier ones from the step on at which it
    began a key; ``"all"`` gives every value.
    """
    return Run(logdir, attempts)


def open_runs(pattern: str | os.PathLike[str], *, attempts: Attempts = "last") -> Runs:
    """Open all runs whose logdir matches a pattern of paths such as ``"runs/**"``; none is no error.

    A run that cannot be opened is left out and told through the standard `logging`.
    """
    import glob

    checked_attempts(attempts)
    paths = sorted({Path(path) for path in glob.iglob(os.fspath(pattern), recursive=True)})
    return Runs([run for path in paths if (run := _opened(path, attempts)) is not None])


def _opened(path: Path, attempts: Attempts) -> Run | None:
    """Return the run in a folder, None if there is none or it cannot be opened."""
    try:
        return Run(path, attempts) if _is_run(path) or (path.is_dir() and _is_foreign(path)) else None
    except (AlloggerError, OSError) as error:
        logging.getLogger("allogger").warning("%s cannot be opened and is left out: %s", path, error)
        return None


def _is_run(path: Path) -> bool:
    return (path / EVENTS).is_dir() or (path / RUN_FILE).is_file()


def _is_foreign(path: Path) -> bool:
    from allogger.foreign import holds_foreign

    return holds_foreign(path)


class _Lasts(Mapping[str, Any]):
    """The last value of each key of a run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __getitem__(self, key: str) -> Any:
        return self._run.summary(key).last

    def __iter__(self) -> Iterator[str]:
        return iter(self._run)

    def __len__(self) -> int:
        return len(self._run)


def _kind_of(found: Sequence[tuple[OpenShard, SeriesId]]) -> str:
    kinds = {series.kind for _, series in found}
    return kinds.pop() if len(kinds) == 1 else "mixed"


def _compiled(pattern: str | None) -> re.Pattern[str]:
    try:
        return re.compile(pattern or "")
    except re.error as error:
        raise ConfigError(f"{pattern!r} is no regular expression: {error}") from None
