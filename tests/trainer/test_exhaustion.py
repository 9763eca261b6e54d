"""Memory is told as it is held; what runs out is told apart from bugs, with keys of the job that make it smaller."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import pytest
import torch

from g2rpo_api.contract import ExitCode
from g2rpo_trainer.errors import OutOfMemoryError
from g2rpo_trainer.exhaustion import memory_held, memory_needed

EXABYTE = 2**60
KEYS = ("sampling.maxBatch", "sampling.maxDecodeBatch", "optimizer.maxBatch", "model.gradientCheckpointing")


def resident() -> int:
    """As the kernel writes it for people."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def test_what_a_process_holds_is_what_the_kernel_says_and_grows_with_it() -> None:
    before = memory_held(torch.device("cpu"))
    assert before == {"resident": pytest.approx(resident(), rel=0.02)}
    size = 64 * 2**20
    with mmap.mmap(-1, size) as held:
        held.write(b"x" * size)
        assert memory_held(torch.device("cpu"))["resident"] - before["resident"] == pytest.approx(size, rel=0.1)


def ask_the_machine() -> None:
    torch.empty(EXABYTE, dtype=torch.uint8)


def ask_a_card() -> None:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")


def ask_python() -> None:
    bytearray(EXABYTE)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (
            ask_the_machine,
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1152921504606846976 bytes",
        ),
        (ask_a_card, "CUDA out of memory. Tried to allocate 2.00 GiB."),
        (ask_python, "MemoryError"),
    ],
)
def test_it_says_what_could_not_be_had_and_what_to_lower(ask: object, said: str) -> None:
    with pytest.raises(OutOfMemoryError) as error, memory_needed(3):
        ask()  # type: ignore[operator]
    assert error.value.exit_code == ExitCode.OUT_OF_MEMORY
    first, *rest = str(error.value).splitlines()
    assert first.startswith("rank 3 ran out of memory: ")
    assert said in first
    assert all(key in "\n".join(rest) for key in KEYS)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes differ") as error, memory_needed(0):
        raise RuntimeError("shapes differ")
    assert not isinstance(error.value, OutOfMemoryError)


def test_the_keys_are_keys_of_a_job() -> None:
    from g2rpo_api.training import ModelSpec, OptimizerSpec, SamplingSpec

    known = {"sampling": SamplingSpec, "optimizer": OptimizerSpec, "model": ModelSpec}
    for key in KEYS:
        part, _, name = key.partition(".")
        assert name in {field.alias for field in known[part].model_fields.values()}, key
