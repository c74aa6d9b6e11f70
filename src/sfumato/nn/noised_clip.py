"""A CLIP that knows how noisy its pictures are: half a U-Net that is told the time, and a reader of words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from sfumato.nn.noised_classifier import NoisedClassifier, NoisedClassifierConfig
from sfumato.nn.transformer import Words, WordsConfig
from sfumato.nn.unet import UNetConfig


@dataclass(frozen=True)
class NoisedClipConfig:
    """The shape of both towers."""

    network: UNetConfig = UNetConfig()
    """Its downward half looks at pictures."""
    text: WordsConfig = WordsConfig()
    dimension: int = 128
    """Of the space in which pictures and texts are compared."""
    height: int = 64
    width: int = 64
    scale: float = 20.0
    """What cosines are multiplied by before training; it is learned."""


class NoisedClip(nn.Module):
    """Unit vectors of pictures at any noise level, and of texts (Nichol et al. 2021, GLIDE, section 3.3)."""

    def __init__(self, config: NoisedClipConfig):
        super().__init__()
        shape = NoisedClassifierConfig(config.network, config.dimension, config.height, config.width)
        self.image = NoisedClassifier(shape)
        self.text = Words(config.text)
        self.text_projection = nn.Linear(config.text.width, config.dimension, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor([math.log(config.scale)]))

    @property
    def scale(self) -> Float[Tensor, ""]:
        """What cosines are multiplied by."""
        return self.logit_scale.float().exp().squeeze()

    def forward(
        self, x: Float[Tensor, "b c h w"], clock: Float[Tensor, " b"], ids: Int[Tensor, "n l"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "n d"]]:
        """Unit vectors of noisy pictures, and of texts."""
        return self.images(x, clock), self.texts(ids)

    def images(self, x: Float[Tensor, "b c h w"], clock: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """Unit vectors of pictures under noise; ``clock`` says of how much."""
        return normalize(self.image(x, clock).float(), dim=1)

    def texts(self, ids: Int[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        """Unit vectors of texts."""
        _, read = self.text(ids)
        return normalize(self.text_projection(read).float(), dim=1)
