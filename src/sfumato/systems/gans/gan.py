"""GAN: a generator learns to deceive a critic that learns to tell its fakes from data.

Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio: Generative Adversarial Nets,
NIPS 2014, arXiv 1406.2661. Other games are configurations: least squares (arXiv 1611.04076), hinge, and
Wasserstein with clipped weights (arXiv 1701.07875) or a penalty on the critic's gradient (arXiv 1704.00028).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core.adversarial import Game, clip_weights, critic_loss, generator_loss, gradient_penalty
from sfumato.core.request import Event, Generate, Images
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts

Prior = Literal["normal", "uniform"]


@dataclass(frozen=True)
class GANConfig:
    """Pictures, networks, and the rules of the game."""

    channels: int = 1
    height: int = 8
    width: int = 8
    latent: int = 64
    """Numbers that a picture is made from."""
    prior: Prior = "normal"
    """How these are drawn: standard normal, or uniform in [-1, 1]."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the generator's hidden layers."""
    seen: tuple[int, ...] = (256, 256)
    """Widths of the critic's."""
    pieces: int = 0
    """Lines that each of the critic's units is the largest of (maxout); 0 means leaky rectifiers."""
    dropout: tuple[float, float] = (0.0, 0.0)
    """Share of the critic's inputs and of its hidden units that is left out."""
    irange: tuple[float, float] = (0.0, 0.0)
    """Weights of generator and critic start uniformly within this; 0 means PyTorch's own way."""
    bounded: bool = True
    """Whether the generator ends with tanh."""
    game: Game = "non_saturating"
    critic_steps: int = 1
    """Moves of the critic for one of the generator, each on its own part of the batch (k of algorithm 1)."""
    clip: float = 0.0
    """The critic's weights are kept within this; 0 means they are free."""
    penalty: float = 0.0
    """Weight of the penalty on gradients of a norm other than 1; 0 means none."""
    generator_optim: OptimConfig = OptimConfig(lr=2e-4, betas=(0.5, 0.999), clip=0.0)
    critic_optim: OptimConfig = OptimConfig(lr=2e-4, betas=(0.5, 0.999), clip=0.0)
    chunk: int = 1024
    """Pictures made at a time."""


class GAN(System[Generate]):
    """Two fully connected networks and the game between them."""

    tasks = (Generate,)
    Config = GANConfig

    def __init__(self, config: GANConfig):
        super().__init__()
        self.config = c = config
        self.shape = (c.channels, c.height, c.width)
        size = math.prod(self.shape)
        ends = [nn.Linear((c.latent, *c.hidden)[-1], size), *([nn.Tanh()] if c.bounded else [])]
        self.generator = nn.Sequential(*_rectified(c.latent, c.hidden), *ends)
        self.critic = nn.Sequential(*_critic(size, c), nn.Linear((size, *c.seen)[-1], 1))
        for network, irange in zip((self.generator, self.critic), c.irange, strict=True):
            _start(network, irange)

    @classmethod
    def fit(cls, config: GANConfig, facts: Facts) -> GANConfig:
        return replace(config, channels=facts.channels, height=facts.height, width=facts.width)

    def players(self) -> dict[str, Player]:
        return {
            "critic": Player((self.critic,), self.config.critic_optim),
            "generator": Player((self.generator,), self.config.generator_optim),
        }

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Algorithm 1: the critic moves k times, the generator once, against the last fakes."""
        c, reals = self.config, batch["image"].flatten(1).chunk(self.config.critic_steps)
        zs = draw(batch.rng, c.latent, c.prior).to(reals[0]).split([len(real) for real in reals])
        shares = (
            batch.rng.uniform().split([len(real) for real in reals]) if c.penalty else [None] * len(reals)
        )
        for real, z, share in zip(reals, zs, shares, strict=True):
            fake = self.generator(z)
            seen = {
                "game": critic_loss(c.game, self.critic(real).float(), self.critic(fake.detach()).float())
            }
            if share is not None:
                seen["penalty"] = c.penalty * gradient_penalty(self.critic, real, fake, share.to(real))
            yield Loss.sum("critic", **seen)
            if c.clip:
                clip_weights(self.critic, c.clip)
        yield Loss.sum("generator", game=generator_loss(c.game, self.critic(fake).float()))

    def run(self, request: Generate) -> Iterator[Event]:
        """Make pictures, each from its own latent."""
        return in_parts(self._serve, request, self.config.chunk, self.hears)

    def preview(self, count: int, seed: int) -> Generate | None:
        return Generate(count=count, seed=seed) if self.config.channels in (1, 3) else None

    @torch.no_grad()
    def _serve(self, request: Generate) -> Iterator[Event]:
        rng = Rng.sampling(request.seed, request.count)
        z = draw(rng, self.config.latent, self.config.prior).to(self.device, self.dtype)
        yield Images(self.generator(z).float().clamp(-1, 1).view(-1, *self.shape), seeds=tuple(rng.seeds))


def draw(rng: Rng, latent: int, prior: Prior) -> Float[Tensor, "n d"]:
    """One latent a stream."""
    z = rng.normal(latent)
    return z if prior == "normal" else 2 * torch.special.ndtr(z) - 1


class Maxout(nn.Module):
    """Every unit is the largest of a few linear ones (Goodfellow et al. 2013)."""

    def __init__(self, inside: int, outside: int, pieces: int):
        super().__init__()
        self.pieces, self.linear = pieces, nn.Linear(inside, outside * pieces)

    def forward(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b o"]:
        return self.linear(x).unflatten(1, (-1, self.pieces)).amax(2)


def _rectified(inside: int, widths: tuple[int, ...]) -> list[nn.Module]:
    """The generator's hidden layers."""
    sizes = zip((inside, *widths), widths, strict=False)
    return [layer for a, b in sizes for layer in (nn.Linear(a, b), nn.ReLU())]


def _critic(inside: int, c: GANConfig) -> list[nn.Module]:
    """The critic's hidden layers."""
    seen, hidden = c.dropout
    layers: list[nn.Module] = [nn.Dropout(seen)] if seen else []
    for a, b in zip((inside, *c.seen), c.seen, strict=False):
        layers += [Maxout(a, b, c.pieces)] if c.pieces else [nn.Linear(a, b), nn.LeakyReLU(0.2)]
        layers += [nn.Dropout(hidden)] if hidden else []
    return layers


def _start(network: nn.Module, irange: float) -> None:
    """Begin with weights within ``irange`` and biases zero, if it is given."""
    if irange:
        for name, parameter in network.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else parameter.data.uniform_(-irange, irange)


_POINTS = GANConfig(
    channels=2, height=1, width=1, latent=2, hidden=(128,) * 3, seen=(128,) * 3, bounded=False
)
_VANILLA = OptimConfig(lr=1e-3, betas=(0.5, 0.999), clip=0.0)
_WASSERSTEIN = OptimConfig(lr=1e-3, betas=(0.5, 0.9), clip=0.0, decay=0.6)
_RMSPROP = OptimConfig(lr=5e-4, betas=(0.0, 0.99), clip=0.0)
"""Adam without momentum: RMSProp with its start corrected."""
GAN.presets = {
    "laptop": Preset(
        GANConfig(), data="digits", size=8, train=TrainConfig(steps=6000, batch=64, precision="fp32")
    ),
    "gaussians": Preset(
        replace(_POINTS, generator_optim=_VANILLA, critic_optim=_VANILLA),
        data="gaussians",
        size=1,
        train=TrainConfig(steps=8000, batch=128, ema=0.0, precision="fp32", log_every=100),
    ),
    "gaussians-wgan-gp": Preset(
        replace(
            _POINTS,
            game="wasserstein",
            critic_steps=3,
            penalty=0.1,
            generator_optim=_WASSERSTEIN,
            critic_optim=_WASSERSTEIN,
        ),
        data="gaussians",
        size=1,
        train=TrainConfig(steps=4000, batch=3 * 128, ema=0.995, precision="fp32", log_every=100),
    ),
    "gaussians-wgan": Preset(
        replace(
            _POINTS,
            game="wasserstein",
            critic_steps=3,
            clip=0.1,
            generator_optim=_RMSPROP,
            critic_optim=_RMSPROP,
        ),
        data="gaussians",
        size=1,
        train=TrainConfig(steps=4000, batch=3 * 128, ema=0.995, precision="fp32", log_every=100),
    ),
    "paper": Preset(
        GANConfig(
            height=28,
            width=28,
            latent=100,
            prior="uniform",
            hidden=(1200, 1200),
            seen=(240, 240),
            pieces=5,
            dropout=(0.2, 0.5),
            irange=(0.05, 0.005),
        ),
        data="fashion",
        size=28,
        train=TrainConfig(steps=150_000, batch=100, ema=0.0),
    ),
}
"""The paper's own game on 28 x 28 pixels, moved by Adam; it used gradient descent with momentum."""
