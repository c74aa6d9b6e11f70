"""A tiny system that can do everything: pictures are linear in their latents, so every answer is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato import config as plain
from sfumato.apps.cli import main
from sfumato.core import latent
from sfumato.core.checkpoint import RunFolder
from sfumato.core.recipe import Recipe
from sfumato.core.request import (
    Edit,
    Event,
    Generate,
    Images,
    Interpolate,
    Invert,
    Mix,
    Progress,
    Ranking,
    Reconstruct,
    Request,
    Score,
    TextDiff,
    Translate,
    Upscale,
    Vary,
    Video,
    Walk,
)
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, OptimConfig, Player, System
from sfumato.errors import UsageError


@dataclass(frozen=True)
class ToyConfig:
    channels: int = 3
    side: int = 6
    latents: int = 4
    tile: int = 4


class Toy(System[Request]):
    """``picture = tanh(matrix @ latents)``."""

    tasks = (
        Edit,
        Generate,
        Interpolate,
        Invert,
        Mix,
        Reconstruct,
        TextDiff,
        Translate,
        Upscale,
        Vary,
        Walk,
    )
    Config = ToyConfig

    def __init__(self, config: ToyConfig):
        super().__init__()
        self.config = config
        self.matrix = nn.Linear(config.latents, config.channels * config.side**2, bias=False)

    @classmethod
    def fit(cls, config, facts):
        return replace(config, channels=facts.channels, side=facts.height)

    def players(self) -> dict[str, Player]:
        return {"toy": Player((self.matrix,), OptimConfig())}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        yield Loss.sum("toy", error=(batch["image"] - self.picture(batch.rng.normal(4))).square().mean())

    def picture(self, z: Tensor) -> Tensor:
        c = self.config
        return self.matrix(z.to(self.dtype)).float().tanh().view(-1, c.channels, c.side, c.side)

    def run(self, request: Request) -> Iterator[Event]:
        for done in (0.25, 0.5):
            yield Progress(done)
        if isinstance(request, Walk):
            yield self.walk(request)
        elif isinstance(request, Interpolate):
            z = latent.walk(self.latents(request.images), request.frames, "slerp")
            yield Video(self.picture(z)[None], rate=4.0, seeds=(request.seed,))
        else:
            seeds = tuple(range(request.seed, request.seed + request.count))
            pixels = self.answer(request)
            z = self.latents(request.images) if isinstance(request, Invert) else None
            yield Images(pixels, seeds=seeds, notes=("it is a toy",), latents=z)

    def walk(self, request: Walk) -> Video:
        z = self.drawn(request) if request.images is None else self.latents(request.images)
        z = latent.walk(z, request.frames, request.way, loop=request.loop)
        return Video(self.picture(z)[None], rate=5.0, seeds=(request.seed,))

    def answer(self, request: Request) -> Tensor:
        match request:
            case Generate():
                return self.picture(self.drawn(request) * (request.truncation or 1))
            case Mix():
                pairs = [(a, b) for a in request.coarse for b in request.fine]
                coarse, fine = (Rng(list(seeds)).normal(4) for seeds in zip(*pairs, strict=True))
                cut = request.crossover or 2
                return self.picture(torch.cat([coarse[:, :cut], fine[:, cut:]], dim=1))
            case Edit():
                z = self.drawn(request) if request.images is None else self.latents(request.images)
                return self.picture(z + request.strength)
            case Vary():
                given = self.latents(request.images)[[i % len(request.images) for i in range(request.count)]]
                return self.picture(given + request.strength * self.drawn(request))
            case TextDiff():
                longer = len(request.target) - len(request.source)
                return self.picture(self.latents(request.images) + request.theta * longer)
            case Invert() | Reconstruct():
                return self.picture(self.latents(request.images))
            case Translate():
                if request.direction not in ("", "darker"):
                    raise UsageError(f"Unknown direction '{request.direction}'; it knows darker.")
                return request.images / 2 - 0.5
            case Upscale():
                large = request.images.repeat_interleave(2, 2).repeat_interleave(2, 3)
                return large.clamp(-1, self.config.tile / 4 - 1)
        raise AssertionError(request)

    def drawn(self, request: Request) -> Tensor:
        return Rng.sampling(request.seed, request.count).normal(self.config.latents)

    def latents(self, images: Tensor) -> Tensor:
        flat = images.clamp(-0.999, 0.999).atanh().flatten(1)
        return torch.linalg.lstsq(self.matrix.weight.float(), flat.T).solution.T


class Judge(Toy):
    """The toy, if it could only tell bright pictures from dark ones."""

    tasks = (Score,)

    def run(self, request: Score) -> Iterator[Event]:
        yield Progress(0.5)
        seen = request.images.mean((1, 2, 3))[:, None]
        wanted = torch.tensor([{"bright": 1.0, "dark": -1.0}.get(text, 0.0) for text in request.texts])
        yield Ranking(seen * wanted, (seen * wanted).softmax(1), request.texts, seen, ("it is a toy judge",))


class Translator(Toy):
    """The toy, if it could only translate."""

    tasks = (Translate,)


def write_run(
    folder: Path, config: ToyConfig = ToyConfig(), data: str = "shapes", system: str = "toy"
) -> Path:
    """A run folder of the toy, or of another system of its shape."""
    torch.manual_seed(0)
    toy = Toy(config)
    run = RunFolder.create(folder, Recipe(system, plain.to_dict(config), data=data, size=config.side))
    run.write_model(toy.state_dict())
    return folder


FAST = ("--precision", "fp32", "--device", "cpu")


def ask(verb: str, run: Path, out: Path, *more: object) -> int:
    """What the command line says of a verb that is asked of a run."""
    return main([verb, *map(str, more), "--model", str(run), "--out", str(out), *FAST])
