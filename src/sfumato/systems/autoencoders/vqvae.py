"""VQ-VAE: a picture becomes a grid of numbers from a book of codes; as dVAE and VQ-GAN by configuration.

Van den Oord, Vinyals, Kavukcuoglu: Neural Discrete Representation Learning, NeurIPS 2017, arXiv 1711.00937.
The soft book is DALL-E's (Ramesh et al. 2021, arXiv 2102.12092, section 2.1 and appendix A); the critic is
VQ-GAN's (Esser, Rombach & Ommer 2021, arXiv 2012.09841, section 3.1), whose perceptual term looks through
VGG: here the training oracle of the shapes world, which judges nothing, takes its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sfumato.compat import dvae
from sfumato.compat.part import Weights, fill
from sfumato.core import parallel
from sfumato.core.adversarial import Game, critic_loss, generator_loss
from sfumato.core.likelihood import Gaussian, Laplace, LogitLaplace
from sfumato.core.request import Event, Images, Reconstruct
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.metrics.oracle import ShapesOracle, training_oracle
from sfumato.nn.autoencoder import AutoencoderConfig, Decoder, Encoder
from sfumato.nn.dvae import DVAEConfig, DVAEDecoder, DVAEEncoder
from sfumato.nn.patchgan import PatchCritic, PatchCriticConfig
from sfumato.nn.quantize import Codebook, perplexity, relaxed, straight_through


@dataclass(frozen=True)
class Hard:
    """The nearest code, with gradients passed straight through."""

    codes: int = 512
    decay: float = 0.99
    """Of the running means that codes are."""
    commit: float = 0.25
    """Weight of the encoder's distance from its codes (eq. 3)."""
    restart: float = 1.0
    """Codes chosen fewer times a step start anew where vectors are; 0 leaves them where they are."""


@dataclass(frozen=True)
class Soft:
    """A mixture of all codes that hardens while the temperature falls: DALL-E's relaxation."""

    codes: int = 8192
    kl: float = 6.6
    """Weight of the divergence of the choice from one without preference."""
    kl_steps: int = 5000
    """Over which that weight grows from 0."""
    temperature: float = 1 / 16
    """At the end."""
    cool_steps: int = 150_000
    """Over which the temperature falls from 1, along half a cosine."""


@dataclass(frozen=True)
class VQVAEConfig:
    """Network, book, weights of the loss, optimisers."""

    network: AutoencoderConfig | DVAEConfig = AutoencoderConfig()
    """``latent_channels`` is the length of a code; the second kind is that of the published dVAE."""
    book: Hard | Soft = Hard()
    likelihood: Gaussian | Laplace | LogitLaplace = Gaussian()
    """What the decoder says of a pixel."""
    perceptual: float = 0.0
    """Weight of the error in what the training oracle sees, as a share of all it sees."""
    adversarial: float = 0.0
    """Weight of the critic, balanced by gradients (eq. 7 of VQ-GAN); 0 needs none."""
    adversarial_from: int = 0
    """The first step at which the critic is heard and learns."""
    game: Game = "hinge"
    critic: PatchCriticConfig = PatchCriticConfig()
    """``channels`` follows the data."""
    optim: OptimConfig = OptimConfig(lr=1e-3)
    critic_optim: OptimConfig = OptimConfig(lr=1e-3)


class VQVAE(System[Reconstruct]):
    """An encoder to a grid of vectors, a book that replaces each by a code, and a decoder."""

    tasks = (Reconstruct,)
    Config = VQVAEConfig
    published = dvae.PUBLISHED

    def __init__(self, config: VQVAEConfig):
        super().__init__()
        self.config = config
        network, book = config.network, config.book
        width = network.latent_channels
        self.encoder, self.decoder = _coders(network, config.likelihood.outputs)
        self.quant_conv = nn.Conv2d(self.encoder.outputs, width if isinstance(book, Hard) else book.codes, 1)
        self.post_quant_conv = nn.Conv2d(width, width, 1)
        self.hard = Codebook(book.codes, width, book.decay) if isinstance(book, Hard) else None
        self.soft = nn.Embedding(book.codes, width) if isinstance(book, Soft) else None
        critic = replace(config.critic, channels=network.channels)
        self.critic = PatchCritic(critic) if config.adversarial > 0 else None

    @classmethod
    def fit(cls, config: VQVAEConfig, facts: Facts) -> VQVAEConfig:
        _check(config.network, facts.height, facts.width)
        return replace(config, network=replace(config.network, channels=facts.channels))

    @property
    def channels(self) -> int:
        return self.config.network.channels

    def players(self) -> dict[str, Player]:
        encoder, decoder, c = self.encoder, self.decoder, self.config
        quants = (self.quant_conv, self.post_quant_conv)
        modules = (encoder, decoder, *quants, *([self.soft] if self.soft is not None else []))
        ends = (*encoder.ends, *decoder.ends, *quants)
        players = {"autoencoder": Player(modules, c.optim, ends)}
        if self.critic is not None:
            critic = self.critic.model
            players["critic"] = Player((self.critic,), c.critic_optim, (critic[0], critic[-1]))
        return players

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """In nats a number of the picture (eq. 3); then, if one is heard, the critic's."""
        x, c = batch["image"], self.config
        h = self.quant_conv(self.encoder(x)).float()
        z, parts, index = self._choose(h, batch, step)
        out = self.decoder(self.post_quant_conv(z.to(h))).float()
        shown = c.likelihood.mean(out)
        parts["reconstruction"] = -c.likelihood.log_prob(x, out).mean() / x[0].numel()
        if c.perceptual > 0:
            parts["perceptual"] = c.perceptual * perceptual_loss(shown, x)
        heard = self.critic is not None and step >= c.adversarial_from
        if self.critic is not None and heard:
            game = generator_loss(c.game, self.critic(shown).float())
            parts["game"] = c.adversarial * _balance(torch.stack([*parts.values()]).sum(), game, out) * game
        loss = Loss.sum("autoencoder", **parts)
        yield replace(loss, parts={**loss.parts, "perplexity": perplexity(index, c.book.codes)})
        if isinstance(c.book, Hard) and self.hard is not None:
            self._turn_over(self.hard, c.book, h.detach(), index, batch)
        if self.critic is not None and heard:
            verdicts = self.critic(x), self.critic(shown.detach())
            yield Loss.sum("critic", game=critic_loss(c.game, *(v.float() for v in verdicts)))

    @torch.no_grad()
    def run(self, request: Reconstruct) -> Iterator[Event]:
        """Through the numbers and back."""
        x = request.images
        seeds = tuple(range(request.seed, request.seed + len(x)))
        parts = [self.pictures(self.tokens(part.to(self.device))) for part in x.split(64)]
        yield Images(torch.cat(parts), seeds=seeds)

    @classmethod
    def from_file(cls, path: Path) -> VQVAE:
        """DALL-E's dVAE, from the folder that holds OpenAI's ``encoder.pkl`` and ``decoder.pkl``."""
        found = dvae.read(path)
        with torch.device("meta"):
            system = cls(VQVAEConfig(found.network, Soft(found.codes), LogitLaplace()))
        fill(system, Weights(found.tensors, path))
        return system

    def tokens(self, x: Float[Tensor, "b c h w"]) -> Int[Tensor, "b i j"]:
        """The numbers a picture in [-1, 1] becomes."""
        _check(self.config.network, *x.shape[2:])
        h = self.quant_conv(self.encoder(x.to(self.dtype)))
        return self.hard.nearest(h) if self.hard is not None else h.argmax(1)

    def pictures(self, tokens: Int[Tensor, "b i j"]) -> Float[Tensor, "b c h w"]:
        """The pictures of such numbers."""
        if self.hard is not None:
            z = self.hard.look_up(tokens)
        else:
            assert self.soft is not None
            z = self.soft(tokens).movedim(-1, 1)
        out = self.decoder(self.post_quant_conv(z.to(self.dtype))).float()
        return self.config.likelihood.mean(out)

    def _choose(self, h: Tensor, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """What goes on to the decoder, what the choice costs, and the numbers chosen."""
        book = self.config.book
        if isinstance(book, Hard):
            assert self.hard is not None
            index = self.hard.nearest(h)
            chosen = self.hard.look_up(index)
            return straight_through(h, chosen), {"commit": book.commit * (h - chosen).square().mean()}, index
        assert self.soft is not None
        noise = batch.rng.normal(*h.shape[1:]).to(h)
        z = torch.einsum("bkij,kd->bdij", relaxed(h, noise, temperature(book, step)), self.soft.weight)
        log_q = h.log_softmax(1)
        spent = (log_q.exp() * (log_q + math.log(book.codes))).sum((1, 2, 3)).mean()
        growing = min(1.0, (step + 1) / book.kl_steps) if book.kl_steps else 1.0
        return z, {"kl": book.kl * growing * spent / batch["image"][0].numel()}, h.argmax(1)

    @torch.no_grad()
    def _turn_over(self, book: Codebook, config: Hard, h: Tensor, index: Tensor, batch: Batch) -> None:
        """Codes follow their vectors; those nothing chooses start anew at one vector of each picture."""
        book.follow(parallel.together(book.tally(h, index)))
        if config.restart > 0:
            place = (batch.rng.uniform() * h[0, 0].numel()).long().to(h.device)
            vectors = h.flatten(2)[torch.arange(len(h), device=h.device), :, place]
            book.restart(parallel.together(vectors), config.restart)


def _coders(
    network: AutoencoderConfig | DVAEConfig, outputs: int
) -> tuple[Encoder | DVAEEncoder, Decoder | DVAEDecoder]:
    """The two networks; the decoder says ``outputs`` numbers of each of a picture's."""
    if isinstance(network, DVAEConfig):
        return DVAEEncoder(network), DVAEDecoder(replace(network, channels=network.channels * outputs))
    shown = replace(network, channels=network.channels * outputs)
    return Encoder(network, network.latent_channels), Decoder(shown)


def temperature(book: Soft, step: int) -> float:
    """From 1 down to the last, along half a cosine, in the logarithm."""
    share = min(1.0, step / book.cool_steps)
    return float(book.temperature ** ((1 - math.cos(math.pi * share)) / 2))


def _balance(wanted: Tensor, game: Tensor, out: Tensor) -> Tensor:
    """How much smaller the critic's pull is than the others' (eq. 7 of VQ-GAN).

    Measured at the picture, not at the last layer's weights, which may be spread over several processes.
    """
    norms = [torch.autograd.grad(part, out, retain_graph=True)[0].norm() for part in (wanted, game)]
    return (norms[0] / (norms[1] + 1e-4)).clamp(max=1e4).detach()


def perceptual_loss(made: Float[Tensor, "b c h w"], real: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Squared error in what the training oracle sees of every part, as a share of all it sees."""
    eyes = _eyes(real.device.type)
    wanted = eyes.look(real.expand(-1, 3, -1, -1)).float()
    seen = eyes.look(made.expand(-1, 3, -1, -1)).float()
    return (seen - wanted).square().mean() / wanted.square().mean()


@cache
def _eyes(device: str) -> ShapesOracle:
    """The frozen network that the perceptual term looks through, read once."""
    return training_oracle().to(device)


def _check(network: AutoencoderConfig | DVAEConfig, height: int, width: int) -> None:
    if height % network.factor or width % network.factor:
        raise UsageError(
            f"Height and width must be multiples of {network.factor}, got {height} x {width}; "
            "crop or pad the picture."
        )


SMALL = AutoencoderConfig(latent_channels=32, widths=(64,), blocks=1, groups=8, patch=4, attention=False)
"""One code for 4 x 4 pixels; convolutions never run at full resolution."""
_MUON = OptimConfig(kind="muon", lr=4e-3, betas=(0.9, 0.99), warmup=50, decay=0.4)
_LAPTOP = Preset(
    VQVAEConfig(SMALL, Hard(256), Gaussian(0.2), optim=_MUON),
    data="single-shapes",
    size=32,
    train=TrainConfig(steps=1000, batch=32, ema=0.0),
)
_SHAPES = replace(_LAPTOP, data="shapes", size=64, train=TrainConfig(steps=4000, batch=16, ema=0.0))
_CRITIC = VQVAEConfig(
    SMALL,
    Hard(256),
    Laplace(0.2),
    perceptual=1.0,
    adversarial=0.8,
    adversarial_from=2000,
    critic=PatchCriticConfig(width=32, layers=2),
    optim=_MUON,
    critic_optim=OptimConfig(lr=2e-4, betas=(0.5, 0.9)),
)
_SOFT = Soft(256, kl=1.0, kl_steps=200, cool_steps=800)
VQVAE.presets = {
    "laptop": _LAPTOP,
    "fashion": replace(_LAPTOP, data="fashion", size=28),
    "dvae": replace(_LAPTOP, config=VQVAEConfig(SMALL, _SOFT, LogitLaplace(), optim=_MUON)),
    "shapes": _SHAPES,
    "vqgan": replace(_SHAPES, config=_CRITIC),
    "paper": Preset(
        VQVAEConfig(DVAEConfig(), Soft(), LogitLaplace(), optim=OptimConfig(lr=1e-4, weight_decay=1e-4)),
        data="folder",
        size=256,
        train=TrainConfig(steps=3_000_000, batch=512, ema=0.999),
    ),
}
