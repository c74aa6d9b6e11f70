"""The world of shapes: scenes as integer tensors, drawn as a pure function of a seed and a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from sfumato.errors import UsageError, nearest

SHAPES = ("circle", "square", "triangle", "ring", "cross", "star")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SIZES = ("small", "large")
TEXTURES = ("solid", "striped", "dotted")
PLACES = (
    "top left", "top", "top right",
    "left", "centre", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
BACKGROUNDS = ("white", "grey", "black", "navy", "olive")
ATTRIBUTES = ("shape", "colour", "size", "texture", "place")
SLOTS = 3
"""The most objects a scene can hold."""

HELD_OUT = (
    ("red", "star"), ("orange", "ring"), ("yellow", "triangle"), ("green", "circle"),
    ("cyan", "cross"), ("blue", "square"), ("purple", "ring"), ("pink", "circle"),
)  # fmt: skip
"""(colour, shape) pairs that never appear in training: a sixth of all, of every colour and shape."""

PAIRS = ("train", "held", "any")


@dataclass(frozen=True)
class Scenes:
    """What stands where in n pictures, as indices into the tuples above; unused slots hold -1.

    Two objects never share a cell nor a (colour, shape) pair. A reader of pictures may report a ``number``
    above three; the slots then hold the three it is surest of.
    """

    number: Int[Tensor, " n"]
    background: Int[Tensor, " n"]
    shape: Int[Tensor, "n s"]
    colour: Int[Tensor, "n s"]
    size: Int[Tensor, "n s"]
    texture: Int[Tensor, "n s"]
    place: Int[Tensor, "n s"]
    jitter: Float[Tensor, "n s j"]
    """Three numbers in [-1, 1] an object: its shift to the right, its shift down, its growth."""
    key: Int[Tensor, " n"]
    """What the choice of words in captions derives from; different for every scene of a data set."""

    def __len__(self) -> int:
        return len(self.number)

    def __getitem__(self, rows: Tensor | slice) -> Scenes:
        return Scenes(*(getattr(self, f.name)[rows] for f in fields(self)))


def draw(
    seed: int, indices: Int[Tensor, " n"], *, pairs: str = "train", objects: Sequence[int] = (1, 2, 3)
) -> Scenes:
    """Draw the scenes with these numbers: scene i depends on ``seed`` and i alone.

    ``pairs`` says which (colour, shape) pairs occur: "train" leaves out ``HELD_OUT``, "held" has at least
    one of them in every scene, "any" knows no difference. ``objects`` are the numbers of objects allowed.
    """
    if pairs not in PAIRS:
        raise UsageError(f"Unknown choice of pairs '{pairs}'{nearest(pairs, PAIRS)}")
    if not objects or not set(objects) <= {1, 2, 3}:
        raise UsageError(
            f"A scene holds 1, 2 or 3 objects, got objects={tuple(objects)}; choose among these."
        )
    key = scene_keys(seed, indices)
    number = torch.tensor(tuple(objects))[below(key, 0, len(objects))]
    place = torch.argsort(bits(key, range(100, 109)), dim=1)[:, :SLOTS]
    pair = _pairs(key, number, pairs)
    size = torch.stack([below(key, 20 + k, len(SIZES)) for k in range(SLOTS)], 1)
    texture = torch.stack([below(key, 30 + k, len(TEXTURES)) for k in range(SLOTS)], 1)
    jitter = unit(key, range(40, 49)).mul(2).sub(1).view(-1, SLOTS, 3)
    used = torch.arange(SLOTS) < number[:, None]
    shape, colour = pair % len(SHAPES), pair // len(SHAPES)
    values = zip(ATTRIBUTES, (shape, colour, size, texture, place), strict=True)
    slots = {name: torch.where(used, value, -1) for name, value in values}
    background = below(key, 1, len(BACKGROUNDS))
    return Scenes(number=number, background=background, jitter=jitter, key=key, **slots)


def held_out() -> Int[Tensor, " p"]:
    """The held-out pairs as numbers ``colour * len(SHAPES) + shape``."""
    return torch.tensor([COLOURS.index(c) * len(SHAPES) + SHAPES.index(s) for c, s in HELD_OUT])


def _pairs(key: Tensor, number: Tensor, pairs: str) -> Int[Tensor, "n s"]:
    """Distinct pairs for the slots: the first few of a shuffle in which unwanted pairs come last."""
    total = len(COLOURS) * len(SHAPES)
    order = bits(key, range(200, 200 + total)).clone()
    if pairs == "train":
        order[:, held_out()] = torch.iinfo(torch.int64).max
    chosen = torch.argsort(order, dim=1)[:, :SLOTS]
    if pairs != "held":
        return chosen
    novel = held_out()[below(key, 2, len(HELD_OUT))]
    chosen = _without(torch.argsort(order, dim=1)[:, : SLOTS + 1], novel)
    slot = (unit(key, range(3, 4))[:, 0] * number).long().clamp(max=SLOTS - 1)
    return chosen.scatter(1, slot[:, None], novel[:, None])


def _without(pairs: Tensor, unwanted: Tensor) -> Int[Tensor, "n s"]:
    """The first pairs of every row that are not the unwanted one."""
    last = torch.argsort((pairs == unwanted[:, None]).long(), dim=1, stable=True)
    return pairs.gather(1, last)[:, :SLOTS]


# Randomness by counting: splitmix64 (Steele, Lea & Flood 2014) of (seed, number, purpose).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _splitmix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def scene_keys(seed: int, indices: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """One 64-bit number a scene, from which all that is random about it derives."""
    start = _splitmix(np.array([seed % 2**64], dtype=np.uint64) + _GOLDEN)
    keys = _splitmix(start ^ (indices.numpy().astype(np.uint64) * _GOLDEN))
    return torch.from_numpy(keys.view(np.int64))


def bits(key: Int[Tensor, " n"], purposes: range) -> Int[Tensor, "n p"]:
    """Random 63-bit integers, one for each key and purpose."""
    counters = np.arange(purposes.start, purposes.stop, dtype=np.uint64) + np.uint64(1)
    mixed = _splitmix(key.numpy().view(np.uint64)[:, None] + counters * _GOLDEN)
    return torch.from_numpy((mixed >> np.uint64(1)).view(np.int64))


def unit(key: Int[Tensor, " n"], purposes: range) -> Float[Tensor, "n p"]:
    """Random numbers in [0, 1), one for each key and purpose."""
    return (bits(key, purposes) >> 39).float() / 2**24


def below(key: Int[Tensor, " n"], purpose: int, limit: int) -> Int[Tensor, " n"]:
    """A random integer in [0, limit) for each key."""
    return bits(key, range(purpose, purpose + 1))[:, 0] % limit
