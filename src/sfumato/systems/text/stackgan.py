"""StackGAN: a first network sketches what a sentence says, a second paints it larger and mends it.

Zhang, Xu, Li, Zhang, Wang, Huang, Metaxas: StackGAN: Text to Photo-realistic Image Synthesis with Stacked
Generative Adversarial Networks, ICCV 2017, arXiv 1612.03242. The paper reads sentences with a network trained
before; here a small reader of words learns along with the first critic and is frozen with the first stage.
The condition's cloud has the paper's linear head (some ports rectify the logarithm of its variance).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from sfumato.core.adversarial import Game, critic_loss, generator_loss
from sfumato.core.request import Progress
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.data.text import WordTokenizer
from sfumato.errors import DataError, UsageError
from sfumato.nn.textgan import FirstStage, SecondStage, StackConfig, StackCritic, doublings, mismatched
from sfumato.nn.transformer import Words, WordsConfig
from sfumato.systems.text.textgan import TextGAN

_ADAM = OptimConfig(lr=2e-4, betas=(0.5, 0.999), clip=0.0)


@dataclass(frozen=True)
class StackGANConfig:
    """Pictures, networks, and the rules of the game."""

    channels: int = 3
    height: int = 256
    width: int = 256
    stage: Literal[1, 2] = 1
    """Which stage is trained; the first one's pictures are enlarged by the bicubic filter."""
    doublings: int = 2
    """How often the first stage's pictures are doubled by the second."""
    text: WordsConfig = WordsConfig(width=1024, heads=16)
    latent: int = 100
    """Numbers that a sketch of a given sentence is made from."""
    told: int = 128
    """Numbers to which a sentence is condensed."""
    features: int = 64
    """The generators' channels next to the small picture."""
    critic: int = 64
    """Channels of the critics' first layers."""
    residual: int = 4
    """Blocks in which the second stage thinks."""
    divergence: float = 2.0
    """Weight of the divergence of the conditions' clouds (equation 2), mean over numbers."""
    game: Game = "non_saturating"
    generator_optim: OptimConfig = _ADAM
    critic_optim: OptimConfig = _ADAM
    chunk: int = 64
    """Pictures made at a time."""

    @property
    def network(self) -> StackConfig:
        """The shape of the networks for pictures of this size."""
        height, width = self.height >> self.doublings, self.width >> self.doublings
        blocks = doublings(height, width)
        return StackConfig(
            channels=self.channels,
            base=(height >> blocks, width >> blocks),
            blocks=blocks,
            doublings=self.doublings,
            residual=self.residual,
            width=self.features,
            critic=self.critic,
            noise=self.latent,
            sentence=self.text.width,
            told=self.told,
        )


class StackGAN(TextGAN):
    """A reader of words, one or two generators, and the critic of the stage that learns."""

    Config = StackGANConfig
    config: StackGANConfig

    def __init__(self, config: StackGANConfig):
        super().__init__()
        self.config = config
        network, first = config.network, config.stage == 1
        self.text = Words(config.text).requires_grad_(first)
        self.tokenizer = WordTokenizer(config.text.vocabulary, config.text.length)
        self.first = FirstStage(network).requires_grad_(first)
        self.second = None if first else SecondStage(network)
        self.critic = StackCritic(network, network.blocks + (0 if first else network.doublings))

    @classmethod
    def fit(cls, config: StackGANConfig, facts: Facts) -> StackGANConfig:
        factor = 2**config.doublings
        if facts.height % factor or facts.width % factor:
            raise UsageError(
                f"Height and width must be multiples of {factor}, got {facts.height} x {facts.width}; "
                "choose another --size."
            )
        doublings(facts.height // factor, facts.width // factor)
        text = replace(config.text, vocabulary=facts.words)
        return replace(config, channels=facts.channels, height=facts.height, width=facts.width, text=text)

    def players(self) -> dict[str, Player]:
        c = self.config
        if self.second is None:
            modules: tuple[tuple[torch.nn.Module, ...], torch.nn.Module] = (
                (self.critic, self.text),
                self.first,
            )
        else:
            modules = (self.critic,), self.second
        return {
            "critic": Player(modules[0], c.critic_optim),
            "generator": Player((modules[1],), c.generator_optim),
        }

    def adopt(self, base: System[Any]) -> None:
        """Build the second stage upon a trained first one, which stays as it is."""
        fits = isinstance(base, StackGAN) and (base.config.text, base.config.network) == (
            self.config.text,
            self.config.network,
        )
        if self.config.stage == 1 or not isinstance(base, StackGAN) or not fits:
            raise DataError(
                f"The second stage of StackGAN needs a trained first one of its own shape, got a "
                f"{type(base).__name__} that differs; train one with 'sfumato train stackgan laptop'."
            )
        self.text.load_state_dict(base.text.state_dict())
        self.first.load_state_dict(base.first.state_dict())

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Equations 3 and 4, or 5 and 6: right pairs against wrong captions and fakes, half each."""
        c, real = self.config, batch["image"]
        ids = self.tokenizer.encode(batch["caption"]).tokens.to(real.device)
        wrong = mismatched(ids)
        sentence = self.text(ids)[1]
        sketch, fake, divergence = self._make(batch.rng, sentence.detach())
        if self.second is None:
            real = avg_pool2d(real, 2**c.doublings)
        pictures = sketch if fake is None else fake

        right, other = self.critic(real, sentence, sentence[wrong]).float()
        fooled = self.critic(pictures.detach(), sentence).float()[0]
        yield Loss.sum("critic", game=critic_loss(c.game, right, torch.cat([other, fooled])))

        verdict = self.critic(pictures, sentence.detach()).float()
        yield Loss.sum(
            "generator", game=generator_loss(c.game, verdict), divergence=c.divergence * divergence
        )

    def _make(
        self, rng: Rng, sentence: Float[Tensor, "b s"]
    ) -> tuple[Float[Tensor, "b c i j"], Float[Tensor, "b c h w"] | None, Float[Tensor, ""]]:
        """The sketch, the second stage's picture if there is one, the divergence of the stage that learns."""
        c = self.config
        z, *noises = (rng.normal(n).to(sentence) for n in (c.latent, c.told, c.told))
        sketch, divergence = self.first(z, sentence, noises[0])
        if self.second is None:
            return sketch, None, divergence
        return sketch, *self.second(sketch, sentence, noises[1])

    def painted(self, ids: Int[Tensor, "b l"], rng: Rng) -> Iterator[Progress | Tensor]:
        """The sketch can be seen on the way."""
        sketch, fake, _ = self._make(rng, self.text(ids)[1])
        show = partial(self._enlarged, sketch)
        if fake is None:
            yield show()
        else:
            yield Progress(0.5, show)
            yield fake

    def _enlarged(self, sketch: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c h w"]:
        size = (self.config.height, self.config.width)
        return interpolate(sketch.float(), size, mode="bicubic", antialias=True).clamp(-1, 1)


_FAST = OptimConfig(lr=4e-4, betas=(0.5, 0.99), clip=0.0, decay=0.3)
_LAPTOP = Preset(
    StackGANConfig(
        height=32,
        width=32,
        doublings=1,
        text=WordsConfig(length=16, width=64, depth=1, heads=2),
        latent=32,
        told=48,
        features=32,
        critic=32,
        residual=2,
        generator_optim=_FAST,
        critic_optim=_FAST,
    ),
    data="one-shape",
    size=32,
    train=TrainConfig(steps=2000, batch=32, ema=0.995),
)
_PAPER = Preset(StackGANConfig(), data="folder", size=256, train=TrainConfig(steps=80_000, batch=64, ema=0.0))
StackGAN.presets = {
    "laptop": _LAPTOP,
    "second": replace(
        _LAPTOP,
        config=replace(_LAPTOP.config, stage=2),
        train=replace(_LAPTOP.train, steps=1200),
        base=("stackgan", "laptop"),
    ),
    "paper": _PAPER,
    "paper-second": replace(_PAPER, config=StackGANConfig(stage=2), base=("stackgan", "paper")),
}
