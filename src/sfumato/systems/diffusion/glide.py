"""GLIDE: words to pictures in pixels, led by guidance without a classifier or by a CLIP that sees through
noise.

Nichol, Dhariwal, Ramesh, Shyam, Mishkin, McGrew, Sutskever, Chen: GLIDE: Towards Photorealistic Image
Generation and Editing with Text-Guided Diffusion Models, ICML 2022, arXiv 2112.10741. Its reader of words
learns with the picture; the same model fills a hole in a given one. The learned variance and the upsampler
of the paper are not here (Imagen has a cascade).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import guidance, parallel, solvers
from sfumato.core.contrastive import contrastive_losses
from sfumato.core.denoiser import Denoiser, Predicts
from sfumato.core.process import Cosine, CosineLogSNR, Process, Spacing
from sfumato.core.request import Edit, Event, Generate, Images, Progress, Request
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.steps import Denoise
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.core.thresholding import Static, Threshold, parsed, thresholded
from sfumato.data.dataset import Dataset, Facts
from sfumato.data.near_misses import NearMisses
from sfumato.data.text import vocabulary_of
from sfumato.errors import UsageError
from sfumato.nn.clip import WARMEST
from sfumato.nn.noised_clip import NoisedClip, NoisedClipConfig
from sfumato.nn.transformer import DiT, DiTConfig, WordsConfig
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.systems.diffusion import starts
from sfumato.systems.diffusion.words import Heard, Reader

HEARD = 2000
"""Captions from which near misses are learned."""
BLIND = 0.98
"""From this time on there is next to nothing but noise, in which a CLIP sees nothing: it does not lead
there."""


@dataclass(frozen=True)
class GLIDEConfig:
    """Reader, denoiser, the CLIP that may lead it, and how one samples unless told otherwise."""

    channels: int = 3
    height: int = 64
    width: int = 64
    text: WordsConfig = WordsConfig()
    network: DiTConfig | UNetConfig = DiTConfig()
    clip: NoisedClipConfig = NoisedClipConfig()
    process: Process = Process(Cosine())
    predicts: Predicts = "eps"
    drop: float = 0.2
    """Share of captions withheld in training, so that guidance has something to guide away from."""
    holes: float = 0.5
    """Share of training pictures of which all but a hole is given; nothing is given of the others."""
    misses: int = 2
    """Captions with one word changed, for each picture, from which the CLIP must tell its own."""
    games: int = 1
    """Times the CLIP moves for every time the denoiser does."""
    optim: OptimConfig = OptimConfig(lr=1e-4)
    clip_optim: OptimConfig = OptimConfig(lr=3e-4, weight_decay=0.05)
    led_by: Literal["words", "clip"] = "words"
    """Whether guidance leads from what no words say to what words say, or to where a CLIP sees them."""
    solver: str = "ancestral"
    steps: int = 100
    spacing: Spacing = "trailing"
    guidance: float = 3.0
    """With words, 1 is none; with a CLIP, 0 is."""
    threshold: Threshold = Static()
    chunk: int = 64
    """Pictures sampled at a time."""


class GLIDE(System[Request]):
    """A denoiser that reads, and a CLIP of noisy pictures."""

    tasks = (Generate, Edit)
    needs = frozenset({"image", "caption"})
    Config = GLIDEConfig

    def __init__(self, config: GLIDEConfig):
        super().__init__()
        self.config = config
        self.reader = Reader.of(config.text)
        self.text = self.reader.text
        self.denoiser = Denoiser(_network(config), config.process, config.predicts)
        shape = replace(config.clip.network, in_channels=config.channels)
        words = replace(config.clip.text, vocabulary=config.text.vocabulary, length=config.text.length)
        self.clip = NoisedClip(
            replace(config.clip, network=shape, text=words, height=config.height, width=config.width)
        )
        self._near = NearMisses(())

    @classmethod
    def fit(cls, config: GLIDEConfig, facts: Facts) -> GLIDEConfig:
        text = replace(config.text, vocabulary=facts.words or vocabulary_of(facts.classes))
        fitted = replace(config, channels=facts.channels, height=facts.height, width=facts.width, text=text)
        _check(fitted, (facts.height, facts.width))
        return fitted

    def players(self) -> dict[str, Player]:
        c, network = self.config, self.denoiser.network
        eyes = self.clip.image
        return {
            "denoiser": Player((network, self.text), c.optim, network.ends),
            "clip": Player((self.clip,), c.clip_optim, (eyes.conv_in, eyes.to_classes)),
        }

    def prepare(self, data: Dataset) -> Dataset:
        """Learn from some captions which words may stand where, if near misses are asked for."""
        if self.config.misses:
            rows = torch.arange(min(len(data), HEARD)).split(self.config.chunk)
            self._near = NearMisses(text for part in rows for text in data.batch(part)["caption"])
        return data

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """The denoiser's squared error, beside a picture with a hole now and then (section 3.2); then the
        CLIP's game on noisy pictures (section 3.3)."""
        c, rng, x0 = self.config, batch.rng, batch["image"]
        ids = self.reader.encode(batch["caption"]).to(x0.device)
        keep = (rng.uniform() >= c.drop).to(x0.device)
        nothing = self.reader.encode([""]).to(x0.device)
        cond = self.reader.read(torch.where(keep[:, None], ids, nothing))
        known = kept(x0.shape[2], x0.shape[3], c.holes, rng).to(x0)
        t = c.process.schedule.times(rng)
        cond = replace(cond, spatial=torch.cat([x0 * known, known], 1))
        yield Loss.sum("denoiser", mse=self.denoiser.loss(x0, t, cond, rng))
        for _ in range(c.games):
            yield Loss.sum("clip", **self._game(x0, list(batch["caption"]), ids, rng))
            with torch.no_grad():
                parallel.local(self.clip.logit_scale).clamp_(0, WARMEST)

    def _game(self, x0: Tensor, captions: list[str], ids: Tensor, rng: Rng) -> dict[str, Tensor]:
        """Noisy pictures find their captions, also among near misses, and captions their pictures."""
        c = self.config
        t = c.process.schedule.times(rng)
        noisy = c.process.noise(x0, t, rng)
        wrong = [
            miss
            for _ in range(c.misses)
            for miss in self._near.of(captions, rng.uniform().tolist(), rng.uniform().tolist())
        ]
        every = self.reader.encode([*captions, *wrong]).to(x0.device)
        images, texts = self.clip(noisy, self._clock(t), every)
        texts, *near = texts.split(len(ids))
        misses = torch.stack(near, 1) if near else None
        return contrastive_losses(images, texts, self.clip.scale, ids, misses)

    def run(self, request: Request) -> Iterator[Event]:
        """New pictures; or given ones, of which what the mask says is painted anew."""
        first = request.seed
        given: Callable[[range], starts.Given] = starts.nothing
        match request:
            case Edit():
                asked, given = starts.plain(request), partial(starts.masked, request)
            case Generate():
                asked = request
            case _:
                raise UsageError(f"GLIDE does not serve a {type(request).__name__}; ask for another task.")

        def serve(part: Generate) -> Iterator[Event]:
            start = part.seed - first
            return self._serve(part, given(range(start, start + part.count)))

        return in_parts(serve, asked, self.config.chunk, self.hears)

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"caption", "threshold"})

    def preview(self, count: int, seed: int) -> Generate:
        return Generate(count=count, seed=seed, prompt=PREVIEW_PROMPTS)

    @torch.no_grad()
    def _serve(self, request: Generate, given: starts.Given) -> Iterator[Event]:
        c, rng = self.config, Rng.sampling(request.seed, request.count)
        size = request.height or c.height, request.width or c.width
        _check(c, size)
        times = c.process.schedule.grid(request.steps or c.steps, request.spacing or c.spacing)
        times = given.times(times)
        blank = torch.zeros(request.count, c.channels, *size, device=self.device)
        image, keep = blank, torch.zeros_like(blank[:, :1])
        x = c.process.prior(blank, rng)
        if isinstance(given, starts.Masked):
            keep = 1 - given.mask.to(blank)
            image = given.images.to(blank)
            if given.strength < 1:
                x = c.process.noise(image, times[:1].expand(request.count), rng)
        heard = self.reader.hear(request, size).beside(torch.cat([image * keep, keep], 1), None)
        denoise = self._guided(request, heard)
        denoise = thresholded(
            denoise, c.threshold if request.threshold is None else parsed(request.threshold)
        )
        denoise = guidance.pasted(denoise, image, keep)
        solver = solvers.named(request.solver or c.solver, eta=request.eta)
        for step in solver(denoise, c.process, x, times, rng=rng):
            yield Progress(1 - step.t / float(times[0]), partial(_itself, step.x0))
        pixels = given.finished(step.x.float().clamp(-1, 1))
        yield Images(pixels, captions=heard.prompts, notes=heard.notes)

    def _guided(self, request: Generate, heard: Heard) -> Denoise:
        """Without a classifier (section 3.1), or by the gradient of a CLIP's dot product (section 3.3, eq.
        9)."""
        c = self.config
        scale = c.guidance if c.led_by == "clip" and request.guidance is None else request.guided(c.guidance)
        if c.led_by == "words":
            interval, rescale = request.guidance_interval, request.guidance_rescale
            return guidance.composed(
                self.denoiser, heard.conds, heard.shares, heard.null, scale, interval, rescale
            )
        told = guidance.composed(self.denoiser, heard.conds, heard.shares, heard.null, 1.0)
        if scale == 0:
            return told
        texts = self.clip.texts(self.reader.encode(heard.prompts).to(self.device))
        led = guidance.towards(told, c.process, partial(self.likeness, texts), scale)
        return guidance.experts(told, led, BLIND)

    def likeness(
        self, texts: Float[Tensor, "b d"], x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """How well noisy pictures go with the vectors of texts: their dot products, scaled."""
        inside = x.to(self.clip.image.conv_in.weight.dtype)
        return self.clip.scale * (self.clip.images(inside, self._clock(t)) * texts).sum(1)

    def _clock(self, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        return self.config.process.schedule.clock(t).to(self.device, torch.float32)


def kept(height: int, width: int, share: float, rng: Rng) -> Float[Tensor, "b 1 h w"]:
    """What is given of each picture: 1 around a hole, a rectangle of a quarter to three quarters of each
    side, in ``share`` of them, and nothing of the others."""
    some = rng.uniform() < share
    edges = []
    for side in (height, width):
        length = (side * (0.25 + 0.5 * rng.uniform())).round()
        start = (rng.uniform() * (side - length + 1)).floor()
        places = torch.arange(side)
        edges.append((places >= start[:, None]) & (places < (start + length)[:, None]))
    hole = edges[0][:, None, :, None] & edges[1][:, None, None, :]
    return (some[:, None, None, None] & ~hole).float()


def _itself(x: Tensor) -> Tensor:
    return x


def _network(config: GLIDEConfig) -> DiT | UNet:
    seen, text = config.channels + 1, config.text.width
    if isinstance(config.network, DiTConfig):
        told = replace(config.network, tokens=text, vector=text, beside=seen)
        return DiT(replace(told, channels=config.channels))
    ends = replace(config.network, in_channels=config.channels + seen, out_channels=config.channels)
    return UNet(replace(ends, context=text, vector=text))


def _check(config: GLIDEConfig, size: tuple[int, int]) -> None:
    patch = config.network.patch
    if size[0] % patch or size[1] % patch:
        raise UsageError(
            f"Height and width must be multiples of {patch}, got {size[0]} x {size[1]}; choose another size."
        )


PREVIEW_PROMPTS = (
    "a red circle above a blue square",
    "a blue square above a red circle",
    "a green star left of a pink cross",
    "a green star right of a pink cross",
)
_MUON = OptimConfig(kind="muon", lr=3e-3, betas=(0.9, 0.99), weight_decay=0.01, warmup=100, decay=0.3)
_EYES = UNetConfig(
    widths=(64, 96),
    blocks=(1,),
    attend=(False, True),
    heads=(4,),
    groups=16,
    resblock="scale_shift",
    patch=4,
)
_LAPTOP = GLIDEConfig(
    height=24,
    width=24,
    text=WordsConfig(length=12),
    network=DiTConfig(patch=4, width=128, depth=6, heads=4),
    clip=NoisedClipConfig(_EYES, WordsConfig(width=96, depth=2, heads=4), dimension=96),
    process=Process(CosineLogSNR(shift=-1.5)),
    predicts="v",
    drop=0.1,
    holes=0.3,
    misses=1,
    games=2,
    optim=_MUON,
    clip_optim=replace(_MUON, lr=1e-3),
    solver="ddim",
    steps=25,
    spacing="linspace",
)
_WIDE = UNetConfig(
    widths=(192, 384, 576, 768),
    blocks=(3,),
    attend=(False, True, True, True),
    joint=True,
    head_width=64,
    resblock="scale_shift",
    resize="resblock",
    dropout=0.1,
)
GLIDE.presets = {
    "laptop": Preset(
        _LAPTOP, data="related-shapes", size=24, train=TrainConfig(steps=4000, batch=32, ema=0.995)
    ),
    "paper": Preset(
        GLIDEConfig(
            text=WordsConfig(length=128, width=512, depth=16, heads=8),
            network=_WIDE,
            clip=NoisedClipConfig(
                replace(_WIDE, widths=(128, 256, 384, 512), joint=False, dropout=0.0), dimension=512
            ),
        ),
        data="folder",
        size=64,
        train=TrainConfig(steps=2_500_000, batch=2048, ema=0.9999),
    ),
}
