"""The border to DeepSpeed and torch.distributed; no other module imports either.

Who calls this: build (to join the ranks and wrap the transformer) and the loop (backward, step, gather, save).
One code path serves one rank or many, gloo or nccl.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from g2rpo_api.training import EMASpec
from g2rpo_trainer.averaging import WeightMean
from g2rpo_trainer.environment import RankEnvironment, await_first_rank
from g2rpo_trainer.errors import PeerLostError
from g2rpo_trainer.models.protocol import Forward
from g2rpo_trainer.optimizer_settings import OptimizerSettings, deepspeed_config
from g2rpo_trainer.partition import Share, shares
from g2rpo_trainer.shards import Shards, Stretch, write_shard

# DeepSpeed looks once, at import, and warns on the terminal when it finds nothing but a CPU
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
import deepspeed
from deepspeed.accelerator import get_accelerator

T = TypeVar("T")
WEIGHT, MEAN = "weight", "mean"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each weight, by torch's names."""
COLLECTIVE_TIMEOUT = timedelta(minutes=30)
"""How long ranks wait for each other, when they meet and later; one whose process ends is noticed at once."""
LOST = ("closed by peer", "reset by peer", "Broken pipe", "Timed out waiting", "remote process exited", "was aborted")
"""What gloo and nccl say when another rank is gone or does not come: plain RuntimeErrors."""


@contextmanager
def peers_needed(rank: int) -> Iterator[None]:
    """Inside, the loss of another rank is a PeerLostError: whoever reads it looks elsewhere for the cause."""
    try:
        yield
    except RuntimeError as error:
        of_the_store = isinstance(error, distributed.DistNetworkError | distributed.DistStoreError)
        if not of_the_store and not any(sign in str(error) for sign in LOST):
            raise
        said = str(error).partition("\n")[0].partition(". ")[0]  # gloo goes on with advice
        raise PeerLostError(f"rank {rank} lost another rank, which tells why, if anything does: {said}") from error


@dataclass(frozen=True)
class World:
    """The ranks that train together, and what they say to each other."""

    rank: int
    size: int
    device: torch.device
    machine: int
    """The first rank of this machine."""

    @classmethod
    def join(cls, place: RankEnvironment) -> World:
        """Meet the other ranks; nccl where there are GPUs, else gloo on one thread.

        The first rank's machine may have no name or no listener yet: it is tried again for half an hour.

        Raises:
            PeerLostError: the first rank does not come.
        """
        if place.rank > 0:
            await_first_rank(place, COLLECTIVE_TIMEOUT.total_seconds())
        # DeepSpeed's shared-memory collectives would be compiled at start-up, which needs a compiler in the image
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        accelerator = get_accelerator()
        on_gpu = accelerator.device_name() != "cpu"
        if on_gpu:
            accelerator.set_device(place.local_rank)
        deepspeed.init_distributed(
            dist_backend=accelerator.communication_backend_name() if on_gpu else "gloo",
            auto_mpi_discovery=False,
            init_method=f"tcp://{place.master_address}:{place.master_port}",
            rank=place.rank,
            world_size=place.world_size,
            timeout=COLLECTIVE_TIMEOUT,
            verbose=False,
        )
        device = torch.device(accelerator.current_device_name()) if on_gpu else torch.device("cpu")
        return cls(place.rank, place.world_size, device, place.rank - place.local_rank)

    def leave(self) -> None:
        """Say goodbye; nothing may be exchanged afterwards."""
        distributed.destroy_process_group()

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in order of rank, on every rank."""
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def any(self, flag: bool) -> bool:
        """Whether any rank says yes; the same answer on every rank."""
        votes = torch.tensor([int(flag)], device=self.device)
        distributed.all_reduce(votes, op=distributed.ReduceOp.MAX)
        return bool(votes.item())

    def barrier(self) -> None:
        """Wait for every rank."""
        distributed.barrier()


@dataclass(frozen=True)
class StepReport:
    """One optimizer step."""

    grad_norm: float
    """Norm before clipping; NaN or infinite where the step was skipped for it."""
    applied: bool
    """False: the loss or the gradient was not finite on some rank, and the weights are as they were."""


class GuardedAdamW(torch.optim.AdamW):
    """AdamW (arXiv 1711.05101) that leaves the weights alone when a gradient is not finite on any rank.

    DeepSpeed hands it the gradients that this rank's share of the weights has, whatever the ZeRO
    stage, so the check is made here, once, and agreed upon between ranks.
    """

    def __init__(self, params: Iterable[nn.Parameter], settings: OptimizerSettings, any_rank: Callable[[bool], bool]):
        """Optimize `params`; `any_rank` tells whether any rank says yes."""
        super().__init__(
            params,
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
            foreach=True,  # as on GPUs anyway: half the memory of the other way where a rank's share is one tensor
        )
        # the sharded stages clip before they call, since only they know the norm over all shards
        self._clip = settings.gradient_clip if settings.zero_stage == 0 else None
        self._any_rank = any_rank
        self.poisoned = False
        """Set when a loss was not finite: the next step is skipped."""
        self.applied = False
        self.grad_norm = math.nan

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Clip (stage 0), agree that everything is finite, then update."""
        with_gradient = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if self._clip is not None:
            self.grad_norm = float(nn.utils.clip_grad_norm_(with_gradient, self._clip))
        finite = all(_finite(p.grad) for p in with_gradient if p.grad is not None)
        self.applied = not self._any_rank(self.poisoned or not finite)
        return super().step(closure) if self.applied else None


def _finite(gradient: Tensor) -> bool:
    """Whether all of its numbers are, without a copy of it."""
    return gradient.numel() == 0 or bool(torch.stack(gradient.aminmax()).isfinite().all())


class Engine:
    """A module whose gradients are averaged over ranks and whose weights AdamW moves."""

    def __init__(
        self,
        module: nn.Module,
        settings: OptimizerSettings,
        world: World,
        compute: torch.dtype = torch.float32,
        ema: EMASpec | None = None,
    ) -> None:
        """Wrap `module`; the parameters that require a gradient are trained.

        `compute` bfloat16 runs the forward in torch's autocast; trained weights and their gradients stay float32.
        `ema` keeps a running mean of them, each rank of what its optimizer moves.
        """
        self._world = world
        self._settings = settings
        # each weight is used once in a forward: a cache would only hold a copy of all of them till its end
        torch.set_autocast_cache_enabled(False)
        self._names = {p: name for name, p in module.named_parameters() if p.requires_grad}
        trained = list(self._names)
        self._optimizer = GuardedAdamW(trained, settings, world.any)
        self._engine, *_ = deepspeed.initialize(
            model=module,
            optimizer=self._optimizer,
            model_parameters=trained,
            config=deepspeed_config(settings, sum(p.numel() for p in trained), compute),
        )
        self._engine.eval()
        masters = {id(share.master): share.master for share in self._shares()}
        self._mean = WeightMean(list(masters.values()), ema.decay, ema.every_iterations) if ema else None

    @property
    def forward(self) -> Forward:
        """The module's forward, through DeepSpeed's hooks."""
        return self._engine

    def set_learning_rate(self, rate: float) -> None:
        """Let the next steps have this learning rate."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradient; nothing is exchanged or changed before `step` (but shards, from stage 2 on)."""
        if not bool(loss.detach().isfinite()):
            self._optimizer.poisoned = True
        self._engine.backward(loss)

    def step(self) -> StepReport:
        """Average over ranks, clip, update, forget the gradients."""
        self._optimizer.applied = False  # the sharded stages do not call the optimizer when the norm is not finite
        self._engine.step()
        self._optimizer.poisoned = False
        norm = self._optimizer.grad_norm
        if self._settings.zero_stage > 0:
            norm = float(self._engine.get_global_grad_norm())
        return StepReport(norm, self._optimizer.applied)

    def update_mean(self, iteration: int) -> None:
        """Take the weights after `iteration` into their running mean, if one is kept and an update is due."""
        if self._mean is not None:
            self._mean.update(iteration)

    @contextmanager
    def mean_weights(self) -> Iterator[None]:
        """Inside, the weights are their running mean if one is kept. All ranks enter it."""
        if self._mean is None:
            yield
            return
        with self._mean.in_place():
            self._spread()
            yield
        self._spread()  # not after an error, which other ranks need not have

    def whole_weights(self) -> AbstractContextManager[None]:
        """Inside, every rank holds all weights (ZeRO-3 gathers them). All ranks enter it."""
        if self._settings.zero_stage < 3:
            return nullcontext()
        return deepspeed.zero.GatheredParameters(list(self._engine.module.parameters()))

    def save(self, folder: Path, tag: str) -> None:
        """Write the rank's share of weights, moments and mean below folder/tag; nothing is exchanged."""
        held = list(self._shares()) if self._settings.zero_stage > 0 or self._world.rank == 0 else []
        stretches = [stretch for share in held for stretch in self._of(share)]
        header: dict[str, Any] = {"step": max((self._steps(share.master) for share in held), default=0)}
        if self._mean is not None:
            stretches += [self._mean_of(share, self._mean) for share in held]
            header[MEAN] = self._mean.state()
        write_shard(folder / tag / f"rank-{self._world.rank:05d}.safetensors", stretches, header)

    def load(self, folder: Path, tag: str) -> None:
        """Read what `save` wrote, at whatever number of ranks and ZeRO stage. All ranks call it.

        Raises:
            DataError: it is of another model.
        """
        with Shards(folder / tag) as saved:
            step = max(header["step"] for header in saved.headers)
            for share in self._shares():
                saved.read(Stretch(share.name, WEIGHT, share.start, share.of(share.master)))
                state = self._moments(share.master, step)
                for key in MOMENTS if step else ():
                    saved.read(Stretch(share.name, key, share.start, share.of(state[key])))
                if self._mean is not None:
                    saved.read(self._mean_of(share, self._mean))
            if self._mean is not None:
                self._mean.load(saved.headers[0][MEAN])
        self._spread()

    def _shares(self) -> Iterator[Share]:
        return shares(self._settings.zero_stage, self._engine.optimizer, self._names, self._world.rank)

    def _of(self, share: Share) -> Iterator[Stretch]:
        """What is saved of a share; before the first step there are no moments."""
        yield Stretch(share.name, WEIGHT, share.start, share.of(share.master))
        state = self._optimizer.state[share.master]
        for key in MOMENTS:
            if key in state:
                yield Stretch(share.name, key, share.start, share.of(state[key]))

    def _steps(self, master: Tensor) -> int:
        return int(self._optimizer.state[master].get("step", 0))

    def _moments(self, master: Tensor, step: int) -> dict[str, Tensor]:
        """AdamW's state of a tensor that it moves, made as AdamW does at its first step."""
        state = self._optimizer.state[master]
        for key in MOMENTS:
            state.setdefault(key, torch.zeros_like(master))
        state["step"] = torch.tensor(float(step))
        return state

    @staticmethod
    def _mean_of(share: Share, mean: WeightMean) -> Stretch:
        return Stretch(share.name, MEAN, share.start, share.of(mean.of(share.master)))

    def _spread(self) -> None:
        """Let the weights that the model computes with be those that the optimizer holds."""
        optimizer = self._engine.optimizer
        if self._settings.zero_stage in (1, 2):
            optimizer.update_lp_params()
        elif self._settings.zero_stage == 3:
            parameters = {name: parameter for parameter, name in self._names.items()}
            optimizer.checkpoint_event_prologue()
            for share in self._shares():
                part = parameters[share.name].ds_tensor  # type: ignore[attr-defined]
                part.data.view(-1)[: share.count].copy_(share.of(share.master))
            optimizer.checkpoint_event_epilogue()
