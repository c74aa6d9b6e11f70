"""Readers that others publish: AttentionHTR's weights, and those of deep-text-recognition-benchmark.

``AttentionHTR-General.pth``, ``-IAM``, ``-Imgur5K`` and their ``-sensitive`` kin, and
``TPS-ResNet-BiLSTM-Attn.pth`` with its kin without the spline or with the head of CTC. The files do not say
which letters they know; the two sets in use are told apart by their number.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sfumato.compat.part import Rename
from sfumato.compat.pth import SUFFIXES, read_pth
from sfumato.errors import DataError
from sfumato.nn.tps import TPSConfig
from sfumato.nn.word_reader import SPECIAL, Reader, ReaderConfig
from sfumato.nn.word_resnet import WordResNetConfig

CHARACTERS = {36: string.digits + string.ascii_lowercase, 94: string.printable[:94]}
"""The sets of letters in use, by their number: without capitals, and all that can be printed."""
HEIGHT = 32
"""Pixels at which all public readers read; the width follows from the spline, or is 100."""
WIDTH = 100
RENAMES = (
    Rename(r"Transformation\.", "transformation."),
    Rename(r"FeatureExtraction\.ConvNet\.", "features."),
    Rename(r"SequenceModeling\.", "sequence."),
    Rename(r"Prediction\.", "prediction."),
)
_FIRST = "FeatureExtraction.ConvNet.conv0_1.weight"
PUBLISHED = frozenset({_FIRST})
_SPLINE = "transformation.GridGenerator."
_STAGE = re.compile(r"features\.layer(\d)\.(\d+)\.conv1\.weight")


@dataclass(frozen=True)
class Found:
    """What a file holds."""

    config: ReaderConfig
    characters: str
    tensors: Mapping[str, Tensor]


def read_reader(path: Path) -> Found:
    """A reader of any width, with or without the spline, with either head.

    Raises ``DataError`` if there is none, if it is built otherwise, or if its letters are not known.
    """
    files = [path] if path.is_file() else sorted(f for f in path.glob("*") if f.suffix in SUFFIXES)
    if len(files) != 1:
        raise DataError(f"'{path}' holds {len(files)} weight files; give the one of the reader.")
    given = read_pth(files[0])
    if _FIRST not in given:
        raise DataError(f"'{path}' holds no residual reader: it has no '{_FIRST}'; give one of AttentionHTR.")
    tensors = {_ours(name): tensor for name, tensor in given.items()}
    spline = {name: tensors.pop(name) for name in [*tensors] if name.startswith(_SPLINE)}
    config = _config(tensors, spline, path)
    classes = len(tensors.get("prediction.generator.bias", tensors.get("prediction.bias", ())))
    count = classes - SPECIAL[config.head]
    if count not in CHARACTERS:
        raise DataError(
            f"'{path}' reads {count} letters, and which they are it does not say; known are sets of "
            f"{' and '.join(map(str, CHARACTERS))}. Train on from one of those."
        )
    wanted = Reader(config, classes).state_dict()
    if odd := sorted(wanted.keys() ^ tensors.keys()):
        raise DataError(f"'{path}' is no reader as sfumato builds it: '{odd[0]}' is in only one of the two.")
    for name, tensor in wanted.items():
        if tensor.shape != tensors[name].shape:
            shape, other = tuple(tensors[name].shape), tuple(tensor.shape)
            raise DataError(f"'{path}' is no reader as sfumato builds it: {name} is {shape}, not {other}.")
    return Found(config, CHARACTERS[count], tensors)


def published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under the public names, as ``DataParallel`` saves them, without the spline's constants."""
    out = {}
    for name, tensor in tensors.items():
        for rename in RENAMES:
            if name.startswith(rename.ours):
                name = rename.theirs.replace("\\", "") + name.removeprefix(rename.ours)
                break
        out[f"module.{name}"] = tensor
    return out


def _ours(name: str) -> str:
    for rename in RENAMES:
        name = re.sub(f"^{rename.theirs}", rename.ours, name)
    return name


def _config(tensors: Mapping[str, Tensor], spline: Mapping[str, Tensor], path: Path) -> ReaderConfig:
    """The shape that the tensors have."""
    stages = [0, 0, 0, 0]
    for name in tensors:
        if found := _STAGE.fullmatch(name):
            stage = int(found[1]) - 1
            stages[stage] = max(stages[stage], int(found[2]) + 1)
    first, last = tensors["features.conv0_1.weight"], tensors.get("features.conv4_2.weight")
    row = tensors.get("sequence.0.linear.bias")
    if last is None or row is None or 0 in stages:
        raise DataError(
            f"'{path}' is no reader as sfumato builds it: residual network and two LSTMs; give one."
        )
    a, b, c, d = stages
    points = tensors.get("transformation.LocalizationNetwork.localization_fc2.bias")
    return ReaderConfig(
        transformation="none" if points is None else "tps",
        head="ctc" if "prediction.bias" in tensors else "attention",
        channels=first.shape[1],
        height=HEIGHT,
        width=_width(spline),
        tps=_tps(tensors, points),
        resnet=WordResNetConfig(last.shape[0], (a, b, c, d)),
        hidden=len(row),
    )


def _width(spline: Mapping[str, Tensor]) -> int:
    places = spline.get(f"{_SPLINE}P_hat")
    return WIDTH if places is None else len(places) // HEIGHT


def _tps(tensors: Mapping[str, Tensor], points: Tensor | None) -> TPSConfig:
    if points is None:
        return TPSConfig()
    found = "transformation.LocalizationNetwork."
    width = tensors[f"{found}conv.0.weight"].shape[0]
    hidden = len(tensors[f"{found}localization_fc1.0.bias"])
    return TPSConfig(points=len(points) // 2, width=width, hidden=hidden)
