"""Finding out where NaN or infinity came from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.core import parallel
from sfumato.core.loader import Parts
from sfumato.core.system import Player, System
from sfumato.device import Precision, autocast

IN_A_ROW = 3
"""Steps with a skipped update one after the other before training goes back to the last checkpoint."""
SLOWER = 0.5
"""What the learning rate is multiplied with then, once."""


def diagnose(
    system: System[Any], players: dict[str, Player], parts: Parts, precision: Precision
) -> dict[str, Any]:
    """Take the step of ``parts`` again without moving anybody, and name what turns non-finite first.

    The answer is ready for JSON: the step, the examples' indices, and ``place``: a field of the batch (with
    the examples that hold it), a weight, a module's output, or a gradient.
    """
    report: dict[str, Any] = {"step": parts.step, "examples": parts.indices.tolist(), "place": "unknown"}
    return report | (_in_batch(parts) or _in_weights(system) or _in_step(system, players, parts, precision))


def _in_batch(parts: Parts) -> dict[str, Any]:
    first = 0
    for batch in parts.batches:
        for name, field in batch.items():
            if isinstance(field, Tensor) and field.is_floating_point() and not field.isfinite().all():
                rows = (~field.isfinite()).flatten(1).any(1).nonzero().flatten().cpu() + first
                return {"place": f"batch field '{name}'", "bad_examples": parts.indices[rows].tolist()}
        first += len(batch.rng)
    return {}


def _in_weights(system: nn.Module) -> dict[str, Any]:
    for name, tensor in (*system.named_parameters(), *system.named_buffers()):
        if not parallel.local(tensor.detach()).isfinite().all():
            return {"place": f"weight '{name}'"}
    return {}


def _in_step(
    system: System[Any], players: dict[str, Player], parts: Parts, precision: Precision
) -> dict[str, Any]:
    with _watched(system) as seen:
        for batch in parts.batches:
            with autocast(precision, system.device):
                stream = system.losses(batch, parts.step)
            while True:
                with autocast(precision, system.device):
                    loss = next(stream, None)
                if loss is None:
                    break
                if not loss.value.isfinite() or seen:
                    place = f"module '{seen[0]}'" if seen else "the loss itself"
                    return {"place": place, "player": loss.player}
                if found := _in_gradient(system, players[loss.player], loss.value):
                    return {"place": found, "player": loss.player}
    return {}


def _in_gradient(system: System[Any], player: Player, value: Tensor) -> str:
    mine = player.parameters()
    parallel.backward(value, system, mine)
    parallel.settle(player)
    names = {id(p): name for name, p in system.named_parameters()}
    # The last layers get their gradients first.
    bad = [p for p in mine if p.grad is not None and not parallel.local(p.grad).isfinite().all()]
    for p in mine:
        p.grad = None
    return f"gradient of '{names[id(bad[-1])]}'" if bad else ""


@contextmanager
def _watched(system: nn.Module) -> Iterator[list[str]]:
    """Collects the names of modules, innermost and first to last, whose output is not finite."""
    seen: list[str] = []

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point() and not output.isfinite().all():
                seen.append(name)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in system.named_modules() if name]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def finite(*values: Tensor) -> Tensor:
    """1 if all of ``values`` (scalars) are finite, else 0; stays on the device."""
    return torch.stack([v.detach().float() for v in values]).isfinite().all().float()
