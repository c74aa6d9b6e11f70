"""One U-Net for all of them: DDPM's, ADM's, Stable Diffusion's, by configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from sfumato.errors import UsageError
from sfumato.nn.blocks import (
    Double,
    Downsample,
    Halve,
    ResBlock,
    SpatialAttention,
    SpatialTransformer,
    Upsample,
)
from sfumato.nn.condition import Condition
from sfumato.nn.embed import Embedder, sinusoidal
from sfumato.nn.layers import GroupNorm, swish, zeroed


@dataclass(frozen=True)
class LevelShape:
    """What distinguishes one level from the others."""

    width: int
    blocks: int
    attend: bool
    heads: int
    depth: int
    only_cross: bool = False


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a U-Net. Tuples have one entry a level, finest first, or one for all levels."""

    in_channels: int = 3
    """Of x and of ``Condition.spatial`` together (9 for Stable Diffusion's inpainting)."""
    out_channels: int = 3
    widths: tuple[int, ...] = (128, 256, 256, 256)
    """Channels of each level; each further level halves height and width."""
    blocks: tuple[int, ...] = (2,)
    """Residual blocks of each level on the way down; one more on the way up."""
    attend: tuple[bool, ...] = (False,)
    """Which levels attend."""
    heads: tuple[int, ...] = (1,)
    """Attention heads of each level, where ``head_width`` is 0."""
    head_width: int = 0
    """Channels of a head; 0 means that ``heads`` counts them."""
    depth: tuple[int, ...] = (0,)
    """Transformer blocks of each attention; 0 is the plain attention of DDPM and ADM."""
    context: int = 0
    """Width of ``Condition.tokens``, which transformers read; 0 means they read nothing."""
    joint: bool = False
    """Whether plain attention reads the context too, as more keys and values (GLIDE)."""
    only_cross: tuple[bool, ...] = (False,)
    """Which levels' transformers read the context twice, never themselves (Stable Diffusion's upscaler)."""
    linear_projection: bool = False
    """Whether transformers project by linear layers (Stable Diffusion 2) or by 1 x 1 convolutions (1.x)."""
    middle_attention: bool = True
    resblock: Literal["add", "scale_shift"] = "add"
    """How a residual block is told the time: by adding (DDPM) or by scaling and shifting its norm (ADM)."""
    resize: Literal["conv", "resblock"] = "conv"
    """What halves and doubles: a convolution, or a residual block (ADM, after BigGAN)."""
    groups: int = 32
    """Of every group norm."""
    eps: float = 1e-5
    """Of every group norm in a residual block or before plain attention."""
    dropout: float = 0.0
    """Inside residual blocks, while training."""
    classes: int = 0
    """Rows of a table of class embeddings; ``Condition.vector`` is then one-hot, or zero for no class."""
    vector: int = 0
    """Width of ``Condition.vector`` where it is an embedding, such as SDXL's text and sizes."""
    flip_sin_to_cos: bool = True
    """Whether the time embedding has its cosines first (ADM, Stable Diffusion) or its sines (DDPM)."""
    freq_shift: float = 0.0
    """1 in DDPM, 0 elsewhere."""
    downsample_padding: Literal[0, 1] = 1
    """0 pads at the right and the bottom alone (DDPM)."""
    patch: int = 1
    """Side of the squares of pixels folded into channels before the first convolution; 1 folds nothing."""

    def __post_init__(self) -> None:
        for name in ("blocks", "attend", "heads", "depth", "only_cross"):
            if (count := len(getattr(self, name))) not in (1, len(self.widths)):
                raise UsageError(
                    f"UNetConfig.{name} has {count} entries for {len(self.widths)} levels; "
                    "give one for each level, or one for all."
                )
        if bad := [width for width in self.widths if width % self.groups]:
            raise UsageError(
                f"UNetConfig.widths has {bad[0]}, which {self.groups} groups do not divide; "
                "choose multiples of 'groups', or other 'groups'."
            )
        if self.classes and self.vector:
            raise UsageError(
                "UNetConfig has both classes and vector, but a condition has one vector; leave one of them 0."
            )
        attending = [level for level in self.levels if level.attend]
        for level in [*attending, self.levels[-1]] if self.middle_attention else attending:
            if level.width % level.heads or level.width % (self.head_width or 1):
                raise UsageError(
                    f"UNetConfig: a width of {level.width} does not fall into heads of equal width; "
                    "change 'widths', or 'heads' or 'head_width'."
                )

    @property
    def levels(self) -> tuple[LevelShape, ...]:
        """The settings of each level, finest first."""

        def spread(values: tuple[int, ...]) -> tuple[int, ...]:
            return values * len(self.widths) if len(values) == 1 else values

        only_cross = spread(self.only_cross)

        counts = spread(self.heads)
        if self.head_width:
            counts = tuple(max(width // self.head_width, 1) for width in self.widths)
        blocks, attend, depth = spread(self.blocks), spread(self.attend), spread(self.depth)
        rows = zip(self.widths, blocks, attend, counts, depth, only_cross, strict=True)
        return tuple(LevelShape(w, n, bool(a), h, d, bool(o)) for w, n, a, h, d, o in rows)


class Encoder(nn.Module):
    """The contracting half of a U-Net with its middle; a side network such as ControlNet's is a copy of it.

    ``encode`` gives the embedding of time and condition, and the features: one before the first block, one
    after each block and each halving, in this order, and the middle last.
    """

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        first, last = config.levels[0], config.levels[-1]
        emb = 4 * first.width
        self.conv_in = nn.Conv2d(config.in_channels * config.patch**2, first.width, 3, padding=1)
        self.time_embedding = Embedder(first.width, emb)
        self.class_embedding = nn.Embedding(config.classes, emb) if config.classes else None
        self.add_embedding = Embedder(config.vector, emb) if config.vector else None
        befores = (first.width, *config.widths)
        self.down_blocks = nn.ModuleList(
            Down(config, level, before, emb, halve=i + 1 < len(config.levels))
            for i, (level, before) in enumerate(zip(config.levels, befores, strict=False))
        )
        self.mid_block = Middle(config, replace(last, only_cross=False), emb)

    def encode(
        self, x: Float[Tensor, "b c h w"], clock: Float[Tensor, " b"], cond: Condition
    ) -> tuple[Float[Tensor, "b e"], list[Tensor]]:
        self._check(x, cond)
        emb = silu(self.embed(clock, cond))
        h = x if cond.spatial is None else torch.cat([x, cond.spatial], 1)
        h = pixel_unshuffle(h, self.config.patch) if self.config.patch > 1 else h
        h = self.conv_in(h)
        features = [h]
        for level in self.down_blocks:
            features += level(features[-1], emb, cond.tokens)
        features.append(self.mid_block(features[-1], emb, cond.tokens))
        return emb, features

    def embed(self, clock: Float[Tensor, " b"], cond: Condition) -> Float[Tensor, "b e"]:
        """Time and vector as one embedding. ``clock`` stays fp32 whatever the weights are."""
        config = self.config
        waves = sinusoidal(
            clock,
            self.conv_in.out_channels,
            flip_sin_to_cos=config.flip_sin_to_cos,
            freq_shift=config.freq_shift,
        )
        emb: Tensor = self.time_embedding(waves)
        if self.class_embedding is not None and cond.vector is not None:
            emb = emb + cond.vector.to(emb.dtype) @ self.class_embedding.weight.to(emb.dtype)
        if self.add_embedding is not None and cond.vector is not None:
            emb = emb + self.add_embedding(cond.vector)
        return emb

    def _check(self, x: Tensor, cond: Condition) -> None:
        config = self.config
        channels = x.shape[1] + (0 if cond.spatial is None else cond.spatial.shape[1])
        if channels != config.in_channels:
            raise UsageError(
                f"This U-Net reads {config.in_channels} channels, got {channels} in x and Condition.spatial "
                "together; change UNetConfig.in_channels or what is given."
            )
        if x.shape[2] % config.patch or x.shape[3] % config.patch:
            raise UsageError(
                f"Height and width must be multiples of {config.patch}, got {tuple(x.shape[2:])}; "
                "crop or pad the picture."
            )
        told = {
            "tokens": (cond.tokens, config.context),
            "vector": (cond.vector, config.classes or config.vector),
        }
        for name, (given, wanted) in told.items():
            width = 0 if given is None else given.shape[-1]
            if width != wanted:
                raise UsageError(
                    f"This U-Net reads Condition.{name} of width {wanted} (0: none), got width {width}; "
                    "give the condition that the network was built for."
                )


class UNet(Encoder):
    """Maps a noisy picture, a time and a condition to a picture of the same size.

    DDPM (Ho et al. 2020, appendix B), ADM (Dhariwal & Nichol 2021, section 3) and Stable Diffusion (Rombach
    et al. 2022, appendix E) by configuration. The parameters have the names of diffusers' ``UNet2DModel`` and
    ``UNet2DConditionModel``. It computes in the dtype of its weights; x must come in it.
    """

    def __init__(self, config: UNetConfig):
        super().__init__(config)
        levels = config.levels[::-1]
        emb = 4 * config.widths[0]
        befores = (levels[0].width, *(level.width for level in levels))
        skips = (*(level.width for level in levels[1:]), config.widths[0])
        self.up_blocks = nn.ModuleList(
            Up(config, level, before, skip, emb, double=i + 1 < len(levels))
            for i, (level, before, skip) in enumerate(zip(levels, befores, skips, strict=False))
        )
        self.conv_norm_out = GroupNorm(config.groups, config.widths[0], config.eps)
        out = config.out_channels * config.patch**2
        self.conv_out = zeroed(nn.Conv2d(config.widths[0], out, 3, padding=1))

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """Where data comes in and goes out."""
        return (self.conv_in, self.conv_out)

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        clock: Float[Tensor, " b"],
        cond: Condition,
        residuals: Sequence[Tensor] | None = None,
    ) -> Float[Tensor, "b d h w"]:
        """``residuals`` are added to the features on their way to the decoder, in the order of ``encode``."""
        emb, features = self.encode(x, clock, cond)
        if residuals is not None:
            if len(residuals) != len(features):
                raise UsageError(
                    f"This U-Net takes {len(features)} residuals, one for each feature and the middle last, "
                    f"got {len(residuals)}; the side network must have the same levels and blocks."
                )
            features = [f + r for f, r in zip(features, residuals, strict=True)]
        return self.decode(emb, features, cond)

    def decode(
        self, emb: Float[Tensor, "b e"], features: Sequence[Tensor], cond: Condition
    ) -> Float[Tensor, "b d h w"]:
        """From the features of ``encode`` to the picture."""
        *skips, h = features
        for level in self.up_blocks:
            h = level(h, skips, emb, cond.tokens)
        h = self.conv_out(swish(self.conv_norm_out(h)))
        return pixel_shuffle(h, self.config.patch) if self.config.patch > 1 else h


class Down(nn.Module):
    """Blocks at one resolution, then half of it. Gives the features after each."""

    def __init__(self, config: UNetConfig, level: LevelShape, before: int, emb: int, *, halve: bool):
        super().__init__()
        self.resnets = nn.ModuleList(
            _resblock(config, before if i == 0 else level.width, level.width, emb)
            for i in range(level.blocks)
        )
        self.attentions = nn.ModuleList(
            _attention(config, level) for _ in range(level.blocks if level.attend else 0)
        )
        self.downsamplers = nn.ModuleList()
        if halve and config.resize == "conv":
            self.downsamplers.append(Downsample(level.width, config.downsample_padding))
        elif halve:
            self.downsamplers.append(_resblock(config, level.width, level.width, emb, Halve()))

    def forward(self, h: Tensor, emb: Tensor, context: Tensor | None) -> list[Tensor]:
        features = []
        for i, block in enumerate(self.resnets):
            h = block(h, emb)
            h = self.attentions[i](h, context) if self.attentions else h
            features.append(h)
        return [*features, *(halve(h, emb) for halve in self.downsamplers)]


class Middle(nn.Module):
    """Two residual blocks with an attention between them, at the coarsest resolution."""

    def __init__(self, config: UNetConfig, level: LevelShape, emb: int):
        super().__init__()
        self.attentions = nn.ModuleList([_attention(config, level)] if config.middle_attention else [])
        self.resnets = nn.ModuleList(_resblock(config, level.width, level.width, emb) for _ in range(2))

    def forward(self, h: Tensor, emb: Tensor, context: Tensor | None) -> Tensor:
        h = self.resnets[0](h, emb)
        for attend in self.attentions:
            h = attend(h, context)
        return self.resnets[1](h, emb)


class Up(nn.Module):
    """Blocks at one resolution, each joined by a feature of the encoder, then twice the resolution."""

    def __init__(
        self, config: UNetConfig, level: LevelShape, before: int, skip: int, emb: int, *, double: bool
    ):
        super().__init__()
        count = level.blocks + 1
        insides = [before, *[level.width] * level.blocks]
        skips = [*[level.width] * level.blocks, skip]
        self.resnets = nn.ModuleList(
            _resblock(config, a + b, level.width, emb) for a, b in zip(insides, skips, strict=True)
        )
        self.attentions = nn.ModuleList(
            _attention(config, level) for _ in range(count if level.attend else 0)
        )
        self.upsamplers = nn.ModuleList()
        if double and config.resize == "conv":
            self.upsamplers.append(Upsample(level.width))
        elif double:
            self.upsamplers.append(_resblock(config, level.width, level.width, emb, Double()))

    def forward(self, h: Tensor, skips: list[Tensor], emb: Tensor, context: Tensor | None) -> Tensor:
        """Takes its features off the end of ``skips``."""
        for i, block in enumerate(self.resnets):
            h = block(torch.cat([h, skips.pop()], 1), emb)
            h = self.attentions[i](h, context) if self.attentions else h
        for double in self.upsamplers:
            h = double(h, emb, (skips[-1].shape[2], skips[-1].shape[3]))
        return h


def _resblock(
    config: UNetConfig, inside: int, outside: int, emb: int, resize: nn.Module | None = None
) -> ResBlock:
    return ResBlock(
        inside,
        outside,
        emb,
        groups=config.groups,
        eps=config.eps,
        dropout=config.dropout,
        scale_shift=config.resblock == "scale_shift",
        resize=resize,
    )


def _attention(config: UNetConfig, level: LevelShape) -> SpatialAttention | SpatialTransformer:
    if level.depth == 0:
        read = config.context if config.joint else 0
        return SpatialAttention(level.width, level.heads, groups=config.groups, eps=config.eps, context=read)
    return SpatialTransformer(
        level.width,
        level.heads,
        groups=config.groups,
        depth=level.depth,
        context=config.context,
        linear=config.linear_projection,
        only_cross=level.only_cross,
    )
