"""Utilities: what can be done with a run besides writing and reading it?"""

from __future__ import annotations

from typing import Any

from allogger.environment import environment, summary
from allogger.repair import Repair, repair
from allogger.verify import Verification, verify

__all__ = ["Repair", "Verification", "environment", "repair", "report_env", "verify"]


def report_env(to_stdout: bool = False) -> dict[str, Any]:
    """Store under which circumstances this run takes place, and return it as `environment` does.

    The root logger gets a summary as a text message at INFO, also printed with *to_stdout*; the whole goes into the
    ``run.json`` of its logdir. Before configuration nothing is stored.
    """
    import allogger
    from allogger.manager import manager

    found = environment()
    manager.record_environment(found)
    allogger.get_root().info(summary(found), to_stdout=to_stdout)
    return found
