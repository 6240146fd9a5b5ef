"""Flops: how many floating point operations does a model need for a batch, and for an epoch?"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from allogger.plain import Unstorable, description

__all__ = ["flops_per_batch", "flops_per_epoch"]


def flops_per_batch(item: Any) -> int:
    """Return what one forward pass of ``(model, batch)`` takes; raises `Unstorable`.

    Of a batch that is a list or tuple the first part is the input, a dict holds the named inputs. The operations are
    those that torch's ``FlopCounterMode`` knows: products of matrices, convolutions and attention; a multiplication
    with its addition counts as two. The model is run once, without gradients and in evaluation mode, so that neither
    its weights and buffers nor torch's random numbers change. A backward pass takes about twice as much again.
    """
    model, batch = _parts(item, "batch")
    torch = sys.modules["torch"]
    counter = importlib.import_module("torch.utils.flop_counter").FlopCounterMode(display=False)
    cards = {parameter.device.index for parameter in model.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(sorted(cards)), _evaluating(model), torch.no_grad(), counter:
        _run(model, batch)
    return int(counter.get_total_flops())


def flops_per_epoch(item: Any) -> int:
    """Return what the batches of ``(model, loader)`` take: as many times `flops_per_batch` of the first as there are.

    A dataset without batches is one whose batches hold one sample. Raises `Unstorable`.
    """
    model, data = _parts(item, "loader or dataset")
    torch = sys.modules["torch"]
    if not len(data):
        return 0
    # A loader that begins draws random numbers.
    with torch.random.fork_rng([]):
        batch = next(iter(data)) if hasattr(data, "batch_size") else torch.utils.data.default_collate([data[0]])
    return flops_per_batch((model, batch)) * len(data)


def _parts(item: Any, what: str) -> tuple[Any, Any]:
    torch = sys.modules.get("torch")
    is_pair = isinstance(item, list | tuple) and len(item) == 2
    if torch is None or not is_pair or not isinstance(item[0], torch.nn.Module):
        raise Unstorable(f"flops are counted of a pair (model of torch, {what}), not of {description(item)}")
    return item[0], item[1]


def _run(model: Any, batch: Any) -> None:
    inputs = batch[0] if isinstance(batch, list | tuple) else batch
    device = next((parameter.device for parameter in model.parameters()), None)
    if isinstance(inputs, Mapping):
        model(**{name: _moved(value, device) for name, value in inputs.items()})
    else:
        model(_moved(inputs, device))


def _moved(value: Any, device: Any) -> Any:
    return value.to(device) if device is not None and hasattr(value, "to") else value


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Set a model and all its parts to evaluate, and each of them back to what it was."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
