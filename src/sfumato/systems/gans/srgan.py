"""SRResNet and SRGAN: pictures four times as large, with a critic that asks for detail where squares blur.

Ledig et al.: Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network, CVPR
2017, arXiv 1609.04802. The paper's perceptual term looks through VGG-19; here the frozen training oracle of
the shapes world takes its place, which this project trained and which judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss, pixel_unshuffle, silu

from sfumato.compat import msrresnet
from sfumato.core.adversarial import Game, critic_loss, generator_loss
from sfumato.core.request import Event, Images, Progress, Upscale
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.core.tiles import tiles
from sfumato.data.dataset import Facts
from sfumato.errors import DataError, UsageError
from sfumato.metrics.oracle import ShapesOracle, training_oracle
from sfumato.nn.srresnet import FACTOR, SRCritic, SRResNet, SRResNetConfig, reduced

GREY_LEVEL = 1 / 127.5


@dataclass(frozen=True)
class SRGANConfig:
    """Networks, weights of the loss, optimisers."""

    network: SRResNetConfig = SRResNetConfig()
    pixel: float = 1.0
    """Weight of the squared error (equation 4)."""
    perceptual: float = 0.0
    """Weight of the error in what a frozen network sees, as a share of all it sees (after equation 5)."""
    adversarial: float = 0.0
    """Weight of the critic's verdict (equation 6); 0 needs no critic: that is SRResNet."""
    critic: int = 64
    """Channels of the critic's first convolution."""
    critic_norm: bool = True
    """Batch norm in the critic."""
    game: Game = "non_saturating"
    optim: OptimConfig = OptimConfig(lr=1e-4)
    critic_optim: OptimConfig = OptimConfig(lr=1e-4)
    tile: int = 128
    """Side of the squares of a small picture that are enlarged at a time, without what overlaps."""


class SRGAN(System[Upscale]):
    """A network that enlarges, and where ``adversarial`` is not 0 a critic that knows real pictures."""

    tasks = (Upscale,)
    Config = SRGANConfig
    published = msrresnet.PUBLISHED

    def __init__(self, config: SRGANConfig):
        super().__init__()
        if config.tile < 1:
            raise UsageError(f"Tiles need at least 1 pixel a side, got {config.tile}; 128 is usual.")
        self.config = config
        self.network = SRResNet(config.network)
        judged = config.adversarial > 0
        self.critic = (
            SRCritic(config.network.channels, config.critic, norm=config.critic_norm) if judged else None
        )

    @classmethod
    def fit(cls, config: SRGANConfig, facts: Facts) -> SRGANConfig:
        if min(facts.height, facts.width) < 2 * FACTOR:
            raise UsageError(
                f"To learn to enlarge, pictures must have {2 * FACTOR} pixels a side or more, "
                f"got {facts.height} x {facts.width}; give a larger --size."
            )
        return replace(config, network=replace(config.network, channels=facts.channels))

    def players(self) -> dict[str, Player]:
        network, c = self.network, self.config
        players = {"generator": Player((network,), c.optim, (network.conv_first, network.conv_last))}
        if self.critic is not None:
            players["critic"] = Player((self.critic,), c.critic_optim, (self.critic.body[0],))
        return players

    @property
    def channels(self) -> int:
        return self.config.network.channels

    def adopt(self, base: System[Any]) -> None:
        """Start from a network that was trained on squared errors alone (section 3.2)."""
        if not isinstance(base, SRGAN) or base.config.network != self.config.network:
            raise DataError(
                f"SRGAN starts from an SRResNet of its own shape, got a {type(base).__name__} that differs; "
                "train one with 'sfumato train srgan laptop' and the same network."
            )
        self.network.load_state_dict(base.network.state_dict())

    @classmethod
    def from_file(cls, path: Path) -> SRGAN:
        """The generator of a public file of mmagic or BasicSR; it can be trained on with squared errors."""
        found = msrresnet.read_generator(path)
        with torch.device("meta"):
            system = cls(SRGANConfig(found.config))
        system.network.load_state_dict(found.tensors, assign=True)
        return system

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Equations 3 to 6, the critic first; the small pictures have whole grey levels, as files have."""
        c, large = self.config, turned(folding(batch["image"]), batch.rng)
        made = self.network(whole_levels(reduced(large)))
        parts = {"pixel": c.pixel * mse_loss(made.float(), large)}
        if self.critic is not None:
            verdicts = self.critic(large), self.critic(made.detach())
            yield Loss.sum("critic", game=critic_loss(c.game, *(v.float() for v in verdicts)))
            parts["game"] = c.adversarial * generator_loss(c.game, self.critic(made).float())
        if c.perceptual > 0:
            parts["perceptual"] = c.perceptual * perceptual_loss(_eyes(large.device.type), made, large)
        yield Loss.sum("generator", **parts)

    @torch.no_grad()
    def run(self, request: Upscale) -> Iterator[Event]:
        """Enlarge square by square; squares overlap so far that no pixel can tell where one ended."""
        x = request.images.to(self.device, self.dtype)
        n, channels, height, width = x.shape
        if channels != self.config.network.channels:
            raise UsageError(
                f"This model enlarges pictures of {self.config.network.channels} channels, got {channels}; "
                "convert them first."
            )
        answer = torch.empty(n, channels, FACTOR * height, FACTOR * width, device=x.device)
        squares = tiles(height, width, self.config.tile, self.network.reach)
        for i in range(n):
            for done, square in enumerate(squares, start=i * len(squares) + 1):
                square.write(
                    self.network(square.read(x[i : i + 1])).float().clamp(-1, 1), answer[i : i + 1], FACTOR
                )
                yield Progress(done / (n * len(squares)))
        yield Images(answer, seeds=tuple(range(request.seed, request.seed + n)))


def folding(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
    """The largest upper left part whose sides are multiples of four."""
    return x[:, :, : x.shape[2] // FACTOR * FACTOR, : x.shape[3] // FACTOR * FACTOR]


def turned(x: Float[Tensor, "b c h w"], rng: Rng) -> Float[Tensor, "b c h w"]:
    """Each picture mirrored either way or not, and squares on their side or not: enlarging stays the same."""
    way = rng.integers(0, 8).to(x.device).view(-1, 1, 1, 1)
    x = torch.where(way % 2 == 1, x.flip(3), x)
    x = torch.where(way // 2 % 2 == 1, x.flip(2), x)
    return torch.where(way // 4 == 1, x.mT, x) if x.shape[2] == x.shape[3] else x


def whole_levels(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """What is left of a picture in [-1, 1] after it was stored with 256 grey levels."""
    return ((x.clamp(-1, 1) + 1) / GREY_LEVEL).round() * GREY_LEVEL - 1


def perceptual_loss(
    oracle: ShapesOracle, made: Float[Tensor, "b c h w"], real: Float[Tensor, "b c h w"]
) -> Float[Tensor, ""]:
    """Squared error in the maps of each convolution, as a share of the squared maps; mean over the layers."""
    errors = [
        mse_loss(seen.float(), wanted.float()) / wanted.float().square().mean()
        for seen, wanted in zip(_maps(oracle, made), _maps(oracle, real), strict=True)
    ]
    return torch.stack(errors).mean()


def _maps(oracle: ShapesOracle, x: Tensor) -> Iterator[Tensor]:
    """What the oracle's convolutions see of a whole picture, at its own size."""
    x = oracle.stem(pixel_unshuffle(x.expand(-1, 3, -1, -1), 2))
    yield x
    for norm, conv in zip(oracle.norms, oracle.convs, strict=True):
        x = conv(silu(norm(x)))
        yield x


@cache
def _eyes(device: str) -> ShapesOracle:
    return training_oracle().to(device)


_LAPTOP = SRGANConfig(
    SRResNetConfig(width=32, blocks=6, kernel=3, norm=False, skip="bicubic"),
    optim=OptimConfig(kind="muon", lr=2e-3, betas=(0.9, 0.99), warmup=50, decay=0.5),
)
SRGAN.presets = {
    "laptop": Preset(
        _LAPTOP, data="photographs", size=48, train=TrainConfig(steps=1200, batch=16, ema=0.998)
    ),
    "srgan": Preset(
        replace(
            _LAPTOP,
            pixel=1.0,
            perceptual=0.1,
            adversarial=0.01,
            critic=16,
            optim=OptimConfig(lr=2e-4, betas=(0.5, 0.99)),
            critic_optim=OptimConfig(lr=2e-4, betas=(0.5, 0.99)),
        ),
        data="photographs",
        size=48,
        train=TrainConfig(steps=400, batch=16, ema=0.99),
        base=("srgan", "laptop"),
    ),
    "paper": Preset(
        SRGANConfig(), data="folder", size=96, train=TrainConfig(steps=1_000_000, batch=16, ema=0.0)
    ),
}
