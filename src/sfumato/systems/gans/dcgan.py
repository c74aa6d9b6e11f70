"""DCGAN: two convolutional networks that play the game stably, and a latent space one can walk and reckon in.

Radford, Metz, Chintala: Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks, ICLR 2016, arXiv 1511.06434.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import log_softmax

from sfumato.core.adversarial import Game, critic_loss, generator_loss
from sfumato.core.latent import walk
from sfumato.core.request import Edit, Event, Generate, Images, Progress, Video, Walk
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.data.shapes.scene import COLOURS, SHAPES
from sfumato.data.shapes.single import CENTRE, in_a_scene
from sfumato.errors import UsageError, nearest
from sfumato.metrics.oracle import ShapesOracle, training_oracle
from sfumato.nn.dcgan import DCCritic, DCGANNetsConfig, DCGenerator
from sfumato.systems.gans.gan import Prior, draw

SEARCHED = 1024
"""Pictures among which those that show a concept are sought."""
AVERAGED = 12
"""Latents that make up a concept; the paper took three, which was not stable (section 6.3.2)."""
WOBBLE = 0.25
"""How far latents around the result of an edit stray, uniformly (figure 7)."""


@dataclass(frozen=True)
class DCGANConfig:
    """Networks and the rules of the game."""

    network: DCGANNetsConfig = DCGANNetsConfig()
    prior: Prior = "normal"
    """How latents are drawn: standard normal, or uniform in [-1, 1] as in the paper."""
    game: Game = "non_saturating"
    generator_optim: OptimConfig = OptimConfig(lr=2e-4, betas=(0.5, 0.999), clip=0.0)
    critic_optim: OptimConfig = OptimConfig(lr=2e-4, betas=(0.5, 0.999), clip=0.0)
    chunk: int = 256
    """Pictures made at a time."""


class DCGAN(System[Generate | Walk | Edit]):
    """A generator and a critic of convolutions, and no labels."""

    tasks = (Generate, Walk, Edit)
    Config = DCGANConfig

    def __init__(self, config: DCGANConfig):
        super().__init__()
        self.config = config
        self.generator = DCGenerator(config.network)
        self.critic = DCCritic(config.network)

    @classmethod
    def fit(cls, config: DCGANConfig, facts: Facts) -> DCGANConfig:
        network = replace(config.network, channels=facts.channels, height=facts.height, width=facts.width)
        return replace(config, network=network)

    @property
    def channels(self) -> int:
        return self.config.network.channels

    def players(self) -> dict[str, Player]:
        return {
            "critic": Player((self.critic,), self.config.critic_optim),
            "generator": Player((self.generator,), self.config.generator_optim),
        }

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """One move each; the critic sees real examples and fakes apart, for batch norm's sake."""
        real, game = batch["image"], self.config.game
        fake = self.generator(self._latents(batch.rng).to(real))
        seen = self.critic(real).float(), self.critic(fake.detach()).float()
        yield Loss.sum("critic", game=critic_loss(game, *seen))
        yield Loss.sum("generator", game=generator_loss(game, self.critic(fake).float()))

    def run(self, request: Generate | Walk | Edit) -> Iterator[Event]:
        """New pictures, a walk between some, or latent arithmetic."""
        match request:
            case Walk():
                return self._walk(request)
            case Edit():
                return self._edit(request)
        return in_parts(self._serve, request, self.config.chunk, self.hears)

    def preview(self, count: int, seed: int) -> Generate:
        return Generate(count=count, seed=seed)

    @torch.no_grad()
    def _serve(self, request: Generate) -> Iterator[Event]:
        rng = Rng.sampling(request.seed, request.count)
        yield Images(self.decode(self._latents(rng)), seeds=tuple(rng.seeds))

    @torch.no_grad()
    def _walk(self, request: Walk) -> Iterator[Event]:
        """From one latent to the next and so on (figure 4)."""
        check_walk(request, self.hears)
        yield from film(self.decode, self._latents(Rng.sampling(request.seed, request.count)), request)

    @torch.no_grad()
    def _edit(self, request: Edit) -> Iterator[Event]:
        """Reckon with mean latents of concepts, as in "red circle - red square + blue square" (figure 7).

        The first concept is where one starts; the others are added ``strength`` times.
        """
        if request.images is not None:
            raise UsageError("This model cannot take pictures in; leave them out, and new ones are made.")
        terms = read_terms(request.prompt)
        found, notes = self.find([name for _, name in terms])
        yield Progress(0.9)
        start, *others = (sign * found[name] for sign, name in terms)
        middle = start + request.strength * sum(others, torch.zeros_like(start))
        rng = Rng.sampling(request.seed, request.count)
        around = middle.cpu() + WOBBLE * draw(rng, self.config.network.latent, "uniform")
        yield Images(self.decode(around), seeds=tuple(rng.seeds), notes=notes)

    @torch.no_grad()
    def find(self, names: Sequence[str]) -> tuple[Mapping[str, Float[Tensor, " d"]], tuple[str, ...]]:
        """The mean latent of each concept, a colour, a shape or both, and warnings where it is rarely shown.

        Of many pictures those are taken that the training oracle holds to show it most clearly.
        """
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(SEARCHED, self.config.network.latent, generator=generator)
        z = z if self.config.prior == "normal" else 2 * torch.special.ndtr(z) - 1
        oracle = training_oracle().to(self.device)
        logs = [_concepts(oracle, self.decode(part)) for part in z.split(self.config.chunk)]
        there, shape, colour = (torch.cat(log).cpu() for log in zip(*logs, strict=True))
        found, notes = {}, []
        for name in dict.fromkeys(names):
            clear = there.clone()
            for word in name.split():
                clear += shape[:, SHAPES.index(word)] if word in SHAPES else colour[:, COLOURS.index(word)]
            best = clear.topk(AVERAGED)
            found[name] = z[best.indices].mean(0)
            if float(best.values.exp().mean()) < 0.5:
                notes.append(f"Hardly any picture of this model shows '{name}'; the result means little.")
        return found, tuple(notes)

    def decode(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n c h w"]:
        """Pictures in [-1, 1] of latents, a chunk at a time."""
        parts = z.to(self.device, self.dtype).split(self.config.chunk)
        return torch.cat([self.generator(part).float() for part in parts])

    def _latents(self, rng: Rng) -> Float[Tensor, "n d"]:
        return draw(rng, self.config.network.latent, self.config.prior)


def film(decode: Callable[[Tensor], Tensor], points: Float[Tensor, "k d"], request: Walk) -> Iterator[Event]:
    """The pictures of a walk from latent to latent."""
    path = walk(points, request.frames, request.way, loop=request.loop)
    yield Video(decode(path)[None], seeds=tuple(range(request.seed, request.seed + request.count)))


def check_walk(request: Walk, hears: frozenset[str]) -> None:
    """Refuse what makes no sense, or what these systems cannot follow."""
    if request.count < 1 or request.frames < 1:
        raise UsageError(
            f"A walk needs at least 1 picture and 1 frame, got {request.count} and {request.frames}."
        )
    if request.images is not None:
        raise UsageError("This model cannot take pictures in; leave them out, and new ones are made.")
    if request.truncation is not None:
        raise UsageError("This model has no truncation; leave it out.")
    if request.label is not None and "label" not in hears:
        raise UsageError("This model was trained without labels; leave the label out.")


def read_terms(prompt: str) -> list[tuple[float, str]]:
    """Signs and concepts of a sum of colours and shapes.

    >>> read_terms("red circle - square + blue")
    [(1.0, 'red circle'), (-1.0, 'square'), (1.0, 'blue')]
    """
    first, *rest = re.split(r"\s*([+-])\s*", " ".join(prompt.lower().split()))
    signs, names = ["+", *rest[::2]], [first, *rest[1::2]]
    if not first and rest:
        signs, names = signs[1:], names[1:]
    for name in names:
        if not name:
            raise UsageError(f"'{prompt}' is no sum of concepts; write such as 'red circle - red + blue'.")
        for word in name.split():
            if word not in COLOURS + SHAPES:
                raise UsageError(f"Unknown colour or shape '{word}'{nearest(word, COLOURS + SHAPES)}")
    return [(-1.0 if sign == "-" else 1.0, name) for sign, name in zip(signs, names, strict=True)]


def _concepts(oracle: ShapesOracle, pixels: Tensor) -> list[Tensor]:
    """Logarithms of the probability that pictures show something, (n,), of shapes (n, k) and of colours."""
    there, shape, colour, *_ = oracle.cells(in_a_scene(pixels), (CENTRE,))
    logs = [log_softmax(logits[:, 0].float(), 1) for logits in (there, shape, colour)]
    return [logs[0][:, 1], logs[1], logs[2]]


_FAST = OptimConfig(lr=4e-4, betas=(0.5, 0.999), clip=0.0)
_SMALL = DCGANNetsConfig(height=16, width=16, latent=64, generator=(64, 32), critic=(32, 64))
DCGAN.presets = {
    "laptop": Preset(
        DCGANConfig(_SMALL, generator_optim=_FAST, critic_optim=_FAST),
        data="single-shapes",
        size=16,
        train=TrainConfig(steps=2500, batch=64, ema=0.995),
    ),
    "digits": Preset(
        DCGANConfig(replace(_SMALL, channels=1, height=8, width=8, generator=(64,), critic=(64,))),
        data="digits",
        size=8,
        train=TrainConfig(steps=3000, batch=64, ema=0.995),
    ),
    "fashion": Preset(
        DCGANConfig(
            replace(_SMALL, channels=1, height=28, width=28), generator_optim=_FAST, critic_optim=_FAST
        ),
        data="fashion",
        size=28,
        train=TrainConfig(steps=3000, batch=64, ema=0.995),
    ),
    "paper": Preset(
        DCGANConfig(DCGANNetsConfig(), prior="uniform"),
        data="folder",
        size=64,
        train=TrainConfig(steps=137_000, batch=128, ema=0.0),
    ),
}
"""The paper's faces were 350,000 crops, seen 25 times in batches of 128 by 5 x 5 kernels instead of 4 x 4."""
