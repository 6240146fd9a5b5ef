"""Environment: under which circumstances does this process run?"""

from __future__ import annotations

import getpass
import os
import platform
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["environment", "git_state", "masked_arguments", "masked_diff", "summary"]

T = TypeVar("T")

GIT_SECONDS = 5.0
MAX_DIFF_BYTES = 10**6
MAX_NAMES_BYTES = 2**16

# By exact name: an environment is full of secrets.
_VARIABLES = (
    "CONDA_DEFAULT_ENV",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_DEVICE_ORDER",
    "CUDA_VISIBLE_DEVICES",
    "GROUP_RANK",
    "HIP_VISIBLE_DEVICES",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "MKL_NUM_THREADS",
    "NVIDIA_VISIBLE_DEVICES",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PMI_RANK",
    "PMI_SIZE",
    "PYTHONHASHSEED",
    "RANK",
    "ROCR_VISIBLE_DEVICES",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_CLUSTER_NAME",
    "SLURM_CPUS_PER_TASK",
    "SLURM_GPUS_ON_NODE",
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_NUM_NODES",
    "SLURM_JOB_PARTITION",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_RESTART_COUNT",
    "TORCHELASTIC_RESTART_COUNT",
    "TORCHELASTIC_RUN_ID",
    "VIRTUAL_ENV",
    "WORLD_SIZE",
)


def environment() -> dict[str, Any]:
    """Return what a later reader needs to know about this process, as JSON values; never raises.

    That is ``host``, ``user``, ``cwd``, the command line (``argv``, ``orig_argv``), ``python``, ``platform``,
    ``cpu_count`` and the ``usable_cpus`` of them, ``packages`` (import name: version), ``git`` and ``variables`` of
    the environment. ``git`` is about the repository of the running script, None outside of one: ``root``, ``branch``
    (None if detached), ``commit``, ``is_dirty``, ``diff`` to the commit, ``untracked`` file names and ``remote``; of
    a diff or names that are very long only the beginning, and ``is_diff_whole`` or ``is_untracked_whole`` is False.
    What cannot be found out is None, what looks like a secret is ``***``.
    """
    found = {
        "host": _attempt(socket.gethostname),
        "user": _attempt(getpass.getuser),
        "cwd": _attempt(os.getcwd),
        "argv": _attempt(_argv),
        "orig_argv": _attempt(_orig_argv),
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
        },
        "platform": _attempt(platform.platform),
        "cpu_count": os.cpu_count(),
        "usable_cpus": _attempt(lambda: len(os.sched_getaffinity(0))),
        "packages": _attempt(_packages),
        "git": _attempt(lambda: git_state(_script_folder())),
        "variables": {name: _masked_value(os.environ[name]) for name in _VARIABLES if name in os.environ},
    }
    return {name: _storable(value) for name, value in found.items()}


def summary(found: Mapping[str, Any]) -> str:
    """Return an `environment` as lines to read."""
    lines = [f"  {name:<9} {value}".replace("\n", "\\n") for name, value in _summary_lines(found)]
    return "\n".join(["environment", *lines])


def _summary_lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "host", f"{found['host']}, user {found['user']}"
    yield "folder", str(found["cwd"])
    yield "command", " ".join(found["orig_argv"] or found["argv"] or ["unknown"])
    yield "python", "{version} ({implementation}), {executable}".format(**found["python"])
    yield "platform", f"{found['platform']}, {found['usable_cpus'] or found['cpu_count']} CPUs"
    git = found["git"]
    if git is None:
        yield "git", "no repository"
    else:
        yield "git", f"{git['branch'] or 'no branch'} at {git['commit'] or 'no commit'}, {_changes(git)}"
    yield "packages", ", ".join(f"{name} {version}" for name, version in (found["packages"] or {}).items())
    yield from found["variables"].items()


def _changes(git: Mapping[str, Any]) -> str:
    changes = {True: "changed", False: "unchanged", None: "perhaps changed"}[git["is_dirty"]]
    untracked = f", {len(git['untracked'])} untracked" if git["untracked"] else ""
    return changes + untracked


def _attempt(find_out: Callable[[], T]) -> T | None:
    # A folder that was deleted, a user without a name, a broken package: none is a reason to stop a run.
    try:
        return find_out()
    except Exception:
        return None


def _storable(value: Any) -> Any:
    """Return *value* with escapes for whatever UTF-8 cannot hold, such as undecodable bytes in a file name."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value


def _packages() -> dict[str, str]:
    """Return the version of every imported package that has one."""
    names = {name.partition(".")[0] for name in list(sys.modules)} - sys.stdlib_module_names
    versions = {name: _version(name) for name in sorted(names) if not name.startswith("_")}
    return {name: version for name, version in versions.items() if version}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except Exception:
        # Not every package is installed under the name by which it is imported. Only what stands in the module: to ask
        # it for an attribute may import half a library.
        version = vars(sys.modules[name]).get("__version__") if name in sys.modules else None
        return version if isinstance(version, str) else None


# -------------------------------------------------------------------------------------------------------------- secrets

MASK = "***"
_SECRET_NAME = re.compile(
    "token|secret|passwd|password|passphrase|api[-_]?key|access[-_]?key|private[-_]?key|credential|authorization", re.I
)
_SECRET_SHAPE = re.compile(r"\b(?:gh[opsur]_|github_pat_|glpat-|hf_|sk-|xox[abeprs]-|AKIA)[\w-]{16,}")
_USER_IN_URL = re.compile(r"(?<=://)[^/\s]*@")
_OPTION = re.compile(r"--?[A-Za-z][\w.-]*")
_NAMED_VALUE = re.compile(r"([-+~]*[A-Za-z][\w./-]*[=:]).*", re.S)
_HUNK = re.compile(r"@@ [-+,\d ]* @@")


def _argv() -> list[str]:
    return masked_arguments([str(a) for a in sys.argv], sys.argv[:1])


def _orig_argv() -> list[str]:
    # Names of programs are no secrets, even where they are called train_tokenizer.py.
    given = sys.orig_argv
    module = given[2:3] if given[1:2] == ["-m"] else []
    return masked_arguments(given, [*given[:1], *sys.argv[:1], *module])


def masked_arguments(arguments: Sequence[str], plain: Container[str] = ()) -> list[str]:
    """Return a command line without its secrets; those *plain* stay as they are.

    >>> masked_arguments(["--lr", "0.1", "--token", "abc", "--api-key=abc", "db.password=abc"])
    ['--lr', '0.1', '--token', '***', '--api-key=***', 'db.password=***']
    """
    shown = []
    is_value_secret = False
    for argument in arguments:
        if is_value_secret and not argument.startswith("--"):
            shown.append(MASK)
            is_value_secret = False
            continue
        is_secret = argument not in plain and _SECRET_NAME.search(argument) is not None
        is_value_secret = is_secret and _OPTION.fullmatch(argument) is not None
        shown.append(_masked_argument(argument) if is_secret and not is_value_secret else _masked_value(argument))
    return shown


def _masked_argument(argument: str) -> str:
    named = _NAMED_VALUE.fullmatch(argument)
    return named[1] + MASK if named else MASK


def _masked_value(text: str) -> str:
    """Return *text* without users and passwords in URLs and without what has the shape of a well-known token."""
    return _SECRET_SHAPE.sub(MASK, _USER_IN_URL.sub(f"{MASK}@", text))


def masked_diff(diff: str) -> str:
    """Return a diff of git in which every line that seems to hold a secret is ``***``; names of files stay."""
    return "\n".join(_masked_lines(diff.split("\n")))


def _masked_lines(lines: Sequence[str]) -> Iterator[str]:
    is_header = is_private_key = False
    for line in lines:
        hunk = _HUNK.match(line)
        if hunk or line.startswith("diff --git "):
            is_header, is_private_key = not hunk, False
        if is_header:
            yield line
            continue
        is_private_key = is_private_key or "PRIVATE KEY-----" in line
        if is_private_key or _SECRET_NAME.search(line):
            yield (hunk[0] if hunk else line[:1]) + MASK
        else:
            yield _masked_value(line)
        is_private_key = is_private_key and "-----END" not in line


# ------------------------------------------------------------------------------------------------------------------ git


def _script_folder() -> Path:
    """Return the folder of the running script, or the working directory if that is none of the user's."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if file is None:
        return Path.cwd()
    script = Path(file).resolve()
    # Launchers such as that of a notebook or of a test runner are installed programs.
    installed = [Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib", "scripts")]
    if not script.exists() or any(script.is_relative_to(folder) for folder in installed):
        return Path.cwd()
    return script.parent


# The repository may be anybody's, and its configuration could name programs to run. It gets no say in any of this.
_GIT_OPTIONS = (
    "--no-pager",
    *("-c", "core.fsmonitor=false"),
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "diff.autoRefreshIndex=false"),
    *("-c", "protocol.allow=never"),
)
_GIT_KEPT = ("GIT_CEILING_DIRECTORIES", "GIT_EXEC_PATH")
_GIT_VARIABLES = {
    # Nothing is fetched (an incomplete clone would, through whatever the repository names), asked or written.
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_DIFF_OPTIONS = (
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    # Looking for changes inside a submodule starts a git that does not have our options.
    "--ignore-submodules=dirty",
)


@dataclass(frozen=True)
class _Git:
    """How to ask one repository: until *deadline*, a time of `time.monotonic`, all questions together."""

    program: str
    folder: Path
    deadline: float
    options: tuple[str, ...] = _GIT_OPTIONS

    def ask(self, *question: str, limit: int = MAX_NAMES_BYTES) -> bytes | None:
        """Return at most ``limit + 1`` bytes of the answer, None if git fails or takes too long."""
        answer, status = _capture([self.program, *self.options, *question], self.folder, self.deadline, limit + 1)
        return answer if status == 0 or len(answer) > limit else None

    def ask_line(self, *question: str) -> str | None:
        """Return the answer as text, None if there is none."""
        answer = self.ask(*question)
        return answer.decode("utf-8", "backslashreplace").strip() or None if answer else None


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return branch, commit and changes of the repository around *folder*, None without one; see `environment`."""
    program = shutil.which("git")
    if program is None:
        return None
    git = _Git(program, folder, time.monotonic() + GIT_SECONDS)
    place = git.ask_line("rev-parse", "--is-inside-work-tree")
    if place is None:
        return None
    root = git.ask_line("rev-parse", "--show-toplevel") if place == "true" else None
    commit = git.ask_line("rev-parse", "--verify", "--quiet", "HEAD")
    remote = git.ask_line("config", "--get", "remote.origin.url")
    return {
        "root": root,
        "branch": git.ask_line("symbolic-ref", "--quiet", "--short", "HEAD"),
        "commit": commit,
        "remote": remote and _masked_value(remote),
        **_git_changes(git, root, commit),
    }


def _git_changes(git: _Git, root: str | None, commit: str | None) -> dict[str, Any]:
    """Return how the files under *root* differ from the commit; from nothing at all if there is none yet."""
    diff = untracked = None
    if root is not None:
        git = replace(git, folder=Path(root))
        untracked = git.ask("ls-files", "--others", "--exclude-standard", "--directory", "--no-empty-directory", "-z")
        unfiltered = _without_filters(git)
        base = commit or git.ask_line("hash-object", "-t", "tree", os.devnull)
        if unfiltered is not None and base is not None:
            diff = unfiltered.ask("diff", *_DIFF_OPTIONS, base, "--", limit=MAX_DIFF_BYTES)
    return {
        "is_dirty": None if diff is None else bool(diff),
        "diff": None if diff is None else masked_diff(_whole(diff, b"\n", MAX_DIFF_BYTES)),
        "is_diff_whole": None if diff is None else len(diff) <= MAX_DIFF_BYTES,
        "untracked": None if untracked is None else _whole(untracked, b"\0", MAX_NAMES_BYTES).split("\0")[:-1],
        "is_untracked_whole": None if untracked is None else len(untracked) <= MAX_NAMES_BYTES,
    }


def _without_filters(git: _Git) -> _Git | None:
    """Return *git* with every filter of file contents switched off, None if that cannot be done.

    Comparing a file runs the program that the repository's configuration names as its filter.
    """
    answer, status = _capture(
        [git.program, *git.options, "config", "-z", "--name-only", "--get-regexp", r"^filter\."],
        git.folder,
        git.deadline,
        MAX_NAMES_BYTES,
    )
    if status not in (0, 1):  # 1: there are none
        return None
    drivers = {name.rpartition(".")[0] for name in os.fsdecode(answer).split("\0") if name}
    # On the command line everything behind the first "=" is the value: such a name gets past us, and is no honest one.
    if any("=" in driver for driver in drivers):
        return None
    off = [f"{d}.{name}" for d in sorted(drivers) for name in ("clean=", "smudge=", "process=", "required=false")]
    return replace(git, options=(*git.options, *(part for setting in off for part in ("-c", setting))))


def _whole(answer: bytes, end: bytes, limit: int) -> str:
    """Return an answer as text; of one that is too long only the parts, closed by *end*, that came whole."""
    if len(answer) > limit:
        answer = answer[: answer.rfind(end) + 1]
    return answer.decode("utf-8", "backslashreplace")


def _capture(command: Sequence[str], folder: Path, deadline: float, limit: int) -> tuple[bytes, int | None]:
    """Return at most *limit* bytes of what a program prints and its exit status, None if it had to be stopped."""
    kept = {name: value for name, value in os.environ.items() if name in _GIT_KEPT or not name.startswith("GIT_")}
    process = subprocess.Popen(
        command,
        cwd=folder,
        # Run from a hook, we would find variables that point to the repository of the hook.
        env={**kept, **_GIT_VARIABLES},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as pipe:
        try:
            answer = _read(pipe.fileno(), deadline, limit)
            if len(answer) < limit:
                return answer, process.wait(max(0.0, deadline - time.monotonic()))
            return answer, None
        except (TimeoutError, subprocess.TimeoutExpired):
            return b"", None
        finally:
            _stop(process)


def _read(fd: int, deadline: float, limit: int) -> bytes:
    """Return at most *limit* bytes up to the end of a pipe; raises `TimeoutError`."""
    answer = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while len(answer) < limit:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            part = os.read(fd, limit - len(answer))
            if not part:
                break
            answer += part
    return bytes(answer)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    # With the programs that it started; the session that it leads is its own.
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(1.0)
