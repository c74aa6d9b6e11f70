"""How near a prior comes to the embeddings of pictures it has not seen, beside the text's own embedding.

Example: python -m benchmarks.prior runs/prior
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

import sfumato
from sfumato.core.rng import Rng
from sfumato.data.dataset import Dataset
from sfumato.data.shapes import Shapes
from sfumato.metrics.retrieval import recall_at
from sfumato.systems.text.prior import UnclipPrior

SEED = 1000
"""Of the scenes: far from those of training."""
PART = 128


@dataclass(frozen=True)
class Near:
    """Mean cosines with the true embeddings, and how often it is the nearest of 128."""

    cosine: float
    found: float

    @classmethod
    def of(cls, guess: Tensor, true: Tensor) -> Near:
        pools = zip(guess.split(PART), true.split(PART), strict=True)
        found = [recall_at(a @ b.mT)[0] for a, b in pools]
        return cls((guess * true).sum(1).mean().item(), sum(found) / len(found))


def fresh(split: str, size: int, count: int) -> Shapes:
    """Scenes of which the captions say all."""
    return Shapes(split, size, levels={"full": 1.0}, seed=SEED, length=count)


@torch.no_grad()
def compare(prior: UnclipPrior, scenes: Dataset, count: int, way: str | None = None) -> dict[str, Near]:
    """The prior, the text's embedding, the prior of another's text, and the mean picture."""
    guesses, texts, true = [], [], []
    for rows in torch.arange(count).split(PART):
        batch = scenes.batch(rows)
        rng = Rng([SEED + int(i) for i in rows])
        for _, now in prior.imagine(batch["caption"], rng, prior.config.guidance, prior=way):
            guess = now
        guesses.append(guess)
        texts.append(prior.clip.encode_texts(batch["caption"]))
        true.append(prior.clip.encode_images(batch["image"]))
    guess, text, picture = (torch.cat(parts).float() for parts in (guesses, texts, true))
    mean = normalize(picture.mean(0, keepdim=True), dim=1).expand_as(picture)
    return {
        "prior": Near.of(guess, picture),
        "text": Near.of(text, picture),
        "prior of another text": Near.of(guess.roll(1, 0), picture),
        "mean picture": Near.of(mean, picture),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=512)
    options = parser.parse_args()
    prior = sfumato.load(options.model, precision="fp32", device="cpu")
    assert isinstance(prior, UnclipPrior)
    for split in ("test", "held"):
        for way in prior.ways:
            scenes = fresh(split, prior.clip.size[0], options.count)
            for name, near in compare(prior, scenes, options.count, way).items():
                print(f"{split}, {way}: {name:<22} {near}")


if __name__ == "__main__":
    main()
