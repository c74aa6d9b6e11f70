"""LDM-SR: pictures four times as large, by latent diffusion beside the small picture.

Rombach et al. 2022, section 4.4: the small picture has the size of the latents and stands beside them as it
is; it is what the antialiased bicubic filter leaves of the large one, as in SR3.
"""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.core.process import Karras, Process
from sfumato.core.request import Request, Upscale
from sfumato.core.system import Preset, TrainConfig
from sfumato.systems.diffusion.beside import Small
from sfumato.systems.diffusion.latent import SMALL, SMALL_OPTIM, Hear, LatentConfig, LatentDiffusion
from sfumato.systems.diffusion.words import Silent


@dataclass(frozen=True)
class LDMSRConfig(LatentConfig):
    """A latent diffusion that sees a small picture."""

    guidance: float = 1.0


class LDMSR(LatentDiffusion):
    """A denoiser that sees the picture it is to enlarge, as its first stage makes it small."""

    tasks = (Upscale,)
    Config = LDMSRConfig

    reader: Silent

    def __init__(self, config: LDMSRConfig):
        super().__init__(config, Silent(), Small(config.first_stage), 0, 0)

    def _hearing(self, request: Request) -> Hear:
        return self.reader.hear

    @property
    def hears(self) -> frozenset[str]:
        return frozenset()


LDMSR.presets = {
    "laptop": Preset(
        LDMSRConfig(
            network=SMALL,
            process=Process(Karras(mean=0.0, std=1.2)),
            optim=SMALL_OPTIM,
        ),
        data="shapes",
        size=64,
        train=TrainConfig(steps=900, batch=32, ema=0.995),
        base=("ldm", "shapes"),
    )
}
