"""Our U-Net is diffusers' U-Net, and ADM's, given the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn

from sfumato.nn.condition import Condition
from sfumato.nn.unet import UNet, UNetConfig


def of_unet2d(config: Any, **more: Any) -> UNetConfig:
    """Our configuration for diffusers' UNet2DModel."""
    return UNetConfig(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        widths=tuple(config["block_out_channels"]),
        blocks=(config["layers_per_block"],),
        attend=tuple("Attn" in kind for kind in config["down_block_types"]),
        head_width=config["attention_head_dim"] or 0,
        middle_attention=config["add_attention"],
        resblock="scale_shift" if config["resnet_time_scale_shift"] == "scale_shift" else "add",
        resize="resblock" if config["downsample_type"] == "resnet" else "conv",
        groups=config["norm_num_groups"],
        eps=config["norm_eps"],
        dropout=config["dropout"],
        classes=config["num_class_embeds"] or 0,
        flip_sin_to_cos=config["flip_sin_to_cos"],
        freq_shift=float(config["freq_shift"]),
        downsample_padding=config["downsample_padding"],
        **more,
    )


def of_unet2d_condition(config: Any) -> UNetConfig:
    """Our configuration for diffusers' UNet2DConditionModel."""

    def spread(value: Any) -> tuple[int, ...]:
        return (value,) if isinstance(value, int) else tuple(value)

    extra = config["addition_embed_type"] == "text_time"
    return UNetConfig(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        widths=tuple(config["block_out_channels"]),
        blocks=spread(config["layers_per_block"]),
        attend=tuple("Attn" in kind for kind in config["down_block_types"]),
        heads=spread(config["attention_head_dim"]),
        depth=spread(config["transformer_layers_per_block"]),
        context=config["cross_attention_dim"],
        linear_projection=config["use_linear_projection"],
        groups=config["norm_num_groups"],
        eps=config["norm_eps"],
        vector=config["projection_class_embeddings_input_dim"] if extra else 0,
        flip_sin_to_cos=config["flip_sin_to_cos"],
        freq_shift=float(config["freq_shift"]),
    )


CIFAR = {
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
PLAIN = {
    "cifar": CIFAR | {"block_out_channels": (12, 24, 24, 36), "norm_num_groups": 6},
    "heads": {
        "block_out_channels": (20, 30, 40),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 10,
        "layers_per_block": 1,
        "norm_num_groups": 5,
        "in_channels": 1,
        "out_channels": 2,
    },
    "no attention": {
        "block_out_channels": (14, 28),
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "norm_num_groups": 7,
        "add_attention": False,
        "layers_per_block": 3,
    },
    "classes": {
        "block_out_channels": (16, 24),
        "down_block_types": ("AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D"),
        "norm_num_groups": 8,
        "num_class_embeds": 5,
    },
    "adm": {
        "block_out_channels": (16, 24, 32),
        "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "attn_norm_num_groups": 8,
        "norm_num_groups": 8,
        "num_class_embeds": 3,
        "out_channels": 6,
    },
}
TOLD = {
    "sd1": {
        "block_out_channels": (20, 40, 60),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 2,
        "cross_attention_dim": 13,
        "norm_num_groups": 5,
    },
    "sd2": {
        "block_out_channels": (16, 32, 48),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": (2, 4, 6),
        "use_linear_projection": True,
        "cross_attention_dim": 24,
        "norm_num_groups": 8,
        "layers_per_block": 1,
    },
    "inpainting": {
        "block_out_channels": (16, 24),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 4,
        "cross_attention_dim": 10,
        "norm_num_groups": 4,
        "in_channels": 9,
    },
    "sdxl": {
        "block_out_channels": (16, 24, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (2, 3, 4),
        "transformer_layers_per_block": (1, 2, 3),
        "use_linear_projection": True,
        "cross_attention_dim": 11,
        "norm_num_groups": 8,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 31,
    },
}


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in net.state_dict().items()}


def stirred(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network with random weights everywhere, norms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(noise / max(p[0].numel(), 1) ** 0.5 if p.ndim > 1 else 0.5 * noise + (p.mean() > 0.5))
    return net.eval()


def pair(theirs: nn.Module, config: UNetConfig) -> UNet:
    """Our network with the weights of ``theirs``."""
    stirred(theirs)
    ours = UNet(config)
    assert shapes(ours) == shapes(theirs)
    ours.load_state_dict(theirs.state_dict())
    return ours.eval()


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CLOCK = torch.tensor([3.0, 999.0, 421.0])


@pytest.mark.parametrize("name", PLAIN)
@torch.no_grad()
def test_equals_unet2d(name):
    theirs = UNet2DModel(**PLAIN[name])
    ours = pair(theirs, of_unet2d(theirs.config))
    x = noise(3, theirs.config["in_channels"], 24, 40)
    labels = torch.tensor([2, 0, 1]) if theirs.config["num_class_embeds"] else None
    cond = Condition()
    if labels is not None:
        cond = Condition(vector=torch.eye(theirs.config["num_class_embeds"])[labels])
    expected = theirs(x, CLOCK, labels).sample
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(x, CLOCK, cond), expected, atol=1e-5, rtol=1e-5)
    as_sampled = ours(x.contiguous(memory_format=torch.channels_last), CLOCK, cond)
    torch.testing.assert_close(as_sampled, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TOLD)
@torch.no_grad()
def test_equals_unet2d_condition(name):
    theirs = UNet2DConditionModel(**TOLD[name])
    config = of_unet2d_condition(theirs.config)
    ours = pair(theirs, config)
    x, tokens = noise(3, config.in_channels, 22, 36), noise(3, 7, config.context, seed=2)
    cond, more = Condition(tokens=tokens), None
    if config.vector:
        text, sizes = noise(3, 31 - 6 * 4), noise(3, 6).abs() * 100
        more = {"text_embeds": text, "time_ids": sizes}
        cond = Condition(tokens=tokens, vector=_text_time(theirs, text, sizes))
    expected = theirs(x, CLOCK, tokens, added_cond_kwargs=more).sample
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(x, CLOCK, cond), expected, atol=1e-5, rtol=1e-5)


def _text_time(theirs: UNet2DConditionModel, text: Tensor, sizes: Tensor) -> Tensor:
    return torch.cat([text, theirs.add_time_proj(sizes.flatten()).view(3, -1)], 1)
