"""Books of codes: vectors replaced by the nearest of a few, or by a soft choice among them.

The book follows van den Oord, Vinyals & Kavukcuoglu 2017 (VQ-VAE, appendix A.1): its entries are running
means of the vectors they replace. Entries that nothing chooses start anew, as in Dhariwal et al. 2020
(Jukebox).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

LEAST = 1e-12
"""A running count below which an entry keeps its place."""


class Codebook(nn.Module):
    """``size`` vectors of length ``width``, moved by averages alone: they are buffers, not parameters."""

    codes: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, size: int, width: int, decay: float = 0.99):
        super().__init__()
        self.size, self.decay = size, decay
        self.register_buffer("codes", (2 * torch.rand(size, width) - 1) / size)
        self.register_buffer("counts", torch.zeros(size))
        self.register_buffer("sums", torch.zeros(size, width))

    def nearest(self, z: Float[Tensor, "b d h w"]) -> Int[Tensor, "b h w"]:
        """The number of the nearest code, at every place."""
        flat, codes = z.movedim(1, -1).reshape(-1, z.shape[1]).float(), self.codes.float()
        with torch.autocast(z.device.type, enabled=False):  # near codes differ by less than bf16 can tell
            scores = torch.addmm(codes.square().sum(1), flat, codes.T, alpha=-2)  # distance less |z|^2
        return scores.argmin(1).view(len(z), *z.shape[2:])

    def look_up(self, index: Int[Tensor, "b h w"]) -> Float[Tensor, "b d h w"]:
        """The codes of these numbers."""
        return self.codes[index].movedim(-1, 1)

    @torch.no_grad()
    def tally(self, z: Float[Tensor, "b d h w"], index: Int[Tensor, "b h w"]) -> Float[Tensor, "1 k e"]:
        """How many vectors chose each code, and their sum behind it; tallies of parts add up."""
        flat = z.movedim(1, -1).reshape(-1, z.shape[1]).float()
        ones = torch.cat([torch.ones_like(flat[:, :1]), flat], dim=1)
        empty = torch.zeros(self.size, ones.shape[1], device=z.device)
        return empty.index_add_(0, index.flatten(), ones)[None]

    @torch.no_grad()
    def follow(self, tally: Float[Tensor, "n k e"]) -> None:
        """Let every code move to the running mean of the vectors that choose it (eq. 6 to 8)."""
        counts, sums = tally.sum(0).split((1, tally.shape[2] - 1), dim=1)
        self.counts.lerp_(counts[:, 0], 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        chosen = (self.counts > LEAST)[:, None]
        self.codes.copy_(torch.where(chosen, self.sums / self.counts.clamp(min=LEAST)[:, None], self.codes))

    @torch.no_grad()
    def restart(self, vectors: Float[Tensor, "n d"], least: float) -> None:
        """Put codes chosen less than ``least`` times a step where vectors are, at most one code a vector."""
        tired = (self.counts < least).nonzero()[: len(vectors), 0]
        fresh = vectors[: len(tired)].float()
        self.codes[tired] = fresh
        self.counts[tired] = 2 * least  # they have until the count has halved to be found
        self.sums[tired] = 2 * least * fresh


def straight_through(z: Float[Tensor, "*n"], chosen: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The value of ``chosen`` with the gradient of ``z`` (section 3.2)."""
    return z + (chosen - z).detach()


def relaxed(
    logits: Float[Tensor, "b k h w"], noise: Float[Tensor, "b k h w"], temperature: float
) -> Float[Tensor, "b k h w"]:
    """A soft choice that becomes a draw from the softmax of ``logits`` as the temperature falls to 0.

    Gumbel-softmax (Jang, Gu & Poole 2017; Maddison, Mnih & Teh 2017). ``noise`` is standard normal; its
    distribution function makes it uniform, and two logarithms make that Gumbel's.
    """
    gumbel = -(-torch.special.log_ndtr(noise.double())).log()
    return ((logits + gumbel.to(logits)) / temperature).softmax(1)


def perplexity(index: Int[Tensor, "*n"], size: int) -> Float[Tensor, ""]:
    """How many codes are in use, as if all of them equally: exp of the entropy of their shares."""
    shares = torch.bincount(index.flatten(), minlength=size).float() / index.numel()
    return torch.special.entr(shares).sum().exp()
