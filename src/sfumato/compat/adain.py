"""The two files of pytorch-AdaIN: ``vgg_normalised.pth``, which looks, and ``decoder.pth``, which paints.

The decoder's layers are numbered in one row with pads, ReLUs and doublings between. It paints in [0, 1], we
in [-1, 1]; the difference goes exactly into its last layer.
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
from sfumato.compat.torchvision import read_vgg
from sfumato.errors import DataError
from sfumato.nn.adain import Decoder, up_to
from sfumato.nn.vgg import VGG, VGGConfig

LAST = "28.weight"
PUBLISHED = frozenset({LAST})
"""``vgg_normalised.pth`` has no layer of this number."""
EYES = "vgg_normalised.pth"
DECODERS = ("decoder.pth", "decoder_iter_*.pth.tar")
LAYER = "relu4_1"
"""Where the published decoder begins."""


@dataclass(frozen=True)
class HeldAdaIN:
    """What both files hold, for pictures in [-1, 1]."""

    encoder: VGGConfig
    layer: str
    looking: Mapping[str, Tensor]
    painting: Mapping[str, Tensor]


def read_adain(path: Path) -> HeldAdaIN:
    """Both files, given the decoder or the folder they lie in; a ``DataError`` if they do not fit."""
    decoder = path if path.is_file() else _decoder(path)
    beside = decoder.parent / EYES
    if not beside.is_file():
        raise DataError(
            f"'{decoder}' paints what '{EYES}' sees, which does not lie beside it; copy it there as well."
        )
    whole = read_vgg(beside)
    encoder = up_to(whole.config, LAYER)
    with torch.device("meta"):
        looks, paints = VGG(encoder), Decoder(encoder, LAYER)
    held = read_pth(decoder)
    numbers = sorted({int(m[1]) for name in held if (m := re.fullmatch(r"(\d+)\.weight", name))})
    names = {
        f"{number}.{part}": f"convs.{k}.{part}"
        for k, number in enumerate(numbers)
        for part in ("weight", "bias")
    }
    tensors = {names.get(name, name): tensor.float() for name, tensor in held.items()}
    if found := faults(paints, tensors):
        raise DataError(
            f"'{decoder}' is no decoder for what '{EYES}' sees: {found}; give the two of one model."
        )
    last = f"convs.{len(numbers) - 1}"
    tensors[f"{last}.weight"] = 2 * tensors[f"{last}.weight"]
    tensors[f"{last}.bias"] = 2 * tensors[f"{last}.bias"] - 1
    looking = {name: whole.tensors[name].float() for name in looks.state_dict()}
    return HeldAdaIN(encoder, LAYER, looking, tensors)


def _decoder(folder: Path) -> Path:
    files = [file for pattern in DECODERS for file in sorted(folder.glob(pattern))]
    if len(files) != 1:
        raise DataError(
            f"'{folder}' holds {len(files)} decoders (decoder.pth, decoder_iter_N.pth.tar); give one's path."
        )
    return files[0]
