"""Font files as pictures of their characters: TrueType, OpenType and collections, drawn by Pillow."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sfumato.data.glyphs.fonts import NAMED, of_text
from sfumato.data.glyphs.sfnt import characters_of
from sfumato.data.glyphs.skeletons import ALPHABET, quoted
from sfumato.errors import DataError, UsageError, nearest

EM = 0.82
"""Of the picture's side that a font's square takes: what reaches beyond it is still inside."""
FINE = 160
"""Pixels a side from which glyphs are not drawn larger first: small ones would be bent to the pixels."""
NOWHERE = ("\U0010fffe", "\uffff", "\U000e0fff")
"""Characters that no font has, in whose place it draws its sign for what is missing."""
PROBE = 48
"""Pixels a side at which drawings are compared with that sign."""
INKED = 128
"""Below this level a pixel counts as ink."""
REGULAR = "regular"


@runtime_checkable
class Font(Protocol):
    """Something that can draw characters."""

    name: str

    @property
    def fingerprint(self) -> str:
        """Changes when its drawings change."""
        ...

    def lacking(self, text: str) -> str:
        """The characters of a text that it cannot draw."""
        ...

    def draw(self, text: str, size: int) -> UInt8[Tensor, "n h w"]:
        """Its characters, black (0) on white (255); ``DataError`` names those it lacks."""
        ...


class StrokeFont:
    """A font that the pen of this package writes: "regular", a named one, or any by its number."""

    def __init__(self, name: str):
        numbers = {REGULAR: -1} | {known: i for i, known in enumerate(NAMED)}
        if name not in numbers and not name.isdecimal():
            raise UsageError(f"There is no stroke font '{name}'{nearest(name, numbers)}")
        self.name = name
        self.number = numbers[name] if name in numbers else int(name)
        self.fingerprint = f"stroke-{name}"

    def lacking(self, text: str) -> str:
        return "".join(dict.fromkeys(c for c in text if c not in ALPHABET))

    def draw(self, text: str, size: int) -> UInt8[Tensor, "n h w"]:
        refuse_lacking(self, text)
        return ((of_text(text, self.number, size)[:, 0] + 1) * 127.5).round().to(torch.uint8)


class FontFile:
    """One face of a font file; of a collection the first, or the one named as in ``uming.ttc#2``.

    Raises ``DataError`` for what cannot be read as a font.
    """

    def __init__(self, where: str):
        file, _, number = where.partition("#")
        if number and not number.isdecimal():
            raise UsageError(f"A face of a font file has a number, as in '{file}#1', got '{where}'.")
        self.path, self.face = Path(file).expanduser(), int(number or 0)
        self.name = self.path.stem + (f"#{number}" if number else "")
        if not self.path.is_file():
            raise DataError(f"There is no font file '{self.path}'; give a .ttf, .otf or .ttc file.")
        try:
            self._data = self.path.read_bytes()
            self._font(PROBE)
        except OSError as error:
            raise DataError(
                f"'{where}' cannot be read as a font ({error}); give a .ttf, .otf or .ttc file, "
                "of a collection a face that it has."
            ) from error

    @cached_property
    def fingerprint(self) -> str:
        return f"{hashlib.blake2b(self._data, digest_size=8).hexdigest()}#{self.face}"

    @cached_property
    def known(self) -> frozenset[int] | None:
        """The characters it says it has; None if it does not say."""
        return characters_of(self._data, self.face)

    def lacking(self, text: str) -> str:
        return "".join(c for c in dict.fromkeys(text) if not self._has(c))

    def draw(self, text: str, size: int) -> UInt8[Tensor, "n h w"]:
        refuse_lacking(self, text)
        finer = max(1, -(-FINE // size))
        drawn = np.zeros((len(text), size, size), np.uint8)
        for i, character in enumerate(text):
            drawn[i] = self._drawn(character, size, finer)
        return torch.from_numpy(drawn)

    def _has(self, character: str) -> bool:
        """Whether there is a drawing, and not that of a missing character."""
        if character not in self._having:
            told = self.known is None or ord(character) in self.known
            self._having[character] = told and self._shows(character)
        return self._having[character]

    def _shows(self, character: str) -> bool:
        drawing = self._drawn(character, PROBE)
        return bool((drawing < INKED).any()) and drawing.tobytes() not in self._missing

    @cached_property
    def _having(self) -> dict[str, bool]:
        return {}

    @cached_property
    def _missing(self) -> frozenset[bytes]:
        """Drawings of what no font has."""
        return frozenset(self._drawn(character, PROBE).tobytes() for character in NOWHERE)

    def _drawn(self, character: str, size: int, finer: int = 1) -> np.ndarray:
        side = finer * size
        image = Image.new("L", (side, side), 255)
        pen = ImageDraw.Draw(image)
        pen.text((side / 2, side / 2), character, 0, self._font(round(EM * side)), anchor="mm")
        return np.asarray(image.reduce(finer) if finer > 1 else image)

    def _font(self, size: int) -> ImageFont.FreeTypeFont:
        if size not in (kept := self._fonts):
            layout = ImageFont.Layout.BASIC
            kept[size] = ImageFont.truetype(str(self.path), size, index=self.face, layout_engine=layout)
        return kept[size]

    @cached_property
    def _fonts(self) -> dict[int, ImageFont.FreeTypeFont]:
        return {}


def is_stroke_font(where: str) -> bool:
    """Whether this names a font of the pen, and no file."""
    return where == REGULAR or where in NAMED or where.isdecimal()


def open_font(where: str) -> Font:
    """A stroke font by its name or number, or a font file by its path.

    Raises ``DataError`` for files that are no fonts, ``UsageError`` for an empty name.
    """
    if not where:
        raise UsageError("A font needs a name; give a font file, or a stroke font such as 'bold'.")
    if is_stroke_font(where):
        return StrokeFont(where)
    return FontFile(where)


def refuse_lacking(font: Font, text: str) -> None:
    """Raise ``DataError`` naming what a font cannot draw of a text."""
    if missing := font.lacking(text):
        raise DataError(
            f"The font '{font.name}' has no {quoted(missing)}; leave that out, or choose another font."
        )
