"""Stable Diffusion's autoencoder in diffusers' words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfumato.compat.part import Keys, among, refusal
from sfumato.errors import DataError, UsageError
from sfumato.nn.autoencoder import AutoencoderConfig

KEYS = Keys(
    read={
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": (64,),
        "down_block_types": ("DownEncoderBlock2D",),
        "up_block_types": ("UpDecoderBlock2D",),
        "layers_per_block": 1,
        "norm_num_groups": 32,
        "mid_block_add_attention": True,
        "use_quant_conv": True,
        "use_post_quant_conv": True,
        "scaling_factor": 0.18215,
    },
    meant={"act_fn": ("silu", "swish")},
    mute=("sample_size", "force_upcast"),
)


def read_vae(config: Mapping[str, Any], where: str) -> tuple[AutoencoderConfig, float]:
    """The shape of an ``AutoencoderKL``, and the number its latents are multiplied by."""
    said = KEYS.of(config, where)
    among(where, said, "out_channels", (said["in_channels"],))
    among(where, said, "use_post_quant_conv", (said["use_quant_conv"],))
    for key, kind in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        if set(said[key]) != {kind}:
            raise DataError(refusal(where, key, said[key], (kind,)))
    return AutoencoderConfig(
        channels=said["in_channels"],
        latent_channels=said["latent_channels"],
        widths=tuple(said["block_out_channels"]),
        blocks=said["layers_per_block"],
        groups=said["norm_num_groups"],
        attention=said["mid_block_add_attention"],
        quant_conv=said["use_quant_conv"],
    ), float(said["scaling_factor"])


def write_vae(config: AutoencoderConfig, scale: float, size: tuple[int, int]) -> dict[str, Any]:
    """``config.json`` of an ``AutoencoderKL``."""
    if config.patch != 1:
        raise UsageError(
            f"diffusers' autoencoder works on single pixels, this one on squares of {config.patch}; "
            "train one with patch 1 to export it."
        )
    levels = len(config.widths)
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": max(size),
        "in_channels": config.channels,
        "out_channels": config.channels,
        "latent_channels": config.latent_channels,
        "block_out_channels": list(config.widths),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": config.blocks,
        "norm_num_groups": config.groups,
        "mid_block_add_attention": config.attention,
        "use_quant_conv": config.quant_conv,
        "use_post_quant_conv": config.quant_conv,
        "scaling_factor": scale,
        "act_fn": "silu",
    }
