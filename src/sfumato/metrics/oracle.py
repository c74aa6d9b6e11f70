"""The reader of shapes: a small network that says what stands where in a picture of the shapes world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle, silu

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
from sfumato.metrics.reader import CHUNK, FOLDER, SIDE, OracleConfig, Reader, load_reader
from sfumato.nn.layers import GroupNorm

_STARTS = (0, 10, 20)
"""First row or column of every cell's window of 12 in a map of 32."""
_HEADS = (2, len(SHAPES), len(COLOURS), len(SIZES), len(TEXTURES))


class ShapesOracle(Reader):
    """Looks at each of the nine cells with the same eyes, and at all of them for the background."""

    world = "shapes"
    grain = ((1, 2), (2, 2), (4, 4), (4, 8))

    def __init__(self, config: OracleConfig, name: str = "shapes", *, judge: bool = False):
        super().__init__(config, name, judge=judge)
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

    def look(
        self, pixels: Float[Tensor, "n c h w"], places: Sequence[int] = range(len(PLACES))
    ) -> Float[Tensor, "n p d"]:
        """What is seen of every cell, or of some, by their numbers in ``PLACES``."""
        x = self.stem(pixel_unshuffle(self.admitted(pixels), 2))
        corners = [(_STARTS[place // 3], _STARTS[place % 3]) for place in places]
        x = torch.stack([x[:, :, i : i + 12, j : j + 12] for i, j in corners], 1).flatten(0, 1)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(silu(norm(x)))
        return silu(self.hidden(silu(x).flatten(1))).unflatten(0, (-1, len(places)))

    def cells(self, pixels: Float[Tensor, "n c h w"], places: Sequence[int]) -> list[Tensor]:
        """Logits of some cells alone, (n, p, k): presence, shape, colour, size and texture."""
        return list(self.cell(self.look(pixels, places)).split(_HEADS, dim=2))

    def forward(self, pixels: Float[Tensor, "n c h w"]) -> tuple[list[Tensor], Float[Tensor, "n k"]]:
        """Logits: of every cell (n, 9, k) its presence, shape, colour, size and texture; the background's."""
        seen = self.look(pixels)
        return list(self.cell(seen).split(_HEADS, dim=2)), self.background(seen.mean(1))

    def ends(self) -> tuple[nn.Module, ...]:
        return self.stem, self.cell, self.background

    def seen(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Averaged over the cells."""
        return self.look(pixels).mean(1)

    def stages(self, pixels: Float[Tensor, "n c h w"], side: int = SIDE) -> list[Tensor]:
        """Over the whole picture, not cell by cell."""
        maps = [self.stem(pixel_unshuffle(self.admitted(pixels, side), 2))]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            maps.append(conv(silu(norm(maps[-1]))))
        return maps

    def read(self, pixels: Float[Tensor, "n c h w"]) -> Scenes:
        """What the pictures show. ``number`` counts every object; the slots hold the three surest."""
        self.admitted(pixels[:1])
        with torch.no_grad():
            parts = [self(part) for part in pixels.split(CHUNK)]
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
    return load_oracle(FOLDER / "evaluation.safetensors", judge=True)


def training_oracle() -> ShapesOracle:
    """The oracle that a training may look at: other seed and other widths than the judge's."""
    return load_oracle(FOLDER / "training.safetensors")


def load_oracle(path: Path, *, judge: bool = False) -> ShapesOracle:
    """Read an oracle of shapes from a file; it does not train any more."""
    return load_reader(path, ShapesOracle, "sfumato.metrics.oracle_training", judge=judge)


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
