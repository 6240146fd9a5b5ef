"""Provenance: where does what is in a run come from, in the words of W3C PROV?"""

from __future__ import annotations

import getpass
import json
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from allogger.plain import leaves
from allogger.store import Run

__all__ = ["provenance"]

_RUN = "run:run"


def provenance(run: Run) -> dict[str, Any]:
    """Return a document of PROV-JSON (https://www.w3.org/submissions/prov-json/) about a run.

    The run is an activity, from its first start until its end, or until now. It used the parameters and the
    descriptions of datasets, and generated all other series: these are entities. The user is the agent.
    """
    user = f"run:user/{_local(_user(run))}"
    used, generated = {}, {}
    for key, kind in run.kinds.items():
        if kind == "params":
            used[f"run:params/{_local(key)}"] = {"prov:label": key, **_attributes(run[key].last)}
        else:
            generated[f"run:series/{_local(key)}"] = {"prov:label": key, "allogger:kind": kind}
    return {
        "prefix": {
            "run": "urn:allogger:run:" + quote(str(run.logdir.absolute()), safe="/") + "#",
            "allogger": "urn:allogger:",
            "param": "urn:allogger:param:",
        },
        "entity": {**used, **generated},
        "activity": {_RUN: _activity(run)},
        "agent": {user: {"prov:type": {"$": "prov:Person", "type": "xsd:QName"}, "prov:label": _user(run)}},
        "used": {f"_:used{n}": {"prov:activity": _RUN, "prov:entity": name} for n, name in enumerate(used)},
        "wasGeneratedBy": {
            f"_:generated{n}": {"prov:entity": name, "prov:activity": _RUN} for n, name in enumerate(generated)
        },
        "wasAssociatedWith": {"_:associated0": {"prov:activity": _RUN, "prov:agent": user}},
    }


def _activity(run: Run) -> dict[str, Any]:
    starts = [start["start"] for start in run.starts if isinstance(start.get("start"), int | float)]
    ends = [start.get("end") for start in run.starts]
    # The last one has not ended while it is running.
    end = ends[-1] if ends and isinstance(ends[-1], int | float) else time.time()
    told = {"host": run.starts[-1].get("host"), "state": run.state} if run.starts else {}
    told |= {name: run.meta.get(name) for name in ("cwd", "platform")}
    git = run.meta.get("git")
    told["commit"] = git.get("commit") if isinstance(git, Mapping) else None
    return {
        "prov:startTime": _iso(min(starts, default=run.began)),
        "prov:endTime": _iso(end),
        "prov:label": run.logdir.name,
        "allogger:logdir": str(run.logdir.absolute()),
        **{f"allogger:{name}": value for name, value in told.items() if value is not None},
    }


def _user(run: Run) -> str:
    user = run.meta.get("user")
    if isinstance(user, str) and user:
        return user
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may have none
        return "unknown"


def _attributes(params: Mapping[str, Any]) -> dict[str, Any]:
    return {f"param:{_local(name)}": _literal(value) for name, value in leaves(params)}


def _literal(value: Any) -> Any:
    """Return a parameter as PROV-JSON has it: a number, a text or a truth, or several of these."""
    if isinstance(value, list) and value and not any(isinstance(item, list | dict) for item in value):
        return [_literal(item) for item in value]
    is_number = isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    return value if is_number or isinstance(value, str) else json.dumps(value)


def _local(name: str) -> str:
    """Return a name as the local part of a qualified one, which is not empty and has none of ``.-`` at its ends."""
    quoted = quote(name, safe="/", errors="backslashreplace")
    return quoted.replace(".", "%2E").replace("-", "%2D") or "@"


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
