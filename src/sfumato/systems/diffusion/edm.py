"""EDM: the design space of diffusion sorted out, and the best point in it.

Karras, Aittala, Aila, Laine: Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS 2022,
arXiv 2206.00364.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sfumato.core import solvers
from sfumato.core.denoiser import Predicts
from sfumato.core.process import Karras, Process, Spacing
from sfumato.core.request import Generate
from sfumato.core.solvers import Churn
from sfumato.core.steps import Solver
from sfumato.systems.diffusion.pixels import OF_DIGITS, PixelConfig, PixelDiffusion, laptop


@dataclass(frozen=True)
class EDMConfig(PixelConfig):
    """Table 1, column "Ours": noise is added to data that stay as they are."""

    predicts: Predicts = "edm"
    process: Process = Process(Karras())
    clip: bool = False
    solver: str = "heun"
    steps: int = 18
    spacing: Spacing = "karras"
    churn: Churn | None = None
    """Fresh noise on the way (algorithm 2); none is algorithm 1."""


class EDM(PixelDiffusion):
    """A network with unit variance in and out at every noise level (section 5), sampled by Heun's method."""

    Config = EDMConfig
    config: EDMConfig

    def _solver(self, name: str, request: Generate) -> Solver:
        if name == "heun" and self.config.churn is not None:
            return partial(solvers.heun, churn=self.config.churn)
        return super()._solver(name, request)


EDM.presets = laptop(EDMConfig(), Process(OF_DIGITS))
