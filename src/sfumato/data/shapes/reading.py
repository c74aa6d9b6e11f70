"""Captions and prompts read back: what they say of every object, and whether a scene satisfies it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import NoReturn

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sfumato.data.shapes.captions import GRAMMAR, NOISE, NUMBERS, PLACE_WORDS, VOCABULARY
from sfumato.data.shapes.scene import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    SLOTS,
    TEXTURES,
    Scenes,
)
from sfumato.data.text import words
from sfumato.errors import DataError, nearest

TOLERATED = ("to", "in", "with", "there", "are", "it", "its", "this", "solid")
"""Words that captions never have but that a prompt may have without harm."""
RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class WantedObject:
    """What a text says of one object, as indices into the scene's tuples; ``None`` is left open.

    The texture of an object that is described at all is never open: unsaid, it is solid.
    """

    shape: int | None = None
    colour: int | None = None
    size: int | None = None
    texture: int | None = None
    place: int | None = None


@dataclass(frozen=True)
class Relation:
    """Object ``first`` stands in the relation with this index in ``RELATIONS`` to object ``second``."""

    kind: int
    first: int
    second: int


@dataclass(frozen=True)
class Wanted:
    """What a text says of a picture."""

    objects: tuple[WantedObject, ...] = ()
    number: int | None = None
    """How many objects there are, exactly; ``None`` if the text speaks of none."""
    background: int | None = None
    relations: tuple[Relation, ...] = ()


def read(text: str) -> Wanted:
    """Read a caption or prompt; ``DataError`` if it has unknown words, contradicts itself or breaks off.

    >>> read("a red circle above a blue square").relations
    (Relation(kind=2, first=0, second=1),)
    """
    return _Reader(text).wanted()


class _Reader:
    """Reads word by word: adjectives wait for their noun, relations for the object that follows."""

    def __init__(self, text: str):
        self.text = text
        self.words = [*words(text), "."]
        self.at = 0
        self.objects: list[WantedObject] = []
        self.relations: list[Relation] = []
        self.background: int | None = None
        self.count: int | None = None
        self.next = WantedObject()
        self.relation: int | None = None

    def wanted(self) -> Wanted:
        while self.at < len(self.words):
            word = self.words[self.at]
            if word not in _HANDLERS:
                self.fail(f"has the unknown word '{word}'{nearest(word, VOCABULARY)}")
            self.at += 1
            _HANDLERS[word](self, word)
        if self.relation is not None:
            self.fail(f"breaks off after '{RELATIONS[self.relation]}'; say of which object")
        return self.result()

    def result(self) -> Wanted:
        named = len(self.objects)
        if named > SLOTS:
            self.fail(f"names {named} objects; a picture holds at most {SLOTS}")
        if self.count is not None and self.count < named:
            self.fail(f"counts {self.count} but names {named} objects; make them agree")
        number = self.count or named or None
        objects = tuple(self.objects) + (WantedObject(),) * ((number or 0) - named)
        return Wanted(objects, number, self.background, tuple(self.relations))

    def fail(self, why: str) -> NoReturn:
        raise DataError(f"The text '{self.text}' {why}.")

    def skip(self, word: str) -> None:
        pass

    def full_stop(self, word: str) -> None:
        if self.next != WantedObject():
            self.noun()

    def adjective(self, attribute: str, value: int) -> None:
        if getattr(self.next, attribute) is not None:
            self.fail(f"gives one object two kinds of {attribute}; give one")
        self.next = replace(self.next, **{attribute: value})

    def shape(self, word: str) -> None:
        self.adjective("shape", SHAPES.index(word))
        self.noun()

    def noun(self) -> None:
        texture = 0 if self.next.texture is None else self.next.texture
        self.objects.append(replace(self.next, texture=texture))
        self.next = WantedObject()
        if self.relation is not None:
            here = len(self.objects) - 1
            self.relations.append(Relation(self.relation, here - 1, here))
            self.relation = None

    def ground(self, word: str) -> None:
        if self.background is not None:
            self.fail("gives two backgrounds; give one")
        self.background = BACKGROUNDS.index(word)

    def ground_noun(self, word: str) -> None:
        if self.next.colour is not None:
            self.fail(
                f"wants a background of '{COLOURS[self.next.colour]}'; choose from {', '.join(BACKGROUNDS)}"
            )

    def counted(self, word: str) -> None:
        if self.words[self.at] in ("object", "objects"):
            self.count = NUMBERS.index(word) + 1
            self.at += 1
        elif word != "one":
            self.fail(f"counts '{word}' of one kind; name every object by itself")

    def object(self, word: str) -> None:
        self.noun()

    def place(self, word: str) -> None:
        if word in ("left", "right") and self.words[self.at] == "of":
            return self.relate(f"{word} of")
        said = {word}
        while self.words[self.at] in PLACE_WORDS:
            said.add(self.words[self.at])
            self.at += 1
        names = [name for name in PLACES if set(name.split()) == (said - {"centre"} or said)]
        if not names:
            self.fail(f"has the unknown place '{' '.join(sorted(said))}'; choose from {', '.join(PLACES)}")
        place, before = PLACES.index(names[0]), self.objects[-1] if self.objects else None
        if before is None or before.place is not None or self.words[self.at] == "is":
            return self.adjective("place", place)
        self.objects[-1] = replace(before, place=place)
        return None

    def relate(self, word: str) -> None:
        if not self.objects:
            self.fail(f"says '{word}' before any object; begin with the object")
        self.relation = RELATIONS.index(word)


def _adjectives(attribute: str, names: Sequence[str]) -> dict[str, Callable[[_Reader, str], None]]:
    return {name: lambda r, word: r.adjective(attribute, names.index(word)) for name in names}


_HANDLERS: dict[str, Callable[[_Reader, str], None]] = {
    **dict.fromkeys(GRAMMAR + NOISE + TOLERATED, _Reader.skip),
    **_adjectives("colour", COLOURS),
    **_adjectives("size", SIZES),
    **_adjectives("texture", TEXTURES),
    **dict.fromkeys(SHAPES, _Reader.shape),
    **dict.fromkeys(BACKGROUNDS, _Reader.ground),
    **dict.fromkeys(NUMBERS, _Reader.counted),
    **dict.fromkeys(PLACE_WORDS, _Reader.place),
    **dict.fromkeys(("above", "below"), _Reader.relate),
    **dict.fromkeys(("object", "objects"), _Reader.object),
    "background": _Reader.ground_noun,
    ".": _Reader.full_stop,
}


def satisfies(found: Scenes, wanted: Sequence[Wanted]) -> dict[str, Tensor]:
    """Whether every scene shows what its text wants, under the assignment of objects that suits it best.

    ``number``, ``background``, ``relations`` and ``all`` are (n,) booleans; ``shape``, ``colour``, ``size``,
    ``texture``, ``place`` and ``objects`` (all of an object at once) are (n, 3), by the objects of the text
    in its order. What a text leaves open is true; ``said`` (n, 3, 5) tells which attributes it does not.
    """
    if len(found) != len(wanted):
        raise DataError(f"{len(found)} scenes do not pair with {len(wanted)} texts; give one text a scene.")
    asked, named, grounds, numbers = _tensors(wanted)
    shown = torch.stack([getattr(found, name) for name in ATTRIBUTES], 2)
    options = torch.stack([shown[:, list(order)] for order in permutations(range(SLOTS))], 1)
    right = (options == asked[:, None]) | (asked[:, None] < 0)
    right &= (options[..., :1] >= 0) | ~named[:, None, :, None]
    related = _related(options[..., ATTRIBUTES.index("place")], wanted)
    whole = right.all(3)
    score = 100 * whole.sum(2) + 10 * related + right.float().sum((2, 3))
    best = score.argmax(1)
    rows = torch.arange(len(found))
    right, whole, related = right[rows, best], whole[rows, best], related[rows, best]
    number = (numbers < 0) | (found.number == numbers)
    ground = (grounds < 0) | (found.background == grounds)
    out = {name: right[:, :, k] for k, name in enumerate(ATTRIBUTES)}
    every = number & ground & related & whole.all(1)
    return out | {
        "objects": whole, "number": number, "background": ground, "relations": related, "all": every,
        "said": asked >= 0,
    }  # fmt: skip


def _tensors(wanted: Sequence[Wanted]) -> tuple[Int[Tensor, "n s a"], Bool[Tensor, "n s"], Tensor, Tensor]:
    """Attributes wanted (-1: open), which slots are wanted, backgrounds and numbers (-1: open)."""
    asked = torch.full((len(wanted), SLOTS, len(ATTRIBUTES)), -1)
    named = torch.zeros(len(wanted), SLOTS, dtype=torch.bool)
    for row, one in enumerate(wanted):
        for slot, thing in enumerate(one.objects):
            values = [getattr(thing, name) for name in ATTRIBUTES]
            asked[row, slot] = torch.tensor([-1 if value is None else value for value in values])
            named[row, slot] = True
    grounds = torch.tensor([-1 if w.background is None else w.background for w in wanted], dtype=torch.long)
    numbers = torch.tensor([-1 if w.number is None else w.number for w in wanted], dtype=torch.long)
    return asked, named, grounds, numbers


def _related(place: Int[Tensor, "n p s"], wanted: Sequence[Wanted]) -> Bool[Tensor, "n p"]:
    """Whether all relations hold under every assignment."""
    row, column = place // 3, place % 3
    right = torch.ones(place.shape[:2], dtype=torch.bool)
    for n, one in enumerate(wanted):
        for relation in one.relations:
            axis = (column if relation.kind < 2 else row)[n]
            first, second = axis[:, relation.first], axis[:, relation.second]
            there = (place[n, :, relation.first] >= 0) & (place[n, :, relation.second] >= 0)
            right[n] &= there & ((first < second) if relation.kind in (0, 2) else (first > second))
    return right
