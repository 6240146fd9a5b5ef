"""Shim: how is `shim.c` built and put before a program?"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

__all__ = ["NoCompiler", "build", "environment"]


class NoCompiler(Exception):
    """There is no C compiler, so nothing can be killed inside a call of the operating system."""


def build(folder: Path) -> Path:
    """Compile the library into *folder* and return its path; raises `NoCompiler`."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NoCompiler("there is no C compiler (gcc or cc), which the kills inside a system call need")
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(
        [compiler, "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True
    )
    return library


def environment(
    library: Path,
    folder: Path,
    fault: str,
    at: int,
    *,
    phase: str = "before",
    every: bool = False,
    report: Path | None = None,
) -> dict[str, str]:
    """Return the variables that put *library* before a program; what they mean stands in `shim.c`."""
    variables = {
        "LD_PRELOAD": str(library),
        "SHIM_FOLDER": str(folder),
        "SHIM_FAULT": fault,
        "SHIM_AT": str(at),
        "SHIM_PHASE": phase,
    }
    if every:
        variables["SHIM_EVERY"] = "1"
    if report is not None:
        variables["SHIM_REPORT"] = str(report)
    return variables
