"""PFGM++: data as charges in a space with more dimensions, whose field leads from far away back to them.

Xu, Liu, Tian, Tong, Tegmark, Jaakkola: PFGM++: Unlocking the Potential of Physics-Inspired Generative Models,
ICML 2023, arXiv 2302.04265.
"""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.core.denoiser import Predicts
from sfumato.core.kernels import StudentT
from sfumato.core.process import Karras, Process, Spacing
from sfumato.core.request import Generate, Invert, Walk
from sfumato.systems.diffusion.pixels import OF_DIGITS, PixelConfig, PixelDiffusion, laptop


@dataclass(frozen=True)
class PFGMPPConfig(PixelConfig):
    """EDM's settings as they are, at r = sigma sqrt(D) (section 4); ``--process.kernel.dim`` is D."""

    predicts: Predicts = "edm"
    process: Process = Process(Karras(), StudentT(64.0))
    clip: bool = False
    solver: str = "heun"
    steps: int = 18
    spacing: Spacing = "karras"


class PFGMPP(PixelDiffusion):
    """A denoiser against noise with heavy tails; by eq. 6 it knows the field of the charges."""

    tasks = (Generate, Invert, Walk)  # branches grow by fresh noise, which must be Gaussian
    Config = PFGMPPConfig
    config: PFGMPPConfig


PFGMPP.presets = laptop(PFGMPPConfig(), Process(OF_DIGITS, StudentT(64.0)))
