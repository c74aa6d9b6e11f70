"""DDPM: learn to undo a little noise, then undo it many times.

Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models, NeurIPS 2020, arXiv 2006.11239.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from sfumato.compat.diffusers import DDPMFolder
from sfumato.compat.part import Weights, fill
from sfumato.compat.schedulers import SchedulerSpec, Walk, process_of, spec_of, walk
from sfumato.core import solvers
from sfumato.core.request import Generate
from sfumato.core.steps import Solver
from sfumato.core.system import OptimConfig, Preset, TrainConfig
from sfumato.errors import DataError
from sfumato.nn.unet import UNetConfig
from sfumato.systems.diffusion.pixels import MUON, SMALL, TINY, PixelConfig, PixelDiffusion


@dataclass(frozen=True)
class DDPMConfig(PixelConfig):
    """Noise is predicted, at a thousand times."""

    variance: Literal["small", "large"] = "small"
    """Of the ancestral solver's noise: the posterior's, or that of one step of the process (section 3.2)."""
    scheduler: SchedulerSpec | None = None
    """How a model from diffusers spreads its steps; ``spacing`` then counts only in requests."""


class DDPM(PixelDiffusion):
    """A denoiser over pixels that predicts noise: trained by algorithm 1, sampled by algorithm 2."""

    Config = DDPMConfig
    pipelines = ("DDPMPipeline",)
    config: DDPMConfig

    def preview(self, count: int, seed: int) -> Generate:
        return replace(super().preview(count, seed), steps=50, solver="ddim")

    def _walk(self, request: Generate) -> tuple[Solver, Walk]:
        c, name, steps = self.config, request.solver or self.config.solver, request.steps or self.config.steps
        if c.scheduler is not None:
            return self._solver(name, request), walk(c.scheduler, name, steps, request.spacing)
        return super()._walk(request)

    @property
    def variance(self) -> solvers.Variance:
        return self.config.variance

    def _solver(self, name: str, request: Generate) -> Solver:
        if name == "ancestral":
            return partial(solvers.ancestral, variance=self.config.variance)
        return super()._solver(name, request)

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

_DIGITS = Preset(
    DDPMConfig(network=TINY, optim=MUON, steps=250),
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
        optim=MUON,
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
