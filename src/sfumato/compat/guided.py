"""Networks of OpenAI's guided-diffusion (``256x256_diffusion.pt``, ``64x64_classifier.pt``), under our names.

A file does not say how its heads are split, nor for which schedule and size it was trained: that is known of
the published models (the repository's README), which are told apart by their widths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from sfumato.compat.pth import read_pth
from sfumato.errors import DataError
from sfumato.nn.unet import UNetConfig

DENOISER, CLASSIFIER = "output_blocks.0.0.in_layers.0.weight", "out.2.positional_embedding"
"""Tensors that only the one or the other has."""
DENOISER_END = "conv_out.weight"
"""Of ours: a tensor that classifiers do not have."""
BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "norm": "group_norm",
    "proj_out": "to_out.0",
    "op": "conv",
    "conv": "conv",
}
"""Parts of residual, attending, halving and doubling blocks."""
ATTENDING = ("norm", "qkv", "proj_out")
"""Parts that only attending blocks have."""
OUTSIDE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
}


@dataclass(frozen=True)
class Published:
    """What the file of a published model does not say."""

    size: int
    """Height and width of its pictures, in pixels."""
    schedule: Literal["linear", "cosine"]
    heads: int = 0
    """Attention heads; 0 means one for every 64 channels."""
    heads_first: bool = True
    """Whether queries, keys and values were split inside each head (all but the 64 x 64 model)."""


DENOISERS = {
    (192, 384, 576, 768): Published(64, "cosine", heads_first=False),
    (256, 256, 512, 768, 1024): Published(128, "linear", heads=4),
    (256, 256, 512, 512, 1024, 1024): Published(256, "linear"),
}
CLASSIFIERS = {
    (128, 256, 384, 512): Published(64, "cosine"),
    (128, 128, 256, 384, 512): Published(128, "linear"),
    (128, 128, 256, 256, 512, 512): Published(256, "linear"),
}


@dataclass(frozen=True)
class Guided:
    """A network of that code."""

    network: UNetConfig
    """Of a classifier, the downward half."""
    classes: int
    """Labels a denoiser is told (0: none) or a classifier tells."""
    known: Published
    tensors: Mapping[str, Tensor]


def read(path: Path, known: Published | None = None) -> Guided:
    """A denoiser or a classifier; ``known`` tells what the file does not, for one that was not published.

    Raises ``DataError`` for files of other networks, and for unpublished ones of which nothing is known.
    """
    tensors = read_pth(path)
    if DENOISER not in tensors and CLASSIFIER not in tensors:
        raise DataError(
            f"'{path}' holds no network of guided-diffusion: it has neither '{DENOISER}' nor '{CLASSIFIER}'."
        )
    whole = DENOISER in tensors
    blocks = _blocks(tensors, whole)
    count = 1 + max(int(m[1]) for name in tensors if (m := re.match(r"input_blocks\.(\d+)\.", name)))
    levels = count // (blocks + 1)
    starts = [f"input_blocks.{1 + level * (blocks + 1)}" for level in range(levels)]
    widths = tuple(tensors[f"{start}.0.out_layers.3.weight"].shape[0] for start in starts)
    published = known or (DENOISERS if whole else CLASSIFIERS).get(widths)
    if published is None or widths[0] != tensors["time_embed.0.weight"].shape[1]:
        raise DataError(
            f"'{path}' has the widths {widths}, which no published model has that we know; its file does not "
            "say how heads are split. Known are those for 64, 128 and 256 pixels."
        )
    attend = tuple(f"{start}.1.qkv.weight" in tensors for start in starts)
    network = UNetConfig(
        in_channels=tensors["input_blocks.0.0.weight"].shape[1],
        out_channels=tensors["out.2.weight"].shape[0] if whole else 3,
        widths=widths,
        blocks=(blocks,),
        attend=attend,
        heads=(published.heads or 1,),
        head_width=0 if published.heads else 64,
        resblock="scale_shift",
        resize="resblock" if f"input_blocks.{blocks + 1}.0.in_layers.0.weight" in tensors else "conv",
        classes=tensors["label_emb.weight"].shape[0] if "label_emb.weight" in tensors else 0,
    )
    classes = network.classes if whole else tensors["out.2.c_proj.weight"].shape[0]
    ours = _renamed(tensors, network, blocks, published.heads_first)
    return Guided(network, classes, published, ours)


def _blocks(tensors: Mapping[str, Tensor], whole: bool) -> int:
    """Residual blocks of a level: the first level on the way up ends where something doubles, and the last
    one on the way down, whose blocks all attend, has no halving."""
    if whole:
        doubles = re.compile(r"output_blocks\.(\d+)\.[12]\.(in_layers\.0|conv)\.weight")
        return min(int(m[1]) for name in tensors if (m := doubles.fullmatch(name)))
    attending = {int(m[1]) for name in tensors if (m := re.match(r"input_blocks\.(\d+)\.1\.qkv", name))}
    last, count = max(attending), 0
    while last - count in attending:
        count += 1
    return count


def _renamed(
    tensors: Mapping[str, Tensor], network: UNetConfig, blocks: int, heads_first: bool
) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place, end = name.rsplit(".", 1)
        if place in OUTSIDE:
            ours[f"{OUTSIDE[place]}.{end}"] = tensor
        elif name.startswith("out."):
            ours |= _end(name, tensor)
        elif place.endswith(".qkv"):
            level = _level(place, len(network.widths), blocks)
            parts = _split(tensor, network.levels[level].heads, heads_first)
            home = _home(place.removesuffix(".qkv"), "qkv", blocks)
            ours |= {
                f"{home}.{to}.{end}": part for to, part in zip(("to_q", "to_k", "to_v"), parts, strict=True)
            }
        else:
            block, part = re.fullmatch(r"(\w+\.\d+(?:\.\d+)?)\.(.+)", place).groups()  # type: ignore[union-attr]
            home = _home(block, part, blocks)
            flat = part == "proj_out" and end == "weight"
            ours[f"{home}.{BLOCK[part]}.{end}"] = tensor.squeeze(2) if flat else tensor
    return ours


def _end(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The last layers of a denoiser, or the pooling of a classifier."""
    if name == CLASSIFIER:
        return {"positional_embedding": tensor.T}
    for theirs, ours in (("out.2.qkv_proj", "to_qkv"), ("out.2.c_proj", "to_classes")):
        if name.startswith(theirs):
            return {name.replace(theirs, ours): tensor.squeeze(2) if tensor.ndim == 3 else tensor}
    return {name.replace("out.0", "conv_norm_out").replace("out.2", "conv_out"): tensor}


def _level(place: str, levels: int, blocks: int) -> int:
    """Which level, finest first, a block of theirs belongs to."""
    kind, number = place.split(".")[:2]
    if kind == "middle_block":
        return levels - 1
    level = int(number) // (blocks + 1)
    if kind == "output_blocks":
        return levels - 1 - level
    return (int(number) - 1) // (blocks + 1)


def _home(place: str, part: str, blocks: int) -> str:
    """Where a block of theirs, with this part in it, stands in our U-Net."""
    kind, number, *inner = place.split(".")
    if kind == "middle_block":
        return "mid_block.attentions.0" if number == "1" else f"mid_block.resnets.{int(number) // 2}"
    down = kind == "input_blocks"
    level, index = divmod(int(number) - down, blocks + 1)
    home = f"{'down' if down else 'up'}_blocks.{level}"
    if part in ATTENDING:
        return f"{home}.attentions.{index}"
    if down and index == blocks:
        return f"{home}.downsamplers.0"
    return f"{home}.resnets.{index}" if inner == ["0"] else f"{home}.upsamplers.0"


def _split(qkv: Tensor, heads: int, heads_first: bool) -> tuple[Tensor, ...]:
    """Queries, keys and values of a joint projection, (3 c, ...) each (c, ...)."""
    flat = qkv.squeeze(2) if qkv.ndim == 3 else qkv
    if not heads_first:
        return flat.chunk(3)
    by_head = flat.unflatten(0, (heads, 3, -1))
    return tuple(by_head[:, i].flatten(0, 1) for i in range(3))
