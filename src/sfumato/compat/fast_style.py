"""The fast styles of pytorch/examples: ``candy.pth``, ``mosaic.pth``, ``rain_princess.pth``, ``udnie.pth``.

They take and give grey levels 0 to 255, we [-1, 1]; the difference goes exactly into the first layer, whose
border is reflected, and the last. Old files count running averages that nobody uses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sfumato.compat.part import faults
from sfumato.compat.pth import read_pth
from sfumato.errors import DataError
from sfumato.nn.image_transform import ImageTransform, ImageTransformConfig

FIRST, LAST = "conv1.conv2d.weight", "deconv3.conv2d.weight"
PUBLISHED = frozenset({LAST})
RUNNING = re.compile(r"(.*\.)?in\d+\.(running_mean|running_var|num_batches_tracked)")
HALF = 127.5
"""Grey levels from the middle to white."""
_DOWNS = 3
"""Layers before the residual blocks; their norms are numbered on after the blocks."""
_BLOCK = {"conv1.conv2d": "first.conv", "in1": "first.norm", "conv2.conv2d": "conv", "in2": "norm"}
_NAME = re.compile(
    r"(?:res(\d+)\.(conv[12]\.conv2d|in[12])|(conv|in|deconv)(\d+)(?:\.conv2d)?)\.(weight|bias)"
)


@dataclass(frozen=True)
class Transformer:
    """What a file holds, for pictures in [-1, 1]."""

    config: ImageTransformConfig
    tensors: Mapping[str, Tensor]


def read_transformer(path: Path) -> Transformer:
    """A network of any width and number of blocks; ``DataError`` if it is none."""
    given = {name: tensor for name, tensor in read_pth(path).items() if not RUNNING.fullmatch(name)}
    if FIRST not in given or LAST not in given:
        missing = LAST if FIRST in given else FIRST
        raise DataError(
            f"'{path}' holds no fast style: it has no '{missing}'; give a file of pytorch/examples' "
            "fast_neural_style."
        )
    first, tensors = given[FIRST], {_ours(name): tensor for name, tensor in given.items()}
    config = ImageTransformConfig(
        channels=first.shape[1],
        width=first.shape[0],
        blocks=sum(re.fullmatch(r"res\d+\.conv1\.conv2d\.weight", name) is not None for name in given),
        kernel=first.shape[-1],
    )
    with torch.device("meta"):
        network = ImageTransform(config)
    if found := faults(network, tensors):
        raise DataError(f"'{path}' holds no fast style that fits: {found}; give another file.")
    return Transformer(config, in_our_range(tensors))


def in_our_range(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same network for [-1, 1] in place of 0 to 255, on both ends."""
    ours = {name: tensor.float() for name, tensor in tensors.items()}
    weight = ours["down.0.conv.weight"]
    ours["down.0.conv.bias"] = ours["down.0.conv.bias"] + HALF * weight.sum((1, 2, 3))
    ours["down.0.conv.weight"] = HALF * weight
    ours["last.weight"], ours["last.bias"] = ours["last.weight"] / HALF, ours["last.bias"] / HALF - 1
    return ours


def _ours(name: str) -> str:
    """Our name of a tensor; one that is unknown stays as it is, and will be reported."""
    match = _NAME.fullmatch(name)
    if match is None:
        return name
    block, part, kind, number, what = match.groups()
    if block is not None:
        return f"blocks.{int(block) - 1}.{_BLOCK[part]}.{what}"
    k = int(number) - 1
    if kind == "conv":
        return f"down.{k}.conv.{what}"
    if kind == "deconv":
        return f"last.{what}" if k == _DOWNS - 1 else f"up.{k}.conv.{what}"
    return f"down.{k}.norm.{what}" if k < _DOWNS else f"up.{k - _DOWNS}.norm.{what}"
