"""Device: are numbers of an accelerator stored as they were, and does nobody wait for them?"""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import allogger
from allogger.device import Promise, promise_of

has_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
# Long enough that nobody could mistake it for the time of a call: about a second.
SLOW_CYCLES = 1_500_000_000


def put(logger: allogger.Logger, promise: Promise, step: int | None = None) -> None:
    """Log a promise as `Logger.log` does once it has one."""
    logger._put_object("loss", step, "scalar", (promise, {}), (), time.time())


@pytest.mark.parametrize("value", [0.5, None, [1.0], np.zeros(1), torch.tensor(0.5), torch.nn.Parameter(torch.ones(1))])
def test_there_is_no_promise_of_what_is_in_the_memory_of_this_machine(value: Any) -> None:
    assert promise_of(value) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_a_promised_number_is_stored_between_its_neighbours_in_every_output(tmp_path: Path, dtype: torch.dtype) -> None:
    number = torch.tensor(0.7).to(dtype) if dtype.is_floating_point else torch.tensor(1, dtype=dtype)
    logger = allogger.basic_configure(tmp_path, ["hdf", "csv", "tensorboard"])

    logger.log(1.0, "loss")
    put(logger, Promise(number.clone(), lambda: None))
    put(logger, Promise(number.clone(), lambda: None), step=7)
    logger.log(2.0, "loss")
    allogger.close()

    series = allogger.open_run(tmp_path)["root/loss"]
    assert series.kind == "scalar"
    assert series.step.tolist() == [1, 2, 7, 8]
    expected = [1.0, number.item(), number.item(), 2.0]
    assert [float(value) for value in series.value] == expected
    with open(next(tmp_path.glob("events/*.csv")), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"].replace("True", "1")) for row in rows] == expected
    shown = EventAccumulator(str(tmp_path / "events/MainProcess")).Reload().Scalars("root/loss")
    assert [event.value for event in shown] == pytest.approx([float(value) for value in expected])


def test_a_number_is_waited_for_by_the_thread_that_writes(tmp_path: Path) -> None:
    logger = allogger.basic_configure(tmp_path)
    number = torch.tensor(0.0)
    waited = []

    def arrive() -> None:
        waited.append(True)
        number.fill_(3.0)

    put(logger, Promise(number, arrive))

    assert not waited
    allogger.flush()
    assert allogger.open_run(tmp_path)["root/loss"].value.tolist() == [3.0]


def test_a_device_that_fails_costs_its_own_numbers_only_and_they_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    logger = allogger.basic_configure(tmp_path)
    logger.log(1.0, "loss")
    put(logger, Promise(torch.tensor(2.0), fail))
    logger.log(3.0, "loss")
    allogger.close()

    series = allogger.open_run(tmp_path)["root/loss"]
    assert series.value.tolist() == [1.0, 3.0]
    assert series.step.tolist() == [1, 3]
    assert "1 values were not stored: 'root/loss' 1" in caplog.text


@has_cuda
def test_a_number_on_a_device_is_stored_as_it_was_and_the_call_waits_for_nothing(tmp_path: Path) -> None:
    logger = allogger.basic_configure(tmp_path)
    number = torch.tensor(0.25, device="cuda")
    logger.log(number, "loss")
    torch.cuda.synchronize()

    torch.cuda._sleep(SLOW_CYCLES)
    begin = time.perf_counter()
    number += 1
    logger.log(number, "loss")
    number += 1
    logger.log(number.reshape(1), "loss")
    number += 100
    took = time.perf_counter() - begin
    torch.cuda.synchronize()

    assert took < 0.3 * (time.perf_counter() - begin)
    allogger.close()
    assert allogger.open_run(tmp_path)["root/loss"].value.tolist() == [0.25, 1.25, 2.25]


@has_cuda
def test_a_filtered_call_does_not_touch_the_device(tmp_path: Path) -> None:
    logger = allogger.basic_configure(tmp_path, hdf_writer_params={"exclude": "loss"})
    number = torch.tensor(0.25, device="cuda")
    torch.cuda.synchronize()
    before = torch.cuda.memory_stats()["allocation.all.allocated"]

    for _ in range(10):
        logger.log(number, "loss")

    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
