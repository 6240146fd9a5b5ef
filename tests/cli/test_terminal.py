"""What does a person see who calls the commands in a terminal?"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Command, environment

Terminal = Callable[..., tuple[int, str]]

COLOUR = re.compile(r"\x1b\[(\d+;)*(3[0-7]|38;5;\d+|9[0-7])m")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(screen: str) -> list[str]:
    return [line.rstrip() for line in ESCAPE.sub("", screen).replace("\r", "").splitlines()]


def test_ls_is_a_table_with_human_numbers(terminal: Terminal) -> None:
    pytest.importorskip("rich")

    code, screen = terminal("ls", "runs")

    assert code == 0
    head, first, *_ = plain(screen)
    assert head.split() == ["run", "state", "started", "active", "step", "keys", "size", "last"]
    assert re.match(r"runs/a +finished +\d+ (s|min) ago +\d+ (s|min) ago +100 +5 +[\d.]+ kB", first)
    assert "root/loss=0.01" in screen
    assert "\t" not in screen


def test_what_a_name_or_text_holds_cannot_command_the_terminal(terminal: Terminal) -> None:
    _, screen = terminal("show", "runs/a", "-k", "note")

    assert r"hello \x1b[31mworld" in screen
    assert "\x1b[31m" not in screen


def test_no_command_lets_a_key_command_the_terminal(tmp_path: Path, terminal: Terminal) -> None:
    code = (
        "import allogger, numpy as np\n"
        "with allogger.run('run\\x1b[35m') as root:\n"
        "    root.log(1.0, 'bad\\x1b[31m\\nkey'); root.log(np.zeros((4, 4, 3)), 'pic\\x1b[31m')\n"
        "    root.info('said \\x1b[31m')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), check=True, timeout=60)

    for command in (
        ["ls", "."],
        *([name, "."] for name in ("keys", "show", "stats", "plot", "tail", "compare", "images", "verify", "du")),
        ["tail", ".", "--messages"],
        ["plot", ".", "--overlay"],
        ["images", ".", "-o", "pictures"],
        ["export", ".", "-o", "all.csv"],
        ["rm", "-r", ".", "--dry-run"],
    ):
        status, screen = terminal(*command, cwd=tmp_path)
        assert status == 0, screen
        assert not {"\x1b[31m", "\x1b[35m"} & set(re.findall(r"\x1b\[3\dm", screen)), command


def test_a_person_sees_the_last_values_and_is_told_so(terminal: Terminal) -> None:
    _, screen = terminal("show", "runs/a", "-k", "loss$")

    lines = plain(screen)
    assert "allogger: the last 20 of 100 values of 'root/loss'; -n 0 shows all" in lines
    assert len([line for line in lines if line.startswith("root/loss")]) == 20


def test_curves_have_colours_unless_nobody_wants_them(terminal: Terminal) -> None:
    _, coloured = terminal("plot", "runs/a", "runs/b", "-k", "loss$")
    _, plain_one = terminal("plot", "runs/a", "runs/b", "-k", "loss$", env={"NO_COLOR": "1"})
    _, table = terminal("ls", "runs", env={"NO_COLOR": "1"})

    assert COLOUR.search(coloured)
    assert not COLOUR.search(plain_one)
    assert not COLOUR.search(table)
    assert "a: runs/a" in plain_one
    assert max(map(len, plain(coloured))) <= 100


def test_rm_asks_and_takes_no_for_an_answer(made: Path, tmp_path: Path, terminal: Terminal) -> None:
    shutil.copytree(made / "runs" / "a", tmp_path / "a")

    code, screen = terminal("rm", "a", cwd=tmp_path, typed="\n")
    assert code == 0
    assert re.search(r"remove a \(finished, 5 keys, [\d.]+ kB\)\? \[y/N\]", screen)
    assert (tmp_path / "a").exists()

    code, screen = terminal("rm", "a", cwd=tmp_path, typed="y\n")
    assert code == 0
    assert not (tmp_path / "a").exists()


def test_ctrl_c_is_quiet(tmp_path: Path, live: subprocess.Popen[str], terminal: Terminal) -> None:
    code, screen = terminal("tail", "live", "-k", "loss$", "-n", "1", cwd=tmp_path, until="root/loss")

    assert code == 130
    assert "Traceback" not in screen
    assert len(plain(screen)) == 1


def test_a_followed_plot_is_drawn_anew_until_the_run_is_over(
    tmp_path: Path, live: subprocess.Popen[str], terminal: Terminal
) -> None:
    code, screen = terminal("plot", "live", "-k", "loss$", "--follow", cwd=tmp_path, until="step")

    assert code == 130
    assert screen.startswith("\x1b[H\x1b[J")


def test_without_rich_there_are_tabs(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError('not installed')")
    code, screen = terminal("keys", "runs/a", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})

    assert code == 0
    assert "root/loss\tscalar\t100" in screen


def test_what_lasts_longer_than_a_second_shows_how_far_it_is(tmp_path: Path, terminal: Terminal) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow-1.dist-info").mkdir()
    (tmp_path / "slow-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1\n")
    (tmp_path / "slow-1.dist-info" / "entry_points.txt").write_text("[allogger.commands]\nslow = slow:Slow\n")
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "from allogger.cli.command import Command\n"
        "class Slow(Command):\n"
        "    def add_arguments(self, parser): pass\n"
        "    def run(self, args, out):\n"
        "        for _ in out.progress(range(4), 'counting'): time.sleep(0.4)\n"
    )
    (tmp_path / "slow").rmdir()
    code, screen = terminal("slow", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})

    assert code == 0
    assert re.search(r"counting \[#+\.*\]  75%  3 of 4", screen)
    assert screen.endswith("\r\x1b[K")


def test_progress_is_not_for_pipes(made: Path, allogger_command: Command) -> None:
    assert allogger_command("verify", "runs").stderr == ""


def test_a_narrow_terminal_costs_nothing_but_lines(terminal: Terminal) -> None:
    pytest.importorskip("rich")

    code, screen = terminal("keys", "runs/a", env={"COLUMNS": "40"})

    lines = plain(screen)
    assert code == 0
    assert "…" not in screen
    assert max(map(len, lines)) <= 40
    assert "".join(line[:6].strip() for line in lines if line[:6].strip()).startswith("keyagent.critic/train/count")
