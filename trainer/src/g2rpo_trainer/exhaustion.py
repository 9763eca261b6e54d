"""How much memory a rank holds, and memory that runs out, told as what it is, with what makes the job smaller.

Who calls this: the loop, after each iteration, and the session, around everything that computes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from g2rpo_trainer.errors import OutOfMemoryError

CPU_ALLOCATOR = "DefaultCPUAllocator: can't allocate memory"
"""How torch says it of the machine's memory: in a plain RuntimeError."""
REMEDY = (
    "lower spec.training.sampling.maxBatch (sampling), sampling.maxDecodeBatch (decoding) or optimizer.maxBatch "
    "(the update), or set model.gradientCheckpointing; g2rpo-train --check --gpu-memory names the phase that needs most"
)


def memory_held(device: torch.device) -> dict[str, int]:
    """Bytes of this process by kind: what is resident, and on a GPU what torch holds there."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    held = {"resident": pages * os.sysconf("SC_PAGE_SIZE")}
    if device.type != "cuda":
        return held
    return held | {
        "allocated": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "peak": torch.cuda.max_memory_allocated(device),
    }


@contextmanager
def memory_needed(rank: int) -> Iterator[None]:
    """Inside, memory that is not to be had is an `OutOfMemoryError` of this program, with a remedy."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not _exhausted(error):
            raise
        said = str(error).partition("\n")[0] or type(error).__name__
        raise OutOfMemoryError(f"rank {rank} ran out of memory: {said}\n  {REMEDY}") from error


def _exhausted(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or CPU_ALLOCATOR in str(error)
