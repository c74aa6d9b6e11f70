"""The moving average of the weights, which is what a trained system answers with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sfumato.core import parallel


class MovingAverage:
    """Average of a module's trainable parameters and buffers, a = d a + (1 - d) w after every step.

    The decay grows from 0.1 to its final value as min(decay, (1 + n) / (10 + n)) over n updates, so that
    the random beginning is soon forgotten. Buffers that are no real numbers (counters) are copied.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        state = module.state_dict(keep_vars=True)
        self._live = {n: t for n, t in state.items() if t.requires_grad or not isinstance(t, nn.Parameter)}
        self._average = {n: parallel.local(t.detach()).clone() for n, t in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        real = [n for n, t in self._average.items() if t.is_floating_point()]
        torch._foreach_lerp_([self._average[n] for n in real], [self._local(n) for n in real], weight)
        for name in self._average.keys() - set(real):
            self._average[name].copy_(self._local(name))
        self.updates += 1

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the module has the averaged weights; afterwards its own again, to the bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, average in self._average.items():
            live = self._local(name)
            kept = live.clone()
            live.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by the names of the module's own ``state_dict``."""
        return {n: parallel.as_shard(t, self._live[n]) for n, t in self._average.items()}

    def load_state_dict(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Take over what ``state_dict`` gave (whole tensors) and how many updates it had seen."""
        for name, average in self._average.items():
            average.copy_(
                parallel.local(parallel.shard_like(tensors[name].to(average.device), self._live[name]))
            )
        self.updates = updates

    def _local(self, name: str) -> Tensor:
        return parallel.local(self._live[name].detach())
