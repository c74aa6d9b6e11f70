"""The autoencoder whose latents Stable Diffusion works in: pictures in, a small Gaussian out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from sfumato.errors import UsageError
from sfumato.nn.attention import attention
from sfumato.nn.layers import GroupNorm, Linear, doubled, lower_right, swish

EPS = 1e-6
"""Of every group norm here (latent-diffusion's code; PyTorch's own default is 1e-5)."""
LOGVAR_RANGE = (-30.0, 20.0)


@dataclass(frozen=True)
class AutoencoderConfig:
    """The shape of an autoencoder; the defaults are Stable Diffusion's KL-f8."""

    channels: int = 3
    """Of a picture."""
    latent_channels: int = 4
    widths: tuple[int, ...] = (128, 256, 512, 512)
    """Channels of each level, finest first; each further level halves height and width."""
    blocks: int = 2
    """Residual blocks a level in the encoder; the decoder has one more."""
    groups: int = 32
    """Of every group norm."""
    patch: int = 1
    """Side of the squares of pixels folded into channels before the first convolution; 1 folds nothing."""
    attention: bool = True
    """Whether the coarsest level looks at the whole picture at once."""
    quant_conv: bool = True
    """Whether a 1 x 1 convolution stands on either side of the latent."""

    @property
    def factor(self) -> int:
        """How many pixels wide one latent cell is."""
        return self.patch * 2 ** (len(self.widths) - 1)


class Autoencoder(nn.Module):
    """KL autoencoder (Rombach et al. 2022, section 3.1 and appendix G).

    With ``patch=1`` the parameters have the names of diffusers' ``AutoencoderKL``.
    """

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        moments = 2 * config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(moments, moments, 1) if config.quant_conv else nn.Identity()
        latents = config.latent_channels
        self.post_quant_conv = nn.Conv2d(latents, latents, 1) if config.quant_conv else nn.Identity()

    def encode(
        self, x: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b z i j"], Float[Tensor, "b z i j"]]:
        """Mean and log variance of the latent of pictures in [-1, 1]; h and w are multiples of ``factor``."""
        factor, (height, width) = self.config.factor, x.shape[2:]
        if height % factor or width % factor:
            raise UsageError(
                f"Height and width must be multiples of {factor}, got {height} x {width}; "
                "crop or pad the picture."
            )
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR_RANGE)

    def decode(self, z: Float[Tensor, "b z i j"]) -> Float[Tensor, "b c h w"]:
        """Pictures, about [-1, 1], of latents as ``encode`` gives them (not rescaled)."""
        return self.decoder(self.post_quant_conv(z))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Reconstruct pictures through the mean of their latents."""
        return self.decode(self.encode(x)[0])


class Encoder(nn.Module):
    """Picture to the moments of its latent, mean first; or to ``outputs`` numbers a cell."""

    def __init__(self, config: AutoencoderConfig, outputs: int | None = None):
        super().__init__()
        widths, self.patch = config.widths, config.patch
        self.conv_in = nn.Conv2d(config.channels * config.patch**2, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            _Level(before, width, config.blocks, config.groups, down=i + 1 < len(widths))
            for i, (before, width) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.mid_block = _Middle(widths[-1], config.groups, config.attention)
        self.conv_norm_out = GroupNorm(config.groups, widths[-1], EPS)
        self.outputs = outputs or 2 * config.latent_channels
        self.conv_out = nn.Conv2d(widths[-1], self.outputs, 3, padding=1)

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """Where the picture comes in and its moments go out."""
        return self.conv_in, self.conv_out

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b m i j"]:
        h = self.conv_in(pixel_unshuffle(x, self.patch) if self.patch > 1 else x)
        for layer in _layers(self.down_blocks):
            h = layer(h)
        return self.conv_out(swish(self.conv_norm_out(self.mid_block(h))))


class Decoder(nn.Module):
    """Latent to picture."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        widths, self.patch = config.widths[::-1], config.patch
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = _Middle(widths[0], config.groups, config.attention)
        self.up_blocks = nn.ModuleList(
            _Level(before, width, config.blocks + 1, config.groups, up=i + 1 < len(widths))
            for i, (before, width) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.conv_norm_out = GroupNorm(config.groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.channels * config.patch**2, 3, padding=1)

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """Where the latent comes in and the picture goes out."""
        return self.conv_in, self.conv_out

    def forward(self, z: Float[Tensor, "b z i j"]) -> Float[Tensor, "b c h w"]:
        h = self.mid_block(self.conv_in(z))
        for layer in _layers(self.up_blocks):
            h = layer(h)
        h = self.conv_out(swish(self.conv_norm_out(h)))
        return pixel_shuffle(h, self.patch) if self.patch > 1 else h


class _Level(nn.Module):
    """Residual blocks at one resolution, then perhaps half or double of it."""

    def __init__(
        self, before: int, width: int, blocks: int, groups: int, *, down: bool = False, up: bool = False
    ):
        super().__init__()
        self.resnets = nn.ModuleList(
            _Resnet(before if i == 0 else width, width, groups) for i in range(blocks)
        )
        self.downsamplers = nn.ModuleList([_Downsample(width)] if down else [])
        self.upsamplers = nn.ModuleList([_Upsample(width)] if up else [])


def _layers(levels: nn.ModuleList) -> Iterator[nn.Module]:
    """One after the other, so that no level holds its input while its layers run."""
    for level in levels:
        assert isinstance(level, _Level)
        yield from (*level.resnets, *level.downsamplers, *level.upsamplers)


class _Middle(nn.Module):
    def __init__(self, width: int, groups: int, attend: bool):
        super().__init__()
        self.attentions = nn.ModuleList([_Attention(width, groups)] if attend else [])
        self.resnets = nn.ModuleList([_Resnet(width, width, groups), _Resnet(width, width, groups)])

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        x = self.resnets[0](x)
        for layer in self.attentions:
            x = layer(x)
        return self.resnets[1](x)


class _Resnet(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, before: int, width: int, groups: int):
        super().__init__()
        self.norm1 = GroupNorm(groups, before, EPS)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1)
        self.norm2 = GroupNorm(groups, width, EPS)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(before, width, 1) if before != width else None

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        h = self.conv1(swish(self.norm1(x)))
        h = self.conv2(swish(self.norm2(h)))
        return h.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))


class _Attention(nn.Module):
    """Self-attention with one head over all places."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.group_norm = GroupNorm(groups, width, EPS)
        self.to_q = Linear(width, width)
        self.to_k = Linear(width, width)
        self.to_v = Linear(width, width)
        self.to_out = nn.ModuleList([Linear(width, width)])

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2).unsqueeze(1)
        seen = attention(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)).squeeze(1)
        return x + self.to_out[0](seen).transpose(1, 2).unflatten(2, x.shape[2:])


class _Downsample(nn.Module):
    """Half the size by a strided convolution, padded at the right and the bottom alone."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        return self.conv(lower_right(x, self.conv))


class _Upsample(nn.Module):
    """Twice the size by repetition, then a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        return doubled(x, self.conv)
