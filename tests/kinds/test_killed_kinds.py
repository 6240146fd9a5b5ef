"""Are values of every kind read back from a run that was killed, and again when it has been repaired?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import allogger
from allogger.kinds.pr_curve import PrCurveKind
from allogger.registry import kinds
from allogger.utils import repair

_PROGRAM = """
import os, signal, sys
import numpy as np, pandas as pd
from matplotlib.figure import Figure
import allogger

root = allogger.basic_configure(sys.argv[1], ["hdf", "tensorboard"])
root.log(0.5, "scalar")
root.log("a text", "text")
root.log(np.arange(3.0), "histogram")
root.log(np.zeros((2, 2)), "array")
root.log(np.zeros((2, 2, 3)), "image")
root.log({"rate": 0.1}, "params", data_type="params")
root.log(Figure(figsize=(1, 1), dpi=10), "figure")
root.log({"data": [{"y": [1, 2]}]}, "figure", data_type="figure")  # of plotly
for rows in ({"a": [1, 2]}, {"a": ["x", None]}):
    root.log(pd.DataFrame(rows), "table", data_type="table")
root.log({"matrix": np.eye(2), "names": ["a", "b"]}, "confusion", data_type="confusion")
root.log({"labels": [0, 1], "scores": [0.0, 1.0]}, "pr_curve", data_type="pr_curve")
root.log({"frames": np.zeros((2, 4, 4), "u1"), "fps": 5}, "video", data_type="video")
root.log((np.arange(4, dtype="i2"), 8000), "audio", data_type="audio")
root.log({"vertices": np.eye(3), "faces": np.array([[0, 1, 2]])}, "mesh", data_type="mesh")
root.log(np.eye(3), "point_cloud", data_type="point_cloud")
root.log(b"data", "artifact", data_type="artifact")
root.log({"weights": np.eye(2)}, "model", data_type="model")
root.checkpoint({"weights": np.eye(2)})
allogger.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("is_repaired", [False, True])
def test_values_of_every_kind_survive_a_kill(tmp_path: Path, is_repaired: bool) -> None:
    assert subprocess.run([sys.executable, "-c", _PROGRAM, str(tmp_path)], timeout=60, check=False).returncode == -9
    if is_repaired:
        repair(tmp_path)

    run = allogger.open_run(tmp_path)

    assert run.kinds == {f"root/{name}": name for name in sorted(kinds.builtin)}
    expected: dict[str, Any] = {
        "scalar": 0.5,
        "text": "a text",
        "histogram": np.arange(3.0),
        "array": np.zeros((2, 2)),
        "image": np.zeros((2, 2, 3)),
        "params": {"rate": 0.1},
        "figure": np.full((10, 10, 3), 255, np.uint8),
        "confusion": np.eye(2),
        "pr_curve": PrCurveKind().encode({"labels": [0, 1], "scores": [0.0, 1.0]})[0],
        "video": np.zeros((2, 4, 4), np.uint8),
        "audio": np.arange(4, dtype=np.int16),
        "mesh": {"vertices": np.eye(3), "faces": np.array([[0, 1, 2]])},
        "point_cloud": {"points": np.eye(3)},
    }
    for name, value in expected.items():
        np.testing.assert_equal(run[f"root/{name}"].value[0], value)
    assert run["root/figure"].value[1] == {"data": [{"y": [1, 2]}]}
    first, second = run["root/table"].value
    pd.testing.assert_frame_equal(first, pd.DataFrame({"a": [1, 2]}))
    assert second["a"].tolist()[0] == "x"
    assert second["a"].isna().tolist() == [False, True]
    assert run["root/confusion"].meta == {"names": ["a", "b"]}
    assert run["root/video"].meta == {"layout": "THW", "fps": 5.0}
    assert [one.path.read_bytes() for one in run.artifacts("artifact")] == [b"data"]
    (model,), (checkpoint,) = run.artifacts("model"), run.checkpoints()
    assert [one.load()["weights"].tolist() for one in (model, checkpoint)] == [np.eye(2).tolist()] * 2
    assert not run.damage
