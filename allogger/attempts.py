"""Attempts: when was the program started on a logdir, and what has become of it each time?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from allogger.opening import OpenShard, start_of
from allogger.rundir import IMAGE, is_live, shard_name_of

__all__ = ["State", "attempts_of", "may_run", "names_of", "state_of"]

State = Literal["live", "killed", "finished"]


def attempts_of(events: Path, about: Mapping[str, Any], shards: Sequence[OpenShard]) -> list[dict[str, Any]]:
    """Return what is known of each start of the program, in their order.

    That is what ``run.json`` notes (*about*; it may be anything), and ``attempt``, ``start``, ``end`` (Unix seconds,
    None if nobody knows), ``processes`` (their labels) and ``state``.
    """
    by_name = _noted(about)
    found = []
    for name in sorted({*by_name, *(shard.attempt for shard in shards)}):
        mine = [shard for shard in shards if shard.attempt == name]
        start = start_of(name, min((shard.start for shard in mine), default=0.0))
        ends = [shard.end for shard in mine if shard.is_finished and shard.end > -math.inf]
        state = _state(events, name, mine)
        found.append(
            {
                **by_name.get(name, {}),
                "attempt": name,
                "start": start,
                "end": max(ends, default=None) if state == "finished" else None,
                "processes": list(dict.fromkeys(shard.process for shard in mine)),
                "state": state,
            }
        )
    return sorted(found, key=lambda one: one["start"])


def names_of(about: Mapping[str, Any]) -> list[str]:
    """Return the names of the attempts that ``run.json`` notes, which are those of the shards that began them."""
    return list(_noted(about))


def _noted(about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    told = about.get("attempts")
    entries = [entry for entry in told if isinstance(entry, dict)] if isinstance(told, list) else []
    return {str(entry.get("attempt") or entry.get("name")): entry for entry in entries}


def _state(events: Path, name: str, shards: Sequence[OpenShard]) -> State:
    is_own_there = any(shard.file.name == name for shard in shards)
    # The process that began the attempt may have logged nothing yet, or leave that to its children.
    if any(shard.is_running for shard in shards) or (not is_own_there and may_run(events, name)):
        return "live"
    return "finished" if all(shard.is_finished for shard in shards) else "killed"


def may_run(events: Path, name: str) -> bool:
    """Return whether the process that writes the shard *name*, or would write it, may be running."""
    return shard_name_of(name + IMAGE, IMAGE) is not None and is_live(events, name)


def state_of(attempts: Sequence[Mapping[str, Any]]) -> State:
    """Return ``"live"`` if any attempt is, else what has become of the last one."""
    if any(attempt["state"] == "live" for attempt in attempts):
        return "live"
    state: State = attempts[-1]["state"] if attempts else "finished"
    return state
