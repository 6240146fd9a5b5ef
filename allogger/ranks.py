"""Ranks: what does each process of a job that a launcher has started have to say?"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["exchange", "is_several"]


def exchange(text: str) -> tuple[int, list[str]]:
    """Return the own rank, and the texts of all ranks in their order; waits until all of them have called this.

    They are those of torch.distributed where it is initialised, else those of mpi4py where the program has imported it;
    else there is only this process.
    """
    if (torch := _torch()) is not None:
        return _through_torch(torch, text)
    if (world := _mpi_world()) is not None:
        return int(world.Get_rank()), list(world.allgather(text))
    return 0, [text]


def is_several() -> bool:
    """Return whether there are other ranks."""
    if (torch := _torch()) is not None:
        return bool(torch.distributed.get_world_size() > 1)
    world = _mpi_world()
    return world is not None and world.Get_size() > 1


def _torch() -> Any:
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    is_ready = distributed is not None and distributed.is_available() and distributed.is_initialized()
    return torch if is_ready else None


def _mpi_world() -> Any:
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi.COMM_WORLD if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized() else None


def _through_torch(torch: Any, text: str) -> tuple[int, list[str]]:
    # As tensors of bytes: what torch offers for objects is pickle.
    distributed = torch.distributed
    device = torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else "cpu"
    own = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).to(device)
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(sizes, torch.tensor([len(own)], device=device))
    counts = [int(size) for size in sizes]
    padded = torch.zeros(max(counts), dtype=torch.uint8, device=device)
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    texts = [part[:count].cpu().numpy().tobytes().decode() for part, count in zip(parts, counts, strict=True)]
    return distributed.get_rank(), texts
