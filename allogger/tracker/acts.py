"""Acts: what does each kind of `Tracker.log` do with its item?"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from allogger.plain import Unstorable
from allogger.store import Run
from allogger.tracker.datasets import described
from allogger.tracker.flops import flops_per_batch, flops_per_epoch
from allogger.tracker.provenance import provenance
from allogger.tracker.session import Session
from allogger.watching import watch

__all__ = ["KINDS", "Act", "Call", "storing"]


_FLUSH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Call:
    """One item that is to be logged under one key; *options* are those of the user, of which an act takes its own."""

    session: Session
    item: Any
    key: str
    step: int | None
    options: dict[str, Any]

    def store(self, value: Any, data_type: str | None = None, key: str | None = None) -> None:
        """Give *value* to the logger."""
        key = self.key if key is None else key
        if data_type is None and not self.options:
            self.session.logger.log(value, key, self.step)
        else:
            self.session.logger.log(value, key, self.step, data_type=data_type, **self.options)


Act = Callable[[Call], None]


def storing(data_type: str | None) -> Act:
    """Return the act that stores the item as *data_type*, or as what it is."""
    return lambda call: call.store(call.item, data_type)


def _param(call: Call) -> None:
    call.session.add_params({call.key: call.item}, call.options)


def _best_model(call: Call) -> None:
    metric, mode = call.options.pop("metric", None), call.options.pop("mode", "min")
    call.session.logger.checkpoint(
        call.item, call.key, call.step, metric=metric, mode=mode, keep_last=1, keep_best=1, **call.options
    )


def _torch(call: Call) -> None:
    if not call.options.pop("pickle", False):
        call.store(call.item, "model")
        return
    if "torch" not in sys.modules:
        raise Unstorable("pickle=True is torch.save, but the program has not imported torch")
    file = io.BytesIO()
    sys.modules["torch"].save(call.item, file)
    call.store({"name": f"{call.key.rpartition('/')[2]}.pt", "data": file.getvalue()}, "artifact")


def _dataset(call: Call) -> None:
    about, is_kept = call.options.pop("params", {}), call.options.pop("artifact", False)
    name = call.options.pop("name", None)
    call.store({**described(call.item), **({} if name is None else {"name": name}), **about}, "params")
    if is_kept:
        call.store(call.item, "artifact", f"{call.key}/artifact")


def _watch(call: Call) -> None:
    watch(call.item, call.session.logger, prefix=call.key, **call.options)


def _system(call: Call) -> None:
    call.store(call.session.system())


def _execution_time(call: Call) -> None:
    call.store(call.session.seconds() if call.item is None else call.item, "scalar")


def _prov_documents(call: Call) -> None:
    logger = call.session.logger
    if logger.logdir is None:
        raise Unstorable("a document of provenance is about a run, and there is no logdir")
    # What was logged until now is to be in it, but a disk that hangs must not keep us.
    logger.manager.flush(_FLUSH_SECONDS)
    call.store(json.dumps(provenance(Run(logger.logdir)), indent=1, ensure_ascii=False), "text")


#: What `kind` may be in `Tracker.log`, besides the kinds of allogger; docs/tracker.md describes them.
KINDS: dict[str, Act] = {
    "metric": storing(None),
    "param": _param,
    "text": storing("text"),
    "dict": storing("params"),
    "figure": storing("figure"),
    "image": storing("image"),
    "model": storing("model"),
    "best_model": _best_model,
    "torch": _torch,
    "artifact": storing("artifact"),
    "dataset": _dataset,
    "watch": _watch,
    "flops_pb": lambda call: call.store(flops_per_batch(call.item)),
    "flops_pe": lambda call: call.store(flops_per_epoch(call.item)),
    "system": _system,
    "carbon": lambda call: call.store(call.session.energy()),
    "execution_time": _execution_time,
    "prov_documents": _prov_documents,
}
