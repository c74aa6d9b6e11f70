"""Projected GAN: the critics see a picture through a frozen network, and the generator learns faster for it.

Sauer, Chitta, Mueller, Geiger: Projected GANs Converge Faster, NeurIPS 2021, arXiv 2111.01007. Their frozen
network is an EfficientNet trained on ImageNet; here it is the training oracle of the shapes or the face
world, never the one that judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.adversarial import critic_loss, generator_loss
from sfumato.core.latent import walk
from sfumato.core.request import Event, Generate, Images, Video, Walk
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.augment import DIFF_CHANCES, diff_augment
from sfumato.data.dataset import Facts
from sfumato.metrics import oracle, oracle_faces
from sfumato.metrics.oracle_faces_training import TRAININGS as FACES
from sfumato.metrics.oracle_training import TRAININGS as SHAPES
from sfumato.metrics.reader import OracleConfig, Reader
from sfumato.nn.dcgan import DCGANNetsConfig, DCGenerator
from sfumato.nn.fastgan import FastGANConfig, FastGenerator
from sfumato.nn.projected import Mixing, ProjectedCritic
from sfumato.systems.gans.dcgan import check_walk
from sfumato.systems.gans.gan import draw

World = Literal["shapes", "faces"]
_STAGES = 4
_UNTRAINED_SEED = 0
_READERS: Mapping[World, tuple[type[Reader], OracleConfig, Callable[[], Reader]]] = {
    "shapes": (oracle.ShapesOracle, SHAPES["training"].network, oracle.training_oracle),
    "faces": (oracle_faces.FacesOracle, FACES["faces-training"].network, oracle_faces.training_oracle),
}


@dataclass(frozen=True)
class ProjectedConfig:
    """The generator, what the critics see, and how they judge it."""

    generator: DCGANNetsConfig | FastGANConfig = FastGANConfig()
    eyes: World = "faces"
    """Whose training oracle the critics see through."""
    trained: bool = True
    """Whether those eyes have learned; False is the paper's control, a network as it starts."""
    side: int = 64
    """Pixels to which pictures are scaled for them; a network sees best at the size it has learned."""
    mixing: Mixing = "scales"
    """Random mixing of what they see: across channels and scales, across channels, or none."""
    width: int = 64
    """Channels of the finest mixed map; each coarser one has twice as many."""
    inner: int = 64
    """Channels inside each critic."""
    augment: bool = True
    """Whether the critics see pictures shifted, recoloured and with a hole (DiffAugment)."""
    generator_optim: OptimConfig = OptimConfig(lr=2e-4, betas=(0.0, 0.99), clip=0.0)
    critic_optim: OptimConfig = OptimConfig(lr=2e-4, betas=(0.0, 0.99), clip=0.0)
    chunk: int = 256
    """Pictures made at a time."""


class ProjectedGAN(System[Generate | Walk]):
    """A generator, and one critic for each scale of a frozen network's maps."""

    tasks = (Generate, Walk)
    Config = ProjectedConfig

    def __init__(self, config: ProjectedConfig):
        super().__init__()
        self.config = c = config
        if isinstance(c.generator, FastGANConfig):
            self.generator: DCGenerator | FastGenerator = FastGenerator(c.generator)
        else:
            self.generator = DCGenerator(c.generator)
        kind, oracle_config, _ = _READERS[c.eyes]
        grain = kind.grain[-_STAGES:]
        widths = tuple(oracle_config.channels * multiple for multiple, _ in grain)
        sides = tuple(-(-c.side // pixels) for _, pixels in grain)
        self.critic = ProjectedCritic(widths, sides, width=c.width, inner=c.inner, mixing=c.mixing)

    @classmethod
    def fit(cls, config: ProjectedConfig, facts: Facts) -> ProjectedConfig:
        generator = replace(config.generator, channels=facts.channels, height=facts.height, width=facts.width)
        return replace(config, generator=generator)

    @property
    def channels(self) -> int:
        return self.config.generator.channels

    def players(self) -> dict[str, Player]:
        return {
            "critic": Player((self.critic,), self.config.critic_optim),
            "generator": Player((self.generator,), self.config.generator_optim),
        }

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """The hinge over all places of all scales (eq. 4), without a penalty on gradients (section 4.1)."""
        real, rng = batch["image"], batch.rng
        fake = self._made(rng)
        judged = self._judged(real, rng), self._judged(fake.detach(), rng)
        yield Loss.sum("critic", game=critic_loss("hinge", *judged))
        yield Loss.sum("generator", game=generator_loss("hinge", self._judged(fake, rng)))

    def _judged(self, pixels: Float[Tensor, "b c h w"], rng: Rng) -> Float[Tensor, "b k"]:
        """Verdicts on pictures as the frozen network sees them; gradients pass through it."""
        if self.config.augment:
            chances = torch.stack([rng.uniform() for _ in range(DIFF_CHANCES)], 1)
            pixels = diff_augment(pixels, chances.to(pixels.device))
        eyes = _eyes(self.config.eyes, self.config.trained, str(pixels.device))
        seen = eyes.stages(pixels.expand(-1, 3, -1, -1), self.config.side)[-_STAGES:]
        verdicts: Tensor = self.critic(seen)
        return verdicts.float()

    def run(self, request: Generate | Walk) -> Iterator[Event]:
        """New pictures, or a walk between some."""
        if isinstance(request, Walk):
            return self._walk(request)
        return in_parts(self._serve, request, self.config.chunk, self.hears)

    def preview(self, count: int, seed: int) -> Generate:
        return Generate(count=count, seed=seed)

    @torch.no_grad()
    def _serve(self, request: Generate) -> Iterator[Event]:
        rng = Rng.sampling(request.seed, request.count)
        yield Images(self._made(rng).float(), seeds=tuple(rng.seeds))

    @torch.no_grad()
    def _walk(self, request: Walk) -> Iterator[Event]:
        """Noise stays that of the first picture, so that the way alone is seen."""
        check_walk(request, self.hears)
        points = draw(Rng.sampling(request.seed, request.count), self.config.generator.latent, "normal")
        path = walk(points, request.frames, request.way, loop=request.loop)
        frames = [self._made(Rng.sampling(request.seed, 1), z[None]) for z in path]
        yield Video(
            torch.stack(frames, 1).float(), seeds=tuple(range(request.seed, request.seed + request.count))
        )

    def _made(self, rng: Rng, z: Float[Tensor, "b d"] | None = None) -> Float[Tensor, "b c h w"]:
        drawn = draw(rng, self.config.generator.latent, "normal")
        z = (drawn if z is None else z).to(self.device, self.dtype)
        if isinstance(self.generator, FastGenerator):
            pixels: Tensor = self.generator(z, lambda height, width: rng.normal(1, height, width))
        else:
            pixels = self.generator(z)
        return pixels


@cache
def _eyes(world: World, trained: bool, device: str) -> Reader:
    """The frozen network; it belongs to no run, so no checkpoint holds it."""
    kind, config, shipped = _READERS[world]
    if trained:
        return shipped().to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_UNTRAINED_SEED)
        return kind(config, f"{world} (untrained)").eval().requires_grad_(False).to(device)


_TINY = DCGANNetsConfig(height=16, width=16, latent=64, generator=(64, 32))
_SMALL = DCGANNetsConfig(height=32, width=32, latent=64, generator=(128, 64, 32))
ProjectedGAN.presets = {
    "laptop": Preset(
        ProjectedConfig(_TINY, eyes="shapes", side=24, width=16, inner=32),
        data="single-shapes",
        size=16,
        train=TrainConfig(steps=1250, batch=64, ema=0.995),
    ),
    "faces": Preset(
        ProjectedConfig(_SMALL, side=64, width=16, inner=32),
        data="faces",
        size=32,
        train=TrainConfig(steps=3000, batch=32, ema=0.995),
    ),
    "paper": Preset(
        ProjectedConfig(FastGANConfig(), side=224),
        data="folder",
        size=256,
        train=TrainConfig(steps=156_250, batch=64, ema=0.998),
    ),
}
"""The paper's models saw at most 10 million pictures; its EfficientNet is not at hand, ours stand in."""
