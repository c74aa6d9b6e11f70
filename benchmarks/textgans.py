"""How faithfully a text GAN draws one shape in few words: fresh captions, held-out pairs, a control.

The evaluation oracle reads scenes of nine cells, so each picture is put into the middle of one on the same
ground, 96 pixels a side, which the oracle scales to its 64. A picture counts only if it then shows exactly
one object; if so its colour, its shape, "both", and the "whole" of what was said. The control holds pictures
against the captions of others.

Example: python -m benchmarks.textgans runs/dfgan-laptop
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sfumato import load
from sfumato.core.generate import Generate
from sfumato.core.request import Images
from sfumato.core.system import System
from sfumato.data.shapes import OneShape, read, satisfies
from sfumato.data.shapes.scene import COLOURS, SHAPES
from sfumato.data.shapes.single import in_a_scene
from sfumato.device import setup
from sfumato.images import grid, save_png
from sfumato.metrics.frechet import Moments, frechet_distance
from sfumato.metrics.oracle import evaluation_oracle

FIRST_SCENE, FIRST_SEED = 2_000, 3_000_000
"""Scenes and seeds that no preview and no other measurement uses."""


@dataclass(frozen=True)
class Faith:
    """Shares of pictures that show what was said, and the distance of all of them from real ones."""

    colour: float
    shape: float
    both: float
    whole: float
    """Everything that was said."""
    distance: float
    """Frechet distance in the space of the evaluation oracle, from real pictures of the same captions."""
    n: int

    def __str__(self) -> str:
        shares = (f"{name} {getattr(self, name):.3f}" for name in ("colour", "shape", "both", "whole"))
        return f"{'  '.join(shares)}  distance {self.distance:.2f}  (n {self.n})"


def scenes(split: str, count: int, size: int) -> tuple[Tensor, list[str]]:
    """Real pictures, and their captions."""
    data = OneShape(split, size, length=FIRST_SCENE + count)
    batch = data.batch(torch.arange(FIRST_SCENE, FIRST_SCENE + count))
    return batch["image"], list(batch["caption"])


@torch.no_grad()
def drawn(system: System, captions: list[str]) -> Tensor:
    """One picture of each caption."""
    request = Generate(prompt=tuple(captions), count=len(captions), seed=FIRST_SEED)
    *_, answer = system.run(request)
    assert isinstance(answer, Images)
    return answer.pixels


def judge(pixels: Tensor, captions: list[str], real: Tensor) -> Faith:
    """Let the evaluation oracle read."""
    oracle, pixels, real = evaluation_oracle(), in_a_scene(pixels), in_a_scene(real)
    right = satisfies(oracle.read(pixels), [read(text) for text in captions])
    colour, shape = (right[name][:, 0] & right["number"] for name in ("colour", "shape"))
    moments = (Moments.of(oracle.features(x)) for x in (real, pixels))
    return Faith(
        *(float(r.float().mean()) for r in (colour, shape, colour & shape, right["all"])),
        distance=frechet_distance(*moments).value,
        n=len(captions),
    )


def ask(system: System, split: str, count: int, *, shuffled: bool = False) -> Faith:
    """Draw fresh captions of a split and judge the pictures."""
    real, captions = scenes(split, count, system.config.height)
    pixels = drawn(system, captions)
    if shuffled:
        random.Random(0).shuffle(captions)
    return judge(pixels, captions, real)


def every_pair(system: System) -> Image.Image:
    """A picture of each colour (columns) and shape (rows), those of held-out pairs among them."""
    captions = [f"{'an' if c[0] in 'aeiou' else 'a'} {c} {s}" for s in SHAPES for c in COLOURS]
    return grid(drawn(system, captions), columns=len(COLOURS))


def main() -> None:
    """Print a line a question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--picture", type=Path, help="where to save a picture of each colour and shape")
    given = parser.parse_args()
    setup()
    for run in given.runs:
        system = load(run, precision="fp32")
        print(run)
        print("  fresh captions  ", ask(system, "test", given.count), flush=True)
        print("  held-out pairs  ", ask(system, "held", given.count), flush=True)
        print("  control: shuffled", ask(system, "test", given.count, shuffled=True), flush=True)
        if given.picture:
            save_png(every_pair(system), given.picture)
    real, captions = scenes("test", given.count, 32)
    print("real pictures     ", judge(real, captions, real))


if __name__ == "__main__":
    main()
