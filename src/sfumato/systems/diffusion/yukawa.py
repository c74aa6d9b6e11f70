"""Yukawa: the screened Poisson equation as a generative process, between PFGM and diffusion.

Liu, Luo, Xu, Jaakkola, Tegmark: GenPhys: From Physical Processes to Generative Models, arXiv 2304.02637. The
paper derives the process and trains no model of it; the closed forms in ``core.kernels`` and the gauge that
makes it work for pictures are our own.
"""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.core.denoiser import Predicts
from sfumato.core.kernels import Yukawa as YukawaKernel
from sfumato.core.process import Karras, Process, Spacing
from sfumato.core.request import Generate, Invert, Walk
from sfumato.systems.diffusion.pixels import PixelConfig, PixelDiffusion, laptop


@dataclass(frozen=True)
class YukawaConfig(PixelConfig):
    """A force that does not reach beyond 1 / mass: ``--process.kernel.mass``."""

    predicts: Predicts = "edm"
    process: Process = Process(Karras(sigma_min=0.01, sigma_max=20.0), YukawaKernel(10.0))
    clip: bool = False
    solver: str = "heun"
    steps: int = 24
    spacing: Spacing = "karras"


class Yukawa(PixelDiffusion):
    """What the network learns is where the lines end on which pictures move, none born and none lost."""

    tasks = (Generate, Invert, Walk)  # branches grow by fresh noise, which must be Gaussian
    Config = YukawaConfig
    config: YukawaConfig


Yukawa.presets = laptop(YukawaConfig())
