"""Weight files of VGG: torchvision's, and the two classic ones of style transfer, each with its own colours.

Torchvision's (``vgg19-dcbb9e9d.pth``) want RGB with ImageNet's mean and deviation. The Caffe networks of the
first style transfers (``vgg19-d01eb7cb.pth``, ``vgg16-00b39a1b.pth``) want BGR from 0 to 255 minus a mean;
their classifiers are numbered 1, 4, 6 instead of 0, 3, 6, and so they are told apart. AdaIN's
``vgg_normalised.pth`` has its layers in one row, from a 1 x 1 convolution on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import get_args

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sfumato.compat.part import faults
from sfumato.compat.pth import read_pth
from sfumato.errors import DataError
from sfumato.nn.vgg import VGG, Convention, VGGConfig

FIRST, FIRST_NORMALISED = "features.0.weight", "0.weight"
"""Names of the first convolution in torchvision's layout and in AdaIN's."""
SAFE = ".safetensors"
CONVENTION = "convention"
"""Entry of a safetensors file's metadata that names its convention."""
_CAFFE_HEAD = {"classifier.1.": "classifier.0.", "classifier.4.": "classifier.3."}
_TORCHVISION_HEAD = "classifier.0.weight"


@dataclass(frozen=True)
class HeldVGG:
    """What a file holds: a VGG of any width and depth, under our names."""

    config: VGGConfig
    tensors: Mapping[str, Tensor]


def read_vgg(path: Path) -> HeldVGG:
    """A VGG from a ``.pth`` or safetensors file, with its convention.

    A file without a classifier does not tell its convention, unless it is safetensors with ``convention`` in
    its metadata. Raises ``DataError`` if the file is damaged, no VGG, or does not tell.
    """
    tensors, told = _read(path)
    if FIRST_NORMALISED in tensors:
        return _normalised(path, tensors)
    if FIRST not in tensors:
        raise DataError(
            f"'{path}' holds no VGG: it has neither '{FIRST}' nor '{FIRST_NORMALISED}'; give a file of "
            "torchvision's VGG-16 or VGG-19, or one of the two classic ones."
        )
    convention = told or _convention(path, tensors)
    for theirs, ours in _CAFFE_HEAD.items() if any(n.startswith("classifier.1.") for n in tensors) else ():
        tensors = {re.sub(f"^{re.escape(theirs)}", ours, name): t for name, t in tensors.items()}
    convs = {int(m[1]): t for n, t in tensors.items() if (m := re.fullmatch(r"features\.(\d+)\.weight", n))}
    widths, counts = _stages(path, convs, inner=2)
    head = tensors.get("classifier.6.weight")
    hidden = tensors.get(_TORCHVISION_HEAD)
    config = VGGConfig(
        widths,
        counts,
        convention=convention,
        classes=0 if head is None else head.shape[0],
        hidden=0 if head is None or hidden is None else hidden.shape[0],
    )
    return HeldVGG(config, _checked(path, config, tensors))


def _normalised(path: Path, tensors: Mapping[str, Tensor]) -> HeldVGG:
    """Layers in one row: a 1 x 1 convolution, then pads, convolutions and ReLUs, with poolings between."""
    convs = {int(m[1]): t for name, t in tensors.items() if (m := re.fullmatch(r"(\d+)\.weight", name))}
    del convs[0]
    widths, counts = _stages(path, convs, inner=3)
    config = VGGConfig(widths, counts, padding="reflect", ceil=True, first=True, convention="normalised")
    with torch.device("meta"):
        places = [name.split(".")[1] for name in VGG(config).state_dict() if name.startswith("features.")]
    ours = dict(zip(sorted(convs), dict.fromkeys(places), strict=True))
    named = {f"first.{part}": tensors[f"0.{part}"] for part in ("weight", "bias") if f"0.{part}" in tensors}
    for place, name in ours.items():
        for part in ("weight", "bias"):
            if f"{place}.{part}" in tensors:
                named[f"features.{name}.{part}"] = tensors[f"{place}.{part}"]
    return HeldVGG(config, _checked(path, config, named))


def _stages(path: Path, convs: Mapping[int, Tensor], inner: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Widths and convolutions of each stage; convolutions of one stage are ``inner`` layers apart, those on
    both sides of a pooling one more."""
    places = sorted(convs)
    stages: list[list[int]] = [[places[0]]] if places else []
    for before, place in pairwise(places):
        if place - before == inner + 1:
            stages.append([])
        elif place - before != inner:
            raise DataError(
                f"'{path}' is no VGG as it was published: its convolutions {before} and {place} are "
                f"{place - before} layers apart, not {inner} or {inner + 1}; those with batch norm are not "
                "read."
            )
        stages[-1].append(place)
    return tuple(convs[stage[0]].shape[0] for stage in stages), tuple(len(stage) for stage in stages)


def _convention(path: Path, tensors: Mapping[str, Tensor]) -> Convention:
    if "classifier.1.weight" in tensors:
        return "caffe"
    if _TORCHVISION_HEAD in tensors:
        return "imagenet"
    raise DataError(
        f"'{path}' has no classifier, so it does not tell whether it wants torchvision's colours or Caffe's, "
        "and styles would be subtly wrong; give the file as it was published, or a safetensors file with "
        f"'{CONVENTION}' in its metadata ({', '.join(get_args(Convention))})."
    )


def _read(path: Path) -> tuple[dict[str, Tensor], Convention | None]:
    """All tensors, and the convention if the file names it."""
    if path.suffix != SAFE:
        return read_pth(path), None
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get(CONVENTION)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise DataError(f"'{path}' is no whole safetensors file ({error}); fetch it again.") from error
    for known in get_args(Convention):
        if told == known:
            return tensors, known
    if told is not None:
        raise DataError(
            f"'{path}' names the convention '{told}'; known are {', '.join(get_args(Convention))}."
        )
    return tensors, None


def _checked(path: Path, config: VGGConfig, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors, if they are exactly those of such a network."""
    with torch.device("meta"):
        network = VGG(config)
    if found := faults(network, tensors):
        raise DataError(f"'{path}' is no VGG as it was published: {found}. Give another file.")
    return tensors
