"""A program for ALLogger 0.2, line by line here: scopes, filters, the HDF5 hook, a child process, going on, reading.

Run it with ``python allogger_0_2.py [logdir]``; it needs scikit-learn. A linear model learns how diabetes progresses by
gradient descent. Half-way it saves a checkpoint, runs on for a while, and is then stopped and started again, as a job
on a cluster is. The second start goes on from the checkpoint, its steps too, so the curves have each step once.
"""

from __future__ import annotations

import json
import sys
from multiprocessing import Process
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import allogger

Floats = NDArray[np.float64]
STEPS = 200


def load() -> tuple[Floats, Floats]:
    """Return ten measurements of each patient and how far the disease has come, both as standard scores."""
    # Not at the top: under spawn the child imports this module, too.
    from sklearn.datasets import load_diabetes

    inputs, target = load_diabetes(return_X_y=True)
    return (inputs - inputs.mean(0)) / inputs.std(0), (target - target.mean()) / target.std()


def configure(logdir: Path, if_it_exists: str) -> allogger.Logger:
    """Configure the root, as the first thing that the program does; all scopes inherit from it."""
    return allogger.basic_configure(
        logdir,
        ["tensorboard"],
        # The hook writes to HDF5 what TensorBoard keeps: all but what is for debugging.
        tensorboard_writer_params={"exclude": "^debug/", "use_hdf_hook": True, "min_time_diff_btw_disc_writes": 1},
        default_path_exists=if_it_exists,
        basic_logging_params={"level": "INFO"},
    )


def learn(weights: Floats, n_steps: int) -> Floats:
    inputs, target = load()
    # Its full name is "root.model.linear", and "model.linear" in the files.
    logger = allogger.get_logger("model.linear")
    for _ in range(n_steps):
        error = inputs @ weights - target
        gradient = inputs.T @ error / len(target)
        weights = weights - 0.1 * gradient
        logger.log(np.mean(error**2), "loss")  # steps are counted from 1 for each key
        logger.log(error, "errors")  # 1-d: a histogram
        logger.log(weights, "weights", data_type="array")
        logger.log(np.abs(gradient).max(), "debug/gradient")  # costs next to nothing
    return weights


def check(weights: list[float], logdir: Path) -> None:
    """In a process of its own, with a run of its own."""
    logger = allogger.get_logger("worker", logdir=logdir, default_outputs=["hdf"])
    inputs, target = load()
    for sign in (-1, 1):  # by the sign of the fifth measurement, say
        chosen = inputs[:, 4] * sign > 0
        logger.log(np.mean((inputs[chosen] @ np.array(weights) - target[chosen]) ** 2), "loss")
    # Nobody has to close anything: the end of the process does.


def save(path: Path, weights: Floats) -> None:
    root = allogger.get_root()
    steps = [[*name, step] for name, step in root.step_per_key.items()]
    path.write_text(json.dumps({"weights": weights.tolist(), "steps": steps}))


def restore(path: Path) -> Floats:
    saved = json.loads(path.read_text())
    root = allogger.get_root()
    root.step_per_key = root.manager.dict({(who, key): step for who, key, step in saved["steps"]})
    return np.array(saved["weights"])


def main(logdir: Path) -> None:
    root = configure(logdir, "unique")
    logdir = root.logdir or logdir  # it may have got a number
    checkpoint = logdir / "checkpoint.json"
    allogger.utils.report_env()
    root.info("%d steps, and a checkpoint half-way", STEPS, to_stdout=True)
    weights = learn(np.zeros(10), STEPS // 2)
    save(checkpoint, weights)
    learn(weights, 30)  # what is lost when the job is stopped here
    allogger.close()

    configure(logdir, "continue")
    weights = learn(restore(checkpoint), STEPS // 2)
    child = Process(target=check, args=(weights.tolist(), logdir / "child"))
    child.start()
    child.join()
    allogger.close()

    # Of a file, an events folder, or a logdir with all that it holds.
    print(*allogger.api.hdf.list_keys(logdir), sep="\n")
    loss = allogger.api.hdf.read_from_key(logdir, "scalar/model.linear/loss")
    assert loss.dtype.names == ("step", "time", "walltime", "value")
    assert loss["step"].tolist() == list(range(1, STEPS + 1))
    assert (np.diff(loss["value"]) < 0).all()
    assert loss["value"].dtype == np.float64
    found = allogger.api.hdf.read_from_key(logdir, "array/model.linear/weights")
    assert np.array_equal(found["value"][-1], weights)
    # Nothing is gone: the steps that were made twice are there on request.
    both = allogger.api.hdf.read_from_key(logdir, "scalar/model.linear/loss", attempts="all")
    assert len(both) == STEPS + 30
    assert allogger.api.hdf.list_keys(logdir / "child") == [f"scalar/worker@{child.name}/loss"]
    print(f"mean square of the error: {loss['value'][0]:.3f} at first, {loss['value'][-1]:.3f} in the end")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/allogger_0_2"))
