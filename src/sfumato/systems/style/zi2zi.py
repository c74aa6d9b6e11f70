"""zi2zi: one network draws the characters of one font in many others, also those it never saw in them.

Tian: zi2zi, Master Chinese Calligraphy with Conditional Adversarial Networks, 2017 (kaonashi-tyc/zi2zi): the
U-Net of pix2pix, told the font by an embedding beside the code of the character, a critic that also names the
font (Odena et al. 2016, arXiv 1610.09585), and the constancy of the code (Taigman et al. 2016, arXiv
1611.02200). Dropout, its only noise, rests when serving.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import (
    affine_grid,
    binary_cross_entropy_with_logits,
    grid_sample,
    l1_loss,
    mse_loss,
    one_hot,
    softplus,
)

from sfumato.core.generate import in_turn
from sfumato.core.labels import number_of
from sfumato.core.request import Event, Images, Letters, Progress
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.lettering import (
    FontCritic,
    FontCriticConfig,
    LetteringDecoder,
    LetteringEncoder,
    LetteringUNetConfig,
)


@dataclass(frozen=True)
class Zi2ZiConfig:
    """Fonts, networks, and weights of the loss."""

    channels: int = 1
    height: int = 256
    width: int = 256
    fonts: tuple[str, ...] = tuple(f"font {number}" for number in range(40))
    """Names of the fonts it draws."""
    generator: LetteringUNetConfig = LetteringUNetConfig()
    critic: FontCriticConfig = FontCriticConfig()
    l1: float = 100.0
    """Weight of the mean absolute difference from the true character."""
    constant: float = 15.0
    """Weight of the squared difference between the codes of the character and of what was made of it."""
    category: float = 1.0
    """Weight of being seen as the right font."""
    shuffle: bool = True
    """Whether characters are also drawn in fonts by chance, of which there is no true picture."""
    turns: int = 2
    """How often the generator moves for each move of the critic."""
    zoom: float = 1.2
    """Up to how much examples are enlarged, then cut; 1 leaves them as they are."""
    freeze_encoder: bool = False
    """Whether the way down stays as it is: to learn a new font from few of its characters."""
    optim: OptimConfig = OptimConfig(lr=1e-3, betas=(0.5, 0.999), clip=0.0, decay=0.8)
    chunk: int = 64
    """Characters drawn at a time."""


class Zi2Zi(System[Letters]):
    """One U-Net for all fonts; a critic names the font it sees."""

    tasks = (Letters,)
    needs = frozenset({"source", "image", "label"})
    Config = Zi2ZiConfig

    def __init__(self, config: Zi2ZiConfig):
        super().__init__()
        self.config = c = config
        if c.turns < 1 or c.zoom < 1:
            raise UsageError(f"zi2zi needs turns and zoom of at least 1, got {c.turns} and {c.zoom:g}.")
        known = len(c.fonts)
        network = replace(c.generator, channels=c.channels, fonts=known)
        self.encoder, self.decoder = LetteringEncoder(network), LetteringDecoder(network)
        shape = replace(c.critic, channels=2 * c.channels, height=c.height, width=c.width, fonts=known)
        self.critic = FontCritic(shape)
        if c.freeze_encoder:
            self.encoder.requires_grad_(False)

    @classmethod
    def fit(cls, config: Zi2ZiConfig, facts: Facts) -> Zi2ZiConfig:
        if not facts.classes:
            raise UsageError(
                f"zi2zi learns fonts by their label, but '{facts.name}' has none; give it fonts "
                "(--source FONT --target FONT)."
            )
        most = max(2, (min(facts.height, facts.width) - 1).bit_length())
        return replace(
            config,
            channels=facts.channels,
            height=facts.height,
            width=facts.width,
            fonts=facts.classes,
            generator=replace(config.generator, levels=min(config.generator.levels, most)),
        )

    def players(self) -> dict[str, Player]:
        optim = self.config.optim
        return {
            "critic": Player((self.critic,), optim),
            "generator": Player((self.encoder, self.decoder), optim),
        }

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """The critic moves once, then the generator ``turns`` times on the same examples."""
        c = self.config
        x, y = zoomed(batch["source"], batch["image"], c.zoom, batch.rng)
        fonts = batch["label"]
        if c.shuffle and len(c.fonts) > 1:  # as balanced labels shuffled, however batches are split
            chance = batch.rng.integers(0, len(c.fonts)).to(fonts)
            fonts = torch.cat([fonts, chance])
        told = self._weights(fonts)
        code, made = self._drawn(x, told)
        yield self._critics_loss(x, y, made.detach(), told)
        for turn in range(c.turns):
            if turn:
                code, made = self._drawn(x, told)
            yield self._generators_loss(x, y, code, made, told)

    def _drawn(self, x: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of characters, and the characters in as many fonts as there are weights for each."""
        times = len(told) // len(x)
        seen = [repeated(level, times) for level in self.encoder(x)]
        height, width = x.shape[2:]
        return seen[-1], self.decoder(seen, told)[:, :, :height, :width]

    def _critics_loss(self, x: Tensor, y: Tensor, made: Tensor, told: Tensor) -> Loss:
        """Real or made, and of which font; what is made must be seen as of its font, too."""
        true = told[: len(y)]
        real, real_font = self._judged(x, y)
        fake, fake_font = self._judged(x, made)
        named = torch.cat([real_font, fake_font]), torch.cat([true, told])
        return Loss.sum(
            "critic",
            real=softplus(-real).mean(),
            made=softplus(fake).mean() * (len(made) // len(y)),
            category=self.config.category * binary_cross_entropy_with_logits(*named),
        )

    def _generators_loss(self, x: Tensor, y: Tensor, code: Tensor, made: Tensor, told: Tensor) -> Loss:
        c = self.config
        fake, font = self._judged(x, made)
        again = self.encoder(made)[-1]
        return Loss.sum(
            "generator",
            game=softplus(-fake).mean(),
            l1=c.l1 * l1_loss(made[: len(y)].float(), y),
            constant=c.constant * mse_loss(again.float(), code.float()),
            category=c.category * binary_cross_entropy_with_logits(font, told),
        )

    def _judged(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        beside = repeated(x, len(y) // len(x))
        real, font = self.critic(torch.cat([beside, y.to(x.dtype)], 1))
        return real.float(), font.float()

    def _weights(self, labels: Tensor) -> Float[Tensor, "b k"]:
        return one_hot(labels, len(self.config.fonts)).float()

    @torch.no_grad()
    def run(self, request: Letters) -> Iterator[Event]:
        """Draw characters in fonts, or between two; there is no chance. Any size will do."""
        x = request.images
        if x.shape[1] != self.channels:
            raise UsageError(
                f"This model draws pictures of {self.channels} channels, got {x.shape[1]}; convert first."
            )
        if not len(x):
            raise UsageError("There is no character to draw; give at least one.")
        told = self.mixture(request)
        drawn: list[Tensor] = []
        for part, fonts in zip(x.split(self.config.chunk), told.split(self.config.chunk), strict=True):
            place = part.to(self.device, self.dtype)
            drawn.append(self._drawn(place, fonts.to(place))[1].float().clamp(-1, 1))
            yield Progress(sum(map(len, drawn)) / len(x))
        yield Images(torch.cat(drawn), seeds=tuple(range(request.seed, request.seed + len(x))))

    def mixture(self, request: Letters) -> Float[Tensor, "n k"]:
        """How much of each font goes into every character; a straight line leads from font to font."""
        rows = range(len(request.images))
        first = self._asked(request.font, rows)
        if request.towards is None:
            return first
        shares = request.share if isinstance(request.share, tuple) else (request.share,)
        share = torch.tensor(in_turn(shares, rows))[:, None]
        if not bool(((share >= 0) & (share <= 1)).all()):
            raise UsageError(f"The share of the second font is between 0 and 1, got {request.share}.")
        return torch.lerp(first, self._asked(request.towards, rows), share)

    def _asked(self, font: int | str | tuple[int | str, ...], rows: range) -> Float[Tensor, "n k"]:
        given = font if isinstance(font, tuple) else (font,)
        if not given:
            raise UsageError("font is an empty tuple; give at least one.")
        numbers = tuple(number_of(name, self.config.fonts, "font") for name in given)
        return self._weights(torch.tensor(in_turn(numbers, rows)))

    def adopt(self, base: System[Any]) -> None:
        """Go on from a model of other fonts: the new ones begin as the mean of those it knew."""
        if not isinstance(base, Zi2Zi):
            raise UsageError(
                f"zi2zi goes on from a run of zi2zi, got {type(base).__name__}; choose another base."
            )
        mine, theirs = self.state_dict(), base.state_dict()
        for name, tensor in theirs.items():
            if name not in mine or name.startswith("critic.font"):
                continue
            if mine[name].shape != tensor.shape and name.rpartition(".")[2] in PER_FONT:
                tensor = tensor.mean(0, keepdim=True).expand_as(mine[name])
            if mine[name].shape != tensor.shape:
                raise UsageError(
                    f"The base has '{name}' of {tuple(tensor.shape)}, here it is {tuple(mine[name].shape)}; "
                    "train with the same networks and size."
                )
            mine[name].copy_(tensor)


PER_FONT = ("embedding", "scale", "shift")
"""Tensors with an entry for every font."""


def repeated(x: Tensor, times: int) -> Tensor:
    """A batch several times over."""
    return x if times == 1 else torch.cat([x] * times)


def zoomed(x: Tensor, y: Tensor, most: float, rng: Rng) -> tuple[Tensor, Tensor]:
    """Enlarge both pictures of a pair by the same factor, from 1 to ``most``, and cut out the same part."""
    if most == 1:
        return x, y
    view = 1 / (1 + (most - 1) * rng.uniform())
    across, down = ((1 - view) * (2 * rng.uniform() - 1) for _ in range(2))
    nothing = torch.zeros_like(view)
    moves = torch.stack([view, nothing, across, nothing, view, down], 1).view(-1, 2, 3).to(x)
    grid = affine_grid(moves, list(x.shape), align_corners=False)
    cut = [grid_sample(part, grid, padding_mode="border", align_corners=False) for part in (x, y)]
    return cut[0], cut[1]


_STROKES = tuple(f"font {number}" for number in range(8))
_SMALL = OptimConfig(lr=1e-3, betas=(0.5, 0.999), clip=0.0, decay=0.5)

Zi2Zi.presets = {
    "laptop": Preset(
        Zi2ZiConfig(
            height=32,
            width=32,
            fonts=_STROKES,
            generator=LetteringUNetConfig(width=16, levels=5, embedding=16, dropout=0.0, norm="batch"),
            critic=FontCriticConfig(first=16),
            optim=_SMALL,
        ),
        data="fonts",
        size=32,
        train=TrainConfig(steps=2000, batch=16, ema=0.99),
    ),
    "calligraphy": Preset(
        Zi2ZiConfig(
            height=64,
            width=64,
            generator=LetteringUNetConfig(
                width=24, levels=6, kernel=3, embedding=16, dropout=0.0, norm="batch"
            ),
            critic=FontCriticConfig(first=16),
            optim=_SMALL,
        ),
        data="font-files",
        size=64,
        train=TrainConfig(steps=1600, batch=16, ema=0.99),
    ),
    "paper": Preset(
        Zi2ZiConfig(),
        data="font-files",
        size=256,
        train=TrainConfig(steps=100_000, batch=16, ema=0.0),
    ),
}
"""The published learning rate is halved now and then; here it falls in a line."""
