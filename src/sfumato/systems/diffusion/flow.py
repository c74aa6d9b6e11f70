"""Rectified flow: straight lines from noise to data, and a network that learns their direction.

Liu, Gong, Liu: Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow, ICLR 2023,
arXiv 2209.03003.
"""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.core.denoiser import Predicts
from sfumato.core.process import Process, Spacing, Straight
from sfumato.systems.diffusion.pixels import PixelConfig, PixelDiffusion, laptop


@dataclass(frozen=True)
class FlowConfig(PixelConfig):
    """Data become noise at a constant pace (eq. 1)."""

    predicts: Predicts = "flow"
    process: Process = Process(Straight())
    clip: bool = False
    solver: str = "heun"
    steps: int = 18
    spacing: Spacing = "linspace"


class Flow(PixelDiffusion):
    """A network that says which way noise lies from data, noise minus data, on average over the lines."""

    Config = FlowConfig
    config: FlowConfig


Flow.presets = laptop(FlowConfig())
