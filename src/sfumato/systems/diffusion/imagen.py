"""Imagen: a frozen language model reads the prompt, and a cascade of pixel diffusions draws it.

Saharia, Chan, Saxena, Li, Whang, Denton, Ghasemipour, Ayan, Mahdavi, Gontijo-Lopes, Salimans, Ho, Fleet,
Norouzi: Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding, NeurIPS 2022, arXiv
2205.11487. The first stage draws small; each further one enlarges what the one below has drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from sfumato.core import guidance, solvers
from sfumato.core.denoiser import Denoiser, Predicts
from sfumato.core.process import CosineLogSNR, Process, Spacing
from sfumato.core.request import Event, Generate, Images, Progress
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.core.thresholding import Dynamic, Threshold, parsed, thresholded
from sfumato.data.dataset import Facts
from sfumato.data.unigram import PAD, UnigramTokenizer
from sfumato.errors import DataError, UsageError
from sfumato.nn.condition import Condition
from sfumato.nn.embed import sinusoidal
from sfumato.nn.t5 import T5Encoder
from sfumato.nn.transformer import DiT, DiTConfig
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.systems.diffusion.words import Reader
from sfumato.systems.text.t5 import T5, T5Config

LEVEL = 64
"""Numbers by which a stage is told how noisy the small picture beside it is."""


@dataclass(frozen=True)
class StageConfig:
    """One diffusion of the cascade, and how one samples unless told otherwise."""

    shrink: int = 1
    """How many times smaller than those of the data its pictures are."""
    network: UNetConfig | DiTConfig = UNetConfig()
    width: int = 128
    """Of what it is told of each word."""
    solver: str = "dpmpp_2m"
    steps: int = 20
    spacing: Spacing = "linspace"
    guidance: float = 3.0
    threshold: Threshold = Dynamic()


@dataclass(frozen=True)
class ImagenConfig:
    """The language model, the stages, and how the last of them learns; those below it are as they are."""

    channels: int = 3
    height: int = 48
    width: int = 48
    text: T5Config = T5Config()
    words: int = 24
    """Tokens of a prompt that are read; more are reported and cut."""
    bag: bool = False
    """Whether words are read without each other and so without order: the control."""
    stages: tuple[StageConfig, ...] = (StageConfig(),)
    process: Process = Process(CosineLogSNR())
    predicts: Predicts = "v"
    drop: float = 0.1
    """Share of captions withheld in training, so that guidance has something to guide away from."""
    noising: Process = Process(CosineLogSNR())
    """How the small picture beside a stage is noised; whatever the shift of the stage's own process is."""
    augmentation: float = 1.0
    """Up to which time the small picture beside a stage is noised in training; 0 leaves it as it is."""
    level: float = 0.2
    """The same when a stage enlarges what the one below has drawn."""
    optim: OptimConfig = OptimConfig(lr=1e-4, warmup=10_000)
    chunk: int = 64
    """Pictures sampled at a time."""


class Imagen(System[Generate]):
    """A T5 that does not learn, and one denoiser a stage."""

    tasks = (Generate,)
    needs = frozenset({"image", "caption"})
    Config = ImagenConfig

    def __init__(self, config: ImagenConfig):
        super().__init__()
        _check(config)
        self.config = config
        self.tokenizer = _tokenizer(config)
        self.text = T5Encoder(config.text.network).requires_grad_(False)
        self.told = nn.ModuleList(
            Told(config.text.network.width, stage.width, config.words) for stage in config.stages
        )
        self.stages = nn.ModuleList(
            Denoiser(_network(config, i), config.process, config.predicts) for i in range(len(config.stages))
        )
        self.told[:-1].requires_grad_(False)
        self.stages[:-1].requires_grad_(False)
        towers = (_Tower(self.text, told, bag=config.bag) for told in self.told)
        self.readers = tuple(Reader(tower, [self.tokenizer]) for tower in towers)

    @classmethod
    def fit(cls, config: ImagenConfig, facts: Facts) -> ImagenConfig:
        fitted = replace(
            config,
            channels=facts.channels,
            height=facts.height,
            width=facts.width,
            text=T5.fit(config.text, facts),
        )
        _check(fitted)
        return fitted

    @classmethod
    def built_on(cls, config: ImagenConfig, base: System[Any]) -> ImagenConfig:
        """The same stage upon this T5, or upon the stages of this Imagen."""
        match base:
            case T5():
                return replace(config, text=base.config)
            case Imagen():
                below = base.config
                stages = (*below.stages, config.stages[-1])
                return replace(below, stages=stages, **{name: getattr(config, name) for name in OWN})
        raise DataError(BASE.format(type(base).__name__))

    def adopt(self, base: System[Any]) -> None:
        """Take over a trained T5, or a trained Imagen with all stages but the last."""
        c = self.config
        match base:
            case T5() if len(c.stages) == 1 and _reads_like(base.config, c.text):
                given = base.network.state_dict()
                self.text.load_state_dict({name: given[name] for name in self.text.state_dict()})
            case Imagen() if base.config.stages == c.stages[:-1] and _reads_like(base.config.text, c.text):
                mine, theirs = self.state_dict(), base.state_dict()
                self.load_state_dict(mine | theirs)
            case _:
                raise DataError(BASE.format(type(base).__name__))

    def players(self) -> dict[str, Player]:
        network = self._stage(-1).network
        return {"denoiser": Player((network, self.told[-1]), self.config.optim, network.ends)}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """The last stage's squared error at random times; now and then without the caption, and if there is a
        stage below, beside a small picture under noise of its own (section 2.4)."""
        c, rng, last = self.config, batch.rng, len(self.stages) - 1
        x0 = shrunk(batch["image"], c.stages[last].shrink)
        ids = self.tokenizer.encode(batch["caption"]).tokens.to(x0.device)
        keep = (rng.uniform() >= c.drop).to(x0.device)
        cond = self.readers[last].read(torch.where(keep[:, None], ids, PAD))
        if last:
            level = c.augmentation * rng.uniform().double()
            small = shrunk(batch["image"], c.stages[last - 1].shrink)
            cond = self._beside(cond, *self.noised(small, (x0.shape[2], x0.shape[3]), level, rng))
        t = c.process.schedule.times(rng)
        yield Loss.sum("denoiser", mse=self._stage(last).loss(x0, t, cond, rng))

    def noised(
        self, small: Float[Tensor, "b c i j"], size: tuple[int, int], level: Float[Tensor, " b"], rng: Rng
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b l"]]:
        """A small picture enlarged and under as much noise as there is at the time ``level``, and what a
        stage is told of this level (noise conditioning augmentation, section 2.4 and Ho et al. 2021)."""
        large = interpolate(small, size, mode="bilinear")
        told = sinusoidal(1000 * level, LEVEL).to(large)
        return self.config.noising.noise(large, level, rng), told

    def run(self, request: Generate) -> Iterator[Event]:
        """From noise to small pictures, and from these to large ones; guidance is that of the first stage."""
        return in_parts(self._serve, request, self.config.chunk, self.hears)

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"caption", "threshold"})

    def preview(self, count: int, seed: int) -> Generate:
        return Generate(count=count, seed=seed, prompt=PREVIEW_PROMPTS)

    @torch.no_grad()
    def _serve(self, request: Generate) -> Iterator[Event]:
        c, rng = self.config, Rng.sampling(request.seed, request.count)
        last = c.stages[-1].shrink
        asked = request.height or c.height // last, request.width or c.width // last
        whole = asked[0] * last, asked[1] * last
        x = torch.empty(request.count, c.channels, 0, 0, device=self.device)
        for i, stage in enumerate(c.stages):
            size = _size(stage, whole, last)
            heard = self.readers[i].hear(request, size)
            conds, null = list(heard.conds), heard.null
            if i:
                level = torch.full((request.count,), c.level, dtype=torch.float64)
                beside = self.noised(x, size, level, rng)
                conds, null = [self._beside(cond, *beside) for cond in conds], self._beside(null, *beside)
            scale = stage.guidance if i else request.guided(stage.guidance)
            denoise = guidance.composed(
                self._stage(i),
                conds,
                heard.shares,
                null,
                scale,
                request.guidance_interval,
                request.guidance_rescale,
            )
            threshold = stage.threshold if request.threshold is None else parsed(request.threshold)
            solver = solvers.named(request.solver or stage.solver, eta=request.eta)
            times = c.process.schedule.grid(request.steps or stage.steps, request.spacing or stage.spacing)
            noise = c.process.prior(torch.empty(request.count, c.channels, *size, device=self.device), rng)
            for step in solver(thresholded(denoise, threshold), c.process, noise, times, rng=rng):
                yield Progress((i + 1 - step.t) / len(c.stages), partial(_enlarged, step.x0, asked))
            x = step.x.float().clamp(-1, 1)
            if i + 1 < len(c.stages):  # what is enlarged is a picture, in whole grey levels
                x = ((x + 1) * 127.5).round() / 127.5 - 1
        yield Images(x, captions=heard.prompts, notes=heard.notes)

    def _stage(self, i: int) -> Denoiser[UNet | DiT]:
        return self.stages[i]  # type: ignore[return-value]

    def _beside(self, cond: Condition, spatial: Tensor, level: Tensor) -> Condition:
        assert cond.vector is not None
        vector = torch.cat([cond.vector, level.to(cond.vector)], 1)
        return replace(cond, spatial=spatial, vector=vector)


class Told(nn.Module):
    """What a stage is told of a text: its states normed and projected, and their mean for the whole of it.

    Where no word is, there is a learned vector of the place; a text of no words is these vectors alone.
    """

    def __init__(self, inside: int, width: int, length: int):
        super().__init__()
        self.norm = nn.LayerNorm(inside)
        self.project = nn.Linear(inside, width)
        self.nothing = nn.Parameter(torch.randn(length, width))

    def forward(
        self, states: Float[Tensor, "b l e"], held: Bool[Tensor, "b l"]
    ) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b d"]]:
        projected = self.project(self.norm(states))
        x = torch.where(held[..., None], projected, self.nothing[: held.shape[1]].to(projected))
        counted = (held | ~held.any(1, keepdim=True))[..., None].to(x)
        return x, (x * counted).sum(1) / counted.sum(1)


class _Tower(nn.Module):
    """The frozen reader with what one stage makes of it; the system owns both."""

    def __init__(self, text: T5Encoder, told: nn.Module, *, bag: bool):
        super().__init__()
        self.text, self.told, self.bag = text, told, bag

    def forward(self, ids: Int[Tensor, "b l"]) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b d"]]:
        with torch.no_grad():
            states = self.text.words_alone(ids) if self.bag else self.text(ids)
        tokens, pooled = self.told(states, ids != PAD)
        return tokens, pooled


def shrunk(x: Float[Tensor, "b c h w"], times: int) -> Float[Tensor, "b c i j"]:
    """Means of squares of pixels."""
    return avg_pool2d(x, times) if times > 1 else x


def _enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if tuple(x.shape[2:]) == size else interpolate(x, size, mode="nearest")


def _size(stage: StageConfig, whole: tuple[int, int], last: int = 1) -> tuple[int, int]:
    """Height and width of a stage's pictures, where the data's are these; ``last`` is how many times
    smaller than those the answer is, by whose pixels a user counts."""
    unit = stage.shrink * stage.network.patch
    if whole[0] % unit or whole[1] % unit:
        raise UsageError(
            f"Height and width must be multiples of {max(1, unit // last)}, got {whole[0] // last} x "
            f"{whole[1] // last}; choose another size."
        )
    return whole[0] // stage.shrink, whole[1] // stage.shrink


def _check(config: ImagenConfig) -> None:
    sizes = [stage.shrink for stage in config.stages]
    if not sizes or sizes != sorted(set(sizes), reverse=True):
        raise UsageError(f"Stages shrink pictures ever less, such as 4, 2, 1; got {sizes}.")
    for stage in config.stages:
        _size(stage, (config.height, config.width))


def _network(config: ImagenConfig, i: int) -> UNet | DiT:
    stage, channels = config.stages[i], config.channels
    beside, vector = channels * (i > 0), stage.width + LEVEL * (i > 0)
    if isinstance(stage.network, DiTConfig):
        told = replace(stage.network, tokens=stage.width, vector=vector, beside=beside)
        return DiT(replace(told, channels=channels))
    seen = replace(stage.network, in_channels=channels + beside, out_channels=channels)
    return UNet(replace(seen, context=stage.width, vector=vector))


def _tokenizer(config: ImagenConfig) -> UnigramTokenizer:
    return replace(config.text.tokenizer, length=config.words)


def _reads_like(one: T5Config, other: T5Config) -> bool:
    same = one.tokenizer.pieces == other.tokenizer.pieces
    return same and replace(one.network, decoder_layers=0) == replace(other.network, decoder_layers=0)


OWN = ("channels", "height", "width", "noising", "augmentation", "level", "optim", "drop", "chunk")
"""Settings of the stage that is to learn, not of those below."""
BASE = (
    "A stage of Imagen builds on a T5 of its own shape, or if there are stages below it on an Imagen with "
    "these, got a {}; train it with 'sfumato train t5' or 'sfumato train imagen base'."
)
PREVIEW_PROMPTS = (
    "a red circle above a blue square",
    "a blue square above a red circle",
    "a green star left of a pink cross",
    "a green star right of a pink cross",
)

_MUON = OptimConfig(kind="muon", lr=3e-3, betas=(0.9, 0.99), weight_decay=0.01, warmup=100, decay=0.3)
_BASE = StageConfig(shrink=2, network=DiTConfig(patch=4, width=128, depth=6, heads=4), guidance=1.5)
_UP = StageConfig(
    network=UNetConfig(
        widths=(32, 64),
        blocks=(1,),
        attend=(False, True),
        heads=(4,),
        depth=(1,),
        groups=16,
        resblock="scale_shift",
        patch=2,
    ),
    steps=12,
    guidance=1.0,
)
_LAPTOP = Preset(
    ImagenConfig(
        text=T5.presets["laptop"].config,
        words=12,
        stages=(_BASE,),
        process=Process(CosineLogSNR(shift=-1.5)),
        optim=_MUON,
    ),
    data="related-shapes",
    size=48,
    train=TrainConfig(steps=3000, batch=32, ema=0.998),
    base=("t5", "laptop"),
    base_data="shape-stories",
)
_WIDE = UNetConfig(
    widths=(512, 1024, 1536, 2048),
    blocks=(3,),
    attend=(False, True, True, True),
    depth=(0, 1, 1, 1),
    head_width=64,
    resblock="scale_shift",
)
_PAPER = ImagenConfig(
    height=64, width=64, words=256, stages=(StageConfig(network=_WIDE, width=512, guidance=7.0),)
)
Imagen.presets = {
    "laptop": replace(
        _LAPTOP,
        config=replace(_LAPTOP.config, stages=(_BASE, _UP)),
        train=replace(_LAPTOP.train, steps=1500),
        base=("imagen", "base"),
        base_data="",
    ),
    "base": _LAPTOP,
    "paper": Preset(
        _PAPER,
        data="folder",
        size=64,
        train=TrainConfig(steps=2_500_000, batch=2048, ema=0.9999),
        base=("t5", "paper"),
    ),
}
