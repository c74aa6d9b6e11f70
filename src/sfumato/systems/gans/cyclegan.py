"""CycleGAN: two translators learn without pairs, because whoever goes there and back must come home.

Zhu, Park, Isola, Efros: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks,
ICCV 2017, arXiv 1703.10593. It changes colours and textures, hardly ever shapes: asked to turn one animal
into another, it leaves the outline as it is (section 6), for the way back would have to guess it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import l1_loss

from sfumato.compat.cyclegan import RESNET, generators, read_resnet
from sfumato.core.adversarial import Game, History, critic_loss, generator_loss
from sfumato.core.request import Event, Translate
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.core.translate import translated
from sfumato.data.dataset import Facts
from sfumato.errors import DataError, UsageError, nearest
from sfumato.nn.patchgan import PatchCritic, PatchCriticConfig
from sfumato.nn.resnet_translator import ResnetTranslator, ResnetTranslatorConfig


@dataclass(frozen=True)
class CycleGANConfig:
    """Domains, networks, weights of the loss."""

    channels: int = 3
    height: int = 256
    width: int = 256
    domains: tuple[str, str] = ("a", "b")
    """What the two kinds of pictures are called, and so the directions: a-to-b, b-to-a."""
    one_way: bool = False
    """Whether only the first direction is there, as in a public file of one generator; it cannot learn."""
    generator: ResnetTranslatorConfig = ResnetTranslatorConfig()
    critic: PatchCriticConfig = PatchCriticConfig(affine=False)
    game: Game = "least_squares"
    cycle: float = 10.0
    """Weight of coming home: 0 leaves the critics alone, who do not mind what becomes of the content."""
    identity: float = 0.5
    """Weight, times ``cycle``, of leaving pictures alone that are in the wanted domain already."""
    history: int = 50
    """Past fakes the critics are shown, half of the time, in place of new ones."""
    optim: OptimConfig = OptimConfig(lr=2e-4, betas=(0.5, 0.999), clip=0.0, decay=0.5)
    chunk: int = 16
    """Pictures translated at a time."""


class CycleGAN(System[Translate]):
    """Two generators, two critics, one game."""

    tasks = (Translate,)
    needs = frozenset({"a", "b"})
    Config = CycleGANConfig
    published = frozenset({RESNET})

    def __init__(self, config: CycleGANConfig):
        super().__init__()
        self.config = c = config
        if config.domains[0] == config.domains[1]:
            raise UsageError(f"Both domains are called '{config.domains[0]}'; give them different names.")
        shape = replace(c.generator, channels_in=c.channels, channels_out=c.channels)
        self.to_b = ResnetTranslator(shape)
        if c.one_way:
            return
        self.to_a = ResnetTranslator(shape)
        self.critic_a, self.critic_b = (PatchCritic(replace(c.critic, channels=c.channels)) for _ in "ab")
        pictures = c.channels, c.height, c.width
        self.past_a, self.past_b = (History(pictures, c.history) for _ in "ab")

    @classmethod
    def fit(cls, config: CycleGANConfig, facts: Facts) -> CycleGANConfig:
        names = facts.domains if len(facts.domains) == 2 else config.domains
        return replace(
            config,
            channels=facts.channels,
            height=facts.height,
            width=facts.width,
            domains=(names[0], names[1]),
        )

    def players(self) -> dict[str, Player]:
        if self.config.one_way:
            return {}
        return {
            "generators": Player((self.to_b, self.to_a), self.config.optim),
            "critics": Player((self.critic_a, self.critic_b), self.config.optim),
        }

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Equation 3 with squared errors in place of logarithms (section 4); section 5.2's identity."""
        c, a, b, rng = self.config, batch["a"], batch["b"], batch.rng
        fake_b, fake_a = self.to_b(a), self.to_a(b)
        home_a, home_b = self.to_a(fake_b), self.to_b(fake_a)
        game = [
            generator_loss(c.game, critic(fake).float())
            for critic, fake in ((self.critic_b, fake_b), (self.critic_a, fake_a))
        ]
        parts = {
            "game": game[0] + game[1],
            "cycle": c.cycle * (l1_loss(home_a.float(), a) + l1_loss(home_b.float(), b)),
        }
        if weight := c.cycle * c.identity:
            parts["identity"] = weight * (l1_loss(self.to_a(a).float(), a) + l1_loss(self.to_b(b).float(), b))
        yield Loss.sum("generators", **parts)
        shown_a = self.past_a(fake_a.float(), rng.uniform(), rng.uniform())
        shown_b = self.past_b(fake_b.float(), rng.uniform(), rng.uniform())
        yield Loss.sum(
            "critics",
            a=self._critics_loss(self.critic_a, a, shown_a),
            b=self._critics_loss(self.critic_b, b, shown_b),
        )

    def _critics_loss(self, critic: PatchCritic, real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
        """Halved, so that critics learn at half the pace (appendix 7.1)."""
        return critic_loss(self.config.game, critic(real).float(), critic(fake).float()) / 2

    @property
    def directions(self) -> tuple[str, ...]:
        """The ways it can go, the first of which is meant when none is named."""
        a, b = self.config.domains
        return (f"{a}-to-{b}",) if self.config.one_way else (f"{a}-to-{b}", f"{b}-to-{a}")

    def run(self, request: Translate) -> Iterator[Event]:
        """Translate pictures of any size, without chance."""
        direction = request.direction or self.directions[0]
        if direction not in self.directions:
            raise UsageError(f"Unknown direction '{direction}'{nearest(direction, self.directions)}")
        network = self.to_b if direction == self.directions[0] else self.to_a
        yield from translated(self, network, request, self.config.chunk)

    @classmethod
    def from_file(cls, path: Path) -> CycleGAN:
        """One published generator (``latest_net_G.pth``), or a folder with one for each direction."""
        found = [read_resnet(file) for file in generators(path)]
        shape = found[0].config
        if any(one.config != shape for one in found) or shape.channels_in != shape.channels_out:
            raise DataError(
                f"The generators in '{path}' differ in shape, or turn {shape.channels_in} channels into "
                f"{shape.channels_out}; give files of one training between pictures of one kind."
            )
        config = CycleGANConfig(channels=shape.channels_in, one_way=len(found) == 1, generator=shape)
        system = cls(config)
        for network, one in zip(
            (system.to_b,) if config.one_way else (system.to_b, system.to_a), found, strict=True
        ):
            network.load_state_dict(dict(one.tensors))
        return system


SMALL = ResnetTranslatorConfig(width=16, blocks=3, norm="picture", affine=True)

CycleGAN.presets = {
    "laptop": Preset(
        CycleGANConfig(
            generator=SMALL,
            critic=PatchCriticConfig(width=24, layers=1, affine=False),
            optim=OptimConfig(lr=4e-4, betas=(0.5, 0.999), clip=0.0, decay=0.5),
        ),
        data="plain-to-striped",
        size=32,
        train=TrainConfig(steps=10_000, batch=2, ema=0.99),
    ),
    "paper": Preset(
        CycleGANConfig(),
        data="folder",
        size=256,
        train=TrainConfig(steps=240_000, batch=1, ema=0.0),
    ),
}
