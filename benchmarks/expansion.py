"""What prompt expansion is worth: short prompts as they are, and with all said that they leave open.

A picture is right if an independent oracle finds everything that the short prompt says, however it was asked.
The model has learned mostly from captions that say everything.

Example: python -m benchmarks.expansion shapes --count 400
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.captions import FIRST_SCENE, FIRST_SEED
from sfumato import load
from sfumato.core.generate import Generate
from sfumato.core.request import Images
from sfumato.core.system import System
from sfumato.data.shapes import Shapes
from sfumato.data.shapes.expansion import expanded
from sfumato.device import setup
from sfumato.metrics.oracle import CaptionReport, caption_accuracy

STEPS = 10


def asked(system: System, count: int, steps: int = STEPS) -> tuple[CaptionReport, CaptionReport]:
    """How well short prompts of one and two objects are kept to, as they are and expanded."""
    last = FIRST_SCENE + count
    data = Shapes("test", 64, length=last, objects=(1, 2), levels={"short": 1.0})
    short = data.captions(data.scenes(torch.arange(FIRST_SCENE, last)))
    long = [expanded(prompt, FIRST_SEED + i) for i, prompt in enumerate(short)]
    reports = []
    for prompts in (short, long):
        request = Generate(prompt=tuple(prompts), count=count, seed=FIRST_SEED, steps=steps)
        *_, answer = system.run(request)
        assert isinstance(answer, Images)
        reports.append(caption_accuracy(answer.pixels, short))
    return reports[0], reports[1]


def main() -> None:
    """Print a line a way of asking."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    setup()
    reports = asked(load(given.model), given.count, given.steps)
    for name, report in zip(("as they are", "expanded"), reports, strict=True):
        parts = (f"{part} {accuracy.value:.3f}" for part, accuracy in report.attributes.items())
        print(f"{name}: everything said {report.all.value:.3f} (n {report.all.n})  {'  '.join(parts)}")


if __name__ == "__main__":
    main()
