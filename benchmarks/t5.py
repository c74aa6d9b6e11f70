"""What a T5 has learned of its language: words left out that it finds, and order that its states hold.

    python -m benchmarks.t5 runs/t5

The probe is linear: from the state of a word of colour, which object it belongs to, the shape of that
object, and the colour of the other. The control reads the vectors of words alone, which know of no
neighbours.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

import sfumato
from sfumato.data.shapes.related import RelatedShapes, shape_stories
from sfumato.data.shapes.scene import COLOURS, SHAPES
from sfumato.data.unigram import PAD
from sfumato.nn.t5 import T5Network
from sfumato.systems.text.t5 import T5, batched, corrupted

TRAIN, TEST = 2000, 1000
"""Captions that the probe learns from, and those it is tried on."""


class Filled(NamedTuple):
    """Of tokens left out of fresh stories."""

    right: float
    """Written right, with those before it given."""
    frequent: float
    """The control: always the most frequent one."""
    n: int


@torch.no_grad()
def filled(system: T5, count: int = 512) -> Filled:
    """How many of the tokens that were left out it writes."""
    assert isinstance(system.network, T5Network)
    c, data = system.config, shape_stories("test", 16, length=count)
    texts = [caption for rows in torch.arange(count).split(256) for caption in data.batch(rows)["caption"]]
    rows = [[t for t in row if t != PAD] for row in c.tokenizer.encode(texts).tokens.tolist()]
    pairs = [corrupted(row, seed, c) for seed, row in enumerate(rows)]
    asked, answer = (batched(side, system.device) for side in zip(*pairs, strict=True))
    said = system.network.write(asked, pad(answer[:, :-1], (1, 0), value=PAD)).argmax(2)
    words = (answer > 2) & (answer < c.network.vocabulary - c.sentinels)
    found = answer[words]
    [(_, most)] = Counter(found.tolist()).most_common(1)
    return Filled(float((said[words] == found).float().mean()), most / len(found), len(found))


class Probe(NamedTuple):
    """Shares of fresh captions in which the probe is right."""

    first: float
    """Whether the object is the first that is named."""
    shape: float
    other: float
    """The colour of the other object."""
    n: int


@torch.no_grad()
def probed(system: T5, *, alone: bool = False) -> Probe:
    """What can be read off the state of a word of colour; ``alone`` asks the vectors of words."""
    data = RelatedShapes("test", 12, length=TRAIN + TEST)
    captions = [c for rows in torch.arange(len(data)).split(500) for c in data.captions(data.scenes(rows))]
    ids = system.config.tokenizer.encode(captions).tokens[:, :14]
    states = system.network.words_alone(ids) if alone else system.network(ids)
    seen, told = [], []
    for row, caption in zip(states.float(), captions, strict=True):
        words = caption.split()
        places = [i for i, word in enumerate(words) if word in COLOURS]
        for k, place in enumerate(places):
            seen.append(row[place])
            other = COLOURS.index(words[places[1 - k]])
            told.append((k, SHAPES.index(words[place + 1]), other))
    answers = torch.tensor(told).T
    x = torch.stack(seen)
    x = (x - x.mean(0)) / x.std(0).clamp(min=1e-4)
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    return Probe(*(_accuracy(x, y) for y in answers), 2 * TEST)


def _accuracy(x: Tensor, y: Tensor) -> float:
    """Of a ridge regression on one-hot answers."""
    known, target = x[: 2 * TRAIN], one_hot(y).float()[: 2 * TRAIN]
    weight = torch.linalg.solve(known.T @ known + torch.eye(x.shape[1]), known.T @ target)
    return float(((x[2 * TRAIN :] @ weight).argmax(1) == y[2 * TRAIN :]).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+")
    for name in parser.parse_args().runs:
        system = sfumato.load(name, precision="fp32", device="cpu")
        assert isinstance(system, T5)
        print(f"{name}: {filled(system)}")
        print(f"{name}: language {probed(system)}")
        print(f"{name}: control, words alone {probed(system, alone=True)}")


if __name__ == "__main__":
    main()
