"""The generators that pytorch-CycleGAN-and-pix2pix saves: ``latest_net_G.pth``, ``_G_A``, ``_G_B``.

Our modules bear the names of that code, so tensors go over as they are. Its batch norms count running
averages that neither its tests nor we use (a batch of one), and old instance norms did so in vain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato.compat.part import faults
from sfumato.compat.pth import read_pth
from sfumato.errors import DataError
from sfumato.nn.resnet_translator import ResnetTranslator, ResnetTranslatorConfig
from sfumato.nn.unet_p2p import TranslatorUNet, TranslatorUNetConfig

RUNNING = re.compile(r".*\.(running_mean|running_var|num_batches_tracked)")
BLOCK = re.compile(r"model\.(\d+)\.conv_block\.1\.weight")
RESNET, UNET = "model.10.conv_block.1.weight", "model.model.0.weight"
"""Names by which the two kinds are told apart: of the first residual block, of the outermost level."""
FIRST_BLOCK = 10
"""Place of the first residual block among the layers."""


@dataclass(frozen=True)
class Unet:
    """What a file holds: a U-Net as pix2pix uses it."""

    config: TranslatorUNetConfig
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class Resnet:
    """What a file holds: a residual translator as CycleGAN uses it."""

    config: ResnetTranslatorConfig
    tensors: Mapping[str, Tensor]


def read_unet(path: Path) -> Unet:
    """A U-Net of any depth and width, batch-normed or instance-normed; ``DataError`` if it is none."""
    tensors = _read(path)
    if UNET not in tensors:
        raise DataError(
            f"'{path}' holds no U-Net of pix2pix: it has no '{UNET}'; give a file netG of pix2pix."
        )
    first = tensors[UNET]
    depth = max(name.count("model.") for name in tensors)
    last = tensors.get("model.model.3.weight", first)
    config = TranslatorUNetConfig(
        channels_in=first.shape[1],
        channels_out=last.shape[1],
        width=first.shape[0],
        levels=max(2, depth - 1),
        affine="model.model.0.bias" not in tensors,
    )
    return Unet(config, _checked(path, TranslatorUNet, config, tensors))


def read_resnet(path: Path) -> Resnet:
    """A residual translator with any number of blocks; ``DataError`` if it is none."""
    tensors = _read(path)
    if RESNET not in tensors:
        raise DataError(
            f"'{path}' holds no generator of CycleGAN: it has no '{RESNET}'; give a file netG of CycleGAN."
        )
    blocks = [int(match[1]) for name in tensors if (match := BLOCK.fullmatch(name))]
    first = tensors.get("model.1.weight", tensors[RESNET])
    last = tensors.get(f"model.{max(blocks) + 8}.weight", first)
    config = ResnetTranslatorConfig(
        channels_in=first.shape[1],
        channels_out=last.shape[0],
        width=first.shape[0],
        blocks=max(blocks) - FIRST_BLOCK + 1,
        affine="model.2.weight" in tensors,
    )
    return Resnet(config, _checked(path, ResnetTranslator, config, tensors))


def generators(path: Path) -> tuple[Path, ...]:
    """The generator that a file is, or the one or two (A to B, B to A) that a folder holds."""
    if path.is_file():
        return (path,)
    for choice in (("G_A", "G_B"), ("G",)):
        files = tuple(path / f"latest_net_{name}.pth" for name in choice)
        if all(file.is_file() for file in files):
            return files
    raise DataError(
        f"'{path}' holds neither latest_net_G.pth nor latest_net_G_A.pth and latest_net_G_B.pth; "
        "give the file of one generator."
    )


def _read(path: Path) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in read_pth(path).items() if not RUNNING.fullmatch(name)}


def _checked(
    path: Path, kind: type[nn.Module], config: object, tensors: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """The tensors, if they are exactly those of such a network."""
    with torch.device("meta"):
        network = kind(config)
    if found := faults(network, tensors):
        raise DataError(
            f"'{path}' is no generator that {kind.__name__} can take: {found}. "
            "Options such as dropout in residual blocks are not supported; give another file."
        )
    return tensors
