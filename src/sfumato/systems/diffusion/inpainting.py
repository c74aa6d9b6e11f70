"""Inpainting by latent diffusion: what lies under a mask is painted anew, as the rest and a prompt suggest.

Rombach et al. 2022, section 4.5. The mask, 1 where it may paint, and the latents of the picture without what
lies under it stand beside the noisy latents, in the order of Stable Diffusion's inpainting models; the
authors' own model for this task has them the other way round and masks of -1 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sfumato.core.process import Karras, Process
from sfumato.core.request import Edit, Request
from sfumato.core.system import Preset, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.nn.transformer import WordsConfig
from sfumato.systems.diffusion.beside import Masked
from sfumato.systems.diffusion.latent import (
    SMALL,
    SMALL_OPTIM,
    SMALL_WORDS,
    Hear,
    LatentConfig,
    LatentDiffusion,
)
from sfumato.systems.diffusion.words import Reader, knowing, widths


@dataclass(frozen=True)
class InpaintingConfig(LatentConfig):
    """A latent diffusion with a text tower over whole words."""

    text: WordsConfig = WordsConfig()


class Inpainting(LatentDiffusion):
    """Paints inside a mask; what is outside stays as it was, to the bit."""

    tasks = (Edit,)
    Config = InpaintingConfig
    config: InpaintingConfig
    reader: Reader

    def __init__(self, config: InpaintingConfig):
        super().__init__(config, Reader.of(config.text), Masked(config.first_stage), *widths(config.text))

    def _hearing(self, request: Request) -> Hear:
        return self.reader.hear

    @classmethod
    def fit(cls, config: InpaintingConfig, facts: Facts) -> InpaintingConfig:
        fitted: InpaintingConfig = super().fit(replace(config, text=knowing(config.text, facts)), facts)
        return fitted


_LAPTOP = Preset(
    InpaintingConfig(
        network=SMALL,
        text=SMALL_WORDS,
        process=Process(Karras(mean=0.3, std=1.2)),
        drop=0.3,
        optim=SMALL_OPTIM,
        guidance=2.0,
    ),
    data="shapes",
    size=64,
    train=TrainConfig(steps=1200, batch=32, ema=0.995),
    base=("ldm", "shapes"),
)
Inpainting.presets = {"laptop": _LAPTOP}
