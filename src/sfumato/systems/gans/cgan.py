"""CGAN: generator and critic are both told the label, so that one may ask for what one wants to see.

Mirza, Osindero: Conditional Generative Adversarial Nets, 2014, arXiv 1411.1784; in the convolutional form of
Radford's code, which repeats the label beside the maps of every layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from sfumato.core.adversarial import Game, critic_loss, generator_loss
from sfumato.core.generate import in_turn
from sfumato.core.labels import number_of
from sfumato.core.request import Event, Generate, Images, Walk
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.dcgan import DCCritic, DCGANNetsConfig, DCGenerator
from sfumato.systems.gans.dcgan import check_walk, film
from sfumato.systems.gans.gan import Prior, draw


@dataclass(frozen=True)
class CGANConfig:
    """Networks, labels and the rules of the game."""

    network: DCGANNetsConfig = DCGANNetsConfig(classes=10)
    classes: tuple[str, ...] = tuple(str(digit) for digit in range(10))
    """Names of the labels."""
    prior: Prior = "normal"
    game: Game = "non_saturating"
    generator_optim: OptimConfig = OptimConfig(lr=2e-4, betas=(0.5, 0.999), clip=0.0)
    critic_optim: OptimConfig = OptimConfig(lr=2e-4, betas=(0.5, 0.999), clip=0.0)
    chunk: int = 256
    """Pictures made at a time."""


class CGAN(System[Generate | Walk]):
    """The networks of DCGAN, told the label at every layer."""

    tasks = (Generate, Walk)
    needs = frozenset({"image", "label"})
    Config = CGANConfig

    def __init__(self, config: CGANConfig):
        super().__init__()
        self.config = config
        network = replace(config.network, classes=len(config.classes))
        self.generator = DCGenerator(network)
        self.critic = DCCritic(network)

    @classmethod
    def fit(cls, config: CGANConfig, facts: Facts) -> CGANConfig:
        if not facts.classes:
            raise UsageError(
                f"CGAN learns by label, but '{facts.name}' has none; give labelled data (a folder with one "
                "subfolder a class), or train dcgan."
            )
        network = replace(
            config.network,
            channels=facts.channels,
            height=facts.height,
            width=facts.width,
            classes=len(facts.classes),
        )
        return replace(config, network=network, classes=facts.classes)

    @property
    def channels(self) -> int:
        return self.config.network.channels

    def players(self) -> dict[str, Player]:
        return {
            "critic": Player((self.critic,), self.config.critic_optim),
            "generator": Player((self.generator,), self.config.generator_optim),
        }

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Equation 2: the critic judges example and label together; fakes are of the batch's own labels."""
        real, game, y = batch["image"], self.config.game, self._told(batch["label"])
        fake = self.generator(self._latents(batch.rng).to(real), y)
        seen = self.critic(real, y).float(), self.critic(fake.detach(), y).float()
        yield Loss.sum("critic", game=critic_loss(game, *seen))
        yield Loss.sum("generator", game=generator_loss(game, self.critic(fake, y).float()))

    def run(self, request: Generate | Walk) -> Iterator[Event]:
        """Pictures of the labels asked for, of all in turn if none is; or a walk from one to the next."""
        if isinstance(request, Walk):
            return self._walk(request)
        return in_parts(self._serve, request, self.config.chunk, self.hears)

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"label"})

    def preview(self, count: int, seed: int) -> Generate:
        return Generate(count=count, seed=seed, label=tuple(range(len(self.config.classes))))

    @torch.no_grad()
    def _serve(self, request: Generate) -> Iterator[Event]:
        rng = Rng.sampling(request.seed, request.count)
        labels = self._labels(request.label, rng)
        yield Images(self._decode(self._latents(rng), labels), seeds=tuple(rng.seeds))

    @torch.no_grad()
    def _walk(self, request: Walk) -> Iterator[Event]:
        """Between latents at one label; each picture its own label if none is given, changing half-way."""
        check_walk(request, self.hears)
        rng = Rng.sampling(request.seed, request.count)
        y = self._told(self._labels(request.label, rng)).cpu()
        ends = torch.cat([self._latents(rng), y], 1)

        def decode(path: Tensor) -> Tensor:
            z, nearest_label = path[:, : -y.shape[1]], path[:, -y.shape[1] :].argmax(1)
            return self._decode(z, nearest_label)

        yield from film(decode, ends, request)

    def _decode(self, z: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        chunk = self.config.chunk
        y = self._told(labels.to(self.device)).to(self.dtype)
        pairs = zip(z.to(self.device, self.dtype).split(chunk), y.split(chunk), strict=True)
        return torch.cat([self.generator(part, told).float() for part, told in pairs])

    def _latents(self, rng: Rng) -> Float[Tensor, "n d"]:
        return draw(rng, self.config.network.latent, self.config.prior)

    def _told(self, labels: Int[Tensor, " n"]) -> Float[Tensor, "n k"]:
        return one_hot(labels, len(self.config.classes)).float()

    def _labels(self, label: int | str | tuple[int | str, ...] | None, rng: Rng) -> Int[Tensor, " n"]:
        """The labels asked for, in turn; without, one drawn for each picture."""
        classes = self.config.classes
        if label is None:
            return rng.integers(0, len(classes))
        given = label if isinstance(label, tuple) else (label,)
        return torch.tensor(in_turn(tuple(number_of(name, classes) for name in given), range(len(rng))))


_FAST = OptimConfig(lr=4e-4, betas=(0.5, 0.999), clip=0.0)
_NETS = DCGANNetsConfig(
    channels=1, height=28, width=28, latent=64, generator=(64, 32), critic=(32, 64), classes=10
)
CGAN.presets = {
    "digits": Preset(
        CGANConfig(replace(_NETS, height=8, width=8, generator=(64,), critic=(64,))),
        data="digits",
        size=8,
        train=TrainConfig(steps=2500, batch=64, ema=0.995),
    ),
    "laptop": Preset(
        CGANConfig(_NETS, generator_optim=_FAST, critic_optim=_FAST),
        data="fashion",
        size=28,
        train=TrainConfig(steps=5000, batch=64, ema=0.995),
    ),
    "paper": Preset(
        CGANConfig(replace(_NETS, latent=100, generator=(128, 64), critic=(64, 128)), prior="uniform"),
        data="fashion",
        size=28,
        train=TrainConfig(steps=94_000, batch=128, ema=0.0),
    ),
}
"""The "paper" preset has the widths, latents and batches of Radford's code, with kernels of 4 x 4."""
