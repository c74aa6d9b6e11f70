"""How well a reader reads words it has not seen by writers it has not seen, beside its controls.

Example: python -m benchmarks.reading reader --count 1000

The words and writers are those of the test split. Controls: matching templates of the training writers'
letters, the same words by writers that training saw (as good as can be hoped for), and other pictures' texts.
``--data curved-words`` takes words that lean and bow far more; ``--sheet out.png`` draws some.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, normalize

import sfumato
from sfumato.apps.evaluate_reading import Reading, findings, reading
from sfumato.apps.sheet import Cell, write_png
from sfumato.apps.talk import Talk
from sfumato.core.system import System
from sfumato.data.dataset import Dataset
from sfumato.data.glyphs.skeletons import DIGITS, LOWER
from sfumato.data.words import BOWED, SLANTED, Words
from sfumato.images import to_pil
from sfumato.metrics.text_errors import TextErrors

COUNT, SEED, SHOWN = 1000, 1_000_000, 24
SIDE = 16
"""Pixels a side to which letters are scaled before they are compared."""
HANDS = 40
"""Writers of training who give templates."""
Figures = dict[str, float]


def unseen(data: str, writers: str = "test") -> Words:
    """Words of the test split, by writers of either."""
    if data == "curved-words":
        return Words("test", writers=writers, slant=SLANTED, bend=BOWED)
    return Words("test", writers=writers)


def errors(found: Reading) -> TextErrors:
    """Error rates of what was read."""
    return TextErrors.of(found.read, found.true)


def read(system: System, data: Dataset, count: int = COUNT) -> Reading:
    """What a system reads in examples chosen by the seed."""
    return reading(system, data, count, SEED, Talk(quiet=True))


class Templates:
    """A reader without learning: cut at white columns, take the most similar of the training letters."""

    def __init__(self, letters: str = LOWER + DIGITS, hands: int = HANDS):
        world = Words("train", letters=(1, 1), noise=0.0)
        writers = torch.arange(hands).repeat_interleave(len(letters))
        ink = world.written(list(letters) * hands, writers, torch.arange(len(writers)) * 7919)
        self.letters = letters * hands
        self.table = torch.stack([self._seen(one[:, _columns(one > 0.4)]) for one in ink])

    def _seen(self, ink: Float[Tensor, "h w"]) -> Float[Tensor, " d"]:
        """A letter scaled to a square, and its proportions."""
        rows = (ink > 0.4).any(1).nonzero()[:, 0]
        tight = ink[int(rows[0]) : int(rows[-1]) + 1]
        square = interpolate(tight[None, None], (SIDE, SIDE), mode="bilinear", antialias=True).flatten()
        shape = torch.tensor([tight.shape[1] / tight.shape[0]]).log() * SIDE / 4
        return torch.cat([normalize(square - square.mean(), dim=0) * SIDE, shape])

    def read(self, picture: Float[Tensor, "1 h w"]) -> str:
        """The letters between white columns."""
        light = picture[0]
        ink = ((light.median() - light) / (light.median() - light.min()).clamp(min=0.1)).clamp(0, 1)
        inked = (ink > 0.4).sum(0) > 0
        edges = torch.nn.functional.pad(inked.long(), (1, 1)).diff()
        text = ""
        starts, stops = ((edges == sign).nonzero()[:, 0].tolist() for sign in (1, -1))
        for start, stop in zip(starts, stops, strict=True):
            seen = self._seen(ink[:, start:stop])
            text += self.letters[int((self.table - seen).square().sum(1).argmin())]
        return text


def _columns(ink: Tensor) -> slice:
    columns = ink.any(0).nonzero()[:, 0]
    return slice(int(columns[0]), int(columns[-1]) + 1)


def of_templates(data: Dataset, count: int = COUNT) -> TextErrors:
    """Error rates of matching templates, on the same examples as ``read``."""
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))[:count]
    templates, batch = Templates(), data.batch(rows)
    return TextErrors.of([templates.read(x) for x in batch["image"]], batch["text"])


def measured(system: System, data: str = "words", count: int = COUNT) -> Figures:
    """Error rates and their controls."""
    new = read(system, unseen(data), count)
    seen = errors(read(system, unseen(data, "train"), count))
    templates, told = of_templates(unseen(data), count), errors(new)
    others = findings(new, "", data).rows[0].control
    return {
        "cer": told.cer,
        "spread of cer": told.spread_of_cer(),
        "accuracy": told.accuracy,
        "spread of accuracy": told.spread_of_accuracy(),
        "cer, writers seen": seen.cer,
        "accuracy, writers seen": seen.accuracy,
        "cer, templates": templates.cer,
        "accuracy, templates": templates.accuracy,
        "cer, other texts": 1.0 if others is None else others,
    }


def sheet(found: Reading, data: Dataset, path: Path) -> None:
    """Some pictures with what was read, and what is true where that is something else."""
    batch = data.batch(torch.tensor(found.numbers[:SHOWN]))
    cells = [
        Cell(to_pil(x), said, "" if said == true else f"true: {true}")
        for x, said, true in zip(batch["image"], found.read, found.true, strict=False)
    ]
    write_png(cells, path, "Words read", columns=6)


def main() -> None:
    """Print the figures of a reader."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", default="words", choices=("words", "curved-words"))
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--sheet", type=Path)
    given = parser.parse_args()
    system = sfumato.load(given.model, precision="fp32")
    for name, value in measured(system, given.data, given.count).items():
        print(f"{name:40} {value:.4f}")
    if given.sheet:
        data = unseen(given.data)
        sheet(read(system, data, SHOWN), data, given.sheet)


if __name__ == "__main__":
    main()
