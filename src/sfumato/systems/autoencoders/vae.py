"""Variational autoencoder: every picture becomes a small cloud of latents, and any latent a picture.

Kingma & Welling: Auto-Encoding Variational Bayes, ICLR 2014, arXiv 1312.6114. ``beta`` follows Higgins et al.
2017, ``free_nats`` Kingma et al. 2016, the bound of many samples Burda, Grosse & Salakhutdinov 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.likelihood import (
    Bernoulli,
    Bounds,
    DiscretisedLogistic,
    Gaussian,
    bounds,
    kl_to_normal,
    log_normal,
)
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.nn.bottleneck import BottleneckConfig, Decoder, Encoder
from sfumato.systems.autoencoders.ae import DIGITS, LECTURE, VectorCoder, fitted

LOGVAR_RANGE = (-30.0, 20.0)
"""Of the encoder's answer, as in latent diffusion's code: beyond it, exponentials overflow."""
DRAWN = 50
"""Samples of every picture's latent drawn at a time when bounds are measured."""


@dataclass(frozen=True)
class VAEConfig:
    """Network, likelihood, weight of the divergence, optimiser."""

    network: BottleneckConfig = BottleneckConfig()
    likelihood: Bernoulli | Gaussian | DiscretisedLogistic = Bernoulli()
    """What the decoder says of a pixel."""
    beta: float = 1.0
    """Weight of the divergence; 1 makes the loss a bound on the likelihood."""
    free_nats: float = 0.0
    """Divergence of each latent number, averaged over a batch, that costs nothing."""
    optim: OptimConfig = OptimConfig(lr=1e-3, clip=0.0)


class VAE(VectorCoder):
    """An encoder to mean and variance of a latent, a decoder back, a normal distribution in between."""

    Config = VAEConfig

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.network, 2 * config.network.latent)
        self.decoder = Decoder(config.network, config.likelihood.outputs)

    @classmethod
    def fit(cls, config: VAEConfig, facts: Facts) -> VAEConfig:
        return replace(config, network=fitted(config.network, facts))

    def players(self) -> dict[str, Player]:
        return {"autoencoder": Player((self.encoder, self.decoder), self.config.optim)}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Minus the bound of eq. 10 with one sample of z, in nats a picture."""
        x, c = batch["image"], self.config
        mean, logvar = self.posterior(x)
        z = mean + (logvar / 2).exp() * batch.rng.normal(c.network.latent).to(mean)
        spent = kl_to_normal(mean, logvar).mean(0)
        yield Loss.sum(
            "autoencoder",
            reconstruction=-c.likelihood.log_prob(x, self.decoder(z).float()).mean(),
            kl=c.beta * spent.clamp(min=c.free_nats).sum(),
        )

    def posterior(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """Mean and log variance of q(z | x)."""
        mean, logvar = self.encoder(x.to(self.dtype)).float().chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR_RANGE)

    def encode(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The mean of q(z | x), without chance."""
        return self.posterior(x)[0]

    def decode(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """The mean of p(x | z)."""
        return self.config.likelihood.mean(self.decoder(z.to(self.dtype)).float())

    def prior(self, rng: Rng) -> Float[Tensor, "b d"]:
        """Drawn from N(0, 1), which the loss has pulled the latents towards."""
        return rng.normal(self.config.network.latent).to(self.device)

    @torch.no_grad()
    def bounds(self, x: Float[Tensor, "b c h w"], samples: int, *, seed: int = 0) -> Bounds:
        """ELBO and importance-weighted bound on log p(x) of each picture, in nats."""
        mean, logvar = self.posterior(x.to(self.device))
        return bounds(self._log_weights(x.to(self.device), mean, logvar, samples, seed))

    def _log_weights(
        self, x: Tensor, mean: Tensor, logvar: Tensor, samples: int, seed: int
    ) -> Iterator[Tensor]:
        """log p(x | z) + log p(z) - log q(z | x) of one z ~ q(z | x) a picture at a time."""
        rng, nothing = Rng.sampling(seed, len(x)), torch.zeros_like(mean)
        for start in range(0, samples, DRAWN):
            noise = rng.normal(min(DRAWN, samples - start), mean.shape[1]).to(mean)
            for z in (mean[:, None] + (logvar / 2).exp()[:, None] * noise).unbind(1):
                said = self.config.likelihood.log_prob(x, self.decoder(z.to(self.dtype)).float())
                yield said + log_normal(z, nothing, nothing) - log_normal(z, mean, logvar)


_SETTLING = OptimConfig(lr=1e-3, clip=0.0, decay=0.5)
_FALLING = OptimConfig(lr=2e-3, clip=0.0, decay=0.7)
_LAPTOP = Preset(
    VAEConfig(DIGITS, optim=_SETTLING),
    data="digits",
    size=8,
    train=TrainConfig(steps=6000, batch=128, ema=0.999),
)
_FASHION = Preset(
    VAEConfig(optim=_FALLING),
    data="fashion",
    size=28,
    train=TrainConfig(steps=9380, batch=128, ema=0.99),
)
VAE.presets = {
    "laptop": _LAPTOP,
    "map": replace(_LAPTOP, config=replace(_LAPTOP.config, network=replace(DIGITS, latent=2))),
    "fashion": _FASHION,
    "fashion-map": replace(
        _FASHION,
        config=replace(_FASHION.config, network=BottleneckConfig(latent=2)),
        train=replace(_FASHION.train, steps=2345),
    ),
    "grey": replace(_FASHION, config=replace(_FASHION.config, likelihood=DiscretisedLogistic())),
    "lecture": replace(_FASHION, config=VAEConfig(replace(LECTURE, latent=2), Gaussian())),
    "paper": Preset(
        VAEConfig(
            BottleneckConfig(hidden=(500,), latent=20, act="tanh"), optim=OptimConfig(lr=1e-3, clip=0.0)
        ),
        data="fashion",
        size=28,
        train=TrainConfig(steps=500_000, batch=100, ema=0.0),
    ),
}
