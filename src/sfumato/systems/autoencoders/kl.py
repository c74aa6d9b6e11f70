"""KL autoencoder: the first stage of latent diffusion, which gives every picture a small, smooth code.

Rombach, Blattmann, Lorenz, Esser, Ommer: High-Resolution Image Synthesis with Latent Diffusion Models,
CVPR 2022, arXiv 2112.10752, sections 3.1 and G. Their perceptual and adversarial terms need networks
trained elsewhere; here differences of neighbouring pixels take their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core.request import Event, Images, Reconstruct
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.nn.autoencoder import Autoencoder, AutoencoderConfig

FIRST_LOGVAR = -6.0
"""Of every latent before training: a decoder learns nothing from codes that drown in noise."""


@dataclass(frozen=True)
class KLConfig:
    """Network, weights of the loss, optimiser."""

    network: AutoencoderConfig = AutoencoderConfig()
    kl: float = 1e-4
    """Weight of the divergence of a latent number from a standard normal one, in nats."""
    edges: float = 1.0
    """Weight of the error in differences of neighbouring pixels."""
    optim: OptimConfig = OptimConfig(lr=1e-3)


class KL(System[Reconstruct]):
    """An encoder to the mean and variance of a latent, and a decoder back."""

    tasks = (Reconstruct,)
    Config = KLConfig

    def __init__(self, config: KLConfig):
        super().__init__()
        self.config = config
        self.network = Autoencoder(config.network)
        moments = self.network.quant_conv if config.network.quant_conv else self.network.encoder.conv_out
        if isinstance(moments, nn.Conv2d) and moments.bias is not None:
            nn.init.constant_(moments.bias[config.network.latent_channels :], FIRST_LOGVAR)

    @classmethod
    def fit(cls, config: KLConfig, facts: Facts) -> KLConfig:
        return replace(config, network=replace(config.network, channels=facts.channels))

    @property
    def channels(self) -> int:
        return self.config.network.channels

    def players(self) -> dict[str, Player]:
        network = self.network
        encoder, decoder = network.encoder, network.decoder
        quants = (network.quant_conv, network.post_quant_conv)
        ends = (encoder.conv_in, encoder.conv_out, decoder.conv_in, decoder.conv_out, *quants)
        return {"autoencoder": Player((encoder, decoder, *quants), self.config.optim, ends)}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        x = batch["image"]
        mean, logvar = self.network.encode(x)
        mean, logvar = mean.float(), logvar.float()
        z = mean + (logvar / 2).exp() * batch.rng.normal(*mean.shape[1:]).to(mean)
        error = self.network.decode(z).float() - x
        yield Loss.sum(
            "autoencoder",
            l1=error.abs().mean(),
            l2=error.square().mean(),
            edges=self.config.edges * (error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()),
            kl=self.config.kl * 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean(),
        )

    @torch.no_grad()
    def run(self, request: Reconstruct) -> Iterator[Event]:
        """Encode, draw from the posterior with the request's seeds, decode."""
        x = request.images.to(self.device)
        rng = Rng.sampling(request.seed, len(x))
        yield Images(self.reconstruct(x, rng), seeds=tuple(rng.seeds))

    def reconstruct(self, x: Float[Tensor, "b c h w"], rng: Rng) -> Float[Tensor, "b c h w"]:
        """Through a latent drawn from the posterior and back."""
        mean, logvar = (m.float() for m in self.network.encode(x.to(self.dtype)))
        z = mean + (logvar / 2).exp() * rng.normal(*mean.shape[1:]).to(mean)
        return self.network.decode(z.to(self.dtype)).float().clamp(-1, 1)


SMALL = AutoencoderConfig(widths=(64,), blocks=2, groups=8, patch=4, attention=False)
"""One latent cell for 4 x 4 pixels; convolutions never run at full resolution."""

KL.presets = {
    "laptop": Preset(
        KLConfig(
            SMALL,
            kl=1e-3,
            optim=OptimConfig(kind="muon", lr=4e-3, betas=(0.9, 0.99), warmup=50, decay=0.4),
        ),
        data="shapes",
        size=64,
        train=TrainConfig(steps=4000, batch=16, ema=0.99),
    ),
    "paper": Preset(
        KLConfig(AutoencoderConfig(), kl=1e-6, optim=OptimConfig(lr=4.5e-6 * 12, betas=(0.5, 0.9))),
        data="photos",
        size=256,
        train=TrainConfig(steps=500_000, batch=12, ema=0.0),
    ),
}
