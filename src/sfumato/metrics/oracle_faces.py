"""The reader of faces: a small network that says every attribute, the gaze and the pose of a drawn face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle, silu

from sfumato.data.faces.scene import ATTRIBUTES, DIRECTIONS, KINDS
from sfumato.metrics.reader import CHUNK, FOLDER, SIDE, OracleConfig, Reader, load_reader
from sfumato.nn.layers import GroupNorm

_HEADS = (*(len(KINDS[name]) for name in ATTRIBUTES), len(DIRECTIONS))
NEAR = 0.2
"""A direction, of a range of 2, is read rightly if it is missed by no more."""


@dataclass(frozen=True)
class FaceReading:
    """What a reader says of n pictures."""

    attributes: Int[Tensor, "n a"]
    """Indices into ``KINDS``, in the order of ``ATTRIBUTES``."""
    directions: Float[Tensor, "n 4"]
    """In the order of ``DIRECTIONS``."""
    sure: Float[Tensor, "n a"]
    """Probability of each attribute said."""


class FacesOracle(Reader):
    """Five convolutions over the whole picture, one hidden layer, one decision for each attribute."""

    world = "faces"
    grain = ((1, 2), (2, 4), (3, 4), (4, 8), (4, 16))

    def __init__(self, config: OracleConfig, name: str = "faces", *, judge: bool = False):
        super().__init__(config, name, judge=judge)
        c, d = config.channels, config.features
        self.stem = nn.Conv2d(12, c, 3, padding=1)
        widths = (c, 2 * c, 3 * c, 4 * c, 4 * c)
        self.convs = nn.ModuleList(
            nn.Conv2d(wide, out, 3, padding=1, stride=stride)
            for (wide, out), stride in zip(pairwise(widths), (2, 1, 2, 2), strict=True)
        )
        self.norms = nn.ModuleList(GroupNorm(4, wide) for wide in widths)
        self.hidden = nn.Linear(widths[-1] * 16, d)
        self.decide = nn.Linear(d, sum(_HEADS))

    def stages(self, pixels: Float[Tensor, "n c h w"], side: int = SIDE) -> list[Tensor]:
        maps = [self.stem(pixel_unshuffle(self.admitted(pixels, side), 2))]
        for norm, conv in zip(self.norms, self.convs, strict=False):
            maps.append(conv(silu(norm(maps[-1]))))
        return maps

    def ends(self) -> tuple[nn.Module, ...]:
        return self.stem, self.decide

    def seen(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        last = silu(self.norms[-1](self.stages(pixels)[-1]))
        return silu(self.hidden(last.flatten(1)))

    def forward(self, pixels: Float[Tensor, "n c h w"]) -> list[Tensor]:
        """Logits (n, k) of every attribute, and last the directions (n, 4)."""
        return list(self.decide(self.seen(pixels)).split(_HEADS, dim=1))

    def read(self, pixels: Float[Tensor, "n c h w"]) -> FaceReading:
        """What the pictures show."""
        self.admitted(pixels[:1])
        with torch.no_grad():
            parts = [self(part) for part in pixels.split(CHUNK)]
        *logits, directions = (torch.cat([part[k] for part in parts]).cpu() for k in range(len(_HEADS)))
        likely = [x.float().softmax(1).max(1) for x in logits]
        said = torch.stack([found.indices for found in likely], 1)
        return FaceReading(said, directions.float(), torch.stack([found.values for found in likely], 1))


def evaluation_oracle() -> FacesOracle:
    """The oracle that judges faces, and nothing else."""
    return load_oracle(FOLDER / "faces-evaluation.safetensors", judge=True)


def training_oracle() -> FacesOracle:
    """The oracle that a training on faces may look at: other seed and other widths than the judge's."""
    return load_oracle(FOLDER / "faces-training.safetensors")


def load_oracle(path: Path, *, judge: bool = False) -> FacesOracle:
    """Read an oracle of faces from a file; it does not train any more."""
    return load_reader(path, FacesOracle, "sfumato.metrics.oracle_faces_training", judge=judge)


def agreement(
    found: FaceReading, attributes: Int[Tensor, "n a"], directions: Float[Tensor, "n 4"]
) -> Mapping[str, float]:
    """Share of pictures read as they are, by attribute; directions count if they are near."""
    right = (found.attributes == attributes).float().mean(0).tolist()
    near = ((found.directions - directions).abs() <= NEAR).float().mean(0).tolist()
    return dict(zip(ATTRIBUTES + DIRECTIONS, right + near, strict=True))
