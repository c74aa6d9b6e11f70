"""How well zi2zi draws characters it never saw in a font: figures with their controls.

Example: python -m benchmarks.lettering lettering

All pairs come from the test split. Two classifiers judge: one reads characters and learned in 2000 other
fonts; one names the font and learned from all true glyphs of the eight fonts. Neither ever saw a drawn glyph.
For fonts from files only distances are told. ``--sheet out.png`` also draws some.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

import sfumato
from sfumato.apps.load import folder_of
from sfumato.core.checkpoint import RunFolder
from sfumato.core.request import Images, Letters
from sfumato.core.rng import Rng
from sfumato.data import open_data
from sfumato.data.dataset import Dataset
from sfumato.data.glyphs.dataset import Glyphs
from sfumato.data.glyphs.pairs import FontPairs
from sfumato.data.glyphs.skeletons import LATIN
from sfumato.images import grid, save_png
from sfumato.systems.style.zi2zi import Zi2Zi, zoomed

SHARES = 9
"""Places on the way from font to font at which it is looked."""
ZOOM = 1.05
"""Up to how much glyphs are enlarged for those who learn to judge."""
SLACK = 0.02
"""By how much a probability may fall and still count as rising."""
Figures = dict[str, float]


class Judge(nn.Module):
    """A small classifier of glyphs."""

    def __init__(self, classes: int):
        super().__init__()
        widths = (1, 24, 48, 96)
        layers: list[nn.Module] = []
        for wide, out in pairwise(widths):
            layers += [nn.Conv2d(wide, out, 3, 2, 1), nn.GroupNorm(4, out), nn.SiLU()]
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(96 * 16, classes))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.net(pixels)

    @torch.no_grad()
    def accuracy(self, pixels: Tensor, labels: Tensor) -> float:
        """Share of glyphs seen as what they should be."""
        return (self(pixels).argmax(1) == labels).float().mean().item()

    @torch.no_grad()
    def probability(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """How sure it is of given classes."""
        return self(pixels).softmax(1).gather(1, labels[:, None])[:, 0]


def spoiled(x: Tensor, rng: Rng) -> Tensor:
    """Noise up to .3, and blur, half of the time each."""
    blurred = avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    x = torch.lerp(x, blurred, (rng.uniform() * (rng.uniform() < 0.5))[:, None, None, None])
    noise = (0.3 * rng.uniform() * (rng.uniform() < 0.5))[:, None, None, None]
    return x + noise * rng.normal(*x.shape[1:])


def taught(sources: Sequence[Dataset], steps: int, batch: int = 64) -> Judge:
    """A judge that learned from true glyphs, of all sources alike."""
    torch.manual_seed(7)
    judge = Judge(len(sources[0].facts.classes)).train()
    optimiser = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for step in range(steps):
        rng = Rng.training(3, step, range(batch))
        parts = rng.uniform().chunk(len(sources))
        examples = [data.batch((part * len(data)).long()) for data, part in zip(sources, parts, strict=True)]
        x, label = (torch.cat([e[field] for e in examples]) for field in ("image", "label"))
        x, _ = zoomed(x, x, ZOOM, rng)
        loss = cross_entropy(judge(spoiled(x, rng)), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return judge.eval()


@cache
def reader() -> Judge:
    """Reads letters and digits; it learned them in fonts that are none of those that are drawn."""
    return taught([Glyphs("train", 32)], 500)


@cache
def connoisseur() -> Judge:
    """Names the font; it learned from all true glyphs, for it must know how the unseen ones should look."""
    return taught([FontPairs("train", 32), FontPairs("test", 32)], 700)


@torch.no_grad()
def drawn(system: Zi2Zi, request: Letters) -> Tensor:
    """The answer to a request."""
    *_, answer = system.run(request)
    return cast(Images, answer).pixels


def distances(system: Zi2Zi, data: FontPairs, train: FontPairs, count: int = 1000) -> Figures:
    """Mean absolute differences from the true glyphs, drawn, copied and guessed as the font's mean glyph."""
    batch = data.batch(torch.arange(min(count, len(data))))
    x, y, label = batch["source"], batch["image"], batch["label"]
    made = drawn(system, Letters(images=x, font=tuple(label.tolist()), count=len(x)))
    known = train.batch(torch.arange(len(train)))
    means = torch.stack([known["image"][known["label"] == k].mean(0) for k in range(len(data.targets))])
    l1, copied, mean = ((a - y).abs().mean().item() for a in (made, x, means[label]))
    return {
        "characters": float(len(x)),
        "l1": l1,
        "l1 of the source": copied,
        "l1 of the mean glyph": mean,
        "l1 to the source": l1 / copied,
        "l1 to the mean glyph": l1 / mean,
    }


def identities(system: Zi2Zi, data: FontPairs) -> Figures:
    """How often drawn glyphs are seen as the right character, and as of the right font."""
    batch = data.batch(torch.arange(len(data)))
    x, y, label = batch["source"], batch["image"], batch["label"]
    order = [LATIN.index(data.characters[c]) for c in batch["character"].tolist()]
    character = torch.tensor(order)
    asked = Letters(images=x, font=tuple(label.tolist()), count=len(x))
    made = drawn(system, asked)
    kept = system.decoder.embedding.detach().clone()
    with torch.no_grad():
        system.decoder.embedding.zero_()
        deaf = drawn(system, asked)
        system.decoder.embedding.copy_(kept)
    return {
        "character read": reader().accuracy(made, character),
        "character read in truth": reader().accuracy(y, character),
        "character read of others": reader().accuracy(made.roll(1, 0), character),
        "font named": connoisseur().accuracy(made, label),
        "font named in truth": connoisseur().accuracy(y, label),
        "font named of the source": connoisseur().accuracy(x, label),
        "font named without embedding": connoisseur().accuracy(deaf, label),
    }


def ways(system: Zi2Zi, data: FontPairs) -> Figures:
    """Whether on the way from every font to every other the second is seen more and more."""
    x = data.sources(LATIN)
    known, steady, rises = len(data.targets), 0, []
    for a in range(known):
        for b in range(known):
            if a == b:
                continue
            seen = []
            for k in range(SHARES):
                share = k / (SHARES - 1)
                made = drawn(system, Letters(images=x, font=a, towards=b, share=share, count=len(x)))
                seen.append(connoisseur().probability(made, torch.full((len(x),), b)).mean())
            path = torch.stack(seen)
            steady += bool((path.diff() >= -SLACK).all())
            rises.append((path[-1] - path[0]).item())
    total = known * (known - 1)
    return {"ways that rise": steady / total, "rise": sum(rises) / total}


def figures(model: str, count: int = 1000) -> Figures:
    """All that is measured of a run or a model that comes along."""
    system = sfumato.load(model, precision="fp32")
    assert isinstance(system, Zi2Zi)
    recipe = RunFolder.open(folder_of(model)).recipe
    data, train = (open_data(recipe.data, split=split, size=recipe.size) for split in ("test", "train"))
    assert isinstance(data, FontPairs)
    assert isinstance(train, FontPairs)
    found = distances(system, data, train, count)
    if recipe.data == "fonts":
        found |= identities(system, data) | ways(system, data)
    return found


def sheet(model: str, count: int = 16) -> Tensor:
    """Test characters: source, drawn, truth, one below the other."""
    system = sfumato.load(model, precision="fp32")
    assert isinstance(system, Zi2Zi)
    recipe = RunFolder.open(folder_of(model)).recipe
    data = open_data(recipe.data, split="test", size=recipe.size)
    rows = torch.arange(count) * (len(data) // count)
    batch = data.batch(rows)
    made = drawn(system, Letters(images=batch["source"], font=tuple(batch["label"].tolist()), count=count))
    return torch.cat([batch["source"], made, batch["image"]])


def main() -> None:
    """Print the figures of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--sheet", type=Path)
    given = parser.parse_args()
    for name, value in figures(given.model, given.count).items():
        print(f"{name:32} {value:.3f}")
    if given.sheet:
        picture = grid(sheet(given.model), 16)
        save_png(picture.resize((2 * picture.width, 2 * picture.height), 0), given.sheet)


if __name__ == "__main__":
    main()
