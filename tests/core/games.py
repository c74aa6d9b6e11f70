"""Two small systems to train in tests: a toy GAN of two players, and a regressor that removes noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from sfumato.core.request import Event, Request
from sfumato.core.system import Batch, Loss, OptimConfig, Player, System
from sfumato.data.dataset import Facts


class Points:
    """Small pictures whose values are a function of their index; some examples may be poisoned with NaN."""

    def __init__(self, length: int = 37, poisoned: frozenset[int] = frozenset()):
        self.length, self.poisoned = length, poisoned

    @property
    def facts(self) -> Facts:
        return Facts("points", 1, 3, 5, frozenset({"image"}), fingerprint=f"points-{self.length}")

    def __len__(self) -> int:
        return self.length

    def batch(self, indices: Tensor) -> Mapping[str, Any]:
        grid = torch.arange(15.0).view(1, 1, 3, 5)
        image = torch.sin(grid * (1 + indices.view(-1, 1, 1, 1) % 7))
        for row, index in enumerate(indices.tolist()):
            if index in self.poisoned:
                image[row, 0, 1, 2] = torch.nan
        return {"image": image}


@dataclass(frozen=True)
class GameConfig:
    width: int = 8
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-2, warmup=3, decay=0.5))
    noisy: bool = True


class Game(System[Request]):
    """A GAN: the critic moves twice on even steps, once on odd ones; then the generator."""

    def __init__(self, config: GameConfig | None = None):
        super().__init__()
        self.config = config = config or GameConfig()
        torch.manual_seed(1)
        self.maker = nn.Sequential(nn.Linear(4, config.width), nn.SiLU(), nn.Linear(config.width, 15))
        self.critic = nn.Sequential(nn.Linear(15, config.width), nn.SiLU(), nn.Linear(config.width, 1))

    @classmethod
    def fit(cls, config: GameConfig, facts: Facts) -> GameConfig:
        return config

    def players(self) -> dict[str, Player]:
        return {
            "maker": Player((self.maker,), self.config.optim),
            "critic": Player((self.critic,), self.config.optim),
        }

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        real = batch["image"].flatten(1)
        for _ in range(2 if step % 2 == 0 else 1):
            fake = self.maker(batch.rng.normal(4)).detach()
            value = softplus(self.critic(fake)).mean() + softplus(-self.critic(real)).mean()
            yield Loss.sum("critic", game=value)
        fake = self.maker(batch.rng.normal(4))
        yield Loss.sum("maker", game=softplus(-self.critic(fake)).mean(), size=0.01 * fake.square().mean())

    def run(self, request: Request) -> Iterator[Event]:
        raise NotImplementedError


class Regressor(System[Request]):
    """Removes noise from small pictures by a convolution, a batch norm, dropout and a linear layer."""

    def __init__(self, config: GameConfig | None = None):
        super().__init__()
        self.config = config = config or GameConfig(optim=OptimConfig("muon", lr=2e-2, weight_decay=1e-2))
        torch.manual_seed(2)
        c = config.width
        noisy = [nn.BatchNorm2d(c), nn.Dropout(0.2)] if config.noisy else []
        self.stem = nn.Conv2d(1, c, 3, padding=1)
        self.body = nn.Sequential(self.stem, *noisy, nn.SiLU(), nn.Conv2d(c, c, 3, padding=1), nn.SiLU())
        self.head = nn.Linear(c, 1)
        self.table = nn.Embedding(3, c)
        self.net = nn.ModuleList([self.body, self.head, self.table])
        self.frozen = nn.Linear(5, 5).requires_grad_(False)

    @classmethod
    def fit(cls, config: GameConfig, facts: Facts) -> GameConfig:
        return config

    def players(self) -> dict[str, Player]:
        ends = (self.stem, self.head)
        return {"net": Player((self.body, self.head, self.table), self.config.optim, ends)}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        x0 = self.frozen(batch["image"])
        level = batch.rng.integers(0, 3)
        noise = batch.rng.normal(1, 3, 5)
        hidden = self.body(x0 + 0.3 * level.view(-1, 1, 1, 1) * noise)
        hidden = hidden + self.table(level)[:, :, None, None]
        yield Loss.sum("net", mse=mse_loss(self.head(hidden.movedim(1, -1)).squeeze(-1), x0.squeeze(1)))

    def run(self, request: Request) -> Iterator[Event]:
        raise NotImplementedError
