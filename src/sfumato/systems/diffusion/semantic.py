"""Semantic synthesis: from a map of labels to a picture, by latent diffusion.

Rombach et al. 2022, section 4.3.2: the map, one channel a label, is resized to the latents and stands beside
them. Their 1 x 1 convolution of the map to three channels is part of the denoiser's first layer here.
"""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.core.process import Karras, Process
from sfumato.core.request import Request, Translate
from sfumato.core.system import Preset, TrainConfig
from sfumato.systems.diffusion.beside import Map
from sfumato.systems.diffusion.latent import SMALL, SMALL_OPTIM, Hear, LatentConfig, LatentDiffusion
from sfumato.systems.diffusion.words import Silent


@dataclass(frozen=True)
class SemanticConfig(LatentConfig):
    """A latent diffusion that sees a map."""

    labels: int = 32
    """Most labels that maps have, each with a flat colour of its own."""
    guidance: float = 1.0


class SemanticSynthesis(LatentDiffusion):
    """A denoiser that sees the share of each label in every cell."""

    tasks = (Translate,)
    needs = frozenset({"source", "image"})
    Config = SemanticConfig
    config: SemanticConfig

    reader: Silent

    def __init__(self, config: SemanticConfig):
        super().__init__(config, Silent(), Map(config.first_stage, config.labels), 0, 0)

    def _hearing(self, request: Request) -> Hear:
        return self.reader.hear

    @property
    def hears(self) -> frozenset[str]:
        return frozenset()


SemanticSynthesis.presets = {
    "laptop": Preset(
        SemanticConfig(
            network=SMALL,
            process=Process(Karras(mean=0.3, std=1.2)),
            optim=SMALL_OPTIM,
        ),
        data="labels-to-scenes",
        size=64,
        train=TrainConfig(steps=900, batch=32, ema=0.995),
        base=("ldm", "shapes"),
    )
}
