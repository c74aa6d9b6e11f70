"""Seeded randomness that does not depend on the company a sample is drawn in."""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.errors import UsageError

SEEDS = 2**63
"""So many seeds there are."""


def mix(*parts: int | str) -> int:
    """Hash ``parts`` into a 63-bit seed: the same parts give the same seed on every machine.

    >>> mix(0, "noise") == mix(0, "noise") != mix(0, "times")
    True
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Rng:
    """One stream of random numbers a sample: sample i is the same whether drawn alone or among a thousand.

    Stream i starts from ``torch.Generator().manual_seed(seeds[i])``, so that what we draw first is what
    others draw first from the same seed. Draws happen on the CPU; callers move them.
    """

    def __init__(self, seeds: list[int]):
        if wrong := [seed for seed in seeds if not 0 <= seed < SEEDS]:
            raise UsageError(f"A seed must be from 0 to {SEEDS - 1}, got {wrong[0]}; choose another.")
        self.seeds = seeds
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    @classmethod
    def sampling(cls, seed: int, count: int) -> Rng:
        """Streams of ``count`` pictures: picture i has the seed ``seed + i``."""
        return cls([seed + i for i in range(count)])

    @classmethod
    def training(cls, seed: int, step: int, rows: range) -> Rng:
        """Streams of a training batch, a pure function of (seed, step, row in the joint batch)."""
        return cls([mix(seed, "train", step, row) for row in rows])

    def __len__(self) -> int:
        return len(self._streams)

    def normal(self, *shape: int) -> Float[Tensor, "n ..."]:
        """Standard normal numbers, (n, \\*shape), float32."""
        return torch.stack([torch.randn(shape, generator=g) for g in self._streams])

    def uniform(self) -> Float[Tensor, " n"]:
        """One number in [0, 1) a sample."""
        return torch.stack([torch.rand((), generator=g) for g in self._streams])

    def integers(self, low: int, high: int) -> Int[Tensor, " n"]:
        """One integer in [low, high) a sample."""
        return torch.stack([torch.randint(low, high, (), generator=g) for g in self._streams])

    def chi_square(self, freedom: float) -> Float[Tensor, " n"]:
        """One chi-square number a sample, by PyTorch's gamma sampler."""
        half = torch.tensor(freedom / 2)
        return 2 * torch.stack([torch._standard_gamma(half, generator=g) for g in self._streams])

    def inverse_gaussian(self, mean: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """One number a sample from the inverse Gaussian law with this mean and the shape 1; float64.

        Michael, Schucany & Haas 1976: of the two roots that share a chi-square number, one by a coin.
        """
        wide = mean.double() * self.normal().double().square()
        root = mean.double() / (1 + wide / 2 + (wide + wide.square() / 4).sqrt())
        first = self.uniform().double() * (mean.double() + root) <= mean.double()
        return torch.where(first, root, mean.double().square() / root)
