"""How models that draw token by token choose the next one."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sfumato.errors import UsageError

M = TypeVar("M", bound=nn.Module)

BELOW_ONE = 1 - 2**-53
"""The largest number below 1."""


def choose(
    logits: Float[Tensor, "b k"], chance: Float[Tensor, " b"], temperature: float = 1.0, top_k: int = 0
) -> Int[Tensor, " b"]:
    """Draw one of k tokens a row, by a number in [0, 1): where it falls among the summed probabilities.

    ``temperature`` divides the logits, and at 0 the likeliest is taken; ``top_k`` leaves as many of the
    likeliest, 0 all. Raises ``UsageError`` if either is below 0.
    """
    if temperature < 0 or top_k < 0:
        name, value = ("temperature", temperature) if temperature < 0 else ("top_k", top_k)
        raise UsageError(f"{name} must be at least 0, got {value}; leave it out for the system's own.")
    if temperature == 0:
        return logits.argmax(1)
    scores = logits.double() / temperature
    if 0 < top_k < scores.shape[1]:
        least = scores.topk(top_k, dim=1).values[:, -1:]
        scores = scores.masked_fill(scores < least, float("-inf"))
    reached = scores.softmax(1).cumsum(1)
    return (reached <= chance.double().clamp(max=BELOW_ONE)[:, None] * reached[:, -1:]).sum(1)


def exact(module: M) -> M:
    """The network in fp32: itself, or a copy if it is in half precision.

    A choice among tokens is not continuous: in half precision a product rounded otherwise, as in another
    batch, would sometimes turn one, and all that follows.
    """
    if next(module.parameters()).dtype == torch.float32:
        return module
    return copy.deepcopy(module).float()
