"""The enlarging generators that mmagic and BasicSR publish (MSRResNet), alone or beside a critic.

Our modules bear mmagic's names; BasicSR calls blocks and enlarging layers otherwise. Both work on [0, 1].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sfumato.compat.part import Rename, faults
from sfumato.compat.pth import SUFFIXES, read_pth
from sfumato.errors import DataError
from sfumato.nn.srresnet import FACTOR, SRResNet, SRResNetConfig

BASICSR = (
    Rename(r"body\.", "trunk_net."),
    Rename(r"upconv([12])\.", r"upsample\1.upsample_conv."),
)
_HOLDERS = ("state_dict/generator.", "state_dict/", "params_ema/", "params/", "generator.", "")
"""What may stand before a generator's names, the surest first."""
_MARKS = ("trunk_net.0.conv1.weight", "body.0.conv1.weight")
"""Names of the first block, of mmagic and of BasicSR."""
PUBLISHED = frozenset(holder + mark for holder in _HOLDERS for mark in _MARKS)


@dataclass(frozen=True)
class Generator:
    """What a file holds."""

    config: SRResNetConfig
    tensors: Mapping[str, Tensor]


def read_generator(path: Path) -> Generator:
    """A generator of any width and number of blocks, in a file or alone in a folder.

    Raises ``DataError`` if there is none that enlarges four times.
    """
    files = [path] if path.is_file() else sorted(f for f in path.glob("*") if f.suffix in SUFFIXES)
    if len(files) != 1:
        raise DataError(f"'{path}' holds {len(files)} weight files; give the one of the generator.")
    given = read_pth(files[0])
    holder = next((h for h in _HOLDERS for mark in _MARKS if h + mark in given), None)
    if holder is None:
        raise DataError(
            f"'{path}' holds no MSRResNet: it has neither '{_MARKS[0]}' nor '{_MARKS[1]}'; "
            "give a generator of mmagic or BasicSR."
        )
    tensors = {_ours(n.removeprefix(holder)): t for n, t in given.items() if n.startswith(holder)}
    first = tensors.get("conv_first.weight", torch.empty(0, 0, 0, 0))
    config = SRResNetConfig(
        channels=first.shape[1],
        width=first.shape[0],
        blocks=sum(re.fullmatch(r"trunk_net\.\d+\.conv1\.weight", name) is not None for name in tensors),
        kernel=3,
        norm=False,
        refine=True,
        skip="bilinear",
        unit=True,
    )
    with torch.device("meta"):
        network = SRResNet(config)
    if found := faults(network, tensors):
        raise DataError(
            f"'{path}' holds no MSRResNet that enlarges {FACTOR} times: {found}; give another file."
        )
    return Generator(config, tensors)


def _ours(name: str) -> str:
    for rename in BASICSR:
        name = re.sub(f"^{rename.theirs}", rename.ours, name)
    return name
