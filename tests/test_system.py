"""System: is what the machine does measured right, logged as asked, and by one process only?"""

from __future__ import annotations

import ast
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import allogger
from allogger import processes
from allogger.errors import ConfigError, MissingDependency
from allogger.lane import Lane
from allogger.system import Meter, _Counter, limited_group
from allogger.testing import capture
from tests.conftest import ROOT, Result

RATES = {"cpu/percent", "cpu/process_percent"}
MEMORY = {"memory/used_bytes", "memory/available_bytes", "memory/process_rss_bytes"}


def wait_for(is_true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.01)


# ------------------------------------------------------------------------------------------------------------ the meter


def test_rates_come_with_the_second_measurement() -> None:
    meter = Meter()

    first = meter.measure()
    time.sleep(0.05)
    second = meter.measure()

    assert first.keys() >= MEMORY
    assert not RATES & first.keys()
    assert not [name for name in first if name.endswith("per_second")]
    assert second.keys() >= MEMORY | RATES
    assert set(meter.names) == set(second)
    assert all(type(value) is float for value in second.values())
    assert meter.failures == {}


def test_measurements_without_time_between_them_give_no_rates() -> None:
    meter = Meter()
    for _ in range(3):
        values = meter.measure()

    assert not {name for name in values if "per" in name.rpartition("/")[2]}


def test_what_happens_between_measurements_that_follow_too_soon_is_in_the_next_rate() -> None:
    meter = Meter()
    # What has grown and when, in seconds; at last it begins anew.
    told = iter([(0.0, 1.0), (8.0, 1.004), (8.0, 1.008), (10.0, 1.02), (11.0, 1.04), (0.0, 1.06), (1.0, 1.08)])
    meter._sources = {"disk": lambda: {"disk/read": _Counter(*next(told))}}

    rates = [meter.measure().get("disk/read") for _ in range(7)]

    assert rates == [None, None, None, pytest.approx(500), pytest.approx(50), None, pytest.approx(50)]


def test_names_end_in_units() -> None:
    meter = Meter()
    meter.measure()

    unit = re.compile(r"^\w+/\w*?(percent|bytes|bytes_per_second|watts|celsius)$")
    assert [name for name in meter.names if not unit.search(name)] == []


def test_a_busy_process_and_its_memory_are_seen() -> None:
    meter = Meter()
    before = meter.measure()
    end = time.process_time() + 0.3
    block = np.ones(1 << 25, np.uint8)
    while time.process_time() < end:
        pass

    after = meter.measure()

    assert 10 < after["cpu/process_percent"] < 150
    assert 0 < after["cpu/percent"] <= 100
    grown = after["memory/process_rss_bytes"] - before["memory/process_rss_bytes"]
    assert abs(grown - block.nbytes) < 8e6


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="this system has no /proc to compare with")
def test_values_agree_with_proc() -> None:
    def ticks() -> np.ndarray[Any, Any]:
        return np.array(Path("/proc/stat").read_text().split("\n")[0].split()[1:9], float)

    def memory(name: str, file: str = "/proc/meminfo") -> float:
        return 1024 * float(re.search(rf"^{name}:\s+(\d+)", Path(file).read_text(), re.MULTILINE)[1])  # type: ignore[index]

    meter = Meter()
    meter.measure()
    before = ticks()
    time.sleep(0.5)
    values, grown = meter.measure(), ticks() - before

    assert values["cpu/percent"] == pytest.approx(100 * (1 - grown[3:5].sum() / grown.sum()), abs=10)
    assert values["memory/available_bytes"] == pytest.approx(memory("MemAvailable"), rel=0.1)
    assert values["memory/process_rss_bytes"] == pytest.approx(memory("VmRSS", "/proc/self/status"), rel=0.1)


def test_what_crosses_the_network_is_counted_without_what_stays_in_the_machine() -> None:
    import socket

    meter, begin = Meter(), time.monotonic()
    meter.measure()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as out:
        into, _ = server.accept()
        with into:
            threading.Thread(target=lambda: out.sendall(bytes(10**8)), daemon=True).start()
            left = 10**8
            while left:
                left -= len(into.recv(min(left, 1 << 20)))
    time.sleep(0.02)

    sent = meter.measure().get("network/sent_bytes_per_second", 0.0)

    assert sent * (time.monotonic() - begin) < 10**8 / 2


def test_a_source_that_fails_is_named_and_the_others_go_on() -> None:
    def fail() -> Any:
        raise OSError("gone")

    meter = Meter()
    meter._sources = {"disk": fail, **{name: source for name, source in meter._sources.items() if name != "disk"}}

    assert meter.measure().keys() >= MEMORY
    assert meter.failures == {"disk": "OSError: gone"}


def test_a_meter_that_was_made_before_a_fork_shows_the_child() -> None:
    meter = Meter()
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(write, f"{meter.measure()['memory/process_rss_bytes']} {os.getpid()}".encode())
        time.sleep(30)
        os._exit(0)
    said = os.read(read, 100).decode().split()
    kib = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{said[1]}/status").read_text())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    assert kib is not None
    assert float(said[0]) == pytest.approx(1024 * float(kib[1]), rel=0.1)


def test_the_nearest_limited_control_group_is_found(tmp_path: Path) -> None:
    own, job = tmp_path / "own", tmp_path / "fs/slurm/job"
    (job / "step").mkdir(parents=True)
    own.write_text("4:memory:/elsewhere\n0::/slurm/job/step\n")
    assert limited_group(tmp_path / "fs", own) is None

    (job / "step/memory.max").write_text("max\n")
    (job / "memory.max").write_text("4096\n")
    (job / "memory.current").write_text("1024\n")
    (tmp_path / "memory.max").write_text("7\n")  # outside of the file system of groups

    assert limited_group(tmp_path / "fs", own) == job
    own.write_text("0::/other\n")
    assert limited_group(tmp_path / "fs", own) is None
    assert limited_group(tmp_path / "fs", tmp_path / "missing") is None


def _has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


@pytest.mark.skipif(_has_nvidia_driver(), reason="this machine has an NVIDIA driver")
def test_without_a_driver_there_are_no_values_of_gpus_and_no_words() -> None:
    meter = Meter()
    meter.measure()

    assert not [name for name in meter.names if name.startswith("gpu")]
    assert meter.failures == {}


@pytest.mark.skipif(not _has_nvidia_driver(), reason="this machine has no NVIDIA driver, which alone has such values")
def test_values_of_gpus_are_those_that_the_driver_shows() -> None:
    asked = "utilization.gpu,memory.used,power.draw,temperature.gpu"
    shown = subprocess.check_output(
        ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader,nounits"], text=True
    ).splitlines()
    values = Meter().measure()

    for index, line in enumerate(shown):
        _, mebibytes, watts, celsius = (float(part) for part in line.split(","))
        assert 0 <= values[f"gpu{index}/utilization_percent"] <= 100
        # The driver's own part is in one of them only.
        assert values[f"gpu{index}/memory_used_bytes"] == pytest.approx(mebibytes * 2**20, abs=2**30)
        assert values[f"gpu{index}/power_watts"] == pytest.approx(watts, rel=0.5)
        assert values[f"gpu{index}/temperature_celsius"] == pytest.approx(celsius, abs=5)


def test_each_gpu_gives_what_it_has_and_one_that_is_lost_is_named(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to make a driver with")
    source, library = Path(__file__).with_name("nvml.c"), tmp_path / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True)

    result = run_python(
        """
        from allogger.system import Meter
        meter = Meter()
        for _ in range(5):
            print({name: value for name, value in meter.measure().items() if name.startswith("gpu")})
        print(meter.failures)
        """,
        env={"LD_LIBRARY_PATH": str(tmp_path)},
    )

    *measured, failures = [ast.literal_eval(line) for line in result.stdout.splitlines()]
    first = {
        "gpu0/utilization_percent": 41.0,
        "gpu0/memory_used_bytes": 31.0,
        "gpu0/power_watts": 123.456,
        "gpu0/temperature_celsius": 51.0,
    }
    second = {"gpu1/utilization_percent": 42.0, "gpu1/memory_used_bytes": 32.0, "gpu1/temperature_celsius": 52.0}
    assert measured == [{**first, **second}] * 3 + [first] * 2
    assert failures == {"gpu1": "NVMLError_GpuIsLost: GPU is lost"}


def test_without_psutil_the_command_that_installs_it_is_said(tmp_path: Path, run_python: Callable[..., Result]) -> None:
    (tmp_path / "psutil.py").write_text("raise ModuleNotFoundError('No module named psutil', name='psutil')")
    result = run_python(
        """
        import os
        import allogger
        allogger.basic_configure("plain").log(1.0, "x")
        try:
            allogger.basic_configure("run", system_metrics_seconds=1)
        except allogger.MissingDependency as error:
            print(error)
        assert not os.path.exists("run")
        allogger.basic_configure(enable=False, system_metrics_seconds=1)
        """
    )

    assert "pip install 'allogger[system]'" in result.stdout, result.stderr
    assert result.returncode == 0, result.stderr
    assert issubclass(MissingDependency, ImportError)


# ------------------------------------------------------------------------------------------------------------ the lane


def seen(logdir: Path, key: str = "system/memory/used_bytes") -> int:
    try:
        return len(allogger.open_run(logdir, attempts="all")[key].value)
    except (allogger.NotARun, allogger.NoSuchKey):
        return 0


def test_a_run_logs_what_the_machine_does(tmp_path: Path) -> None:
    with allogger.run(tmp_path, flush_seconds=0.1, system_metrics_seconds=0.05) as logger:
        assert logger.default_outputs == ["hdf"]
        wait_for(lambda: seen(tmp_path) >= 3)

    run = allogger.open_run(tmp_path)
    assert {f"system/{name}" for name in MEMORY | RATES} <= set(run.keys())
    used = run["system/memory/used_bytes"]
    assert used.kind == "scalar"
    assert used.step.tolist() == list(range(1, len(used.value) + 1))
    assert np.diff(used.time).min() > 0.04
    assert (run["system/cpu/percent"].value <= 100).all()
    # Rates are there from the first measurement on: the one before was made by the configuration.
    assert len(run["system/cpu/percent"].value) == len(used.value)
    assert "not stored" not in "".join(file.read_text() for file in tmp_path.glob("*.log"))


def test_no_thread_is_added_and_none_measures_after_the_end(tmp_path: Path) -> None:
    with allogger.run(tmp_path / "without") as logger:
        logger.log(1.0, "x")
        threads = {thread.name for thread in threading.enumerate()}

    with allogger.run(tmp_path / "with", system_metrics_seconds=0.01):
        assert {thread.name for thread in threading.enumerate()} == threads
        time.sleep(0.05)
    count = seen(tmp_path / "with")
    time.sleep(0.05)

    assert seen(tmp_path / "with") == count
    assert not any(thread.name == "allogger-disk" for thread in threading.enumerate())


def test_the_lane_imports_nothing_and_steps_go_on_in_the_next_attempt(
    tmp_path: Path, run_python: Callable[..., Result]
) -> None:
    result = run_python(
        """
        import sys, threading, time
        import allogger

        class Witness:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if threading.current_thread() is not threading.main_thread():
                    print("imports", name)

        sys.meta_path.insert(0, Witness)
        for _ in range(2):  # the second goes on behind the first
            allogger.basic_configure("run", system_metrics_seconds=0.01)
            time.sleep(0.2)
            allogger.close()
        """
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    steps = allogger.open_run(tmp_path / "run", attempts="all")["system/cpu/percent"].step
    assert steps.tolist() == list(range(1, len(steps) + 1))


def test_filters_outputs_and_logdir_of_the_scope_hold(tmp_path: Path) -> None:
    allogger.basic_configure(tmp_path / "main", system_metrics_seconds=0.02, hdf_writer_params={"filter": "cpu"})
    allogger.get_logger(
        "system", logdir=tmp_path / "machine", default_outputs=["csv"], csv_writer_params={"exclude": "process"}
    )
    allogger.get_root().log(1.0, "cpu")
    time.sleep(0.1)
    allogger.close()

    assert allogger.open_run(tmp_path / "main").keys() == ["root/cpu"]
    keys = allogger.open_run(tmp_path / "machine").keys()
    assert "system/cpu/percent" in keys
    assert not [key for key in keys if "process" in key]
    assert not list((tmp_path / "machine/events").glob("*.h5"))


def test_the_steps_of_other_series_and_the_pace_do_not_change_when_scopes_are_configured() -> None:
    with capture(system_metrics_seconds=0.1) as captured:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:  # configured more often than it measures
            allogger.get_logger("agent", log_freq=2)
            time.sleep(0.01)

    assert 2 <= len(captured["system/memory/used_bytes"]) <= 5


def test_it_ends_when_it_is_configured_away_and_begins_anew() -> None:
    with capture(system_metrics_seconds=0.01) as captured:
        wait_for(lambda: len(captured) > 0)
        allogger.get_root().manager.configure("root", {"system_metrics_seconds": None})
        allogger.flush()
        count = len(captured.records)
        time.sleep(0.1)
        assert len(captured.records) == count

        allogger.get_root().manager.configure("root", {"system_metrics_seconds": 0.05})
        wait_for(lambda: len(captured.records) > count)
        # Of the time since the last configuration, not of the pause.
        assert captured.records[count].key.startswith("cpu/")


def test_a_scope_can_be_configured_while_another_thread_closes(tmp_path: Path) -> None:
    errors: list[BaseException] = []
    is_over = threading.Event()

    def configure() -> None:
        try:
            while not is_over.is_set():
                allogger.get_logger("agent", log_freq=2)
                time.sleep(0.0002)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=configure)
    thread.start()
    for _ in range(10):
        with allogger.run(tmp_path, system_metrics_seconds=0.001):
            time.sleep(0.01)
    is_over.set()
    thread.join()

    assert errors == []


def test_capture_sets_the_measuring_aside(tmp_path: Path) -> None:
    with allogger.run(tmp_path, system_metrics_seconds=0.01, flush_seconds=0.1):
        wait_for(lambda: seen(tmp_path))
        with capture() as captured:
            time.sleep(0.1)
            assert len(captured) == 0
        count = seen(tmp_path)
        wait_for(lambda: seen(tmp_path) > count)

    assert "not stored" not in "".join(file.read_text() for file in tmp_path.glob("*.log"))


def test_a_run_that_is_closed_while_another_is_configured_loses_no_measurement(tmp_path: Path) -> None:
    for number in range(10):
        allogger.basic_configure(tmp_path / str(number), system_metrics_seconds=0.001)
        time.sleep(0.02)
    allogger.close()

    logs = "".join(file.read_text() for file in tmp_path.glob("*/*.log"))
    assert logs == ""
    assert all(seen(tmp_path / str(number)) for number in range(10))


def test_disabled_it_measures_nothing(tmp_path: Path) -> None:
    before = threading.active_count()
    allogger.basic_configure(tmp_path / "run", enable=False, system_metrics_seconds=0.01)
    time.sleep(0.05)

    assert not (tmp_path / "run").exists()
    assert threading.active_count() == before


def test_muted_ranks_and_what_nobody_keeps_are_not_measured(tmp_path: Path) -> None:
    for name, given in {
        "muted": {"log_on_workers": [3]},
        "dropped": {"hdf_writer_params": {"filter": "^loss$"}},
    }.items():
        with allogger.run(tmp_path / name, system_metrics_seconds=0.01, **given):
            time.sleep(0.05)

        assert seen(tmp_path / name) == 0


def test_that_nothing_can_be_measured_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("gone")

    for name in ("_cpu", "_memory", "_disk", "_network", "_gpu", "_group_memory"):
        monkeypatch.setattr(f"allogger.system.{name}", fail)
    with allogger.run(tmp_path, system_metrics_seconds=0.01):
        time.sleep(0.05)

    for what in ("cpu", "memory", "disk", "network"):
        assert caplog.text.count(f"{what} cannot be measured: OSError: gone") == 1


def test_it_comes_from_a_configuration_too(tmp_path: Path) -> None:
    file = tmp_path / "allogger.toml"
    file.write_text(f'logdir = "{tmp_path}/run"\nsystem_metrics_seconds = 0.05\nflush_seconds = 0.1\n')
    allogger.config.from_file(file)
    wait_for(lambda: seen(tmp_path / "run"))

    with pytest.raises(ConfigError, match=r"system_metrics_seconds must be a number of seconds above 0.*-3"):
        allogger.config.from_dict({"system_metrics_seconds": -3})
    with pytest.raises(ConfigError, match="whole process"):
        allogger.get_logger("agent", system_metrics_seconds=1)
    with pytest.raises(ConfigError, match="did you mean 'system_metrics_seconds'"):
        allogger.basic_configure(system_metric_seconds=1)


def test_killed_it_leaves_what_it_has_measured(tmp_path: Path) -> None:
    settings = "system_metrics_seconds=0.05, flush_seconds=0.1"
    code = f"import allogger, time; allogger.basic_configure('run', {settings}); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_for(lambda: seen(tmp_path / "run") >= 2)
    finally:
        process.kill()
        process.wait()

    run = allogger.open_run(tmp_path / "run")
    assert len(run["system/cpu/percent"].value) >= 2
    assert not run.damage


# ------------------------------------------------------------------------------------------------------ who it measures


def test_children_do_not_measure(tmp_path: Path, run_python: Callable[..., Result], start_method: str) -> None:
    # No guard around the configuration: spawned children, and the server of forkserver, run it, too.
    result = run_python(
        """
        import multiprocessing, os, time
        import allogger

        allogger.basic_configure("run", system_metrics_seconds=0.02, flush_seconds=0.1)

        def work(number):
            allogger.get_logger("worker", log_freq=2).log(number, "x")
            time.sleep(0.2)

        if __name__ == "__main__":
            context = multiprocessing.get_context(os.environ["METHOD"])
            children = [context.Process(target=work, args=(number,)) for number in range(2)]
            for child in children:
                child.start()
            for child in children:
                child.join()
                assert not child.exitcode
        """,
        env={"METHOD": start_method},
    )

    assert (result.returncode, result.stderr) == (0, "")
    run = allogger.open_run(tmp_path / "run", attempts="all")
    assert len(set(run["worker/x"].process)) == 2
    assert set(run["system/cpu/percent"].process) == {"MainProcess"}
    assert run["system/cpu/percent"].step.tolist() == list(range(1, len(run["system/cpu/percent"].value) + 1))


def test_a_server_that_forks_children_does_not_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As multiprocessing marks it while it imports the main module of the program.
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with allogger.run(tmp_path, system_metrics_seconds=0.01):
        time.sleep(0.05)

    assert seen(tmp_path) == 0


def test_forks_in_the_middle_of_measurements_can_measure_themselves(run_python: Callable[..., Result]) -> None:
    result = run_python(
        """
        import os, time
        import psutil
        import allogger
        from allogger.system import Meter

        allogger.basic_configure("run", system_metrics_seconds=0.0001)
        children = []
        for _ in range(60):
            pid = os.fork()
            if not pid:
                assert Meter().measure()
                psutil.net_io_counters()
                psutil.disk_io_counters()
                os._exit(0)
            children.append(pid)
        assert {os.waitpid(pid, 0)[1] for pid in children} == {0}
        """,
        timeout=60,
    )

    assert (result.returncode, result.stderr) == (0, "")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in processes._LOCAL_RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "is_first"),
    [
        ({}, True),
        ({"RANK": "0"}, True),
        ({"RANK": "3"}, False),
        ({"RANK": "8", "LOCAL_RANK": "0"}, True),
        ({"RANK": "9", "LOCAL_RANK": "1"}, False),
        ({"SLURM_PROCID": "4", "SLURM_LOCALID": "0"}, True),
        ({"RANK": "1", "LOCAL_RANK": "1", "SLURM_LOCALID": "0"}, False),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}, False),
        ({"RANK": "1", "LOCAL_RANK": "none"}, False),
    ],
    ids=str,
)
def test_one_process_of_each_host_measures(
    environment: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], is_first: bool
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)

    assert processes.is_first_of_host() is is_first
    with allogger.run(tmp_path, system_metrics_seconds=0.01, flush_seconds=0.1):
        if is_first:
            wait_for(lambda: seen(tmp_path))
        else:
            time.sleep(0.05)
    assert (seen(tmp_path) > 0) is is_first


# ----------------------------------------------------------------------------------------------------------- the chore


def test_a_chore_that_takes_long_leaves_the_lane_most_of_its_time() -> None:
    done: list[float] = []

    def chore() -> None:
        done.append(time.monotonic())
        time.sleep(0.02)

    lane = Lane("disk", print, source=lambda: None)
    lane.start()
    lane.every(0.001, chore)
    time.sleep(0.7)
    lane.stop()
    lane.join(5)

    assert 2 <= len(done) <= 5
    assert np.diff(done).min() > 0.19


def test_a_lane_that_is_set_aside_does_no_chore_and_does_not_wait_for_one() -> None:
    class Counting(Lane):
        cycles = 0

        def cycle(self) -> None:
            self.cycles += 1
            super().cycle()

    done: list[float] = []
    lane = Counting("disk", print, source=lambda: None)
    lane.start()
    lane.every(0.001, lambda: done.append(0.0))
    lane.connect(None)
    lane.call(lambda: None)
    count, cycles = len(done), lane.cycles
    time.sleep(0.2)

    assert len(done) == count
    assert lane.cycles - cycles < 10
    lane.stop()
    lane.join(5)


def test_a_chore_that_raises_is_told_and_comes_again() -> None:
    told: list[str] = []
    again = threading.Event()

    def chore() -> None:
        if told:
            again.set()
        raise RuntimeError("on purpose")

    lane = Lane("disk", told.append, source=lambda: None)
    lane.start()
    lane.every(0.01, chore)

    assert again.wait(10)
    lane.stop()
    lane.join(5)
    assert "on purpose" in told[0]
