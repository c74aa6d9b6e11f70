"""Whether Imagen's claims hold on shapes: order is read, thresholds, and noise beside the small picture.

    python -m benchmarks.imagen runs/imagen-base runs/imagen-bag runs/imagen runs/imagen-plain

Of every run: pictures of two shapes in a relation, fresh ones and with held-out pairs, beside captions
shuffled; then strongly guided with each way of keeping beliefs in range; and whether what it draws is of
the world at all.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

import sfumato
from sfumato.core.request import Generate, Images
from sfumato.core.system import System
from sfumato.data.shapes.reading import read, satisfies
from sfumato.data.shapes.related import RelatedShapes
from sfumato.data.shapes.scene import HELD_OUT
from sfumato.device import setup
from sfumato.metrics.oracle import evaluation_oracle
from sfumato.metrics.validity import VALID, Validity, validity

FIRST_SCENE, FIRST_SEED = 3_000, 3_000_000
"""Scenes and seeds that no preview and no other measurement uses."""
STRONG = 8.0
"""Guidance under which thresholds differ."""
WAYS = ("static", "dynamic:.995", "free")


class Related(NamedTuple):
    """How well pictures keep to captions such as "a red circle above a blue square"."""

    objects: float
    """Both objects are there, in shape and colour."""
    relation: float
    """They are, and stand to each other as is said."""
    given: float
    """The same among pictures in which both are there: half of it is chance."""
    n: int


def related(pixels: Tensor, captions: Sequence[str]) -> Related:
    """What the evaluation oracle finds in pictures, held against their captions."""
    right = satisfies(evaluation_oracle().read(pixels), [read(caption) for caption in captions])
    objects = right["objects"].all(1)
    both = objects & right["relations"]
    count = int(objects.sum())
    return Related(
        float(objects.float().mean()),
        float(both.float().mean()),
        float(both.sum()) / count if count else math.nan,
        len(captions),
    )


def bag_bound(captions: Sequence[str]) -> float:
    """The most of ``Related.relation`` that any reader of bags of words can reach, however long it learns.

    Captions with the same words are drawn alike, equally often, and a picture shows at most one of them: as
    many captions as make one bag share one right answer. Captions of pairs that never occur do not count.
    """
    shares = []
    for caption in captions:
        words = caption.split()
        (c1, s1), (c2, s2) = words[1:3], words[-2:]
        pairs = {((c1, s1), (c2, s2)), ((c2, s2), (c1, s1)), ((c1, s2), (c2, s1)), ((c2, s1), (c1, s2))}
        shares.append(1 / sum(one != other and not {one, other} & set(HELD_OUT) for one, other in pairs))
    return sum(shares) / len(shares)


def captions_of(count: int, split: str = "test") -> list[str]:
    """Captions that nothing was trained on."""
    data = RelatedShapes(split, 24, length=FIRST_SCENE + count)
    return list(data.batch(torch.arange(FIRST_SCENE, FIRST_SCENE + count))["caption"])


def drawn(system: System, captions: Sequence[str], **settings: object) -> Tensor:
    """One picture a caption."""
    request = Generate(prompt=tuple(captions), count=len(captions), seed=FIRST_SEED, **settings)  # type: ignore[arg-type]
    *_, answer = system.run(request)
    assert isinstance(answer, Images)
    return answer.pixels.float().cpu()


def relations_of(system: System, count: int) -> dict[str, Related]:
    """Fresh scenes, held-out pairs, and the control."""
    captions, held = captions_of(count), captions_of(count, "held")
    pixels = drawn(system, captions)
    shuffled = random.Random(0).sample(captions, len(captions))
    return {
        "relation": related(pixels, captions),
        "relation, held-out pairs": related(drawn(system, held), held),
        "control: captions shuffled": related(pixels, shuffled),
    }


def thresholds_of(system: System, count: int, limit: float = VALID) -> dict[str, tuple[Related, Validity]]:
    """Strongly guided, each way."""
    captions = captions_of(count)
    told = {}
    for way in WAYS:
        pixels = drawn(system, captions, guidance=STRONG, threshold=way)
        told[way] = related(pixels, captions), validity(pixels, limit=limit)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--limit", type=float, default=VALID, help="residual of a valid picture")
    parser.add_argument("--skip-thresholds", action="store_true")
    given = parser.parse_args()
    setup()
    print(f"the most that a bag of words can reach: {bag_bound(captions_of(given.count)):.4f}", flush=True)
    for name in given.runs:
        system = sfumato.load(name, precision=given.precision, device="cpu")
        captions = captions_of(given.count)
        pixels = drawn(system, captions)
        found = {
            **relations_of(system, given.count),
            "as it draws by default": validity(pixels, limit=given.limit),
        }
        if not given.skip_thresholds:
            for way, (kept, valid) in thresholds_of(system, given.count, given.limit).items():
                found |= {f"guidance {STRONG:g}, {way}": kept, f"guidance {STRONG:g}, {way}: validity": valid}
        for what, figures in found.items():
            print(
                f"{name}: {what:<40} {json.dumps({k: round(v, 4) for k, v in figures._asdict().items()})}",
                flush=True,
            )


if __name__ == "__main__":
    main()
