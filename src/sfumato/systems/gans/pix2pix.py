"""pix2pix: learn from pairs how to turn one kind of picture into another, and let a critic judge the detail.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017,
arXiv 1611.07004. Batch norm over a batch of one, as the paper trains and tests, is the norm of every picture
by its own statistics; here that holds for batches of any size. Dropout, its only noise, rests when serving.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import l1_loss

from sfumato.compat.cyclegan import UNET, generators, read_unet
from sfumato.core.adversarial import Game, critic_loss, generator_loss
from sfumato.core.request import Event, Translate
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.core.translate import translated
from sfumato.data.dataset import Facts
from sfumato.errors import DataError, UsageError
from sfumato.nn.patchgan import PatchCritic, PatchCriticConfig
from sfumato.nn.unet_p2p import TranslatorUNet, TranslatorUNetConfig

FEWEST = 2
"""Levels of the smallest U-Net there is."""


@dataclass(frozen=True)
class Pix2PixConfig:
    """Networks, weights of the loss, and which way."""

    channels: int = 3
    generator: TranslatorUNetConfig = TranslatorUNetConfig()
    critic: PatchCriticConfig = PatchCriticConfig(channels=6)
    game: Game = "non_saturating"
    adversarial: float = 1.0
    """Weight of the critic's opinion; 0 leaves the distance alone, and blurs what it cannot know."""
    l1: float = 100.0
    """Weight of the mean absolute difference from the true picture."""
    backwards: bool = False
    """Whether to learn the way from the picture to its source."""
    optim: OptimConfig = OptimConfig(lr=2e-4, betas=(0.5, 0.999), clip=0.0, decay=0.5)
    chunk: int = 16
    """Pictures translated at a time."""


class Pix2Pix(System[Translate]):
    """A U-Net translates; a critic sees source and picture together and judges every patch."""

    tasks = (Translate,)
    needs = frozenset({"source", "image"})
    Config = Pix2PixConfig
    published = frozenset({UNET})

    def __init__(self, config: Pix2PixConfig):
        super().__init__()
        self.config = c = config
        shape = replace(c.generator, channels_in=c.channels, channels_out=c.channels)
        self.generator = TranslatorUNet(shape)
        self.critic = PatchCritic(replace(c.critic, channels=2 * c.channels))

    @classmethod
    def fit(cls, config: Pix2PixConfig, facts: Facts) -> Pix2PixConfig:
        most = max(FEWEST, min(facts.height, facts.width).bit_length() - 1)
        levels = min(config.generator.levels, most)
        return replace(config, channels=facts.channels, generator=replace(config.generator, levels=levels))

    def players(self) -> dict[str, Player]:
        optim = self.config.optim
        return {"critic": Player((self.critic,), optim), "generator": Player((self.generator,), optim)}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Equations 1 to 4; the critic's loss is halved, so that it learns at half the pace (section 3.3)."""
        c, x, y = self.config, batch["source"], batch["image"]
        if c.backwards:
            x, y = y, x
        fake = self.generator(x)
        yield Loss.sum(
            "critic", game=critic_loss(c.game, self._judged(x, y), self._judged(x, fake.detach())) / 2
        )
        yield Loss.sum(
            "generator",
            game=c.adversarial * generator_loss(c.game, self._judged(x, fake)),
            l1=c.l1 * l1_loss(fake.float(), y),
        )

    def _judged(self, x: Tensor, y: Tensor) -> Float[Tensor, "b 1 i j"]:
        return self.critic(torch.cat([x, y], 1)).float()

    def run(self, request: Translate) -> Iterator[Event]:
        """Translate pictures of any size; there is one way alone, and no chance."""
        if request.direction:
            raise UsageError(f"pix2pix goes one way only, got direction '{request.direction}'; leave it out.")
        yield from translated(self, self.generator, request, self.config.chunk)

    @classmethod
    def from_file(cls, path: Path) -> Pix2Pix:
        """A published generator (``latest_net_G.pth``); the critic beside it is new and knows nothing."""
        found = read_unet(generators(path)[0])
        if found.config.channels_in != found.config.channels_out:
            raise DataError(
                f"'{path}' turns {found.config.channels_in} channels into {found.config.channels_out}, "
                "but here both are pictures of one kind; give another file."
            )
        config = Pix2PixConfig(channels=found.config.channels_in, generator=found.config)
        system = cls(config)
        system.generator.load_state_dict(dict(found.tensors))
        return system


SMALL = TranslatorUNetConfig(width=32, levels=5, norm="picture")
"""32 pixels down to one; norms of all channels together keep colours apart."""

Pix2Pix.presets = {
    "laptop": Preset(
        Pix2PixConfig(
            generator=SMALL,
            critic=PatchCriticConfig(channels=6, width=24, layers=1),
            optim=OptimConfig(lr=1e-3, betas=(0.5, 0.999), clip=0.0, decay=0.5),
        ),
        data="edges-to-shapes",
        size=32,
        train=TrainConfig(steps=3000, batch=8, ema=0.99),
    ),
    "paper": Preset(
        Pix2PixConfig(),
        data="folder",
        size=256,
        train=TrainConfig(steps=80_000, batch=1, ema=0.0),
    ),
}
