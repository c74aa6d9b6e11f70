"""Several processes that train one system: the only file that knows about ranks.

``torchrun`` starts the processes; each holds a share of every player's weights, gradients and optimiser
(FSDP2) and takes its rows of the joint batch. Alone, every function here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from sfumato.core.system import Player, System
from sfumato.errors import UsageError


@dataclass(frozen=True)
class Ranks:
    """This process among its peers."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def rows(self, batch: int, parts: int) -> list[range]:
        """The rows of the joint batch this process takes, in ``parts`` equal parts."""
        share, rest = divmod(batch, self.size * parts)
        if rest or not share:
            raise UsageError(
                f"A batch of {batch} cannot be cut into {self.size} processes x {parts} accumulated parts; "
                f"choose a multiple of {self.size * parts}."
            )
        first = self.rank * parts * share
        return [range(first + i * share, first + (i + 1) * share) for i in range(parts)]

    def shard(self, system: System, players: Iterable[Player], device: torch.device) -> None:
        """Give every process the first one's weights, then its share of each player's modules."""
        if self.size == 1:
            return
        for tensor in (*system.parameters(), *system.buffers()):
            dist.broadcast(tensor.detach(), 0)
        mesh = dist.device_mesh.init_device_mesh(device.type, (self.size,))
        for module in {id(m): m for player in players for m in player.modules}.values():
            fully_shard(module, mesh=mesh)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether ``flag`` is true in any process."""
        if self.size == 1:
            return flag
        votes = torch.tensor(float(flag), device=device)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return bool(votes > 0)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of ``values`` over all processes."""
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size

    def wait(self) -> None:
        """Return once all processes are here."""
        if self.size > 1:
            dist.barrier()


def start(device: torch.device) -> Ranks:
    """Join the processes ``torchrun`` has started, by gloo on CPUs and NCCL on GPUs, if there are any."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Ranks()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Ranks(dist.get_rank(), size)


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process among those of its machine."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def backward(value: Tensor, system: nn.Module, player: list[nn.Parameter]) -> None:
    """Add the gradient of ``value`` to that of the player's parameters and to no other's."""
    if not any(isinstance(p, DTensor) for p in player):
        value.backward(inputs=player)
        return
    # FSDP's own leaves, not the shards, are what the graph knows: let all gradients come, keep the player's.
    value.backward()
    mine = {id(p) for p in player}
    for p in system.parameters():
        if id(p) not in mine:
            p.grad = None


def settle(player: Player) -> None:
    """After the last backward: let go of gathered weights, so that the next forward sees the new ones."""
    for module in player.modules:
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of which ``tensor`` may be a share; a collective call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's share of ``tensor``, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's share of the full ``tensor``, cut as ``like`` is."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def as_shard(share: Tensor, like: Tensor) -> Tensor:
    """Declare ``share`` to be this process's share of a tensor cut as ``like`` is."""
    if not isinstance(like, DTensor):
        return share
    return DTensor.from_local(
        share, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


@torch.no_grad()
def put(full: Tensor, into: Tensor) -> None:
    """Copy the full tensor, or this process's share of it, into ``into``."""
    local(into.detach()).copy_(local(shard_like(full.to(into.device), into)))


def together(rows: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks; a collective call."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


class _Joined(torch.autograd.Function):
    """All rows; each process is given back what all of them ask of its own."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.first, ctx.count = dist.get_rank() * len(rows), len(rows)
        return together(rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[ctx.first : ctx.first + ctx.count]


def joined(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes, through which gradients flow back to each, and the place of this process's
    first among them; all must bring as many. A collective call, and another in ``backward``."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows, 0
    return _Joined.apply(rows), dist.get_rank() * len(rows)


def gather(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Full tensors on the CPU, the same in every process."""
    return {name: whole(tensor.detach()).cpu() for name, tensor in tensors.items()}
