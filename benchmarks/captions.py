"""How faithfully a model of `shapes` follows words: fresh prompts, held-out pairs, three objects, controls.

Example: python benchmarks/captions.py shapes --count 512
"""

from __future__ import annotations

import argparse
import json
import math
import random
from dataclasses import dataclass, replace

import torch

from sfumato import load
from sfumato.core.generate import Generate
from sfumato.core.request import Images
from sfumato.core.system import System
from sfumato.data.shapes import Shapes
from sfumato.device import setup
from sfumato.metrics.oracle import CaptionReport, caption_accuracy

FIRST_SCENE, FIRST_SEED = 30_000, 2_000_000
"""Scenes and seeds that no preview and no other measurement uses."""


@dataclass(frozen=True)
class Question:
    """Captions to draw, and how."""

    name: str
    split: str
    objects: tuple[int, ...]
    guidance: float | None = None
    shuffled: bool = False


QUESTIONS = (
    Question("one and two objects", "test", (1, 2)),
    Question("three objects", "test", (3,)),
    Question("held-out pairs, one and two objects", "held", (1, 2)),
    Question("control: guidance 0", "test", (1, 2), guidance=0.0),
    Question("control: captions shuffled", "test", (1, 2), shuffled=True),
)


def ask(system: System, question: Question, count: int, steps: int, level: str) -> CaptionReport:
    """Draw ``count`` captions and let the evaluation oracle read the pictures."""
    last = FIRST_SCENE + count
    scenes = Shapes(question.split, size=64, length=last, objects=question.objects, levels={level: 1.0})
    captions = list(scenes.batch(torch.arange(FIRST_SCENE, last))["caption"])
    request = Generate(prompt=tuple(captions), count=count, seed=FIRST_SEED, steps=steps)
    *_, answer = system.run(replace(request, guidance=question.guidance))
    assert isinstance(answer, Images)
    if question.shuffled:
        random.Random(0).shuffle(captions)
    return caption_accuracy(answer.pixels, captions)


def main() -> None:
    """Print a table, and JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="shapes", help="a shipped model or a run folder")
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--level", default="full", choices=("short", "full", "descriptive"))
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    setup()
    system, told = load(given.model, precision=given.precision), {}
    for question in QUESTIONS:
        report = ask(system, question, given.count, given.steps, given.level)
        share, n = report.all.value, report.all.n
        parts = {name: part.value for name, part in report.attributes.items() if part.n}
        told[question.name] = {"all right": share, "n": n, "objects": report.objects.value} | parts
        if not given.json:
            spread = math.sqrt(share * (1 - share) / n)
            detail = "  ".join(f"{name} {value:.3f}" for name, value in parts.items())
            print(f"{question.name:<36} all right {share:.3f} +- {spread:.3f} (n {n})  {detail}", flush=True)
    if given.json:
        print(json.dumps(told))


if __name__ == "__main__":
    main()
