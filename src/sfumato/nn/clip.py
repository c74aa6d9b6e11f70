"""CLIP's network: a tower for pictures, a tower for texts, and one space in which both answers lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from sfumato.nn.clip_text import ClipText, ClipTextConfig
from sfumato.nn.vit import Vit, VitConfig

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Mean and standard deviation of the pictures OpenAI trained on, in [0, 1]."""
WARMEST = math.log(100.0)
"""The logarithm of the scale does not grow beyond this (section 2.5)."""


@dataclass(frozen=True)
class ClipConfig:
    """The shape of both towers; the defaults are ViT-B/32's."""

    vision: VitConfig = VitConfig()
    text: ClipTextConfig = ClipTextConfig(width=512, heads=8, hidden=2048)
    dimension: int = 512
    """Of the space in which pictures and texts are compared."""
    end: int = 49407
    """The token that ends a text; what the tower says there stands for the text."""
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    """Of each channel in [0, 1]: pictures are shifted and scaled by them."""
    scale: float = 1 / 0.07
    """What cosines are multiplied by before training; it is learned."""


class ClipNetwork(nn.Module):
    """Radford et al. 2021, figure 3: unit vectors of pictures and of texts, and their products' scale."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: ClipConfig):
        super().__init__()
        self.config = config
        self.vision_model = Vit(config.vision)
        self.text = ClipText(config.text)
        self.visual_projection = nn.Linear(config.vision.width, config.dimension, bias=False)
        self.text_projection = nn.Linear(config.text.width, config.dimension, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor([math.log(config.scale)]))
        for projection in (self.visual_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
        for name, values in (("mean", config.mean), ("std", config.std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def forward(
        self, pixels: Float[Tensor, "b c h w"], tokens: Int[Tensor, "n l"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "n d"], Float[Tensor, ""]]:
        """Unit vectors of pictures and texts, and the scale."""
        return self.images(pixels), self.texts(tokens), self.logit_scale.float().exp().squeeze()

    def images(self, pixels: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Unit vectors of pictures in [-1, 1], which are scaled and cropped if they have another size."""
        pixels = covering(pixels, self.config.vision.size)
        x = ((pixels + 1) / 2 - self.mean) / self.std
        _, seen = self.vision_model(x.to(self.visual_projection.weight.dtype))
        return normalize(self.visual_projection(seen).float(), dim=1)

    def texts(self, tokens: Int[Tensor, "b l"]) -> Float[Tensor, "b d"]:
        """Unit vectors of texts, read up to their first ``end``; what follows it changes nothing."""
        last = (tokens == self.config.end).int().argmax(1)
        states = self.text(tokens[:, : int(last.max()) + 1])
        read = states[torch.arange(len(tokens), device=tokens.device), last]
        return normalize(self.text_projection(read).float(), dim=1)


def covering(x: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c i j"]:
    """Scale pictures in [-1, 1] until they just cover a size, and cut out their middle.

    CLIP's own preparation, as ``images.cover`` does it with Pillow but for the order of the sides:
    antialiased bicubic, rounded to grey levels. Gradients pass the rounding as if it were none.
    """
    height, width = x.shape[2:]
    if (height, width) == size:
        return x
    scale = max(size[0] / height, size[1] / width)
    larger = (max(size[0], int(height * scale + 1e-6)), max(size[1], int(width * scale + 1e-6)))
    steps = ((height, larger[1]), larger) if larger != (height, width) else ()
    for sides in steps:  # one side after the other, as Pillow does
        x = _whole_levels(interpolate(x.float(), sides, mode="bicubic", antialias=True))
    top, left = (larger[0] - size[0]) // 2, (larger[1] - size[1]) // 2
    return x[:, :, top : top + size[0], left : left + size[1]]


def _whole_levels(x: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    x = x.clamp(-1, 1)
    return x + (((x + 1) * 127.5).round() / 127.5 - 1 - x).detach()
