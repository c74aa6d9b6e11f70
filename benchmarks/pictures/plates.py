"""Draws plates for the systems' pages: labelled rows of pictures, matrices of numbers, clouds of points."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sfumato.apps.sheet import FRAME, INK, PALE, PAPER, Cell, enlarged
from sfumato.images import save_bytes, to_pil

WIDEST = 900
"""Pixels of a plate from left to right, as a page shows them."""
HEAVIEST = 250_000
"""Bytes of a plate; one that has more is drawn with 256 colours."""
MARGIN, GAP, BETWEEN = 20, 8, 14
TITLE, TEXT, LINE = 19, 13, 17
Colour = tuple[int, int, int]
Words = Sequence[tuple[str, Colour]]


@dataclass(frozen=True)
class Row:
    """Pictures side by side, and what they are, to their left."""

    cells: Sequence[Cell | None]
    label: str = ""
    heads: Sequence[str] = ()
    """Above the cells."""


def row(
    pixels: Float[Tensor, "n c h w"], label: str = "", captions: Sequence[str] = (), heads: Sequence[str] = ()
) -> Row:
    """Pictures in [-1, 1] as a row."""
    said = captions or [""] * len(pixels)
    return Row([Cell(to_pil(x), text) for x, text in zip(pixels, said, strict=True)], label, heads)


@cache
def font(size: int = TEXT) -> ImageFont.FreeTypeFont:
    """The one font of all plates; it comes with Pillow."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found


def wrapped(text: str, width: float, size: int = TEXT) -> list[str]:
    """Lines of at most so many pixels; a longer word has one of its own."""
    lines: list[str] = []
    for paragraph in text.split("\n") if text else ():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font(size).getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


class Sheet:
    """Paper that grows downwards, with a title at its top."""

    def __init__(self, title: str, note: str = "", width: int = WIDEST):
        self.image = Image.new("RGB", (width, 4000), PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.width, self.right, self.y = width, 0, MARGIN - 4
        self.text(title, size=TITLE)
        if note:
            self.y += 2
            self.text(note, ink=PALE)
        self.y += BETWEEN

    def text(self, text: str, *, size: int = TEXT, ink: Colour = INK) -> None:
        """Write downwards from here."""
        for line in wrapped(text, self.width - 2 * MARGIN, size):
            self.write(line, MARGIN, self.y, ink, size)
            self.y += round(size * LINE / TEXT)

    def table(self, rows: Sequence[Row], *, label: int = 0, side: int = 0, gap: int = GAP) -> None:
        """Draw rows, their labels in a column of ``label`` pixels; cells are ``side`` wide or fill the room,
        but small pictures are enlarged by whole pixels."""
        columns = max(len(r.cells) for r in rows)
        left = MARGIN + (label + gap if label else 0)
        side = side or (self.width - MARGIN - left - (columns - 1) * gap) // columns
        sizes = {max(cell.image.size) for r in rows for cell in r.cells if cell}
        side -= side % max((size for size in sizes if size <= side), default=1)
        for r in rows:
            if r.heads:
                heads = [wrapped(head, side) for head in r.heads]
                deepest = max(map(len, heads))
                for i, lines in enumerate(heads):
                    at = self.y + LINE * (deepest - len(lines))
                    self.lines([(line, PALE) for line in lines], left + i * (side + gap), at)
                self.y += LINE * deepest + 2
            self._row(r, left, side, gap, label)
            self.y += gap if not any(c and (c.caption or c.small) for c in r.cells) else BETWEEN
        self.y += BETWEEN - gap

    def _row(self, r: Row, left: int, side: int, gap: int, label: int) -> None:
        pictures = [cell and enlarged(cell.image, side) for cell in r.cells]
        height = max(picture.height for picture in pictures if picture)
        told = wrapped(r.label, label)
        start = self.y + (height - LINE * len(told)) // 2
        self.lines([(line, INK) for line in told], MARGIN, start)
        deepest = 0
        for i, (cell, picture) in enumerate(zip(r.cells, pictures, strict=True)):
            if cell is None or picture is None:
                continue
            x, y = left + i * (side + gap), self.y + (height - picture.height) // 2
            self.picture(picture, x + (side - picture.width) // 2, y)
            said = [(line, INK) for line in wrapped(cell.caption, side)]
            said += [(line, PALE) for line in wrapped(cell.small, side)]
            self.lines(said, x, self.y + height + 4)
            deepest = max(deepest, len(said))
        self.y += height + (4 + LINE * deepest if deepest else 0)

    def lines(self, told: Words, x: float, y: float) -> None:
        """Lines of text at a place, one below the other."""
        for k, (line, ink) in enumerate(told):
            self.write(line, x, y + k * LINE, ink)

    def write(self, line: str, x: float, y: float, ink: Colour, size: int = TEXT) -> None:
        """One line at a place."""
        self.draw.text((x, y), line, ink, font(size))
        self.right = max(self.right, math.ceil(x + font(size).getlength(line)))

    def picture(self, picture: Image.Image, x: int, y: int) -> None:
        """A picture at a place, with a thin frame."""
        self.image.paste(picture, (x, y))
        self.draw.rectangle((x - 1, y - 1, x + picture.width, y + picture.height), outline=FRAME)
        self.right = max(self.right, x + picture.width)

    def matrix(
        self,
        values: Float[Tensor, "r c"],
        *,
        left: int,
        side: tuple[int, int],
        labels: Sequence[str] = (),
        span: tuple[float, float] = (0.0, 1.0),
        form: str = "{:.2f}",
    ) -> None:
        """Numbers on shades of blue, the darker the larger, between the ends of ``span``; labels stand right
        before them."""
        wide, least = side
        told = [wrapped(label, left - MARGIN - GAP) for label in labels or [""] * len(values)]
        for lines, line in zip(told, values.tolist(), strict=True):
            high = max(least, LINE * len(lines) + 6)
            for k, words in enumerate(lines):
                x = left - GAP - font().getlength(words)
                self.write(words, x, self.y + (high - 2 - LINE * len(lines)) / 2 + k * LINE, INK)
            for j, value in enumerate(line):
                self._number(value, form, (left + j * wide, self.y), (wide - 2, high - 2), span)
            self.y += high
        self.y += BETWEEN

    def _number(
        self,
        value: float,
        form: str,
        place: tuple[int, int],
        size: tuple[int, int],
        span: tuple[float, float],
    ) -> None:
        share = min(1.0, max(0.0, (value - span[0]) / (span[1] - span[0])))
        (x, y), (wide, high), shade = place, size, [round(255 + share * (c - 255)) for c in DEEP]
        self.draw.rectangle((x, y, x + wide - 1, y + high - 1), fill=tuple(shade))
        words = form.format(value)
        at = x + (wide - font(12).getlength(words)) / 2, y + (high - 15) / 2
        self.write(words, *at, PAPER if share > 0.55 else INK, 12)

    def save(self, path: Path) -> Path:
        """Cut off what is not written on, and write as small a PNG as may be."""
        sheet = self.image.crop((0, 0, self.right + MARGIN, self.y + MARGIN - BETWEEN))
        data = _png(sheet)
        if len(data) > HEAVIEST:
            data = _png(sheet.quantize(256, dither=Image.Dither.FLOYDSTEINBERG))
        save_bytes(data, path)
        return path


DEEP: Colour = (24, 62, 120)
"""The darkest shade of a matrix."""


def cloud(
    parts: Sequence[tuple[Float[Tensor, "n 2"], Colour]],
    side: int,
    low: Float[Tensor, " 2"],
    high: Float[Tensor, " 2"],
    dot: float = 1.5,
) -> Image.Image:
    """Points in the plane between two corners, those of the last part on top; twice as fine, then halved."""
    picture = Image.new("RGB", (2 * side, 2 * side), PAPER)
    draw = ImageDraw.Draw(picture, "RGBA")
    for points, colour in parts:
        places, half = (points - low) / (high - low) * 2 * side, 2 * dot
        for x, up in places.tolist():
            y = 2 * side - up
            draw.ellipse((x - half, y - half, x + half, y + half), fill=(*colour, 150))
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def numbered(tokens: Tensor, codes: int) -> Float[Tensor, "n 3 i j"]:
    """A colour for every number, far from those of its neighbours."""
    angle = tokens.double() * math.pi * (3 - math.sqrt(5))
    light = 0.25 * torch.cos(tokens.double() / codes * 7 * math.pi)
    hue = torch.stack([torch.cos(angle + k * 2 * math.pi / 3) for k in range(3)], 1)
    return (0.55 * hue + light[:, None]).float().clamp(-1, 1)


def stretched(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Maps between their own extremes, each picture and channel alone."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return 2 * (x - low) / (high - low).clamp(min=1e-6) - 1


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
