"""SDXL's way to read: the last states but one of two text towers side by side, and one vector a text.

Podell et al.: SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis, arXiv 2307.01952,
section 2.1. The refiner has the second tower alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sfumato.nn.clip_text import ClipText, ClipTextConfig
from sfumato.nn.embed import sinusoidal

BIG_G = ClipTextConfig(width=1280, layers=32, heads=20, hidden=5120, activation="gelu", projection=1280)
"""OpenCLIP's ViT-bigG/14."""


@dataclass(frozen=True)
class ClipPairConfig:
    """Two text towers, or one, and the numbers about a picture that are told with them."""

    first: ClipTextConfig | None = ClipTextConfig()
    """CLIP ViT-L/14; the refiner has none."""
    second: ClipTextConfig = BIG_G
    """Its projected text is the vector."""
    numbers: Literal["frame", "aesthetic"] = "frame"
    """What is told besides: size before scaling, place of the crop, and size of the picture (section 2.2,
    six numbers), or in place of the last an aesthetic score (five; the refiner)."""
    number_width: int = 256
    """Sines and cosines a number."""
    silent: bool = True
    """Whether an empty negative prompt is said as zeros; else it is read as any other."""

    @property
    def width(self) -> int:
        """Of a token."""
        return self.second.width + (self.first.width if self.first else 0)

    @property
    def vector(self) -> int:
        """Of text and numbers together."""
        return self.second.projection + self.number_width * (6 if self.numbers == "frame" else 5)


class ClipPair(nn.Module):
    """The towers, by the names that diffusers' folders give them."""

    def __init__(self, config: ClipPairConfig):
        super().__init__()
        self.config = config
        self.text_encoder = ClipText(config.first) if config.first else None
        self.text_encoder_2 = ClipText(config.second)

    def forward(self, ids: Int[Tensor, "b m"]) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b p"]]:
        """States of the last layer but one, without a norm, and the text of the second tower as a vector.

        ``ids`` has the tokens for each tower, one after the other.
        """
        towers = [tower for tower in (self.text_encoder, self.text_encoder_2) if tower is not None]
        said = []
        for tower, tokens in zip(towers, ids.chunk(len(towers), 1), strict=True):
            before, last = deque(tower.states(tokens), maxlen=2)
            said.append(before)
        return torch.cat(said, 2), tower.pooled(last, tokens)

    def vector(self, pooled: Float[Tensor, "b p"], numbers: Sequence[float]) -> Float[Tensor, "b v"]:
        """The vector of a text followed by numbers about the picture, which are the same for all texts."""
        waves = sinusoidal(
            torch.tensor(numbers, device=pooled.device), self.config.number_width, flip_sin_to_cos=True
        )
        return torch.cat([pooled, waves.flatten().to(pooled).expand(len(pooled), -1)], 1)
