"""What unCLIP promises, measured on shapes in corners: every figure beside its control.

How near the priors come to the embeddings of pictures they have not seen; whether pictures show the colour
and the shape their captions say, by each prior and by none; what variations keep and what they leave open;
text differences, interpolations, and pictures painted inside masks. All pictures are read by the evaluation
oracle, all scenes are fresh.

Example: python -m benchmarks.unclip unclip
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.prior import compare
from sfumato import load
from sfumato.core.request import Edit, Generate, Images, Interpolate, Request, TextDiff, Vary, Video
from sfumato.data.shapes.corner import CORNERS, CornerShape, completed
from sfumato.data.shapes.reading import read
from sfumato.data.shapes.scene import COLOURS, SHAPES, Scenes, held_out
from sfumato.device import setup
from sfumato.metrics.oracle import evaluation_oracle
from sfumato.systems.text.unclip import Unclip

SEED = 10_000
PRIORS = ("diffusion", "autoregressive", "none")


@dataclass(frozen=True)
class Share:
    """How often something is right, of how many."""

    value: float
    n: int

    @classmethod
    def of(cls, right: Tensor) -> Share:
        return cls(right.double().mean().item(), len(right))

    def __str__(self) -> str:
        return f"{self.value:.3f} (n = {self.n})"


def scenes(split: str, count: int, size: int, first: int = 0) -> tuple[Tensor, list[str], Scenes]:
    """Fresh pictures, their captions, and what they show."""
    data = CornerShape(split, size)
    rows = torch.arange(first, first + count)
    batch = data.batch(rows)
    return batch["image"], list(batch["caption"]), data.scenes(rows)


@torch.no_grad()
def pixels(system: Unclip, request: Request) -> Tensor:
    """The pictures, or frames, that answer a request."""
    *_, answer = system.run(request)
    assert isinstance(answer, Images | Video)
    return answer.pixels.flatten(0, -4)


def seen(shown: Tensor) -> Scenes:
    """What the oracle reads."""
    return evaluation_oracle().read(completed(shown))


def alike(found: Scenes, shape: Tensor, colour: Tensor) -> Tensor:
    """Whether a picture shows one object, of this shape and colour."""
    same = (found.shape[:, 0] == shape) & (found.colour[:, 0] == colour)
    return same & (found.number == 1)


def met(found: Scenes, captions: list[str]) -> Tensor:
    """Whether pictures show one object of the shape and the colour that their captions say."""
    wanted = [read(text).objects[0] for text in captions]
    shape, colour = (torch.tensor([getattr(w, name) for w in wanted]) for name in ("shape", "colour"))
    return alike(found, shape, colour)


def entropy(found: Tensor, given: Tensor) -> float:
    """H(found | given) in bits, of places that are one of four; others count as a fifth."""
    table = torch.zeros(len(CORNERS), len(CORNERS) + 1, dtype=torch.float64)
    index = {place: k for k, place in enumerate(CORNERS)}
    for one, other in zip(given.tolist(), found.tolist(), strict=True):
        table[index[one], index.get(other, len(CORNERS))] += 1
    shares = table / table.sum(1, keepdim=True).clamp(min=1)
    each = -(shares * shares.clamp(min=1e-12).log2()).sum(1)
    return float((each * table.sum(1)).sum() / table.sum())


# --- the figures -------------------------------------------------------------------------------------


def drawn(system: Unclip, split: str, count: int, prior: str) -> tuple[Share, Share, Scenes]:
    """Joint accuracy of pictures from captions, that with the captions of others, and what was read."""
    _, captions, _ = scenes(split, count, system.config.height)
    found = seen(pixels(system, Generate(prompt=tuple(captions), count=count, seed=SEED, prior=prior)))
    return Share.of(met(found, captions)), Share.of(met(found, captions[1:] + captions[:1])), found


@dataclass(frozen=True)
class Varied:
    """What variations keep, and how open the place is, in bits of 2."""

    kept: Share
    of_another: Share
    place: float


def varied(system: Unclip, strength: float, count: int, each: int = 8) -> Varied:
    """``each`` variations of fresh pictures; ``of_another`` compares them with other pictures."""
    given, _, true = scenes("test", count // each, system.config.height)
    request = Vary(images=given, count=len(given) * each, seed=SEED, strength=strength)
    found, rows = seen(pixels(system, request)), torch.arange(len(given)).repeat(each)
    shape, colour, place = (getattr(true, name)[rows, 0] for name in ("shape", "colour", "place"))
    kept, other = alike(found, shape, colour), alike(found, shape.roll(1), colour.roll(1))
    return Varied(Share.of(kept), Share.of(other), entropy(found.place[:, 0], place))


@dataclass(frozen=True)
class Changed:
    """How often the colour became the one asked for, and how often the shape stayed."""

    colour: Share
    shape: Share


def changed(system: Unclip, source: str, target: str, theta: float, count: int) -> Changed:
    """Text differences "a SOURCE SHAPE" to "a TARGET SHAPE" over fresh pictures of that colour, except of
    pairs that training never showed."""
    unknown = set(held_out().tolist())
    numbers = [COLOURS.index(name) for name in (source, target)]
    given, _, true = scenes("test", 80 * count, system.config.height)
    fits = true.colour[:, 0] == numbers[0]
    colour, shape = [], []
    for kind, name in enumerate(SHAPES):
        if any(number * len(SHAPES) + kind in unknown for number in numbers):
            continue
        mine = torch.nonzero(fits & (true.shape[:, 0] == kind))[:count, 0]
        texts = [f"{'an' if text[0] in 'aeiou' else 'a'} {text} {name}" for text in (source, target)]
        request = TextDiff(images=given[mine], count=len(mine), source=texts[0], target=texts[1], theta=theta)
        found = seen(pixels(system, request))
        colour.append(found.colour[:, 0] == numbers[1])
        shape.append((found.shape[:, 0] == kind) & (found.number == 1))
    return Changed(Share.of(torch.cat(colour)), Share.of(torch.cat(shape)))


@dataclass(frozen=True)
class Ends:
    """How often the ends of interpolations show what the pictures do, or what those of others do; the same
    of the middle, where either colour and either shape is right; and the error of the ends, in grey
    levels."""

    ends: Share
    of_another: Share
    middle: Share
    error: float


def interpolated(system: Unclip, pairs: int) -> Ends:
    """From a fresh picture to another in two steps."""
    given, _, true = scenes("test", 2 * pairs, system.config.height, first=1000)
    ends, others, middle, error = [], [], [], []
    for i in range(0, 2 * pairs, 2):
        both = given[i : i + 2]
        film = pixels(system, Interpolate(images=both, count=2, frames=2))
        found, rows = seen(film), torch.tensor([i, i + 1])
        shape, colour = true.shape[rows, 0], true.colour[rows, 0]
        last = found[torch.tensor([0, 2])]
        ends.append(alike(last, shape, colour))
        away = (rows + 2) % len(given)
        others.append(alike(last, true.shape[away, 0], true.colour[away, 0]))
        inner = found[torch.tensor([1])]
        middle.append(
            (inner.shape[:, :1] == shape).any(1)
            & (inner.colour[:, :1] == colour).any(1)
            & (inner.number == 1)
        )
        error.append((film[[0, 2]] - both).abs().mean() * 127.5)
    shares = (Share.of(torch.cat(each)) for each in (ends, others, middle))
    return Ends(*shares, float(torch.stack(error).mean()))


def painted(system: Unclip, count: int) -> tuple[Share, Share, float]:
    """Masks over the corner that holds the object, and words for another: how often they are met, how often
    those of the next picture would be, and the largest change outside the mask."""
    given, _, true = scenes("test", count, system.config.height, first=2000)
    captions = scenes("test", count, system.config.height, first=3000)[1]
    half = given.shape[-1] // 2
    mask = torch.zeros(count, 1, *given.shape[2:])
    for one, place in zip(mask, true.place[:, 0].tolist(), strict=True):
        row, column = divmod(place, 3)
        one[:, row * half : (row + 1) * half, column * half : (column + 1) * half] = 1
    shown = []
    for i, caption in enumerate(captions):
        request = Edit(images=given[i : i + 1], mask=mask[i : i + 1], prompt=caption, count=1, seed=SEED + i)
        shown.append(pixels(system, request))
    made = torch.cat(shown)
    found = seen(made)
    outside = float(((made - given) * (1 - mask)).abs().max())
    return Share.of(met(found, captions)), Share.of(met(found, captions[1:] + captions[:1])), outside


def main() -> None:
    """Print a line a question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--count", type=int, default=192)
    parser.add_argument("--theta", type=float, default=0.5)
    given = parser.parse_args()
    setup()
    system = load(given.run, precision="fp32", device="cpu")
    assert isinstance(system, Unclip)
    for split in ("test", "held"):
        for way in system.prior.ways:
            data = CornerShape(split, system.config.height, levels={"full": 1.0})
            for name, near in compare(system.prior, data, 512, way).items():
                print(f"{split}, {way}: {name:<22} {near}", flush=True)
    for prior in PRIORS:
        joint, control, _ = drawn(system, "test", given.count, prior)
        print(f"pictures from captions by the prior '{prior}': {joint}; of others {control}", flush=True)
    joint, control, found = drawn(system, "held", given.count, "diffusion")
    print(f"pairs of colour and shape never seen: {joint}; of others {control}")
    place = entropy(found.place[:, 0], torch.full((len(found),), CORNERS[0]))
    print(f"place in pictures from captions: {place:.2f} bits of {math.log2(len(CORNERS)):g}", flush=True)
    for strength in (1.0, 0.7, 0.01):
        told = varied(system, strength, given.count * (2 if strength == 1 else 1))
        print(
            f"variations of strength {strength}: kept {told.kept}; of others {told.of_another}; "
            f"place {told.place:.2f} bits of 2",
            flush=True,
        )
    for theta in (given.theta, 0.35, 0.0):
        diff = changed(system, "red", "blue", theta, 24)
        print(f"red to blue, theta {theta}: colour {diff.colour}; shape kept {diff.shape}", flush=True)
    print(interpolated(system, given.count // 4), flush=True)
    words, control, outside = painted(system, given.count // 2)
    print(f"painted inside masks: {words}; of others {control}; outside {outside:g} of change", flush=True)


if __name__ == "__main__":
    main()
