"""The networks that style transfer looks through while it learns: by name, of a run or a public file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from sfumato import config
from sfumato.core.checkpoint import RunFolder
from sfumato.errors import UsageError
from sfumato.nn.vgg import VGG, random_vgg
from sfumato.systems.style.vgg import SMALL, VGGNet, VGGNetConfig

WEIGHTS = Path(__file__).parents[2] / "weights"
RANDOM = "random"
"""A network that has learned nothing: the control of all that have."""


def comes_along(name: str) -> bool:
    """Whether a name stands for a network that comes with the package, rather than for a file or a run."""
    return name == RANDOM or (WEIGHTS / name / "config.json").exists()


@cache
def eyes(name: str, device: torch.device = torch.device("cpu")) -> VGG:
    """A frozen VGG in fp32: one that comes along, a run of vgg, a public weight file, or "random".

    Raises ``UsageError`` if there is none, and ``DataError`` for runs and files that cannot be used.
    """
    with torch.device("cpu"):  # also where systems are only measured, on the meta device
        network = _found(name)
    return network.to(device).eval().requires_grad_(False)


def _found(name: str) -> VGG:
    if name == RANDOM:
        return random_vgg(SMALL)
    folder = WEIGHTS / name if comes_along(name) else Path(name).expanduser()
    if folder.is_file():
        return VGGNet.from_file(folder).network
    if not (folder / "config.json").exists():
        raise UsageError(
            f"There is no VGG '{name}'; give vgg-small, which comes along, or a run or a weight file of one."
        )
    run = RunFolder.open(folder)
    if run.recipe.system != "vgg":
        raise UsageError(
            f"'{name}' holds a {run.recipe.system}, but style transfer looks through a vgg; give vgg-small."
        )
    system = VGGNet(config.from_dict(VGGNetConfig, run.recipe.config))
    system.load_state_dict(dict(run.read_model()))
    return system.network
