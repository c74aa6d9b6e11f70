"""How players move: Muon for the matrices, AdamW for the rest, and the learning rate over time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sfumato.core import parallel
from sfumato.core.system import OptimConfig, Player

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Newton-Schulz coefficients of Jordan et al. 2024: steep at 0, and within 0.7 to 1.2 after 5 rounds."""
ROUNDS = 5
MOMENTUM = 0.95
MATCH_ADAM = 0.2
"""Root mean square of AdamW's usual update; scaled to it, one learning rate serves both (Liu et al. 2025)."""


def rate(config: OptimConfig, step: int, steps: int) -> float:
    """Share of the learning rate that acts at ``step`` (from 0) of ``steps``: warm-up, level, linear decay.

    >>> [rate(OptimConfig(warmup=4, decay=0.5), step, 10) for step in (0, 3, 4, 5, 9)]
    [0.25, 1.0, 1.0, 1.0, 0.2]
    """
    rise = (step + 1) / config.warmup if config.warmup else 1.0
    falling = config.decay * steps
    fall = (steps - step) / falling if falling else 1.0
    return max(0.0, min(1.0, rise, fall))


@torch.no_grad()
def orthogonal(
    matrices: Float[Tensor, "n r c"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "n r c"]:
    """Replace every singular value by about 1, by the Newton-Schulz iteration in ``dtype``."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / x.flatten(1).norm(dim=1).clamp(min=1e-7).view(-1, 1, 1)).to(dtype)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is made orthogonal before it is applied (Jordan et al. 2024).

    Kernels are taken as matrices, output channels times the rest. Parameters of one shape are
    orthogonalised together, in ``dtype``. Sharded parameters are gathered for it.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = MOMENTUM,
        dtype: torch.dtype = torch.bfloat16,
    ):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if not moving:
                continue
            grads = [p.grad for p in moving]
            momenta = [self._momentum(p) for p in moving]
            torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
            ahead = torch._foreach_lerp(grads, momenta, group["momentum"])
            updates = self._orthogonal([parallel.whole(a).flatten(1) for a in ahead])
            shards = [parallel.shard_like(u.view(p.shape), p) for u, p in zip(updates, moving, strict=True)]
            if group["weight_decay"]:
                torch._foreach_mul_(moving, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(moving, shards, alpha=-group["lr"])

    def _momentum(self, p: nn.Parameter) -> Tensor:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        return state["momentum"]

    def _orthogonal(self, matrices: list[Tensor]) -> list[Tensor]:
        alike = defaultdict(list)
        for i, matrix in enumerate(matrices):
            alike[matrix.shape].append(i)
        out = list(matrices)
        for shape, places in alike.items():
            scale = MATCH_ADAM * math.sqrt(max(shape))
            together = orthogonal(torch.stack([matrices[i] for i in places]), self.dtype).mul_(scale)
            for i, matrix in zip(places, together.unbind(), strict=True):
                out[i] = matrix
        return out


class Optimiser:
    """Moves one player; its state is a flat mapping of tensors, ready for safetensors.

    Weight decay spares vectors (biases, norms): they are few, and zero is no natural place for them.
    """

    def __init__(self, player: Player, steps: int, dtype: torch.dtype):
        self.config, self.steps = player.optim, steps
        self.named = _named(player)
        muon = _matrices(player) if player.optim.kind == "muon" else set()
        matrices = [p for p in self.named.values() if id(p) in muon]
        rest = [p for p in self.named.values() if id(p) not in muon]
        lr, decay = self.config.lr, self.config.weight_decay
        self._engines: list[torch.optim.Optimizer] = []
        if matrices:
            self._engines.append(Muon(matrices, lr, decay, dtype=dtype))
        if rest:
            groups: list[dict[str, Any]] = [
                {"params": [p for p in rest if p.ndim >= 2], "weight_decay": decay},
                {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
            ]
            self._engines.append(torch.optim.AdamW(groups, lr, self.config.betas, foreach=True))

    def step(self, step: int, scale: float = 1.0) -> None:
        """Move the parameters with the learning rate of ``step``, times ``scale``."""
        lr = self.config.lr * rate(self.config, step, self.steps) * scale
        for engine in self._engines:
            for group in engine.param_groups:
                group["lr"] = lr
            engine.step()

    def zero_grad(self) -> None:
        for p in self.named.values():
            p.grad = None

    def state_dict(self) -> dict[str, Tensor]:
        """Everything the next step depends on besides weights and gradients, as ``kind/parameter``."""
        states = {id(p): s for engine in self._engines for p, s in engine.state.items()}
        return {
            f"{key}/{name}": value
            for name, p in self.named.items()
            for key, value in states.get(id(p), {}).items()
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what ``state_dict`` gave, whole tensors, on any device."""
        engines = {id(p): e for e in self._engines for g in e.param_groups for p in g["params"]}
        for engine in self._engines:
            engine.state.clear()
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            p = self.named[name]
            placed = parallel.shard_like(value.to(p.device), p) if value.shape == p.shape else value.clone()
            engines[id(p)].state[p][kind] = placed


def optimiser_of(player: Player, steps: int, dtype: torch.dtype = torch.float32) -> Optimiser:
    """The optimiser ``player.optim`` asks for, over ``steps`` steps; Muon orthogonalises in ``dtype``.

    Under "muon", Muon moves the weights of linear and convolutional layers, except those of the layers
    the player names in ``ends`` (where data comes in and goes out). AdamW moves everything else:
    embeddings, norms, biases, free parameters.
    """
    return Optimiser(player, steps, dtype)


def _named(player: Player) -> dict[str, nn.Parameter]:
    named: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for i, module in enumerate(player.modules):
        for name, p in module.named_parameters():
            if p.requires_grad and id(p) not in seen:
                seen.add(id(p))
                named[f"{i}.{name}"] = p
    return named


def _matrices(player: Player) -> set[int]:
    """Which parameters Muon takes, as ids."""
    layers = [layer for module in player.modules for layer in module.modules()]
    ends = {id(p) for module in player.ends for p in module.parameters()}
    tables = {
        id(layer.weight) for layer in layers if isinstance(layer, nn.Embedding)
    }  # May be tied to a head.
    return {id(layer.weight) for layer in layers if isinstance(layer, nn.Linear | _ConvNd)} - ends - tables
