"""DF-GAN: one generator, one critic, and a sentence fused deeply into every block.

Tao, Tang, Wu, Jing, Bao, Xu: DF-GAN: A Simple and Effective Baseline for Text-to-Image Synthesis, CVPR 2022,
arXiv 2008.05865. Its authors read sentences with a recurrent network trained before; here a small reader of
words learns along with the critic. With ``attend``, places of the picture also look at single words, as in
AttnGAN (Xu et al., CVPR 2018, arXiv 1711.10485, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import relu

from sfumato.core.adversarial import generator_loss
from sfumato.core.request import Progress
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.data.text import WordTokenizer
from sfumato.nn.textgan import (
    FusionConfig,
    FusionCritic,
    FusionGenerator,
    FusionJudge,
    doublings,
    mismatched,
)
from sfumato.nn.transformer import Words, WordsConfig
from sfumato.systems.text.textgan import TextGAN

Negatives = Literal["nearest", "next"]


@dataclass(frozen=True)
class DFGANConfig:
    """Pictures, networks, and the rules of the game."""

    channels: int = 3
    height: int = 256
    width: int = 256
    text: WordsConfig = WordsConfig(width=256)
    latent: int = 100
    """Numbers that a picture of a given sentence is made from."""
    features: int = 32
    """Channels next to the picture."""
    attend: bool = False
    """Whether places of the picture look at single words."""
    penalty: float = 2.0
    """Weight of the matching-aware gradient penalty (equation 2)."""
    power: float = 6.0
    """Of the norm of the gradient, in that penalty."""
    lazy: int = 1
    """Steps from penalty to penalty; its weight grows as it becomes rarer."""
    negatives: Negatives = "nearest"
    """Which caption of the batch is the wrong one: the most similar that contradicts, or the next."""
    generator_optim: OptimConfig = OptimConfig(lr=1e-4, betas=(0.0, 0.9), clip=0.0)
    critic_optim: OptimConfig = OptimConfig(lr=4e-4, betas=(0.0, 0.9), clip=0.0)
    chunk: int = 64
    """Pictures made at a time."""

    @property
    def network(self) -> FusionConfig:
        """The shape of the networks for pictures of this size."""
        blocks = doublings(self.height, self.width)
        return FusionConfig(
            channels=self.channels,
            base=(self.height >> blocks, self.width >> blocks),
            blocks=blocks,
            width=self.features,
            noise=self.latent,
            sentence=self.text.width,
            words=self.text.width if self.attend else 0,
            attend=min(2, blocks - 1),
        )


class DFGAN(TextGAN):
    """A reader of words, a generator, and a critic who wants true pictures of what was said."""

    Config = DFGANConfig
    config: DFGANConfig

    def __init__(self, config: DFGANConfig):
        super().__init__()
        self.config = config
        network = config.network
        self.text = Words(config.text)
        self.tokenizer = WordTokenizer(config.text.vocabulary, config.text.length)
        self.generator = FusionGenerator(network)
        self.critic = FusionCritic(network)
        self.judge = FusionJudge(network)

    @classmethod
    def fit(cls, config: DFGANConfig, facts: Facts) -> DFGANConfig:
        doublings(facts.height, facts.width)
        text = replace(config.text, vocabulary=facts.words)
        return replace(config, channels=facts.channels, height=facts.height, width=facts.width, text=text)

    def players(self) -> dict[str, Player]:
        c = self.config
        return {
            "critic": Player((self.critic, self.judge, self.text), c.critic_optim),
            "generator": Player((self.generator,), c.generator_optim),
        }

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Equations 1 and 2: real pictures with their own captions, with wrong ones, and fakes."""
        c, real = self.config, batch["image"]
        ids = self.tokenizer.encode(batch["caption"]).tokens.to(real.device)
        words, sentence = self.text(ids)
        fake = self.generator(batch.rng.normal(c.latent).to(real), sentence.detach(), words.detach(), ids > 0)

        wrong = mismatched(ids) if c.negatives == "nearest" else torch.arange(len(ids)).roll(1)
        seen = self.critic(real)
        parts = {
            "real": relu(1 - self.judge(seen, sentence).float()).mean(),
            "wrong": relu(1 + self.judge(seen, sentence[wrong]).float()).mean() / 2,
            "fake": relu(1 + self.judge(self.critic(fake.detach()), sentence).float()).mean() / 2,
        }
        if step % c.lazy == 0:
            critic = lambda x, s: self.judge(self.critic(x), s)
            parts["penalty"] = c.lazy * c.penalty * matching_penalty(critic, real, sentence, c.power)
        yield Loss.sum("critic", **parts)

        sentence = self._sentence(ids)
        yield Loss.sum(
            "generator", game=generator_loss("hinge", self.judge(self.critic(fake), sentence).float())
        )

    @torch.no_grad()
    def _sentence(self, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b s"]:
        return self.text(ids)[1]

    def painted(self, ids: Int[Tensor, "b l"], rng: Rng) -> Iterator[Progress | Tensor]:
        """In one go."""
        words, sentence = self.text(ids)
        z = rng.normal(self.config.latent).to(self.device, self.dtype)
        yield self.generator(z, sentence, words, ids > 0)


def matching_penalty(
    critic: Callable[[Tensor, Tensor], Tensor],
    image: Float[Tensor, "b ..."],
    sentence: Float[Tensor, "b s"],
    power: float,
) -> Float[Tensor, ""]:
    """How steep the critic is at real pictures with their own sentences: E |grad|^power (section 3.2).

    The squared norm is raised to half the power: there is no root whose slope at 0 is infinite.
    """
    image, sentence = image.detach().requires_grad_(), sentence.detach().requires_grad_()
    verdict = critic(image, sentence).sum()
    gradients = torch.autograd.grad(verdict, (image, sentence), create_graph=True)
    squares = torch.stack([g.float().flatten(1).square().sum(1) for g in gradients]).sum(0)
    return squares.pow(power / 2).mean()


_TEXT = WordsConfig(length=16, width=64, depth=1, heads=2)
_LAPTOP = Preset(
    DFGANConfig(
        height=32,
        width=32,
        text=_TEXT,
        latent=32,
        features=16,
        lazy=4,
        generator_optim=OptimConfig(lr=4e-4, betas=(0.0, 0.9), clip=0.0, decay=0.3),
        critic_optim=OptimConfig(lr=8e-4, betas=(0.0, 0.9), clip=0.0, decay=0.3),
    ),
    data="one-shape",
    size=32,
    train=TrainConfig(steps=1200, batch=32, ema=0.995),
)
DFGAN.presets = {
    "laptop": _LAPTOP,
    "attention": replace(_LAPTOP, config=replace(_LAPTOP.config, attend=True)),
    "paper": Preset(
        DFGANConfig(), data="folder", size=256, train=TrainConfig(steps=340_000, batch=32, ema=0.9999)
    ),
}
