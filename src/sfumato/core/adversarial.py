"""The two-player game: what critic and generator descend, and the penalties that keep it fair.

Critics answer with any number of values an example, real-valued and not squashed ("logits").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

Game = Literal["minimax", "non_saturating", "least_squares", "hinge", "wasserstein"]
"""Goodfellow et al. 2014 (eq. 1 and the remark below it); Mao et al. 2017 (LSGAN); Lim & Ye 2017;
Arjovsky et al. 2017 (WGAN)."""
Critic = Callable[[Tensor], Tensor]


def critic_loss(game: Game, real: Float[Tensor, "b ..."], fake: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """What the critic descends: real examples score high, fakes low."""
    match game:
        case "minimax" | "non_saturating":
            return softplus(-real).mean() + softplus(fake).mean()
        case "least_squares":
            return (real - 1).square().mean() + fake.square().mean()
        case "hinge":
            return relu(1 - real).mean() + relu(1 + fake).mean()
        case "wasserstein":
            return fake.mean() - real.mean()


def generator_loss(game: Game, fake: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """What the generator descends: its fakes score high."""
    match game:
        case "minimax":
            return -softplus(fake).mean()
        case "non_saturating":
            return softplus(-fake).mean()
        case "least_squares":
            return (fake - 1).square().mean()
        case "hinge" | "wasserstein":
            return -fake.mean()


def steepness(critic: Critic, x: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """Squared norm of the gradient of the critic's answer at each example; it can be descended."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return gradient.float().flatten(1).square().sum(1)


def r1(critic: Critic, real: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """Mean squared gradient norm at real examples (Mescheder et al. 2018, eq. 9); its weight is gamma / 2."""
    return steepness(critic, real).mean()


def gradient_penalty(
    critic: Critic,
    real: Float[Tensor, "b ..."],
    fake: Float[Tensor, "b ..."],
    share: Float[Tensor, " b"],
) -> Float[Tensor, ""]:
    """How far gradient norms are from 1 between real and fake (Gulrajani et al. 2017, eq. 3).

    ``share`` says, an example, where between fake (0) and real (1) to look; draw it uniformly.
    """
    share = share.to(real).view(-1, *[1] * (real.ndim - 1))
    between = share * real.detach() + (1 - share) * fake.detach()
    return ((steepness(critic, between) + 1e-12).sqrt() - 1).square().mean()


@torch.no_grad()
def clip_weights(module: nn.Module, limit: float) -> None:
    """Keep every weight in [-limit, limit], as the first Wasserstein critic wants it (algorithm 1)."""
    for parameter in module.parameters():
        parameter.clamp_(-limit, limit)


class PathLength(nn.Module):
    """Wants equal steps of the style to be equal steps of the picture (Karras et al. 2020, eq. 4)."""

    mean: Tensor

    def __init__(self, decay: float = 0.01):
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros(()))

    def forward(
        self,
        pixels: Float[Tensor, "b c h w"],
        styles: Float[Tensor, "b ..."],
        noise: Float[Tensor, "b c h w"],
    ) -> Float[Tensor, ""]:
        """Mean squared distance of path lengths from their running mean; ``styles`` made ``pixels``.

        ``noise`` is standard normal; styles of shape (b, l, d) are one style for each of l layers.
        """
        height, width = pixels.shape[2:]
        answer = (pixels * noise).sum() / (height * width) ** 0.5
        (gradient,) = torch.autograd.grad(answer, styles, create_graph=True)
        squares = gradient.float().square().sum(-1)
        lengths = (squares if squares.ndim == 1 else squares.mean(1)).add(1e-12).sqrt()
        with torch.no_grad():
            self.mean.lerp_(lengths.mean(), self.decay)
        return (lengths - self.mean).square().mean()


class History(nn.Module):
    """Past fakes shown to a critic in place of new ones half of the time (Shrivastava et al. 2017)."""

    fakes: Tensor
    filled: Tensor

    def __init__(self, shape: tuple[int, ...], size: int = 50):
        super().__init__()
        self.register_buffer("fakes", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(
        self, new: Float[Tensor, "b ..."], chance: Float[Tensor, " b"], place: Float[Tensor, " b"]
    ) -> Float[Tensor, "b ..."]:
        """Keep new fakes while there is room; then swap each with a past one where ``chance`` < 0.5.

        ``chance`` and ``place`` are uniform in [0, 1): whether to swap, and with which one.
        """
        shown = new.detach().clone()
        size, filled = len(self.fakes), int(self.filled)
        for i in range(len(shown)):
            if filled < size:
                self.fakes[filled] = shown[i]
                filled += 1
            elif chance[i] < 0.5:
                at = int(place[i] * size)
                past = self.fakes[at].clone()
                self.fakes[at] = shown[i]
                shown[i] = past
        self.filled.fill_(filled)
        return shown
