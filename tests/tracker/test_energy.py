"""EnergyMeter: is what the counters of a machine say counted right, and nothing made up?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allogger.plain import Unstorable
from allogger.tracker.energy import EnergyMeter, Rates

RANGE = 1_000_000_000


def counter(powercap: Path, folder: str, name: str, microjoules: int, range_: int = RANGE) -> Path:
    """Make the files of a RAPL counter as Linux shows them, and return that of its count."""
    path = powercap / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text(f"{range_}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    return path / "energy_uj"


@settings(max_examples=25, deadline=None)
@given(st.integers(RANGE - 100, RANGE), st.lists(st.integers(0, RANGE // 2), min_size=1, max_size=20))
def test_a_counter_that_begins_again_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, start: int, steps: list[int]
) -> None:
    powercap = tmp_path_factory.mktemp("powercap")
    file = counter(powercap, "intel-rapl:0", "package-0", start)
    meter = EnergyMeter(Rates(), powercap)

    for total in [sum(steps[: n + 1]) for n in range(len(steps))]:
        file.write_text(f"{(start + total) % (RANGE + 1)}\n")
        assert meter.measure()["joules"] == pytest.approx(total / 1e6)


def test_packages_and_memory_are_added_and_parts_of_packages_are_not_counted_twice(tmp_path: Path) -> None:
    files = [
        counter(tmp_path, "intel-rapl:0", "package-0", 0),
        counter(tmp_path, "intel-rapl:1", "package-1", 0),
        counter(tmp_path, "intel-rapl:0:0", "core", 0),
        counter(tmp_path, "intel-rapl:0:1", "dram", 0),
        counter(tmp_path, "intel-rapl-mmio:0", "package-0", 0),
    ]
    meter = EnergyMeter(Rates(grams_co2_per_kwh=3600.0, cpu_watts=1e9), tmp_path)

    for file in files:
        file.write_text("2000000")

    assert meter.measure() == {"joules": 6.0, "kwh": 6.0 / 3.6e6, "grams_co2": pytest.approx(0.006)}


def test_a_counter_that_was_not_looked_at_in_time_is_not_guessed(tmp_path: Path) -> None:
    # It begins again after a microjoule.
    counter(tmp_path, "intel-rapl:0", "package-0", 0, range_=1)
    meter = EnergyMeter(Rates(), tmp_path)

    with pytest.raises(Unstorable, match="log it more often"):
        meter.measure()


def test_without_counters_nothing_is_measured(tmp_path: Path) -> None:
    broken = counter(tmp_path, "intel-rapl:0", "package-0", 0)
    broken.write_text("no number")

    with pytest.raises(Unstorable, match="give cpu_watts"):
        EnergyMeter(Rates(grams_co2_per_kwh=400.0), tmp_path).measure()


def test_a_forked_child_is_not_the_owner_of_a_meter(tmp_path: Path) -> None:
    meter = EnergyMeter(Rates(cpu_watts=1.0), tmp_path)
    child = os.fork()
    if not child:
        os._exit(1 if meter.is_mine() else 0)

    assert os.waitpid(child, 0)[1] == 0
    assert meter.is_mine()
