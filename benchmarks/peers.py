"""Peers: who else keeps numbers, and how is each of them used?

Each is used as its documentation shows for a local run: no server, no network, no statistics about the machine. All are
called with a value and a key; who needs a step counts it here, in a Python function around the peer's own (some 50 ns).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import itertools
import logging
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

__all__ = ["ENVIRONMENT", "OUTSIDE", "PEERS", "Peer", "is_installed", "is_light", "open_peer", "version_of"]

#: Nobody is to reach for the network: there is no proxy at this port.
ENVIRONMENT = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
}


class Peer:
    """Somebody who keeps numbers, in files in *folder*."""

    name: ClassVar[str]
    #: What must be installed to import it.
    module: ClassVar[str] = ""
    #: It is called this many times more seldom, so that nobody waits for hours.
    slowness: ClassVar[int] = 1

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps = itertools.count(1)

    def log(self, value: float, key: str) -> None:
        raise NotImplementedError

    def log_row(self, row: Mapping[str, float]) -> None:
        """Log several values of one step, in one call where there is one for that."""
        log = self.log
        for key, value in row.items():
            log(value, key)

    def close(self) -> None:
        """Return when everything is in the files."""


# ------------------------------------------------------------------------------------------------------------- allogger


class Allogger(Peer):
    name = "allogger"
    module = "allogger"
    outputs: ClassVar[tuple[str, ...]] = ("hdf",)

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder)
        import allogger

        self.close = allogger.close  # type: ignore[method-assign]
        root = allogger.basic_configure(
            folder / "run", self.outputs, tensorboard_writer_params={"use_hdf_hook": False}, **settings
        )
        self.log = root.log  # type: ignore[method-assign]


class AlloggerTensorboard(Allogger):
    name = "allogger, tensorboard"
    outputs = ("tensorboard",)


class AlloggerAll(Allogger):
    name = "allogger, all outputs"
    outputs = ("hdf", "tensorboard", "csv", "console")


# -------------------------------------------------------------------------------------------------------------- by hand


class Nothing(Peer):
    name = "no-op"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)

        def nothing(value: float, key: str) -> None:
            return None

        self.log = nothing  # type: ignore[method-assign]


class Lists(Peer):
    name = "list.append, savez"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def log(self, value: float, key: str) -> None:
        self.rows[key].append((time.time(), value))

    def close(self) -> None:
        import numpy as np

        names = {key.replace("/", "_"): np.array(rows) for key, rows in self.rows.items()}
        np.savez(self.folder / "values.npz", **names)  # type: ignore[arg-type]


class BatchedH5py(Peer):
    """1,000 rows are put together before they are written."""

    name = "h5py, batched"
    module = "h5py"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import h5py

        self.file = h5py.File(folder / "values.h5", "w")
        self.rows: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
        self.counts: dict[str, int] = defaultdict(int)

    def log(self, value: float, key: str) -> None:
        rows = self.rows[key]
        self.counts[key] += 1
        rows.append((self.counts[key], time.time(), value))
        if len(rows) == 1000:
            self._write(key, rows)

    def _write(self, key: str, rows: list[tuple[int, float, float]]) -> None:
        if key not in self.file:
            dtype = [("step", "i8"), ("time", "f8"), ("value", "f8")]
            self.file.create_dataset(
                key, (0,), dtype, maxshape=(None,), chunks=(1000,), compression="gzip", compression_opts=1, shuffle=True
            )
        dataset = self.file[key]
        dataset.resize(len(dataset) + len(rows), axis=0)
        dataset[-len(rows) :] = rows
        rows.clear()

    def close(self) -> None:
        for key, rows in self.rows.items():
            if rows:
                self._write(key, rows)
        self.file.close()


class Csv(Peer):
    name = "CSV by hand"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.file = open(folder / "values.csv", "w")  # noqa: SIM115

    def log(self, value: float, key: str) -> None:
        self.file.write(f"{key},{next(self.steps)},{time.time()},{value}\n")

    def close(self) -> None:
        self.file.close()


class Logging(Peer):
    name = "logging to a file"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.logger = logging.getLogger("benchmark")
        self.logger.setLevel("INFO")
        self.logger.propagate = False
        self.logger.addHandler(logging.FileHandler(folder / "values.log"))

    def log(self, value: float, key: str) -> None:
        self.logger.info("%s %s", key, value)

    def close(self) -> None:
        logging.shutdown()


# ----------------------------------------------------------------------------------------------------------- libraries


def _library(name: str) -> Any:
    """Import a module that may be missing, and of which no types are known."""
    return importlib.import_module(name)


class TensorboardX(Peer):
    name = "tensorboardX"
    module = "tensorboardX"
    slowness = 5

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.writer = self._writer(str(folder / "events"))

    def _writer(self, folder: str) -> Any:
        return _library("tensorboardX").SummaryWriter(folder)

    def log(self, value: float, key: str) -> None:
        self.writer.add_scalar(key, value, next(self.steps))

    def close(self) -> None:
        self.writer.close()


class TorchTensorboard(TensorboardX):
    name = "torch SummaryWriter"
    module = "torch"

    def _writer(self, folder: str) -> Any:
        return _library("torch.utils.tensorboard").SummaryWriter(folder)


class Wandb(Peer):
    name = "W&B, offline"
    module = "wandb"
    slowness = 10

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        wandb = _library("wandb")

        settings = wandb.Settings(
            silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True
        )
        self.run = wandb.init(project="benchmark", mode="offline", dir=str(folder), settings=settings)

    def log(self, value: float, key: str) -> None:
        self.run.log({key: value})

    def log_row(self, row: Mapping[str, float]) -> None:
        self.run.log(dict(row))

    def close(self) -> None:
        self.run.finish()


class Mlflow(Peer):
    name = "MLflow, SQLite"
    module = "mlflow"
    slowness = 200

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        mlflow = _library("mlflow")

        self.mlflow = mlflow
        mlflow.set_tracking_uri(self._uri(folder))
        mlflow.start_run()

    def _uri(self, folder: Path) -> str:
        return f"sqlite:///{folder}/mlflow.db"

    def log(self, value: float, key: str) -> None:
        self.mlflow.log_metric(key, value, step=next(self.steps))

    def log_row(self, row: Mapping[str, float]) -> None:
        self.mlflow.log_metrics(dict(row), step=next(self.steps))

    def close(self) -> None:
        self.mlflow.end_run()


class MlflowFiles(Mlflow):
    name = "MLflow, files"
    slowness = 50

    def _uri(self, folder: Path) -> str:
        return f"file://{folder}/mlruns"


class Aim(Peer):
    name = "Aim"
    module = "aim"
    slowness = 20

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        aim = _library("aim")

        self.run = aim.Run(
            repo=str(folder), system_tracking_interval=None, log_system_params=False, capture_terminal_logs=False
        )

    def log(self, value: float, key: str) -> None:
        self.run.track(value, name=key, step=next(self.steps))

    def close(self) -> None:
        self.run.close()


class Trackio(Peer):
    name = "Trackio"
    module = "trackio"
    slowness = 10

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        # Read when it is imported.
        os.environ["TRACKIO_DIR"] = str(folder / "trackio")
        trackio = _library("trackio")

        self.trackio = trackio
        trackio.init(project="benchmark", embed=False, auto_log_gpu=False, auto_log_cpu=False)

    def log(self, value: float, key: str) -> None:
        self.trackio.log({key: value})

    def log_row(self, row: Mapping[str, float]) -> None:
        self.trackio.log(dict(row))

    def close(self) -> None:
        self.trackio.finish()


class DvcLive(Peer):
    """Without `next_step`, which writes a summary of all metrics at each step."""

    name = "DVCLive"
    module = "dvclive"
    slowness = 20

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.live = _library("dvclive").Live(str(folder / "dvclive"), save_dvc_exp=False, report=None, dvcyaml=None)

    def log(self, value: float, key: str) -> None:
        self.live.step = next(self.steps)
        self.live.log_metric(key, value)

    def close(self) -> None:
        self.live.end()


class Swanlab(Peer):
    name = "SwanLab"
    module = "swanlab"
    slowness = 10

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        swanlab = _library("swanlab")

        self.swanlab = swanlab
        swanlab.init(project="benchmark", mode="offline", logdir=str(folder))

    def log(self, value: float, key: str) -> None:
        self.swanlab.log({key: value})

    def log_row(self, row: Mapping[str, float]) -> None:
        self.swanlab.log(dict(row))

    def close(self) -> None:
        self.swanlab.finish()


class StableBaselines(Peer):
    name = "stable-baselines3 CSV"
    module = "stable_baselines3"
    slowness = 10

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.logger = _library("stable_baselines3.common.logger").configure(str(folder), ["csv"])

    def log(self, value: float, key: str) -> None:
        self.logger.record(key, value)
        self.logger.dump(next(self.steps))

    def log_row(self, row: Mapping[str, float]) -> None:
        for key, value in row.items():
            self.logger.record(key, value)
        self.logger.dump(next(self.steps))

    def close(self) -> None:
        self.logger.close()


_BY_HAND = (Nothing, Lists, BatchedH5py, Csv, Logging)
_ALLOGGER = (Allogger, AlloggerTensorboard, AlloggerAll)
_LIBRARIES = (
    TensorboardX,
    TorchTensorboard,
    Wandb,
    Mlflow,
    MlflowFiles,
    Aim,
    Trackio,
    DvcLive,
    Swanlab,
    StableBaselines,
)
#: The names of all but allogger.
OUTSIDE = tuple(peer.name for peer in (*_BY_HAND, *_LIBRARIES))
#: All by name.
PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (*_ALLOGGER, *_BY_HAND, *_LIBRARIES)}


def open_peer(name: str, folder: Path) -> Peer:
    """Return the peer of that name, ready to be called; its library is imported now."""
    return PEERS[name](folder)


def is_installed(name: str) -> bool:
    """Return whether what a subject of that name needs can be imported; by hand everything can be done."""
    module = PEERS[name].module if name in PEERS else ""
    return not module or importlib.util.find_spec(module) is not None


def is_light(name: str) -> bool:
    """Return whether a subject of that name starts in no time, because it needs no library of its own."""
    return name not in {peer.name for peer in _LIBRARIES}


def version_of(name: str) -> str:
    """Return the version of the library of that peer."""
    return importlib.metadata.version(PEERS[name].module.replace("_", "-"))
