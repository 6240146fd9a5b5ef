"""Do the commands give what is there, each in the form that its reader wants, and the right exit code?"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import allogger
from allogger.cli.commands import COMMANDS
from tests.cli.conftest import ROOT, TIMEOUT, Command, environment

KEYS = ["agent.critic/train/count", "agent.critic/weights", "root/loss", "root/note", "root/sample"]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


# ------------------------------------------------------------------------------------------------------------------ ls


def test_ls_shows_each_run_with_its_state_steps_and_last_values(made: Path, allogger_command: Command) -> None:
    result = allogger_command("ls", "runs")

    assert result.returncode == 0, result.stderr
    found = {Path(row["run"]).name: row for row in rows(result.stdout)}
    assert {name: row["state"] for name, row in found.items()} == {"a": "finished", "b": "finished", "killed": "killed"}
    for row in found.values():
        assert (row["step"], row["keys"]) == ("100", "5")
        assert json.loads(row["last"]) == {"agent.critic/train/count": 99, "root/loss": 0.01}
    assert int(found["a"]["size"]) > 1000


def test_ls_shows_a_live_run_as_live(tmp_path: Path, live: subprocess.Popen[str], allogger_command: Command) -> None:
    result = allogger_command("ls", ".", "--json", cwd=tmp_path)

    (row,) = json.loads(result.stdout)
    assert (row["state"], row["step"], row["last"]["root/loss"]) == ("live", 100, 0.01)


def test_ls_sorts_and_chooses(made: Path, allogger_command: Command) -> None:
    newest_first = allogger_command("ls", "runs", "--sort", "start", "-r").stdout
    killed = allogger_command("ls", "runs", "--state", "killed").stdout
    live = allogger_command("ls", "runs", "--state", "live")

    assert [Path(row["run"]).name for row in rows(newest_first)] == ["killed", "b", "a"]
    assert [Path(row["run"]).name for row in rows(killed)] == ["killed"]
    assert (live.returncode, live.stdout) == (3, "")
    assert "none of 3 runs is live" in live.stderr


# ---------------------------------------------------------------------------------------------- keys, show, stats, ...


@pytest.mark.parametrize("name", ["a", "killed"])
def test_keys_are_the_same_for_a_finished_and_a_killed_run(name: str, made: Path, allogger_command: Command) -> None:
    result = allogger_command("keys", f"runs/{name}")

    assert result.returncode == 0, result.stderr
    found = rows(result.stdout)
    assert [row["key"] for row in found] == KEYS
    assert list(found[2].values()) == ["root/loss", "scalar", "100", "1", "100", "0.01"]


def test_show_gives_all_values_exactly(made: Path, allogger_command: Command) -> None:
    result = allogger_command("show", "runs/a", "-k", "loss$")

    run = allogger.open_run(made / "runs" / "a")["root/loss"]
    found = rows(result.stdout)
    assert [float(row["value"]) for row in found] == run.value.tolist()
    assert [float(row["time"]) for row in found] == run.time.tolist()
    assert [int(row["step"]) for row in found] == run.step.tolist()


def test_show_takes_some_steps_or_the_last_values(made: Path, allogger_command: Command) -> None:
    some = allogger_command("show", "runs/a", "-k", "loss$", "--steps", "10:12").stdout
    last = allogger_command("show", "runs/a", "-k", "loss$", "-n", "2").stdout

    assert [row["step"] for row in rows(some)] == ["10", "11", "12"]
    assert [row["step"] for row in rows(last)] == ["99", "100"]


def test_show_as_json_has_a_value_in_each_line(made: Path, allogger_command: Command) -> None:
    result = allogger_command("show", "runs/a", "-k", "weights", "-k", "note", "--json")

    assert [json.loads(line)["value"] for line in result.stdout.splitlines()] == [
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        "hello \x1b[31mworld",
    ]


def test_stats_count_and_measure(made: Path, allogger_command: Command) -> None:
    (row,) = json.loads(allogger_command("stats", "runs/a", "-k", "loss$", "--json").stdout)

    assert (row["count"], row["first"], row["last"]) == (100, 1.0, 0.01)
    assert (row["min"], row["min_step"], row["max"], row["max_step"]) == (0.01, 100, 1.0, 1)
    assert row["mean"] == pytest.approx(sum(1 / step for step in range(1, 101)) / 100)


def test_compare_shows_what_differs(made: Path, allogger_command: Command) -> None:
    found = {row["name"]: row for row in json.loads(allogger_command("compare", "runs/a", "runs/b", "--json").stdout)}

    assert found["params.lr"] == {"name": "params.lr", "runs/a": 0.1, "runs/b": 0.2}
    assert found["root/loss"]["runs/a"] == 0.01
    assert "params.seed" not in found


def test_env_tells_the_circumstances_and_what_differs(made: Path, allogger_command: Command) -> None:
    one = {row["name"]: row["value"] for row in json.loads(allogger_command("env", "runs/a", "--json").stdout)}
    two = json.loads(allogger_command("env", "runs/a", "runs/b", "--json").stdout)

    assert one["python.version"] == ".".join(map(str, sys.version_info[:3]))
    assert one["params.lr"] == 0.1
    assert {"name": "params.lr", "runs/a": 0.1, "runs/b": 0.2} in two
    assert not [row for row in two if row["name"] == "python.version"]


def test_images_become_files_that_other_programs_read(made: Path, tmp_path: Path, allogger_command: Command) -> None:
    image = pytest.importorskip("matplotlib.image")

    result = allogger_command("images", "runs/a", "-o", str(tmp_path), "--json")

    (row,) = json.loads(result.stdout)
    assert np.array_equal(image.imread(row["file"]), np.ones((4, 5, 3)))
    again = allogger_command("images", "runs/a", "-o", str(tmp_path))
    assert again.returncode == 1
    assert "exists, and stays" in again.stderr


def test_export_writes_all_values(made: Path, tmp_path: Path, allogger_command: Command) -> None:
    path = tmp_path / "a.csv"

    first = allogger_command("export", "runs/a", "-k", "loss$", "-o", str(path))
    second = allogger_command("export", "runs/a", "-k", "loss$", "-o", str(path))

    assert first.returncode == 0, first.stderr
    assert len(path.read_text().splitlines()) == 101
    assert second.returncode == 2
    assert "--overwrite" in second.stderr


def test_merge_makes_a_run_of_one_file_that_reads_alike(made: Path, tmp_path: Path, allogger_command: Command) -> None:
    result = allogger_command("merge", "runs/killed", "-o", str(tmp_path / "merged"))

    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "merged" / "events").glob("*.h5"))) == 1
    merged, before = allogger.open_run(tmp_path / "merged"), allogger.open_run(made / "runs" / "killed")
    assert merged.keys() == before.keys()
    for key in ("root/loss", "agent.critic/weights", "root/sample"):
        assert np.array_equal(merged[key].value, before[key].value)
        assert np.array_equal(merged[key].time, before[key].time)
    assert allogger_command("tail", str(tmp_path / "merged"), "-m").stdout.endswith("(INFO) [root] > begun\n")


# ----------------------------------------------------------------------------------------------------------------- plot


def test_plot_draws_braille_without_colours_in_a_pipe(made: Path, allogger_command: Command) -> None:
    result = allogger_command("plot", "runs/a", "runs/b", "-k", "loss$", "--width", "60", "--height", "15")

    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:3] == ["root/loss", "a: runs/a", "b: runs/b"]
    assert len(lines) == 16
    assert max(map(len, lines)) <= 60
    assert any(0x2800 < ord(c) < 0x2900 for c in result.stdout)
    assert "\x1b" not in result.stdout


def test_plot_draws_a_million_values_at_once_and_shows_the_one_that_sticks_out(tmp_path: Path) -> None:
    code = """
import time, sys
import numpy as np
import allogger
with allogger.run("big") as root:
    root.log(0.0, "x")
from allogger.cli.braille import Line, picture
y = np.zeros(10**6); y[123456] = 1.0
picture([Line("warm", np.arange(9.0), np.arange(9.0))], width=80, height=20)
start = time.perf_counter()
text = picture([Line("x", np.arange(1e6), y)], width=80, height=20)
assert time.perf_counter() - start < 2, time.perf_counter() - start
sys.stdout.write(text)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=TIMEOUT
    )

    assert result.returncode == 0, result.stderr
    spike = [line[2:] for line in result.stdout.splitlines()[1:16]]
    assert all(sum(0x2800 < ord(c) < 0x2900 for c in line.split("\x1b[0m")[0]) == 1 for line in spike), result.stdout


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_plot_makes_files(suffix: str, made: Path, tmp_path: Path, allogger_command: Command) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"loss.{suffix}"

    result = allogger_command("plot", "runs/a", "runs/b", "-k", "loss$", "--band", "std", "-o", str(path))

    assert result.returncode == 0, result.stderr
    assert path.stat().st_size > 1000


def test_plot_as_json_gives_the_points(made: Path, allogger_command: Command) -> None:
    (line,) = json.loads(allogger_command("plot", "runs/a", "-k", "loss$", "--json").stdout)

    assert line["name"] == "runs/a"
    assert line["x"] == [float(step) for step in range(1, 101)]
    assert line["y"] == [1 / step for step in range(1, 101)]


# ----------------------------------------------------------------------------------------------------------------- tail


def test_tail_follows_values_until_the_run_is_over(tmp_path: Path, live: subprocess.Popen[str]) -> None:
    assert live.stdin is not None
    command = [sys.executable, "-m", "allogger", "tail", "live", "-k", "later|loss", "-n", "1", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        first = json.loads(tail.stdout.readline())
        for number in range(3):
            live.stdin.write(f"{number}\n")
            live.stdin.flush()
            assert json.loads(tail.stdout.readline())["value"] == number
        live.stdin.close()
        assert tail.stdout.read() == ""
        assert tail.wait(TIMEOUT) == 0

    assert (first["key"], first["value"]) == ("root/loss", 0.01)


def test_tail_follows_messages(tmp_path: Path, live: subprocess.Popen[str]) -> None:
    assert live.stdin is not None
    command = [sys.executable, "-m", "allogger", "tail", ".", "--messages", "-n", "1"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        assert tail.stdout.readline().endswith("> begun\n")
        live.stdin.write("7\n")
        live.stdin.close()
        assert tail.stdout.readline().endswith("> got 7\n")
        assert tail.wait(TIMEOUT) == 0


# ---------------------------------------------------------------------------------------------- verify, repair, du, rm


def test_verify_finds_damage(made: Path, tmp_path: Path, allogger_command: Command) -> None:
    shutil.copytree(made / "runs", tmp_path / "runs")
    (file,) = (tmp_path / "runs" / "a" / "events").glob("*.h5")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)

    result = allogger_command("verify", "runs", cwd=tmp_path)

    assert result.returncode == 4
    assert result.stderr.startswith("allogger: runs/a: ")
    assert len(rows(result.stdout)) == 3
    assert allogger_command("verify", "runs/b", cwd=tmp_path).returncode == 0


def test_repair_finishes_a_killed_run(made: Path, tmp_path: Path, allogger_command: Command) -> None:
    shutil.copytree(made / "runs" / "killed", tmp_path / "run")

    trial = allogger_command("repair", "run", "--dry-run", cwd=tmp_path)
    assert [row["outcome"] for row in rows(trial.stdout)] == ["done"]
    assert list((tmp_path / "run").glob("events/*.journal"))

    result = allogger_command("repair", "run", "--json", cwd=tmp_path)
    assert json.loads(result.stdout)[0]["ok"]
    assert not list((tmp_path / "run").glob("events/*.journal"))
    assert rows(allogger_command("ls", "run", cwd=tmp_path).stdout)[0]["state"] == "finished"


def test_du_counts_every_byte_of_allogger(made: Path, allogger_command: Command) -> None:
    (row,) = json.loads(allogger_command("du", "runs/a", "--json").stdout)

    folder = made / "runs" / "a"
    assert row["total"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert row["hdf"] == sum(path.stat().st_size for path in folder.glob("events/*.h5"))


def test_rm_removes_what_is_ours_and_nothing_else(made: Path, tmp_path: Path, allogger_command: Command) -> None:
    shutil.copytree(made / "runs", tmp_path / "runs")
    (tmp_path / "runs" / "a" / "mine.txt").write_text("mine")

    refused = allogger_command("rm", "runs/a", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert (tmp_path / "runs" / "a" / "events").exists()

    result = allogger_command("rm", "runs/a", "runs/b", "--yes", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.name != "killed"] == ["a"]
    assert [path.name for path in (tmp_path / "runs" / "a").iterdir()] == ["mine.txt"]


def test_rm_leaves_alone_what_is_live_linked_or_below(
    made: Path, tmp_path: Path, live: subprocess.Popen[str], allogger_command: Command
) -> None:
    shutil.copytree(made / "runs", tmp_path / "runs")
    (tmp_path / "link").symlink_to(tmp_path / "runs" / "a")

    result = allogger_command("rm", "live", "link", "runs", "--yes", cwd=tmp_path)

    assert result.returncode == 1
    assert "live is live; --force" in result.stderr
    assert "link is a symbolic link" in result.stderr
    assert "'runs' is no run but holds some; --recursive" in result.stderr
    assert (tmp_path / "live" / "run.json").exists()
    assert len(list((tmp_path / "runs").iterdir())) == 3


def test_rm_takes_a_live_run_only_by_force(
    tmp_path: Path, live: subprocess.Popen[str], allogger_command: Command
) -> None:
    result = allogger_command("rm", "live", "--yes", "--force", cwd=tmp_path)

    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "live" / "run.json").exists()


def test_rm_never_follows_a_link_out_of_the_run(made: Path, tmp_path: Path, allogger_command: Command) -> None:
    shutil.copytree(made / "runs" / "a", tmp_path / "a")
    shutil.move(tmp_path / "a" / "events", tmp_path / "elsewhere")
    (tmp_path / "a" / "events").symlink_to(tmp_path / "elsewhere")

    result = allogger_command("rm", "a", "--yes", cwd=tmp_path)

    assert result.returncode == 1
    assert "symbolic link, which is not followed" in result.stderr
    assert list((tmp_path / "elsewhere").glob("*.h5"))


# --------------------------------------------------------------------------------------------- files of other systems


def test_a_folder_of_tensorboard_is_read_like_a_run(tmp_path: Path, allogger_command: Command) -> None:
    writer = pytest.importorskip("tensorboardX").SummaryWriter(str(tmp_path / "board"))
    for step in range(10):
        writer.add_scalar("loss", step / 2, step)
    writer.close()

    keys = allogger_command("keys", "board", cwd=tmp_path)
    assert keys.returncode == 0, keys.stderr
    assert [(row["key"], row["count"], row["last"]) for row in rows(keys.stdout)] == [("root/loss", "10", "4.5")]
    assert [row["value"] for row in rows(allogger_command("show", "board", cwd=tmp_path).stdout)][:2] == ["0.0", "0.5"]
    for command in (["plot", "board"], ["stats", "board"], ["export", "board", "-o", "board.csv"]):
        result = allogger_command(*command, cwd=tmp_path)
        assert result.returncode == 0, result.stderr


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["ls", "nowhere"], 3, "'nowhere' does not exist"),
        (["keys", "empty"], 3, "'empty' is an empty folder"),
        (["stats", "a.txt"], 3, "a.txt"),
        (["show", "runs/a", "-k", "nothing"], 3, "no key matches 'nothing'"),
        (["show", "runs/a", "-k", "("], 2, "'(' is no regular expression"),
        (["plot", "runs/a", "-k", "note"], 3, "no numbers"),
        (["frobnicate"], 2, "there is no command 'frobnicate'"),
        (["key", "runs/a"], 2, "did you mean 'keys'?"),
        (["ls", "--frobnicate"], 2, "see 'allogger ls --help'"),
        (["export", "runs/a"], 2, "-o"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(
    arguments: list[str], code: int, sentence: str, made: Path, allogger_command: Command
) -> None:
    (made / "empty").mkdir(exist_ok=True)
    (made / "a.txt").write_text("a")

    result = allogger_command(*arguments)

    assert result.returncode == code, result
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["ls", "keys", "show", "stats", "plot"])
def test_every_command_tells_that_a_run_is_of_another_version(
    command: str, made: Path, tmp_path: Path, allogger_command: Command
) -> None:
    shutil.copytree(made / "runs" / "a", tmp_path / "a")
    about = tmp_path / "a" / "run.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "allogger_format": 99}))

    result = allogger_command(command, "a", cwd=tmp_path)

    assert result.returncode == 4
    assert result.stderr == "allogger: a was written in format 99, this version of allogger knows format 1\n"
    assert "loss" in result.stdout


@pytest.mark.parametrize("command", ["ls", "keys", "stats", "du"])
def test_what_is_no_run_does_not_hide_the_others(command: str, made: Path, allogger_command: Command) -> None:
    result = allogger_command(command, "runs/a", "nowhere", "runs/b")

    assert result.returncode == 3
    assert result.stderr == "allogger: 'nowhere' does not exist\n"
    assert {row.get("run", "runs/a") for row in rows(result.stdout)} == {"runs/a", "runs/b"}


def test_damage_and_other_versions_are_told_and_the_rest_is_shown(
    made: Path, tmp_path: Path, allogger_command: Command
) -> None:
    shutil.copytree(made / "runs", tmp_path / "runs")
    about = tmp_path / "runs" / "a" / "run.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "allogger_format": 99}))
    (tmp_path / "runs" / "b" / "run.json").write_text("{")
    (index,) = (tmp_path / "runs" / "b" / "events").glob("*.index.json")
    index.write_text("[]")

    result = allogger_command("ls", "runs", cwd=tmp_path)

    assert result.returncode == 4
    assert "format 99, this version of allogger knows format 1" in result.stderr
    assert "run.json is damaged" in result.stderr
    assert [row["step"] for row in rows(result.stdout)] == ["100", "100", "100"]


def test_a_damaged_file_costs_no_more_than_what_is_damaged(
    made: Path, tmp_path: Path, allogger_command: Command
) -> None:
    shutil.copytree(made / "runs" / "a", tmp_path / "a")
    (file,) = (tmp_path / "a" / "events").glob("*.h5")
    file.write_bytes(file.read_bytes()[:100])

    result = allogger_command("show", "a", str(made / "runs" / "b"), "-k", "loss$", cwd=tmp_path)

    assert result.returncode == 4
    assert "cannot be read" in result.stderr
    assert len(rows(result.stdout)) == 100
    assert "Traceback" not in result.stderr


# ---------------------------------------------------------------------------------------------------------------- ends


def test_a_reader_that_has_seen_enough_is_no_error(made: Path) -> None:
    line = f"{sys.executable} -m allogger show runs/a runs/b | head -1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=made,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )

    assert result.stdout.startswith("run\tkey")
    assert result.stderr == ""
    assert result.returncode == 0


def test_a_full_disk_is_told_in_one_sentence(made: Path) -> None:
    result = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m allogger ls runs > /dev/full"],
        cwd=made,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )

    assert result.returncode == 1
    assert result.stderr == "allogger: [Errno 28] No space left on device\n"


def test_a_terminal_without_braille_is_no_error(made: Path, allogger_command: Command) -> None:
    result = allogger_command("plot", "runs/a", "-k", "loss$", env={"PYTHONIOENCODING": "ascii"})

    assert result.returncode == 0, result.stderr
    assert "\\u28" in result.stdout


def test_names_that_no_encoding_knows_are_shown_as_escapes(
    made: Path, tmp_path: Path, allogger_command: Command
) -> None:
    shutil.copytree(made / "runs" / "a", tmp_path / "caf\udce9\x1b[2J\n")

    for command in ("ls", "keys", "stats"):
        result = allogger_command(command, ".", str(made / "runs" / "b"), cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "\\udce9\\x1b[2J\\n\t" in result.stdout


# ---------------------------------------------------------------------------------------------------- help, completion


def test_help_names_every_command_and_loads_nothing(made: Path, allogger_command: Command) -> None:
    result = allogger_command("--help")

    assert result.returncode == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in result.stdout] == []
    assert (
        "exit codes: 0 ok, 1 failed, 2 wrong usage, 3 nothing found, 4 data damaged, 130 interrupted" in result.stdout
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_shows_examples(name: str, made: Path, allogger_command: Command) -> None:
    result = allogger_command(name, "--help")

    assert result.returncode == 0
    assert f"usage: allogger {name} " in result.stdout
    assert "--json" in result.stdout
    assert "allogger " + name in result.stdout.partition("examples:")[2]


def test_completion_knows_commands_and_options(made: Path, tmp_path: Path, allogger_command: Command) -> None:
    pytest.importorskip("shtab")
    script = tmp_path / "completion.bash"
    script.write_text(allogger_command("completion", "bash").stdout)
    ask = f'source {script}; COMP_WORDS=(allogger "$1"); COMP_CWORD=1; _shtab_allogger; echo "${{COMPREPLY[@]}}"'

    result = subprocess.run(["bash", "-c", ask, "bash", "co"], capture_output=True, text=True, timeout=TIMEOUT)

    assert set(result.stdout.split()) == {"compare", "completion"}
    assert "_allogger" in allogger_command("completion", "zsh").stdout


def test_the_version_is_told(made: Path, allogger_command: Command) -> None:
    assert allogger_command("--version").stdout == f"allogger {allogger.__version__}\n"


# ------------------------------------------------------------------------------------------------------------- plug-ins


def test_plugins_add_commands_and_a_broken_one_is_skipped(
    made: Path, tmp_path: Path, allogger_command: Command
) -> None:
    info = tmp_path / "plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[allogger.commands]\nhi = hi:Hi\nbroken = nowhere:Broken\nls = hi:Hi\n")
    (tmp_path / "hi.py").write_text(
        "from allogger.cli.command import Command\n"
        "class Hi(Command):\n"
        "    description = 'Say hi.'\n"
        "    def add_arguments(self, parser): parser.add_argument('name')\n"
        "    def run(self, args, out): out.json(['hi', args.name])\n"
    )
    env = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}

    assert json.loads(allogger_command("hi", "you", env=env).stdout) == ["hi", "you"]
    assert "of plug-ins: broken, hi" in allogger_command("--help", env=env).stdout
    assert rows(allogger_command("ls", "runs", env=env).stdout)
    broken = allogger_command("broken", env=env)
    assert broken.returncode == 2
    assert "skips the command 'broken': ModuleNotFoundError" in broken.stderr
