"""How well a CLIP of shapes finds and names scenes it has not seen, beside an untrained one and broken pairs.

Examples: python -m benchmarks.clip runs/clip-laptop
          python -m benchmarks.clip runs/clip-corners --data corner-shape
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

import sfumato
from sfumato.data.shapes import Shapes
from sfumato.data.shapes.corner import CornerShape
from sfumato.data.shapes.scene import COLOURS, SHAPES
from sfumato.metrics.retrieval import POOL, recall_at
from sfumato.metrics.retrieval import pools as different
from sfumato.systems.text.clip import CLIP

SEED = 1000
"""Of the scenes: far from those of training."""
LABELS = [
    f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape}" for colour in COLOURS for shape in SHAPES
]
"""Every pair of a colour and a shape, those of training and those held out."""


@dataclass(frozen=True)
class Found:
    """Shares of right answers, and how many questions each stands for."""

    text: float
    """Pictures whose own caption came first among ``POOL``; half as many for corners with held-out pairs."""
    image: float
    """Captions whose own picture came first."""
    pairs: int
    label: float
    """Pictures of one object whose colour and shape were named, of all 48 pairs."""
    labelled: int


@torch.no_grad()
def measure(
    model: CLIP, data: str, split: str, pools: int = 8, level: str = "full", *, shuffled: bool = False
) -> Found:
    """Retrieval within pools of scenes with different captions, and zero-shot names of single objects."""
    size, levels, many = model.size[0], {level: 1.0}, pools * POOL
    scenes: Shapes | CornerShape
    single: Shapes | CornerShape
    if data == "shapes":
        scenes = Shapes(split, size, levels=levels, seed=SEED, length=8 * many)
        single = Shapes(split, size, objects=(1,), levels=levels, seed=SEED, length=many)
    else:
        scenes = single = CornerShape(split, size, levels=levels, length=8 * many)
    size = POOL // 2 if scenes is single and split == "held" else POOL  # corners have 80 such captions
    found = [retrieved(model, pool, shuffled) for pool in different(scenes, many, size=size)]
    text, image = (sum(side) / len(found) for side in zip(*found, strict=True))
    right = [named(model, single, rows) for rows in torch.arange(many).split(POOL)]
    return Found(text, image, many, torch.cat(right).float().mean().item(), many)


def retrieved(model: CLIP, pool: tuple[Tensor, list[str]], shuffled: bool) -> tuple[float, float]:
    images, captions = pool
    if shuffled:
        captions = captions[1:] + captions[:1]
    return recall_at((model.encode_images(images) @ model.encode_texts(captions).mT).float())


def named(model: CLIP, single: Shapes | CornerShape, rows: Tensor) -> Tensor:
    """Whether colour and shape of each picture are named, out of all pairs there are."""
    scenes = single.scenes(rows)
    seen = model.encode_images(single.batch(rows)["image"])
    answer = (seen @ model.encode_labels(LABELS, ("{}",)).mT).argmax(1)
    return answer == scenes.colour[:, 0] * len(SHAPES) + scenes.shape[:, 0]


def untrained(model: CLIP) -> CLIP:
    """The same network before its first step."""
    torch.manual_seed(0)
    return CLIP(model.config).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", choices=("shapes", "corner-shape"), default="shapes")
    parser.add_argument("--pools", type=int, default=8)
    options = parser.parse_args()
    model = sfumato.load(options.model, precision="fp32", device="cpu")
    assert isinstance(model, CLIP)
    ask = partial(measure, data=options.data, pools=options.pools)
    print("fresh scenes, full captions    ", ask(model, split="test"))
    print("fresh scenes, short captions   ", ask(model, split="test", level="short"))
    print("held-out pairs, full captions  ", ask(model, split="held"))
    print("control: captions of others    ", ask(model, split="test", shuffled=True))
    print("control: before training       ", ask(untrained(model), split="test"))


if __name__ == "__main__":
    main()
