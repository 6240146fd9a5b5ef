"""Aggregation: are the statistics over runs those of pandas and scipy?"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allogger.aggregation import _statistics, aggregate, t975
from allogger.errors import ConfigError, NoSuchKey
from allogger.store import Runs
from tests.sweeps import a_run, a_sweep


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return a_sweep(tmp_path)


def test_the_statistics_are_those_of_pandas_at_every_step_that_any_run_has(runs: Runs) -> None:
    wide = pd.DataFrame({n: run["root/loss"].to_pandas() for n, run in enumerate(runs)})

    found = aggregate(runs, "root/loss")

    assert isinstance(found, pd.DataFrame)
    assert found.index.name == "step"
    assert found.index.tolist() == wide.index.tolist()
    assert found["count"].tolist() == [6] * 10 + [4, 2]
    for name in ("mean", "std", "min", "max", "median"):
        np.testing.assert_allclose(found[name], getattr(wide, name)(axis=1), rtol=1e-12)
    for name, share in (("q25", 0.25), ("q75", 0.75)):
        np.testing.assert_allclose(found[name], wide.quantile(share, axis=1), rtol=1e-12)
    np.testing.assert_allclose(found["iqr"], found["q75"] - found["q25"])


def test_the_interval_is_that_of_students_t(runs: Runs) -> None:
    stats = pytest.importorskip("scipy.stats")

    found = aggregate(runs, "root/loss")

    assert isinstance(found, pd.DataFrame)
    for step in (0, 10, 11):
        values = [run["root/loss"].value[step] for run in runs if len(run["root/loss"]) > step]
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert found.loc[step, "low95"] == pytest.approx(low)
        assert found.loc[step, "high95"] == pytest.approx(high)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 30, 99, 1000, 9999, 10**5])
def test_the_quantile_of_students_t_is_exact(freedom: int) -> None:
    stats = pytest.importorskip("scipy.stats")

    assert t975(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


NUMBERS = st.floats(-1e6, 1e6) | st.just(math.nan)


@given(st.integers(1, 6).flatmap(lambda n: st.lists(st.lists(NUMBERS, min_size=n, max_size=n), min_size=1, max_size=6)))
def test_nan_counts_for_nothing(columns: list[list[float]]) -> None:
    values = np.array(columns).T
    frame = pd.DataFrame(values)

    found = _statistics(values)

    assert found["count"].tolist() == frame.count().tolist()
    for name in ("mean", "std", "min", "max", "median"):
        np.testing.assert_allclose(found[name], getattr(frame, name)(), rtol=1e-6, atol=1e-6)


def test_runs_that_differ_in_nothing_but_the_seed_are_one_group(runs: Runs) -> None:
    found = runs.aggregate("root/loss", by="seed")

    assert isinstance(found, dict)
    assert list(found) == ["lr=0.01", "lr=0.1"]
    assert found["lr=0.1"]["count"][0] == 3
    assert found["lr=0.1"]["mean"][0] == pytest.approx(np.mean([run["root/loss"].value[0] for run in runs[:3]]))
    assert list(runs.aggregate("root/loss", by=["seed", "lr"])) == ["all runs"]
    with pytest.raises(ConfigError, match=r"no run has a parameter 'size' \(known: lr, net.layers, seed\)"):
        runs.aggregate("root/loss", by="size")


def test_a_function_says_which_runs_belong_together(runs: Runs) -> None:
    found = runs.aggregate("root/loss", by=lambda run: run.logdir.name[:5])

    assert isinstance(found, dict)
    assert {label: table["count"][0] for label, table in found.items()} == {"lr0.1": 3, "lr0.0": 3}
    with pytest.raises(NoSuchKey, match="none of 6 runs"):
        runs.aggregate("root/los")


def test_a_grid_interpolates_and_never_beyond_the_ends(tmp_path: Path) -> None:
    one = a_run(tmp_path / "one", {"x": [(0, 0.0), (10, 10.0)]})
    other = a_run(tmp_path / "other", {"x": [(5, 1.0), (10, 2.0), (20, 4.0)]})

    found = aggregate([one, other], "root/x", grid=[0, 5, 7.5, 10, 20])

    assert isinstance(found, pd.DataFrame)
    assert found["count"].tolist() == [1, 2, 2, 2, 1]
    assert found["mean"].tolist() == [0, 3, (7.5 + 1.5) / 2, 6, 4]
    with pytest.raises(ConfigError, match="give grid="):
        aggregate([one, other], "root/x", x="relative")
    seconds = aggregate([one, other], "root/x", x="relative", grid=5)
    assert isinstance(seconds, pd.DataFrame)
    assert len(seconds) == 5
    assert seconds.index.name == "relative"


def test_of_several_values_at_a_step_the_last_counts(tmp_path: Path) -> None:
    run = a_run(tmp_path / "one", {"x": [(1, 1.0), (2, 5.0), (1, 3.0)]})

    found = aggregate([run], "root/x")

    assert isinstance(found, pd.DataFrame)
    assert found["mean"].tolist() == [3.0, 5.0]
    assert found["low95"].isna().all()
