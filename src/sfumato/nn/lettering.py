"""The two networks of zi2zi: a U-Net told the font where it is narrowest, a critic that names the font.

kaonashi-tyc/zi2zi (2017), whose figures are the defaults: kernels of 5 x 5, and an embedding of the font
beside the code of the character. Fonts are given as weights that sum to 1, so one may stand between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout, leaky_relu, relu

from sfumato.errors import UsageError
from sfumato.nn.layers import GroupNorm
from sfumato.nn.patchgan import MOST, SPREAD, scatter
from sfumato.nn.unet_p2p import enlarged

SLOPE = 0.2
DROPPED = 3
"""Innermost levels on the way up that drop places while learning."""
FEWEST = 2
EMBEDDED = 0.01
"""Standard deviation of embeddings before training."""
FontNorm = Literal["batch", "picture", "conditional"]


@dataclass(frozen=True)
class LetteringUNetConfig:
    """Shape of the generator."""

    channels: int = 1
    width: int = 64
    levels: int = 8
    """Times the picture is halved; 8 bring 256 pixels down to one."""
    kernel: int = 5
    fonts: int = 40
    embedding: int = 128
    dropout: float = 0.5
    norm: FontNorm = "batch"
    """"batch" as published; "picture" norms all channels of a picture together; "conditional", published too:
    on the way up each channel of a picture is normed, then scaled and shifted as the font wants."""

    @property
    def widths(self) -> list[int]:
        """Of the levels, on the way down."""
        return [self.width * min(2**level, MOST) for level in range(self.levels)]


class LetteringEncoder(nn.Module):
    """The way down: what a character is."""

    def __init__(self, config: LetteringUNetConfig):
        super().__init__()
        self.config = c = checked(config)
        widths = c.widths
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, c.kernel, 2, c.kernel // 2)
            for i, o in zip([c.channels, *widths[:-1]], widths, strict=True)
        )
        plain: FontNorm = "batch" if c.norm == "batch" else "picture"
        self.norms = nn.ModuleList(FontAffine(o, plain, 0) for o in widths[1:])
        scatter(self)

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """What every level sees, the code of the character last; pictures are enlarged to fit."""
        x = self.convs[0](enlarged(x, 2**self.config.levels))
        seen = [x]
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            x = norm(conv(leaky_relu(x, SLOPE)))
            seen.append(x)
        return seen


class LetteringDecoder(nn.Module):
    """The way up, past the embedding of the font."""

    def __init__(self, config: LetteringUNetConfig):
        super().__init__()
        self.config = c = checked(config)
        widths = c.widths
        outputs = [*widths[-2::-1], c.channels]
        inputs = [widths[-1] + c.embedding, *(2 * o for o in outputs[:-1])]
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(i, o, c.kernel, 2, c.kernel // 2, output_padding=1)
            for i, o in zip(inputs, outputs, strict=True)
        )
        self.norms = nn.ModuleList(FontAffine(o, c.norm, c.fonts) for o in outputs[:-1])
        scatter(self)
        self.embedding = nn.Parameter(EMBEDDED * torch.randn(c.fonts, c.embedding))

    def forward(
        self, seen: list[Float[Tensor, "b _ _ _"]], fonts: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b c h w"]:
        """Pictures in [-1, 1]; ``fonts`` are weights of the fonts it knows."""
        code, last = seen[-1], len(self.norms)
        told = (fonts.to(self.embedding) @ self.embedding)[:, :, None, None].to(code)
        x = torch.cat([code, told.expand(-1, -1, *code.shape[2:])], 1)
        for k, (conv, norm) in enumerate(zip(self.convs[:last], self.norms, strict=True)):
            x = norm(conv(relu(x)), fonts)
            if k < DROPPED:
                x = dropout(x, self.config.dropout, self.training)
            x = torch.cat([x, seen[last - 1 - k]], 1)
        return self.convs[last](relu(x)).tanh()


def checked(config: LetteringUNetConfig) -> LetteringUNetConfig:
    """The same; ``UsageError`` for what cannot be built."""
    if config.levels < FEWEST:
        raise UsageError(f"The U-Net of zi2zi needs {FEWEST} levels, got {config.levels}; give more.")
    if config.kernel % 2 == 0:
        raise UsageError(f"Kernels of zi2zi have a middle, got {config.kernel}; give an odd number.")
    return config


class FontAffine(nn.Module):
    """A norm whose scale and shift may depend on the font (Dumoulin et al. 2017, eq. 5)."""

    def __init__(self, width: int, norm: FontNorm, fonts: int):
        super().__init__()
        self.own = fonts > 0 and norm == "conditional"
        if norm == "batch":
            self.norm: nn.Module = nn.BatchNorm2d(width)
        else:
            self.norm = GroupNorm(width if self.own else 1, width, affine=not self.own)
        if self.own:
            self.scale = nn.Parameter(torch.ones(fonts, width) + SPREAD * torch.randn(fonts, width))
            self.shift = nn.Parameter(torch.zeros(fonts, width))

    def forward(
        self, x: Float[Tensor, "b c h w"], fonts: Float[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        x = self.norm(x)
        if not self.own or fonts is None:
            return x
        scale, shift = (fonts.to(t) @ t for t in (self.scale, self.shift))
        return x * scale.to(x)[:, :, None, None] + shift.to(x)[:, :, None, None]


@dataclass(frozen=True)
class FontCriticConfig:
    """Shape of the critic."""

    channels: int = 2
    """Of the source and the picture together."""
    height: int = 256
    width: int = 256
    first: int = 64
    """Width of the first layer; those after it have twice, four and eight times as many."""
    kernel: int = 5
    fonts: int = 40


class FontCritic(nn.Module):
    """Sees a character of the source font and a picture: is the picture real, and of which font?"""

    def __init__(self, config: FontCriticConfig):
        super().__init__()
        self.config = c = config
        layers: list[nn.Module] = []
        wide = c.channels
        for k, stride in enumerate((2, 2, 2, 1)):
            out = c.first * 2**k
            layers.append(nn.Conv2d(wide, out, c.kernel, stride, c.kernel // 2))
            layers += [nn.BatchNorm2d(out)] if k else []
            layers.append(nn.LeakyReLU(SLOPE))
            wide = out
        self.model = nn.Sequential(*layers)
        places = math.prod(math.ceil(side / 8) for side in (c.height, c.width))
        self.real = nn.Linear(wide * places, 1)
        self.font = nn.Linear(wide * places, c.fonts)
        scatter(self)

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b 1"], Float[Tensor, "b k"]]:
        """Logits: real, and each font."""
        seen = self.model(x).flatten(1)
        return self.real(seen), self.font(seen)
