"""Autoencoder: a picture squeezed through a short vector and unfolded again, so the vector must tell all.

Hinton & Salakhutdinov: Reducing the Dimensionality of Data with Neural Networks, Science 313, 2006; without
the layers' pretraining, which better initialisation has made needless. With ``noise`` it is the denoising
autoencoder of Vincent et al. 2008.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from sfumato.core.latent import walk
from sfumato.core.request import Event, Generate, Images, Reconstruct, Request, Video, Walk
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.bottleneck import BottleneckConfig, Decoder, Encoder

FORGET = 0.99
"""Decay, a step, of the running mean and covariance of the latents."""


class VectorCoder(System[Request], abc.ABC):
    """What systems with one vector a picture have in common: the requests they serve."""

    tasks = (Generate, Reconstruct, Walk)
    chunk = 256
    """Pictures made at a time."""

    @abc.abstractmethod
    def encode(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The one vector that stands for a picture in [-1, 1]."""

    @abc.abstractmethod
    def decode(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """The picture of a vector, in [-1, 1]."""

    @abc.abstractmethod
    def prior(self, rng: Rng) -> Float[Tensor, "b d"]:
        """Vectors of new pictures, one a stream."""

    @property
    def channels(self) -> int:
        return int(self.config.network.channels)

    def preview(self, count: int, seed: int) -> Request:
        return Generate(count=count, seed=seed)

    def run(self, request: Request) -> Iterator[Event]:
        """New pictures come from the prior, given ones through their vector; a walk leads between vectors."""
        match request:
            case Generate():
                return in_parts(self._generate, request, self.chunk, self.hears)
            case Reconstruct():
                return self._reconstruct(request)
            case Walk():
                return self._walk(request)
        raise UsageError(
            f"An autoencoder cannot serve {type(request).__name__}; ask it to generate, reconstruct or walk."
        )

    @torch.no_grad()
    def _generate(self, request: Generate) -> Iterator[Event]:
        yield Images(self.decode(self.prior(Rng.sampling(request.seed, request.count))))

    @torch.no_grad()
    def _reconstruct(self, request: Reconstruct) -> Iterator[Event]:
        seeds = tuple(range(request.seed, request.seed + len(request.images)))
        parts = [self.decode(self.encode(x.to(self.device))) for x in request.images.split(self.chunk)]
        yield Images(torch.cat(parts), seeds=seeds)

    @torch.no_grad()
    def _walk(self, request: Walk) -> Iterator[Event]:
        if request.label is not None or request.truncation is not None:
            raise UsageError(
                "An autoencoder knows neither labels nor truncation; leave them out of the walk."
            )
        if request.images is None:
            points = self.prior(Rng.sampling(request.seed, request.count))
        else:
            points = self.encode(request.images.to(self.device))
        way = walk(points.cpu(), request.frames, request.way, loop=request.loop).to(self.device)
        yield Video(torch.cat([self.decode(z) for z in way.split(self.chunk)])[None])


@dataclass(frozen=True)
class AutoencoderConfig:
    """Network, noise, optimiser."""

    network: BottleneckConfig = BottleneckConfig()
    noise: float = 0.0
    """Standard deviation of the noise added to what the encoder sees; the decoder is to leave it out."""
    optim: OptimConfig = OptimConfig(lr=1e-3, clip=0.0)


class Autoencoder(VectorCoder):
    """An encoder and a decoder that together try to give back what they were given.

    Nothing says where its vectors lie, so a normal distribution is fitted to those of the last hundred or so
    steps: new pictures are decoded from that.
    """

    Config = AutoencoderConfig
    mean: Tensor
    covariance: Tensor

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        latent = config.network.latent
        self.encoder = Encoder(config.network, latent)
        self.decoder = Decoder(config.network)
        self.register_buffer("mean", torch.zeros(latent))
        self.register_buffer("covariance", torch.eye(latent))

    @classmethod
    def fit(cls, config: AutoencoderConfig, facts: Facts) -> AutoencoderConfig:
        return replace(config, network=fitted(config.network, facts))

    def players(self) -> dict[str, Player]:
        return {"autoencoder": Player((self.encoder, self.decoder), self.config.optim)}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Mean squared error, of pixels from 0 to 1."""
        x = seen = batch["image"]
        if self.config.noise:
            seen = x + self.config.noise * batch.rng.normal(*x.shape[1:]).to(x)
        z = self.encoder(seen)
        y = self.decoder(z).float().sigmoid()
        yield Loss.sum("autoencoder", mse=mse_loss(y, (x + 1) / 2))
        self._remember(z.detach().float())

    def encode(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.encoder(x.to(self.dtype)).float()

    def decode(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        return 2 * self.decoder(z.to(self.dtype)).float().sigmoid() - 1

    def prior(self, rng: Rng) -> Float[Tensor, "b d"]:
        """Drawn from the normal distribution fitted to the pictures' own vectors."""
        values, axes = torch.linalg.eigh(self.covariance.double().cpu())
        spread = axes * values.clamp(min=0).sqrt()
        z = self.mean.double().cpu() + rng.normal(len(values)).double() @ spread.T
        return z.float().to(self.device)

    @torch.no_grad()
    def _remember(self, z: Tensor) -> None:
        """Let mean and covariance follow those of this batch."""
        self.mean.lerp_(z.mean(0), 1 - FORGET)
        apart = z - self.mean  # Products below, not a matrix product, which autocast would round.
        self.covariance.lerp_((apart[:, :, None] * apart[:, None]).mean(0), 1 - FORGET)


def fitted(network: BottleneckConfig, facts: Facts) -> BottleneckConfig:
    """The same network for a dataset's pictures."""
    return replace(network, channels=facts.channels, height=facts.height, width=facts.width)


DIGITS = BottleneckConfig(height=8, width=8, hidden=(200,), latent=8)
LECTURE = BottleneckConfig(convs=(32, 64), hidden=(), latent=64)
_SETTLING = OptimConfig(lr=1e-3, clip=0.0, decay=0.5)
_FALLING = OptimConfig(lr=2e-3, clip=0.0, decay=0.7)
_LAPTOP = Preset(
    AutoencoderConfig(DIGITS, optim=_SETTLING),
    data="digits",
    size=8,
    train=TrainConfig(steps=3000, batch=128, ema=0.999),
)
_FASHION = Preset(
    AutoencoderConfig(optim=_FALLING),
    data="fashion",
    size=28,
    train=TrainConfig(steps=2345, batch=128, ema=0.99),
)
Autoencoder.presets = {
    "laptop": _LAPTOP,
    "plane": replace(_LAPTOP, config=replace(_LAPTOP.config, network=replace(DIGITS, latent=2))),
    "fashion": _FASHION,
    "denoising": replace(_FASHION, config=replace(_FASHION.config, noise=0.5)),
    "lecture": Preset(
        AutoencoderConfig(LECTURE), data="fashion", size=28, train=TrainConfig(steps=5900, batch=512, ema=0.0)
    ),
}
