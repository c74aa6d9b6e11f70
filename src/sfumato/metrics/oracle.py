"""The reader of shapes: a small network that says what stands where in a picture of the shapes world.

There are two, which share no seed and no width: one judges results, the other may be used inside a training.
Whoever trains against a judge has no judge left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_unshuffle, silu

from sfumato.data.shapes.reading import read, satisfies
from sfumato.data.shapes.scene import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    SLOTS,
    TEXTURES,
    Scenes,
)
from sfumato.errors import DataError
from sfumato.nn.layers import GroupNorm

SIDE = 64
"""Pixels a side at which pictures are read; others are scaled to it."""
FOLDER = Path(__file__).parent.parent / "weights" / "oracles"
_STARTS = (0, 10, 20)
"""First row or column of every cell's window of 12 in a map of 32."""
_HEADS = (2, len(SHAPES), len(COLOURS), len(SIZES), len(TEXTURES))
_CHUNK = 256


@dataclass(frozen=True)
class OracleConfig:
    """How wide an oracle is."""

    channels: int = 24
    features: int = 128


class ShapesOracle(nn.Module):
    """Looks at each of the nine cells with the same eyes, and at all of them for the background."""

    def __init__(self, config: OracleConfig, name: str = "shapes"):
        super().__init__()
        self.config, self.name = config, name
        c, d = config.channels, config.features
        self.stem = nn.Conv2d(12, c, 3, padding=1)
        self.convs = nn.ModuleList(
            nn.Conv2d(wide, out, 3, padding=1, stride=stride)
            for wide, out, stride in ((c, 2 * c, 1), (2 * c, 4 * c, 2), (4 * c, 4 * c, 2))
        )
        self.norms = nn.ModuleList([GroupNorm(4, c), GroupNorm(4, 2 * c), GroupNorm(4, 4 * c)])
        self.hidden = nn.Linear(4 * c * 9, d)
        self.cell = nn.Linear(d, sum(_HEADS))
        self.background = nn.Linear(d, len(BACKGROUNDS))

    def look(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 9 d"]:
        """What is seen of every cell, in the order of ``PLACES``."""
        x = pixels
        if x.shape[2:] != (SIDE, SIDE):
            x = interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
        x = self.stem(pixel_unshuffle(x, 2))
        x = torch.stack([x[:, :, i : i + 12, j : j + 12] for i in _STARTS for j in _STARTS], 1).flatten(0, 1)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(silu(norm(x)))
        return silu(self.hidden(silu(x).flatten(1))).unflatten(0, (-1, len(PLACES)))

    def forward(self, pixels: Float[Tensor, "n 3 h w"]) -> tuple[list[Tensor], Float[Tensor, "n k"]]:
        """Logits: of every cell (n, 9, k) its presence, shape, colour, size and texture; the background's."""
        seen = self.look(pixels)
        return list(self.cell(seen).split(_HEADS, dim=2)), self.background(seen.mean(1))

    @torch.no_grad()
    def features(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """The last hidden layer, averaged over the cells: a space for Fréchet distances and the like."""
        parts = [self.look(_coloured(part)).mean(1) for part in pixels.float().split(_CHUNK)]
        return torch.cat(parts) if parts else pixels.new_zeros(0, self.config.features)

    @torch.no_grad()
    def read(self, pixels: Float[Tensor, "n c h w"]) -> Scenes:
        """What the pictures show. ``number`` counts every object; the slots hold the three surest."""
        parts = [self(_coloured(part)) for part in pixels.float().split(_CHUNK)]
        cells = [torch.cat([part[0][k] for part in parts]).cpu() for k in range(len(_HEADS))]
        ground = torch.cat([part[1] for part in parts]).argmax(1).cpu()
        sure = cells[0][..., 1] - cells[0][..., 0]
        n, place = len(sure), sure.argsort(dim=1, descending=True)[:, :SLOTS]
        there = sure.gather(1, place) > 0
        values = [logits.argmax(2).gather(1, place) for logits in cells[1:]]
        slots = {
            name: torch.where(there, value, -1)
            for name, value in zip(ATTRIBUTES, [*values, place], strict=True)
        }
        blank = torch.zeros(n, dtype=torch.long)
        return Scenes(
            number=(sure > 0).sum(1), background=ground, jitter=torch.zeros(n, SLOTS, 3), key=blank, **slots
        )


def evaluation_oracle() -> ShapesOracle:
    """The oracle that judges results, and nothing else."""
    return load_oracle(FOLDER / "evaluation.safetensors")


def training_oracle() -> ShapesOracle:
    """The oracle that a training may look at: other seed and other widths than the judge's."""
    return load_oracle(FOLDER / "training.safetensors")


def load_oracle(path: Path) -> ShapesOracle:
    """Read an oracle from a file that ``oracle_training`` wrote; it does not train any more."""
    try:
        with safe_open(path, "pt") as file:
            config = OracleConfig(**json.loads((file.metadata() or {})["oracle"]))
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        oracle = ShapesOracle(config, f"shapes ({path.stem})")
        oracle.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(
            f"'{path}' is no oracle ({error}); train one with python -m sfumato.metrics.oracle_training."
        ) from error
    return oracle.eval().requires_grad_(False)


def _coloured(pixels: Tensor) -> Tensor:
    if pixels.shape[1] not in (1, 3):
        raise DataError(f"The oracle reads pictures of 1 or 3 channels, got {pixels.shape[1]}; give RGB.")
    return pixels.expand(-1, 3, -1, -1)


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers, and how many there were."""

    value: float
    n: int


@dataclass(frozen=True)
class CaptionReport:
    """How well pictures keep to their texts; every figure counts only what the texts say."""

    all: Accuracy
    """Everything right: every said attribute of every object, their number, background and relations."""
    by_number: Mapping[int, Accuracy]
    """The same, for texts of one, two and three objects."""
    objects: Accuracy
    """Objects of which every said attribute is right."""
    attributes: Mapping[str, Accuracy]
    """Shape, colour, size, texture, place, by objects; number, background, relations, by pictures."""


def caption_accuracy(
    pixels: Float[Tensor, "n c h w"], captions: Sequence[str], oracle: ShapesOracle | None = None
) -> CaptionReport:
    """Let the evaluation oracle read the pictures and hold what it finds against the texts."""
    wanted = [read(text) for text in captions]
    right = satisfies((oracle or evaluation_oracle()).read(pixels), wanted)
    number = torch.tensor([w.number or 0 for w in wanted])
    named = torch.arange(SLOTS) < number[:, None]
    attributes = {
        name: _share(right[name], right["said"][:, :, k] & named) for k, name in enumerate(ATTRIBUTES)
    }
    speaks = {
        "number": number > 0,
        "background": torch.tensor([w.background is not None for w in wanted]),
        "relations": torch.tensor([bool(w.relations) for w in wanted]),
    }
    attributes |= {name: _share(right[name], said) for name, said in speaks.items()}
    return CaptionReport(
        all=_share(right["all"], torch.ones_like(right["all"])),
        by_number={k: _share(right["all"], number == k) for k in sorted(set(number.tolist()) - {0})},
        objects=_share(right["objects"], named),
        attributes=attributes,
    )


def _share(right: Tensor, counted: Tensor) -> Accuracy:
    n = int(counted.sum())
    return Accuracy(float((right & counted).sum()) / n if n else float("nan"), n)
