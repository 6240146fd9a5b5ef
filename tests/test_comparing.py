"""Comparing: do tables and differences show what the runs have?"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import allogger
from allogger.comparing import MISSING, diff, table
from allogger.store import Runs
from tests.sweeps import a_run, a_sweep


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return a_sweep(tmp_path)


def test_the_table_has_parameters_and_summaries(runs: Runs) -> None:
    found = runs.table()

    names = ["run", "state", "params.lr", "params.net.layers", "params.seed"]
    assert list(found) == [*names, "root/loss:last", "root/loss:min", "root/loss:max"]
    assert found["params.lr"].tolist() == [0.1] * 3 + [0.01] * 3
    assert found["state"].tolist() == ["finished"] * 6
    assert found["root/loss:last"].tolist() == [run["root/loss"].value[-1] for run in runs]
    assert found["root/loss:min"].tolist() == [run["root/loss"].value.min() for run in runs]


def test_in_the_table_what_a_run_does_not_have_is_nan(tmp_path: Path) -> None:
    one = a_run(tmp_path / "one", {"loss": [(1, 0.5)], "note": [(1, "halved")]}, {"lr": 0.1})
    other = a_run(tmp_path / "other", {"count": [(1, 7)]}, {"seed": 3})

    found = table([one, other], "loss|note|count")

    assert list(found) == [
        *("run", "state", "params.lr", "params.seed", "root/loss:last", "root/loss:min", "root/loss:max"),
        *("root/note:last", "root/count:last", "root/count:min", "root/count:max"),
    ]
    assert found["root/note:last"][0] == "halved"
    assert math.isnan(found["root/loss:last"][1])
    assert list(table([one, other], ["root/loss"]))[4:] == ["root/loss:last", "root/loss:min", "root/loss:max"]


def test_the_difference_names_what_differs(tmp_path: Path) -> None:
    one = a_run(tmp_path / "one", {"x": [(1, 1)]}, {"lr": 0.1, "net": {"layers": [64], "act": "relu"}, "n": 1})
    other = a_run(tmp_path / "other", {"x": [(1, 1)]}, {"lr": 0.1, "net": {"layers": [32], "act": "relu"}, "n": True})

    found = diff(one, other)

    assert found.params == {"net.layers": ([64], [32]), "n": (1, True)}
    assert str(found).splitlines()[1:] == ["params:", "  net.layers: [64] -> [32]", "  n: 1 -> True"]
    assert not diff(one, one)
    assert "do not differ" in str(diff(one, one))


def test_the_difference_covers_the_environment(tmp_path: Path) -> None:
    one, other = (a_run(tmp_path / name, {"x": [(1, 1)]}) for name in ("one", "other"))
    for run, packages in ((one, {"numpy": "1.26"}), (other, {"numpy": "2.0", "torch": "2.1"})):
        about = json.loads((run.logdir / "run.json").read_text())
        about["attempts"][0]["environment"] = {"packages": packages, "host": "a"}
        (run.logdir / "run.json").write_text(json.dumps(about))

    found = Runs([allogger.open_run(one.logdir), allogger.open_run(other.logdir)]).diff(0, 1)

    assert found.environment == {"packages.numpy": ("1.26", "2.0"), "packages.torch": (MISSING, "2.1")}
    assert "  packages.torch: (none) -> '2.1'" in str(found)
