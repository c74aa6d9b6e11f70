"""How faithfully DALL-E draws one shape in few words, and what it gains when a CLIP chooses among several.

Judged as in ``benchmarks.textgans``: fresh captions, pairs of colour and shape never seen, a control with the
captions of others. Then how well it foretells the numbers of fresh pictures, against knowing how frequent
each is and nothing else.

Example: python -m benchmarks.dalle runs/dalle-laptop --judge runs/clip-one-shape
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.textgans import FIRST_SEED, Faith, ask, every_pair, judge, scenes
from sfumato import load
from sfumato.apps.rerank import best
from sfumato.apps.sample import Source
from sfumato.core.generate import Generate
from sfumato.core.system import System
from sfumato.device import setup
from sfumato.images import save_png
from sfumato.nn.quantize import perplexity
from sfumato.systems.text.dalle import DALLE

MANY, FRESH = 16, 1000


def chosen(system: System[Any], clip: System[Any], split: str, count: int, many: int = MANY) -> Faith:
    """One picture of each caption, the best of many by a CLIP that judged nothing else."""
    real, captions = scenes(split, count, system.config.height)
    request = Generate(prompt=tuple(captions), count=count, seed=FIRST_SEED)
    return judge(best(system, request, Source(""), clip, "", many).pixels, captions, real)


@torch.no_grad()
def foretold(system: DALLE, count: int = FRESH) -> tuple[float, float]:
    """Nats that a number of a fresh picture costs, with its caption and by its frequency alone."""
    real, captions = scenes("test", count, system.config.height)
    codes = torch.cat([system.first_stage.tokens(part).flatten(1) for part in real.split(100)])
    ids, costs = system.tokenizer.encode(captions).tokens, []
    for rows in torch.arange(count).split(100):
        logits = system.network(ids[rows], codes[rows])[:, system.config.length :, -system.network.codes :]
        costs.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), codes[rows].flatten()))
    return float(torch.stack(costs).mean()), float(perplexity(codes, system.network.codes).log())


def main() -> None:
    """Print a line a question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--judge", help="a CLIP that knows one-shape")
    parser.add_argument("--count", type=int, default=FRESH)
    parser.add_argument("--prompts", type=int, default=256, help="captions of which the best of 16 is drawn")
    parser.add_argument("--picture", type=Path, help="where to save a picture of each colour and shape")
    given = parser.parse_args()
    setup()
    system = load(given.run, precision="fp32")
    assert isinstance(system, DALLE)
    print("nats a number: {:.3f}, by frequency alone {:.3f}".format(*foretold(system)), flush=True)
    print("fresh captions  ", ask(system, "test", given.count), flush=True)
    print("held-out pairs  ", ask(system, "held", given.count), flush=True)
    print("control: shuffled", ask(system, "test", given.count, shuffled=True), flush=True)
    if given.picture:
        save_png(every_pair(system), given.picture)
    if given.judge:
        clip = load(given.judge, precision="fp32")
        for split in ("test", "held"):
            print(f"{split}: one    ", ask(system, split, given.prompts), flush=True)
            print(f"{split}: best of {MANY}", chosen(system, clip, split, given.prompts), flush=True)


if __name__ == "__main__":
    main()
