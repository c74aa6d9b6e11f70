"""What systems share that have one denoiser over pixels, whatever their process: training, labels, sampling.

Labels and guidance without a classifier follow Ho & Salimans 2022, arXiv 2207.12598.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from sfumato.compat import schedulers
from sfumato.core import bound, guidance, solvers
from sfumato.core.denoiser import Denoiser, Predicts
from sfumato.core.generate import in_turn
from sfumato.core.kernels import Gaussian
from sfumato.core.labels import number_of
from sfumato.core.latent import walk
from sfumato.core.process import Cosine, Karras, LinearBetas, Process, ScaledLinear, Spacing
from sfumato.core.request import (
    Branch,
    Event,
    Generate,
    Images,
    Invert,
    Progress,
    Request,
    Video,
    Walk,
)
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.steps import Denoise, Solver
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.core.thresholding import Free, Static, parsed, thresholded
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.condition import Condition
from sfumato.nn.unet import UNet, UNetConfig

COUNTED = (LinearBetas, ScaledLinear, Cosine)
"""Schedules whose steps are counted."""
DDIM_STEPS = 50
"""Of walks through noise and of the search for the noise of given pictures."""


@dataclass(frozen=True)
class PixelConfig:
    """Pictures, labels, network, process, and how one samples unless told otherwise."""

    channels: int = 1
    height: int = 8
    width: int = 8
    by_label: bool = False
    """Whether it is told the label."""
    classes: tuple[str, ...] = ()
    """Names of the labels it knows."""
    drop: float = 0.1
    """Share of examples whose label is withheld, so that guidance has something to guide away from."""
    predicts: Predicts = "eps"
    data_std: float = 0.5
    """Standard deviation of the data; used by "edm" alone."""
    process: Process = Process(LinearBetas())
    network: UNetConfig = UNetConfig()
    optim: OptimConfig = OptimConfig(lr=2e-4)
    clip: bool = True
    """Whether beliefs are kept in [-1, 1]."""
    solver: str = "ancestral"
    steps: int = 1000
    spacing: Spacing = "leading"
    guidance: float = 1.0
    chunk: int = 256
    """Pictures sampled at a time."""


class PixelDiffusion(System[Generate | Branch | Invert | Walk], abc.ABC):
    """One denoiser over pixels; optionally told a label."""

    tasks: ClassVar[tuple[type[Request], ...]] = (Generate, Branch, Invert, Walk)
    config: PixelConfig

    def __init__(self, config: PixelConfig):
        super().__init__()
        self.config = config
        known = len(config.classes) if config.by_label else 0
        shape = replace(
            config.network, in_channels=config.channels, out_channels=config.channels, classes=known
        )
        self.denoiser = self._denoiser(shape)

    def _denoiser(self, shape: UNetConfig) -> Denoiser[Any]:
        c = self.config
        return Denoiser(UNet(shape), c.process, c.predicts, data_std=c.data_std)

    @classmethod
    def fit(cls, config: PixelConfig, facts: Facts) -> PixelConfig:
        if config.by_label and not facts.classes:
            raise UsageError(
                f"This preset learns by label, but '{facts.name}' has no labels; "
                "give data with labels (a folder with one subfolder a class), or a preset without."
            )
        classes = facts.classes if config.by_label else ()
        return replace(
            config, channels=facts.channels, height=facts.height, width=facts.width, classes=classes
        )

    def players(self) -> dict[str, Player]:
        network = self.denoiser.network
        return {"denoiser": Player((network,), self.config.optim, network.ends)}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """The denoiser's squared error at random times, with the label withheld now and then."""
        t = self.config.process.schedule.times(batch.rng)
        cond = self._given(batch)
        yield Loss.sum("denoiser", mse=self.denoiser.loss(batch["image"], t, cond, batch.rng))

    def _given(self, batch: Batch) -> Condition:
        """The labels of a batch, withheld now and then."""
        if not self.config.by_label:
            return Condition()
        keep = (batch.rng.uniform() >= self.config.drop).to(self.device)
        return self._told(batch["label"]).drop(keep, self._untold(len(keep)))

    def run(self, request: Generate | Branch | Invert | Walk) -> Iterator[Event]:
        """From noise to pictures; a label is followed more closely with ``guidance`` above 1."""
        match request:
            case Branch():
                return self._branch(request)
            case Invert():
                return self._invert(request)
            case Walk():
                return self._walk_through(request)
        return in_parts(self._serve, request, self.config.chunk, self.hears)

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"threshold"} | ({"label"} if self.config.by_label else set()))

    def preview(self, count: int, seed: int) -> Generate:
        names: tuple[int | str, ...] = tuple(range(len(self.config.classes)))
        return Generate(count=count, seed=seed, label=names or None)

    @property
    def variance(self) -> solvers.Variance:
        """Of one step of the way back."""
        return "small"

    @property
    def chain(self) -> int:
        """Steps from data to noise, where they are counted; else those of its own sampling."""
        schedule = self.config.process.schedule
        return schedule.steps if isinstance(schedule, COUNTED) else self.config.steps

    def bits(
        self, images: Float[Tensor, "b c h w"], label: Int[Tensor, " b"] | None, steps: int, rng: Rng
    ) -> Iterator[Float[Tensor, " b"]]:
        """Terms of the variational bound, in bits a number of the picture; see ``core.bound``."""
        process = self.config.process
        half = process.levels(torch.tensor([0.5]))[0]
        if process.kernel != Gaussian() or abs(half.alpha**2 + half.sigma**2 - 1) > 1e-6:
            raise UsageError(
                f"{type(self).__name__}'s way to noise has no bound in closed form; take ddpm or adm."
            )
        told = self.config.by_label and label is not None
        cond = self._told(label) if told and label is not None else self._untold(len(images))
        denoise = guidance.clipped(guidance.conditioned(self.denoiser, cond))
        times = process.schedule.grid(steps, "leading")
        yield from bound.bits(denoise, process, images.to(self.device), times, rng, self.variance)

    @torch.no_grad()
    def _serve(self, request: Generate) -> Iterator[Event]:
        rng = Rng.sampling(request.seed, request.count)
        solver, (times, start) = self._walk(request)
        x = start * self._noise(request, rng)
        for step in solver(self._clipped(request), self.config.process, x, times, rng=rng):
            yield Progress(1 - step.t, partial(_itself, step.x0))
        yield Images(step.x.float().clamp(-1, 1))

    @torch.no_grad()
    def _branch(self, request: Branch) -> Iterator[Event]:
        """One way through noise, then one for each seed (Ho et al. 2020, figure 7)."""
        if not 0 < request.at <= 1:
            raise UsageError(f"Pictures part at a time above 0 and up to 1, got {request.at:g}.")
        whole = self._plain(request.seed, request.count, request.label, request.steps or self.config.steps)
        process, alone = self.config.process, whole.part(0, 1)
        times = process.schedule.grid(whole.steps or 1, self.config.spacing)
        shared = times[: int((times >= request.at).sum())]
        rng = Rng([request.seed])
        x = self._noise(alone, rng)
        for step in solvers.ancestral(self._clipped(alone), process, x, shared, rng=rng):
            x = step.x
        x, rng = x.expand(request.count, *x.shape[1:]), Rng.sampling(request.seed + 1, request.count)
        rest = times[max(len(shared) - 1, 0) :]
        for step in solvers.ancestral(self._clipped(whole), process, x, rest, rng=rng):
            yield Progress(1 - step.t, partial(_itself, step.x0))
        yield Images(step.x.float().clamp(-1, 1), seeds=tuple(rng.seeds))

    @torch.no_grad()
    def _invert(self, request: Invert) -> Iterator[Event]:
        """The noise that makes pictures, by DDIM the other way (Song et al. 2021, section 4.3), and what it
        makes."""
        plain = self._plain(request.seed, len(request.images), None, request.steps or DDIM_STEPS)
        latents = self._encoded(request.images.to(self.device), plain)
        yield Progress(0.5)
        pixels = self._decoded(latents, plain)
        yield Images(pixels, seeds=tuple(Rng.sampling(plain.seed, plain.count).seeds), latents=latents)

    @torch.no_grad()
    def _walk_through(self, request: Walk) -> Iterator[Event]:
        """Between noises, so that everything on the way is a picture (Song et al. 2021, section 5.3)."""
        if request.truncation is not None:
            raise UsageError("This model has no truncation; leave it out.")
        count = request.count if request.images is None else len(request.images)
        plain = self._plain(request.seed, count, request.label, request.steps or DDIM_STEPS)
        if request.images is None:
            keys = self._noise(plain, Rng.sampling(plain.seed, plain.count))
        else:
            keys = self._encoded(request.images.to(self.device), plain)
        path = walk(keys, request.frames, request.way, loop=request.loop)
        film: list[Tensor] = []
        for part in path.split(self.config.chunk):
            film.append(self._decoded(part, replace(plain, count=len(part))))
            yield Progress(sum(map(len, film)) / len(path))
        yield Video(torch.cat(film)[None], seeds=tuple(range(plain.seed, plain.seed + count)))

    def _plain(self, seed: int, count: int, label: int | str | None, steps: int) -> Generate:
        if label is not None and "label" not in self.hears:
            raise UsageError("This model was trained without labels; leave the label out.")
        if count < 1:
            raise UsageError(f"count must be at least 1, got {count}.")
        return Generate(seed=seed, count=count, label=label, steps=steps)

    def _noise(self, request: Generate, rng: Rng) -> Tensor:
        c = self.config
        size = request.height or c.height, request.width or c.width
        return c.process.prior(torch.empty(len(rng), c.channels, *size, device=self.device), rng)

    def _encoded(self, images: Tensor, plain: Generate) -> Tensor:
        denoise, process = guidance.conditioned(self.denoiser, self._untold(plain.count)), self.config.process
        times = process.schedule.grid(plain.steps or 1, "trailing")
        *_, last = solvers.encode(denoise, process, images, times)
        return last.x

    def _decoded(self, latents: Tensor, plain: Generate) -> Tensor:
        times = self.config.process.schedule.grid(plain.steps or 1, "trailing")
        *_, last = solvers.ddim(self._guided(plain), self.config.process, latents, times)
        return last.x.float().clamp(-1, 1)

    def _clipped(self, request: Generate) -> Denoise:
        usual = Static() if self.config.clip else Free()
        wanted = usual if request.threshold is None else parsed(request.threshold)
        return thresholded(self._guided(request), wanted)

    def _guided(self, request: Generate) -> Denoise:
        """The denoiser, told the label that was asked for."""
        if request.label is None:
            return guidance.conditioned(self.denoiser, self._untold(request.count))
        return guidance.classifier_free(
            self.denoiser,
            self._told(self._labels(request)),
            self._untold(request.count),
            request.guided(self.config.guidance),
            request.guidance_interval,
            request.guidance_rescale,
        )

    def _walk(self, request: Generate) -> tuple[Solver, schedulers.Walk]:
        """The solver and the times of a request, and what its first noise is multiplied by."""
        c, name, steps = self.config, request.solver or self.config.solver, request.steps or self.config.steps
        times = c.process.schedule.grid(steps, request.spacing or c.spacing)
        return self._solver(name, request), schedulers.Walk(times, 1.0)

    def _solver(self, name: str, request: Generate) -> Solver:
        return solvers.named(name, eta=request.eta)

    def _labels(self, request: Generate) -> Tensor:
        classes, label = self.config.classes, request.label
        given = label if isinstance(label, tuple) else (label,)
        numbers = [number_of(name, classes) for name in given if name is not None]
        return torch.tensor(in_turn(tuple(numbers), range(request.count)), device=self.device)

    def _told(self, label: Tensor) -> Condition:
        return Condition(vector=one_hot(label, len(self.config.classes)).float())

    def _untold(self, count: int) -> Condition:
        if not self.config.by_label:
            return Condition()
        return Condition(vector=torch.zeros(count, len(self.config.classes), device=self.device))


def _itself(x: Tensor) -> Tensor:
    return x


TINY = UNetConfig(
    widths=(32, 64),
    blocks=(1,),
    attend=(False, True),
    heads=(4,),
    groups=16,
    resblock="scale_shift",
    dropout=0.1,
)
"""For pictures of 8 x 8 pixels."""
SMALL = replace(TINY, widths=(32, 64, 96), attend=(False, False, True), patch=2, dropout=0.0)
"""For pictures of 32 x 32 pixels."""
MUON = OptimConfig(kind="muon", lr=2e-3, betas=(0.9, 0.99), warmup=50, decay=0.5)
"""What moves either."""
OF_DIGITS = Karras(sigma_min=0.02, sigma_max=20.0)
"""EDM's noise for 8 x 8 pixels of 17 greys: a sixth of a grey at least, and as far above the mean of so few
pixels as 80 is in 32 x 32. Steps outside of this range are lost, which 8 of them cannot afford."""


def laptop(config: PixelConfig, digits: Process | None = None) -> dict[str, Preset]:
    """Digits and clothes by label, with the networks and at the cost of DDPM's presets; digits may have a
    process of their own."""
    told = replace(config, by_label=True, optim=MUON)
    small = replace(told, network=TINY, data_std=0.75, process=digits or config.process)
    fashion = replace(told, height=32, width=32, network=SMALL, data_std=0.66, guidance=1.5)
    return {
        "digits": Preset(small, data="digits", size=8, train=TrainConfig(steps=2500, batch=64, ema=0.999)),
        "fashion": Preset(
            fashion, data="fashion", size=32, train=TrainConfig(steps=3500, batch=32, ema=0.999)
        ),
    }
