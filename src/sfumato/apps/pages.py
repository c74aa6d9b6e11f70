"""Pages of writing read word by word: cut up where white parts words, and turned upright."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sfumato import images
from sfumato.core.request import Text
from sfumato.data import layout
from sfumato.data.frame import dark_on_light, paper
from sfumato.data.layout import Box

ASKED = 6
"""Words, the widest of a page, that decide which way up it is."""
LIKELIER = 1.2
"""How many times more confident the words must be on average, turned by 180 degrees, for a page to be turned:
with the shipped reader no page of six words is then taken wrongly, but 1 of 50 single words is (n = 400)."""
FAINTEST = 1e-12
"""Least confidence, so that its logarithm is finite."""
RED, BLUE = (190, 50, 40), (30, 70, 160)

Ask = Callable[[Float[Tensor, "n 1 h w"]], Text]
"""Reads pictures of words."""


@dataclass(frozen=True)
class Word:
    """One word of a page."""

    text: str
    confidence: float
    box: Box


@dataclass(frozen=True)
class Page:
    """What was read."""

    words: tuple[Word, ...]
    pixels: Float[Tensor, "1 h w"]
    """The page as it was read: upright, dark on light; boxes are places in it."""
    upside_down: bool
    """Whether it was turned by 180 degrees."""
    risen: float
    """Degrees by which its lines rose to the right before it was turned."""

    @property
    def lines(self) -> tuple[tuple[Word, ...], ...]:
        """The words of each line."""
        return tuple(tuple(line) for _, line in groupby(self.words, lambda word: word.box.line))

    @property
    def text(self) -> str:
        """All of it, a line each."""
        return "\n".join(said(line) for line in self.lines)

    @property
    def confidence(self) -> float:
        """The mean over the words; 0 where there are none."""
        return mean(self.words)


def said(line: tuple[Word, ...]) -> str:
    """The words of a line with a space between them."""
    return " ".join(word.text for word in line)


def mean(words: tuple[Word, ...]) -> float:
    """Mean confidence of words; 0 for none."""
    return sum(word.confidence for word in words) / len(words) if words else 0.0


def read_page(
    ask: Ask, pixels: Float[Tensor, "1 h w"], *, one_word: bool = False, told: Callable[[float], None]
) -> Page:
    """Read a grey page, or with ``one_word`` a picture that is a single word; ``told`` hears how far it is.

    Pages that lie askew or upside down are turned; upside down are those whose words are read with more
    confidence when they are turned. A page without ink has no words.
    """
    pixels = dark_on_light(pixels[None])[0]
    risen = 0.0 if one_word else layout.skew(pixels)
    if risen:
        pixels = _turned(pixels, -risen)
    find = _whole if one_word else layout.words
    boxes = find(pixels)
    upside_down = bool(boxes) and _upside_down(ask, pixels, boxes)
    if upside_down:
        pixels = pixels.flip(1, 2)
        boxes = find(pixels)
    words = tuple(_read(ask, pixels, boxes, told))
    return Page(words, pixels, upside_down, risen)


def _whole(pixels: Tensor) -> list[Box]:
    """The whole picture as one word, if there is any ink in it."""
    height, width = pixels.shape[1:]
    return [Box(0, 0, 0, width, height)] if bool(layout.inked(pixels).any()) else []


def _crop(pixels: Tensor, box: Box) -> Tensor:
    return pixels[None, :, box.top : box.bottom, box.left : box.right]


def _read(ask: Ask, pixels: Tensor, boxes: list[Box], told: Callable[[float], None]) -> Iterator[Word]:
    for done, box in enumerate(boxes, start=1):
        found = ask(_crop(pixels, box))
        told(done / len(boxes))
        yield Word(found.texts[0], found.confidence[0], box)


def _upside_down(ask: Ask, pixels: Tensor, boxes: list[Box]) -> bool:
    widest = sorted(boxes, key=lambda box: box.left - box.right)[:ASKED]
    gain = 0.0
    for box in widest:
        crop = _crop(pixels, box)
        up, down = ask(torch.cat([crop, crop.flip(2, 3)])).confidence
        gain += math.log(max(down, FAINTEST)) - math.log(max(up, FAINTEST))
    return gain > math.log(LIKELIER) * len(widest)


def _turned(pixels: Tensor, degrees: float) -> Tensor:
    """A page turned counter-clockwise, with paper where it did not reach."""
    tone = round((float(paper(pixels[None])) + 1) * 127.5)
    turned = images.to_pil(pixels).rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=tone)
    return images.to_tensor(turned, 1)


def drawn(page: Page) -> Image.Image:
    """The page with a box around each word and what was read above it."""
    picture = images.to_pil(page.pixels).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for word in page.words:
        box = word.box
        size = max(10, (box.bottom - box.top) // 3)
        draw.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), outline=RED)
        draw.text((box.left + 2, max(0, box.top - size)), word.text, BLUE, ImageFont.load_default(size))
    return picture
