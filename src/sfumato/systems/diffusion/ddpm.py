"""DDPM: learn to undo a little noise, then undo it many times.

Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models, NeurIPS 2020, arXiv 2006.11239.
Labels and guidance without a classifier follow Ho & Salimans 2022, arXiv 2207.12598.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sfumato.compat.diffusers import DDPMFolder
from sfumato.compat.part import Weights, fill
from sfumato.compat.schedulers import SchedulerSpec, Walk, process_of, spec_of, walk
from sfumato.core import guidance, solvers
from sfumato.core.denoiser import Denoiser, Predicts
from sfumato.core.generate import in_turn
from sfumato.core.process import LinearBetas, Process, Spacing
from sfumato.core.request import Event, Generate, Images, Progress, in_parts
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.errors import DataError, UsageError, nearest
from sfumato.nn.condition import Condition
from sfumato.nn.unet import UNet, UNetConfig


@dataclass(frozen=True)
class DDPMConfig:
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
    variance: Literal["small", "large"] = "small"
    """Of the ancestral solver's noise: the posterior's, or that of one step of the process (section 3.2)."""
    scheduler: SchedulerSpec | None = None
    """How a model from diffusers spreads its steps; ``spacing`` then counts only in requests."""


class DDPM(System[Generate]):
    """One denoiser over pixels; optionally told a label."""

    tasks = (Generate,)
    Config = DDPMConfig
    pipelines = ("DDPMPipeline",)

    def __init__(self, config: DDPMConfig):
        super().__init__()
        self.config = config
        known = len(config.classes) if config.by_label else 0
        shape = replace(
            config.network, in_channels=config.channels, out_channels=config.channels, classes=known
        )
        self.denoiser = Denoiser(UNet(shape), config.process, config.predicts, data_std=config.data_std)

    @classmethod
    def fit(cls, config: DDPMConfig, facts: Facts) -> DDPMConfig:
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
        """Algorithm 1, with the label withheld now and then."""
        x, rng = batch["image"], batch.rng
        t = self.config.process.schedule.times(rng)
        cond = Condition()
        if self.config.by_label:
            keep = (rng.uniform() >= self.config.drop).to(x.device)
            cond = self._told(batch["label"]).drop(keep, self._untold(len(x)))
        yield Loss.sum("denoiser", mse=self.denoiser.loss(x, t, cond, rng))

    def run(self, request: Generate) -> Iterator[Event]:
        """Algorithm 2, or another solver; a label is followed more closely with ``guidance`` above 1."""
        return in_parts(self._serve, request, self.config.chunk, self.hears)

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"label"} if self.config.by_label else ())

    def preview(self, count: int, seed: int) -> Generate:
        names: tuple[int | str, ...] = tuple(range(len(self.config.classes)))
        return Generate(count=count, seed=seed, steps=50, solver="ddim", label=names or None)

    @torch.no_grad()
    def _serve(self, request: Generate) -> Iterator[Event]:
        c = self.config
        size = request.height or c.height, request.width or c.width
        rng = Rng.sampling(request.seed, request.count)
        x = c.process.prior(torch.empty(request.count, c.channels, *size, device=self.device), rng)
        denoise = guidance.conditioned(self.denoiser, self._untold(request.count))
        if request.label is not None:
            scale = c.guidance if request.guidance is None else request.guidance
            denoise = guidance.classifier_free(
                self.denoiser,
                self._told(self._labels(request)),
                self._untold(request.count),
                scale,
                request.guidance_interval,
                request.guidance_rescale,
            )
        if c.clip:
            denoise = guidance.clipped(denoise)
        solver, (times, start) = self._walk(request)
        for step in solver(denoise, c.process, start * x, times, rng=rng):
            yield Progress(1 - step.t, partial(_itself, step.x0))
        yield Images(step.x.float().clamp(-1, 1))

    def _walk(self, request: Generate) -> tuple[solvers.Solver, Walk]:
        c, name, steps = self.config, request.solver or self.config.solver, request.steps or self.config.steps
        solver = solvers.named(name, eta=request.eta)
        if name == "ancestral":
            solver = partial(solvers.ancestral, variance=c.variance)
        if c.scheduler is None:
            return solver, Walk(c.process.schedule.grid(steps, request.spacing or c.spacing), 1.0)
        return solver, walk(c.scheduler, name, steps, request.spacing)

    @classmethod
    def from_diffusers(cls, folder: Path) -> DDPM:
        """A folder of diffusers' ``DDPMPipeline``."""
        found = DDPMFolder.read(folder)
        spec = found.scheduler
        if spec.variance == "learned" or spec.clip not in (None, 1.0):
            raise DataError(
                f"The scheduler in '{folder}' learns its variance, or clips elsewhere than at 1, "
                "which DDPM does not; choose a model with a fixed variance."
            )
        config = DDPMConfig(
            channels=found.unet.in_channels,
            height=found.height,
            width=found.width,
            by_label=found.unet.classes > 0,
            classes=tuple(str(i) for i in range(found.unet.classes)),
            predicts=spec.predicts,
            process=process_of(spec),
            network=found.unet,
            clip=spec.clip is not None,
            solver=spec.solver,
            steps=min(1000, spec.steps),
            variance=spec.variance,
            scheduler=spec,
        )
        with torch.device("meta"):
            system = cls(config)
        fill(system.denoiser.network, found.weights)
        return system

    def to_diffusers(self, folder: Path) -> None:
        """A folder that diffusers' ``DDPMPipeline`` opens; it samples with the ancestral solver."""
        c = self.config
        spec = c.scheduler or spec_of(c.process, "ancestral", c.predicts)
        spec = replace(spec, solver="ancestral", clip=1.0 if c.clip else None, variance=c.variance)
        network = self.denoiser.network
        DDPMFolder(network.config, Weights(network.state_dict()), spec, c.height, c.width).write(folder)

    def _labels(self, request: Generate) -> Tensor:
        classes, label = self.config.classes, request.label
        given = label if isinstance(label, tuple) else (label,)
        numbers = [_number(name, classes) for name in given if name is not None]
        return torch.tensor(in_turn(tuple(numbers), range(request.count)), device=self.device)

    def _told(self, label: Tensor) -> Condition:
        return Condition(vector=one_hot(label, len(self.config.classes)).float())

    def _untold(self, count: int) -> Condition:
        if not self.config.by_label:
            return Condition()
        return Condition(vector=torch.zeros(count, len(self.config.classes), device=self.device))


def _number(name: int | str, classes: tuple[str, ...]) -> int:
    """Which label is meant, by its name or its number."""
    if isinstance(name, str) and name in classes:
        return classes.index(name)
    if isinstance(name, str) and not name.isdigit():
        raise UsageError(f"Unknown label '{name}'{nearest(name, classes)}")
    if not 0 <= int(name) < len(classes):
        raise UsageError(f"Label {name} is out of range; this model knows 0 to {len(classes) - 1}.")
    return int(name)


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
SMALL = replace(TINY, widths=(32, 64, 96), attend=(False, False, True), patch=2, dropout=0.0)
CIFAR10 = UNetConfig(
    widths=(128, 256, 256, 256),
    blocks=(2,),
    attend=(False, True, False, False),
    eps=1e-6,
    dropout=0.1,
    flip_sin_to_cos=False,
    freq_shift=1.0,
    downsample_padding=0,
)
"""Section 4 and appendix B: 35.7 million parameters, attention at 16 x 16."""

_MUON = OptimConfig(kind="muon", lr=2e-3, betas=(0.9, 0.99), warmup=50, decay=0.5)
_DIGITS = Preset(
    DDPMConfig(network=TINY, optim=_MUON, steps=250),
    data="digits",
    size=8,
    train=TrainConfig(steps=2500, batch=64, ema=0.999),
)
_FASHION = Preset(
    DDPMConfig(
        channels=1,
        height=32,
        width=32,
        by_label=True,
        network=SMALL,
        optim=_MUON,
        solver="ddim",
        steps=50,
        spacing="trailing",
        guidance=1.5,
    ),
    data="fashion",
    size=32,
    train=TrainConfig(steps=3500, batch=32, ema=0.999),
)
DDPM.presets = {
    "laptop": replace(_FASHION, config=replace(_FASHION.config, by_label=False, guidance=1.0), data="photos"),
    "digits": _DIGITS,
    "digits-by-label": replace(_DIGITS, config=replace(_DIGITS.config, by_label=True)),
    "fashion": _FASHION,
    "cifar10": Preset(
        DDPMConfig(3, 32, 32, network=CIFAR10, optim=OptimConfig(lr=2e-4, warmup=5000)),
        data="folder",
        size=32,
        train=TrainConfig(steps=800_000, batch=128, ema=0.9999),
    ),
}
