"""Handwritten words without end: pseudo-words, common words and numbers, by writers of a stroke font."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.glyphs.lexicon import draw_texts
from sfumato.data.glyphs.pen import Strokes, Style, write
from sfumato.data.glyphs.render import ink
from sfumato.data.glyphs.skeletons import DIGITS, LOWER, UPPER, numbers_of
from sfumato.data.labelled import check_split
from sfumato.data.shapes.scene import scene_keys, unit
from sfumato.errors import UsageError

HEIGHT, ASPECT = 32, 3.125
"""32 x 100 pixels, as AttentionHTR reads."""
LENGTHS = {"train": 50_000, "test": 2_000}
WRITERS = {"train": 500, "test": 100}
"""Those of testing write nothing in training."""
SHORTEST, LONGEST = 1, 20
_SEEDS = {"train": 31, "test": 32}
_VERSION = 1
"""To be raised whenever the same number no longer gives the same word."""

LOWEST = (0.025, -0.1, 0.0, 0.0, 0.35, 0.75, 0.008)
HIGHEST = (0.08, 0.35, 0.6, 0.09, 1.0, 1.15, 0.075)
"""Of the fields of a writer's ``Style``."""
PRINT = 0.4
"""Share of the writers whose letters have serifs."""
GAPS = (0.02, 0.24)
"""Between letters, in heights of a capital."""
HABIT = 0.12
"""How much of a letter's shape is the moment's, and not the writer's."""
UNEVEN = (0.1, 0.05)
"""How letters of a word differ in size, and in height above the line."""
STRETCH = (0.55, 1.7)
"""How wide letters may become for the word to fill the picture, of their height."""
FILL = (0.8, 0.97)
"""Share of the picture that a word wants to fill."""
LEANING, RISING = 0.25, 0.15
"""How far words on pages lean and bow at most, in heights of a capital."""
SLANTED, BOWED = 0.8, 0.4
"""The same of curved words."""
PAPER, INK = (0.72, 1.0), (0.0, 0.35)
"""Lightness, from 0 to 1."""
NOISE = 0.03
_EDGE = 2
_BUCKETS = (8, 12, 16, 20, 26, 34, 48, 72, 104)
_GRAIN = 2**16


class Words:
    """Pictures of single words, dark on light, with what they say: fields ``image`` and ``text``.

    Words of 3 to 12 lower-case letters (of ``letters``), one in ten a number. "test" holds other words by
    other writers; ``writers`` takes the writers of another split. ``slant`` and ``bend`` are the most that
    whole words lean and bow besides, in heights of a capital; numbers and capitals are shares.
    Raises ``UsageError`` for settings beyond what can be written.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = HEIGHT,
        *,
        width: int | None = None,
        length: int | None = None,
        letters: tuple[int, int] = (3, 12),
        writers: str | None = None,
        numbers: float = 0.1,
        capitals: float = 0.0,
        slant: float = 0.15,
        bend: float = 0.1,
        noise: float = NOISE,
        name: str = "words",
    ):
        check_split("words", split)
        check_split("words", writers or split)
        if size < 12:
            raise UsageError(f"Words need 12 pixels of height, got {size}; choose 24 or 32.")
        if not SHORTEST <= letters[0] <= letters[1] <= LONGEST:
            raise UsageError(
                f"Words have {SHORTEST} to {LONGEST} letters, got {letters}; give such as 3, 12."
            )
        self.split, self.height, self.width = split, size, width or round(size * ASPECT)
        self.writers = writers or split
        self.length = LENGTHS[split] if length is None else length
        self.letters, self.numbers, self.capitals = letters, numbers, capitals
        self.slant, self.bend, self.noise = slant, bend, noise
        settings = (_VERSION, split, self.writers, size, self.width, self.length, letters, numbers, capitals)
        fingerprint = hashlib.sha256(repr((*settings, slant, bend, noise)).encode()).hexdigest()[:16]
        alphabet = LOWER + (DIGITS if numbers else "") + (UPPER if capitals else "")
        self.facts = Facts(
            name,
            channels=1,
            height=size,
            width=self.width,
            fields=frozenset({"image", "text"}),
            characters=alphabet,
            fingerprint=fingerprint,
        )
        self._grain = torch.randn(_GRAIN + size * self.width, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return self.length

    def texts(self, indices: Int[Tensor, " b"]) -> list[str]:
        """What is written in the pictures with these numbers."""
        return draw_texts(
            self.split, indices.tolist(), self.letters, numbers=self.numbers, capitals=self.capitals
        )

    def writer(self, indices: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """Who wrote them: 0 to 499 are the writers of training, the next hundred those of testing."""
        share = unit(self._keys(indices), range(1))[:, 0]
        first = 0 if self.writers == "train" else WRITERS["train"]
        return first + (share * WRITERS[self.writers]).long()

    def _keys(self, indices: Tensor) -> Tensor:
        return scene_keys(_SEEDS[self.split], indices)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < self.length:
            raise IndexError(f"Words hold examples 0 to {self.length - 1}, got {indices.tolist()}.")
        texts, keys = self.texts(indices), self._keys(indices)
        covered = self.written(texts, self.writer(indices), keys)
        chance = unit(keys, range(40, 44))
        paper = _between(chance[:, 0], PAPER)[:, None, None]
        dark = _between(chance[:, 1], INK)[:, None, None]
        image = (torch.lerp(paper, dark, covered) * 2 - 1)[:, None]
        if self.noise:
            start = (chance[:, 2] * _GRAIN).long()
            grain = self._grain[start[:, None] + torch.arange(self.height * self.width)]
            image = image.add_(grain.view_as(image), alpha=2 * self.noise).clamp_(-1, 1)
        return {"image": image, "text": texts}

    def written(
        self, texts: list[str], writers: Int[Tensor, " b"], keys: Int[Tensor, " b"]
    ) -> Float[Tensor, "b h w"]:
        """Ink, from 0 to 1, of texts by writers; ``keys`` are random 64-bit numbers that settle all else."""
        lengths = torch.tensor([len(text) for text in texts], dtype=torch.long)
        word = torch.repeat_interleave(torch.arange(len(texts)), lengths)
        glyphs, place = numbers_of("".join(texts)), _places(texts)
        hand, moment = letter_keys(writers[word], glyphs), letter_keys(keys[word], place)
        by_writer, by_moment = unit(hand, range(15)), unit(moment, range(18))
        chance = (by_writer + HABIT * (by_moment[:, :15] - 0.5)) % 1
        styles, gaps = writers_style(writers)
        strokes = write(glyphs, styles[word], chance)
        strokes = self._composed(strokes, word, place, gaps, by_moment[:, 15:])
        return self._painted(self._fitted(strokes, word, unit(keys, range(20, 30))), word, len(texts))

    def _composed(
        self, strokes: Strokes, word: Tensor, place: Tensor, gap: Tensor, chance: Tensor
    ) -> Strokes:
        """Letters of slightly different size, one after the other."""
        size = 1 + UNEVEN[0] * (chance[:, :1, None] - 0.5) * 2
        lift = UNEVEN[1] * (chance[:, 1] - 0.5) * 2
        strokes = strokes.moved(lambda points: points * size)
        left, right = strokes.extent
        advance = right - left + gap[word] * (0.7 + 0.6 * chance[:, 2])
        reach = torch.zeros(len(gap), LONGEST)
        reach[word, place] = advance
        shift = torch.stack([reach.cumsum(1)[word, place] - advance - left, lift], -1)[:, None]
        return _shifted(strokes, shift)

    def _fitted(self, strokes: Strokes, word: Tensor, chance: Tensor) -> Strokes:
        """Words lean, bow, and are scaled and set into the picture, in pixels."""
        low, high = _bounds(strokes, word, len(chance))
        middle, half = (low + high)[:, 0] / 2, (high - low)[:, 0].clamp(min=0.5) / 2
        lean = self.slant * (2 * chance[:, 0] - 1)
        bow = self.bend * (2 * chance[:, 1] - 1)
        tilt = self.bend * (2 * chance[:, 2] - 1) / 2
        per_word = torch.stack([middle, half, lean, bow, tilt], -1)[word][:, None]

        def bent(points: Tensor) -> Tensor:
            x, y = points.unbind(-1)
            m, h, shear, bowed, tilted = per_word.unbind(-1)
            along = (x - m) / h
            return torch.stack([x + shear * y, y + bowed * (along.square() - 0.5) + tilted * along], -1)

        strokes = strokes.moved(bent)
        low, high = _bounds(strokes, word, len(chance))
        wide, tall = (high - low).clamp(min=0.1).unbind(-1)
        room = torch.tensor([self.width, self.height]) - 2 * _EDGE
        up = torch.minimum(self.height * _between(chance[:, 3], (0.55, 0.78)), room[1] / tall)
        want = _between(chance[:, 4], FILL) * self.width / wide
        across = want.clamp(STRETCH[0] * up, STRETCH[1] * up).minimum(room[0] / wide)
        scale = torch.stack([across, up], -1)
        slack = room - scale * (high - low)
        corner = _EDGE + slack * chance[:, 5:7] - scale * low
        scale_at, corner_at = scale[word][:, None], corner[word][:, None]
        thick = (across * up).sqrt()[word][:, None]
        strokes = strokes.moved(lambda points: points * scale_at + corner_at)
        there = strokes.there
        return replace(
            strokes,
            start=torch.where(there, (strokes.start * thick).clamp(min=0.35), strokes.start),
            stop=torch.where(there, (strokes.stop * thick).clamp(min=0.35), strokes.stop),
        )

    def _painted(self, strokes: Strokes, word: Tensor, count: int) -> Float[Tensor, "b h w"]:
        """Every letter into the columns it needs; where letters meet, the darker counts."""
        left, right = strokes.extent
        start = (left - 1).floor().clamp(min=0, max=self.width - 1)
        need = (right + 1).ceil() - start
        padded = self.width + _BUCKETS[-1] + self.width
        paper = torch.zeros(count, self.height, padded)
        rows = torch.arange(self.height)[:, None] * padded
        before = 0
        for columns in (*_BUCKETS, self.width):
            mine = ((need > before) & (need <= columns)).nonzero()[:, 0]
            before = max(before, columns)
            if len(mine):
                shift = torch.stack([-start[mine], torch.zeros(len(mine))], -1)[:, None]
                inked = ink(_shifted(strokes[mine], shift), self.height, columns)
                corner = word[mine] * (self.height * padded) + start[mine].long()
                where = corner[:, None, None] + (rows + torch.arange(columns))
                paper.view(-1).scatter_reduce_(0, where.view(-1), inked.view(-1), "amax")
        return paper[:, :, : self.width]


def handwriting(split: str = "train", size: int = HEIGHT, *, length: int | None = None) -> Words:
    """Handwritten words of every length from a single letter on, that lean and bow: as pages hold them."""
    return Words(split, size, length=length, letters=(1, 12), slant=LEANING, bend=RISING, name="handwriting")


def curved_words(split: str = "train", size: int = HEIGHT, *, length: int | None = None) -> Words:
    """Handwritten words that lean far to either side, bow and rise, as on signs and in haste."""
    return Words(split, size, length=length, slant=SLANTED, bend=BOWED, name="curved-words")


def writers_style(writers: Int[Tensor, " n"]) -> tuple[Style, Float[Tensor, " n"]]:
    """How writers write, and the gaps they leave between letters."""
    chance = unit(scene_keys(77, writers), range(9))
    low, high = torch.tensor(LOWEST), torch.tensor(HIGHEST)
    values = low + (high - low) * chance[:, :7]
    values[:, 3] *= chance[:, 7] < PRINT
    return Style.stack(values), _between(chance[:, 8], GAPS)


def letter_keys(of: Int[Tensor, " n"], number: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """A random 64-bit number for each pair of a writer (or a word) and a letter."""
    return scene_keys(5, scene_keys(6, of) + number)


def _places(texts: list[str]) -> Tensor:
    return torch.cat([torch.arange(len(text)) for text in texts]) if texts else torch.zeros(0).long()


def _shifted(strokes: Strokes, shift: Tensor) -> Strokes:
    return strokes.moved(lambda points: points + shift)


def _between(chance: Tensor, ends: tuple[float, float]) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * chance


def _bounds(strokes: Strokes, word: Tensor, count: int) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b 2"]]:
    """Left and bottom, right and top of the ink of every word."""
    there = strokes.there[..., None]
    thick = torch.maximum(strokes.start, strokes.stop)[..., None]
    low = torch.where(there, torch.minimum(strokes.a, strokes.b) - thick, 99.0).amin(1)
    high = torch.where(there, torch.maximum(strokes.a, strokes.b) + thick, -99.0).amax(1)
    at = word[:, None].expand(-1, 2)
    return (
        torch.full((count, 2), 99.0).scatter_reduce(0, at, low, "amin"),
        torch.full((count, 2), -99.0).scatter_reduce(0, at, high, "amax"),
    )
