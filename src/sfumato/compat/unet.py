"""U-Nets in diffusers' words: their ``config.json`` to our configuration and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sfumato.compat.part import Keys, among, refusal
from sfumato.errors import DataError, UsageError
from sfumato.nn.unet import UNetConfig

UNET_2D = Keys(
    read={
        "sample_size": None,
        "in_channels": 3,
        "out_channels": 3,
        "freq_shift": 0,
        "flip_sin_to_cos": True,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (224, 448, 672, 896),
        "layers_per_block": 2,
        "downsample_padding": 1,
        "downsample_type": "conv",
        "upsample_type": "conv",
        "dropout": 0.0,
        "attention_head_dim": 8,
        "norm_num_groups": 32,
        "attn_norm_num_groups": None,
        "norm_eps": 1e-5,
        "resnet_time_scale_shift": "default",
        "add_attention": True,
        "num_class_embeds": None,
    },
    meant={
        "act_fn": ("silu", "swish"),
        "center_input_sample": (False,),
        "class_embed_type": (None,),
        "mid_block_type": ("UNetMidBlock2D",),
        "mid_block_scale_factor": (1,),
        "time_embedding_type": ("positional",),
        "time_embedding_dim": (None,),
    },
    mute=("num_train_timesteps",),
)
UNET_2D_CONDITION = Keys(
    read={
        "sample_size": None,
        "in_channels": 4,
        "out_channels": 4,
        "freq_shift": 0,
        "flip_sin_to_cos": True,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "downsample_padding": 1,
        "dropout": 0.0,
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
        "cross_attention_dim": 1280,
        "transformer_layers_per_block": 1,
        "attention_head_dim": 8,
        "num_attention_heads": None,
        "use_linear_projection": False,
        "resnet_time_scale_shift": "default",
        "only_cross_attention": False,
        "num_class_embeds": None,
        "addition_embed_type": None,
        "addition_time_embed_dim": None,
        "projection_class_embeddings_input_dim": None,
    },
    meant={
        "act_fn": ("silu", "swish"),
        "mid_block_type": ("UNetMidBlock2DCrossAttn",),
        "mid_block_scale_factor": (1,),
        "attention_type": ("default",),
        "conv_in_kernel": (3,),
        "conv_out_kernel": (3,),
        "resnet_out_scale_factor": (1,),
        "time_embedding_type": ("positional",),
    },
    mute=("upcast_attention", "addition_embed_type_num_heads"),
)
RESBLOCK = {"default": "add", "scale_shift": "scale_shift"}
RESIZE = {"conv": "conv", "resnet": "resblock"}


def read_unet(config: Mapping[str, Any], where: str) -> UNetConfig:
    """The shape of a ``UNet2DModel``."""
    said = UNET_2D.of(config, where)
    down = tuple(_DOWN.get(kind, (None, None)) for kind in said["down_block_types"])
    up = tuple(_UP.get(kind, (None, None)) for kind in said["up_block_types"])
    if (None, None) in (*down, *up) or [a for a, _ in down] != [a for a, _ in reversed(up)]:
        raise DataError(_mixture(where, said))
    resizes = {resize or said["downsample_type"] for _, resize in down[:-1]}
    resizes |= {resize or said["upsample_type"] for _, resize in up[:-1]}
    if len(resizes) > 1 or not resizes <= RESIZE.keys():
        raise DataError(_mixture(where, said))
    groups, style = said["norm_num_groups"], said["resnet_time_scale_shift"]
    among(where, said, "resnet_time_scale_shift", tuple(RESBLOCK))
    among(where, said, "attn_norm_num_groups", (groups, None) if style == "default" else (groups,))
    return UNetConfig(
        widths=tuple(said["block_out_channels"]),
        blocks=(said["layers_per_block"],),
        attend=tuple(bool(attends) for attends, _ in down),
        head_width=said["attention_head_dim"] or 0,
        middle_attention=said["add_attention"],
        resize=RESIZE[resizes.pop() if resizes else "conv"],  # type: ignore[arg-type]
        classes=said["num_class_embeds"] or 0,
        **_shared(said),
    )


def read_unet_condition(config: Mapping[str, Any], where: str) -> UNetConfig:
    """The shape of a ``UNet2DConditionModel``, whose ``attention_head_dim`` counts heads."""
    said = UNET_2D_CONDITION.of(config, where)
    down = [kind == "CrossAttnDownBlock2D" for kind in said["down_block_types"]]
    up = [kind == "CrossAttnUpBlock2D" for kind in said["up_block_types"]]
    known = {"DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"}
    if down != up[::-1] or not {*said["down_block_types"], *said["up_block_types"]} <= known:
        raise DataError(_mixture(where, said))
    among(where, said, "resnet_time_scale_shift", tuple(RESBLOCK))
    context = _spread(said["cross_attention_dim"])
    if len(set(context)) > 1:
        raise DataError(refusal(where, "cross_attention_dim", list(context), context[:1]))
    among(where, said, "addition_embed_type", (None, "text_time"))
    only_cross = said["only_cross_attention"] or [False]
    if not isinstance(only_cross, Sequence):
        raise DataError(refusal(where, "only_cross_attention", only_cross, (False, "a list")))
    heads = said["attention_head_dim"] if said["num_attention_heads"] is None else said["num_attention_heads"]
    return UNetConfig(
        widths=tuple(said["block_out_channels"]),
        blocks=_spread(said["layers_per_block"]),
        attend=tuple(down),
        heads=_spread(heads),
        depth=_spread(said["transformer_layers_per_block"]),
        context=context[0],
        only_cross=tuple(only_cross),
        classes=said["num_class_embeds"] or 0,
        vector=said["projection_class_embeddings_input_dim"] or 0 if said["addition_embed_type"] else 0,
        linear_projection=said["use_linear_projection"],
        **_shared(said),
    )


def _shared(said: Mapping[str, Any]) -> dict[str, Any]:
    """What both U-Nets call the same."""
    return {
        "in_channels": said["in_channels"],
        "out_channels": said["out_channels"],
        "groups": said["norm_num_groups"],
        "eps": said["norm_eps"],
        "dropout": float(said["dropout"]),
        "flip_sin_to_cos": said["flip_sin_to_cos"],
        "freq_shift": float(said["freq_shift"]),
        "downsample_padding": said["downsample_padding"],
        "resblock": RESBLOCK[said["resnet_time_scale_shift"]],
    }


def write_unet(config: UNetConfig, size: tuple[int, int]) -> dict[str, Any]:
    """``config.json`` of a ``UNet2DModel`` for pictures of this height and width."""
    _expressible(config)
    if config.context or config.vector:
        raise UsageError(
            "A U-Net that reads a condition is no UNet2DModel; it belongs in a text-to-image folder."
        )
    levels = config.levels
    resize = {ours: theirs for theirs, ours in RESIZE.items()}[config.resize]
    plain = (
        ("DownBlock2D", "UpBlock2D")
        if resize == "conv"
        else ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
    )
    return _written(config, "UNet2DModel", size) | {
        "down_block_types": ["AttnDownBlock2D" if v.attend else plain[0] for v in levels],
        "up_block_types": ["AttnUpBlock2D" if v.attend else plain[1] for v in reversed(levels)],
        "layers_per_block": _one(config.blocks, "blocks"),
        "downsample_type": resize,
        "upsample_type": resize,
        "attention_head_dim": _head_width(config),
        "attn_norm_num_groups": config.groups,
        "add_attention": config.middle_attention,
        "num_class_embeds": config.classes or None,
        "time_embedding_type": "positional",
    }


def write_unet_condition(config: UNetConfig, size: tuple[int, int], numbers: int = 256) -> dict[str, Any]:
    """``config.json`` of a ``UNet2DConditionModel`` for latents of this height and width; ``numbers`` are the
    sines and cosines of each number in its vector, if it has one."""
    _expressible(config)
    levels = config.levels
    attending = [v for v in levels if v.attend] + [levels[-1]]
    odd = not config.context or not config.middle_attention or config.resize != "conv"
    if odd or not all(v.depth for v in attending):
        raise UsageError(
            "diffusers' text-to-image U-Net needs a context, transformers in every attention and in the "
            "middle, and resizing by convolutions; this one cannot be written."
        )
    vector = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": numbers,
        "projection_class_embeddings_input_dim": config.vector,
    }
    return _written(config, "UNet2DConditionModel", size) | {
        "down_block_types": ["CrossAttnDownBlock2D" if v.attend else "DownBlock2D" for v in levels],
        "up_block_types": ["CrossAttnUpBlock2D" if v.attend else "UpBlock2D" for v in reversed(levels)],
        "layers_per_block": [v.blocks for v in levels],
        "cross_attention_dim": config.context,
        "transformer_layers_per_block": [max(v.depth, 1) for v in levels],
        "attention_head_dim": [v.heads for v in levels],
        "use_linear_projection": config.linear_projection,
        "only_cross_attention": [v.only_cross for v in levels] if any(config.only_cross) else False,
        "num_class_embeds": config.classes or None,
        **(vector if config.vector else {}),
    }


def _written(config: UNetConfig, name: str, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "_class_name": name,
        "sample_size": size[0] if size[0] == size[1] else list(size),
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": list(config.widths),
        "norm_num_groups": config.groups,
        "norm_eps": config.eps,
        "dropout": config.dropout,
        "flip_sin_to_cos": config.flip_sin_to_cos,
        "freq_shift": int(config.freq_shift),
        "downsample_padding": config.downsample_padding,
        "resnet_time_scale_shift": next(t for t, ours in RESBLOCK.items() if ours == config.resblock),
        "act_fn": "silu",
    }


_DOWN = {
    "DownBlock2D": (False, "conv"),
    "ResnetDownsampleBlock2D": (False, "resnet"),
    "AttnDownBlock2D": (True, None),
}
_UP = {
    "UpBlock2D": (False, "conv"),
    "ResnetUpsampleBlock2D": (False, "resnet"),
    "AttnUpBlock2D": (True, None),
}
"""Whether a kind of level attends, and how it resizes (none: as the file says elsewhere)."""


def _spread(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


def _mixture(where: str, said: Mapping[str, Any]) -> str:
    down, up = (", ".join(said[key]) for key in ("down_block_types", "up_block_types"))
    return (
        f"'{where}' has the levels {down} and {up}, a mixture that is not understood; pictures would differ."
    )


def _expressible(config: UNetConfig) -> None:
    if config.patch != 1:
        raise UsageError(
            f"diffusers' U-Net works on single cells, this one on squares of {config.patch}; "
            "train one with patch 1 to export it."
        )
    if config.freq_shift != int(config.freq_shift):
        raise UsageError(
            f"diffusers' freq_shift is a whole number, got {config.freq_shift}; it cannot be written."
        )


def _one(values: tuple[int, ...], name: str) -> int:
    if len(set(values)) > 1:
        raise UsageError(
            f"A UNet2DModel has one number of {name} for all levels, got {values}; it cannot be written."
        )
    return values[0]


def _head_width(config: UNetConfig) -> int | None:
    """Channels of a head, the same for all levels that attend; null means one head."""
    levels = [v for v in config.levels if v.attend] + [config.levels[-1]] * config.middle_attention
    if all(v.heads == 1 for v in levels):
        return None
    return _one(tuple(v.width // v.heads for v in levels), "channels a head")
