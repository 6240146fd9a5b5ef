"""Watching: what does a watched model cost, and what does a measurement of the machine?

``python -m benchmarks.watching``. Times are those of the processor, because small differences are looked for.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from time import thread_time as now

import torch
from torch import nn

import allogger

ROUNDS, PASSES = 300, 5


def watching() -> None:
    """Print what the hooks cost in steps that are not logged, and a step that is."""
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(100)])
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    batch, parameters = torch.ones(1, 4), len(list(model.parameters()))

    def plain() -> float:
        took = 0.0
        for _ in range(PASSES):
            loss = model(batch).sum()
            begin = now()
            loss.backward()
            optimizer.step()
            took += now() - begin
        return took / PASSES

    def watched(**options: object) -> Callable[[], float]:
        def run() -> float:
            with allogger.watch(model, **options):  # type: ignore[arg-type]
                return plain()

        return run

    subjects = {
        "none": plain,
        "a hook for each parameter": watched(every_n=10**9),
        "with the optimizer": watched(every_n=10**9, optimizer=optimizer),
    }
    # In turn, so that what else the machine does hits all of them.
    rounds = [{name: run() for name, run in subjects.items()} for _ in range(ROUNDS)]
    quick = {name: statistics.quantiles([each[name] for each in rounds], n=20)[0] for name in subjects}
    for name, seconds in quick.items():
        extra = (seconds - quick["none"]) / parameters * 1e9
        print(f"{name:28} {seconds * 1e6:8.0f} µs a step with {parameters} parameters, {extra:+6.0f} ns for each")

    large = nn.Linear(1000, 1000, bias=False)
    with allogger.watch(large, every_n=1):
        begin = now()
        large.weight.sum().backward()  # type: ignore[no-untyped-call]
        print(f"a step that is logged: {(now() - begin) * 1e3:.1f} ms with 1 parameter of 4 MB, and its gradient")


def measuring() -> None:
    """Print what a measurement costs."""
    meter = allogger.system.Meter()
    times = []
    for _ in range(ROUNDS):
        begin = now()
        meter.measure()
        times.append(now() - begin)
    print(f"a measurement: {statistics.median(times) * 1e6:.0f} µs of {len(meter.names)} values")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, allogger.run(folder):
        watching()
        measuring()
