"""Fonts as datasets: one character in two fonts, characters of two fonts that are no pairs, single glyphs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.glyphs.files import REGULAR, Font, open_font, refuse_lacking
from sfumato.data.glyphs.fonts import NAMED
from sfumato.data.glyphs.skeletons import ALPHABET, LATIN, quoted
from sfumato.data.labelled import check_split
from sfumato.errors import DataError, UsageError

HELD = 0.25
"""Share of the characters of every font that are kept for testing."""
FEWEST = 4
"""Characters that fonts must have in common."""
MEMORY = 2**28
"""Bytes of drawings that are kept."""
_VERSION = 1
"""To be raised whenever the same number no longer gives the same pair."""

_log = logging.getLogger(__name__)


def common_chinese() -> str:
    """The 3755 most common Chinese characters: the first level of the standard GB 2312."""
    rows = (bytes([first, second]) for first in range(0xB0, 0xD8) for second in range(0xA1, 0xFF))
    return b"".join(row for row in rows if row < b"\xd7\xfa").decode("gb2312")


class Drawn:
    """Drawings of fonts' characters, kept as far as memory goes."""

    def __init__(self, fonts: Sequence[Font], characters: str, size: int, memory: int = MEMORY):
        self.fonts, self.characters, self.size = fonts, characters, size
        fits = len(fonts) * len(characters) * size * size <= memory
        shape = (len(fonts), len(characters), size, size)
        self._kept = torch.zeros(shape, dtype=torch.uint8) if fits else None
        self._there = torch.zeros(shape[:2], dtype=torch.bool)

    def __call__(self, font: Int[Tensor, " b"], character: Int[Tensor, " b"]) -> Float[Tensor, "b 1 h w"]:
        """Pictures in [-1, 1] of characters, by number, in fonts."""
        if self._kept is None:
            levels = self._drawn(font, character)
        else:
            new = ~self._there[font, character]
            if bool(new.any()):
                self._kept[font[new], character[new]] = self._drawn(font[new], character[new])
                self._there[font[new], character[new]] = True
            levels = self._kept[font, character]
        return levels[:, None].float().div_(127.5).sub_(1)

    def _drawn(self, font: Tensor, character: Tensor) -> UInt8[Tensor, "b h w"]:
        out = torch.zeros(len(font), self.size, self.size, dtype=torch.uint8)
        for number in font.unique().tolist():
            mine = font == number
            text = "".join(self.characters[c] for c in character[mine].tolist())
            out[mine] = self.fonts[number].draw(text, self.size)
        return out


class FontPairs:
    """Fields ``source`` and ``image``: a character in the source font, and in the one that ``label`` names.

    Of every target font, a quarter of the characters are only in "test"; ``character`` is their number.
    Raises ``DataError`` for fonts that lack characters asked for, or have too few in common.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 32,
        *,
        source: str = REGULAR,
        targets: Sequence[str] = tuple(NAMED),
        characters: str = LATIN,
        held: float = HELD,
        name: str = "fonts",
    ):
        check_split(name, split)
        self.split, self.size = split, _checked(size)
        self.source, self.targets = open_font(source), tuple(open_font(target) for target in targets)
        self.characters = agreed((self.source, *self.targets), characters)
        self._held = held_out(len(self.targets), len(self.characters), held)
        self._rows = (self._held == (split == "test")).nonzero()
        self._drawn = Drawn((self.source, *self.targets), self.characters, size)
        self.facts = Facts(
            name,
            channels=1,
            height=size,
            width=size,
            fields=frozenset({"source", "image", "label", "character"}),
            classes=_names(self.targets),
            fingerprint=_fingerprint(self._drawn, split, held),
            domains=(self.source.name, "fonts"),
        )

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        _check(self.facts.name, indices, len(self))
        label, character = self._rows[indices].unbind(1)
        return {
            "source": self._drawn(torch.zeros_like(label), character),
            "image": self._drawn(label + 1, character),
            "label": label,
            "character": character,
        }

    def sources(self, text: str) -> Float[Tensor, "n 1 h w"]:
        """A text's characters in the source font, as a system wants them; ``DataError`` if it lacks any."""
        return self.source.draw(text, self.size)[:, None].float().div_(127.5).sub_(1)


class FontDomains:
    """Fields ``a`` and ``b``: characters in one font, and others in another; nothing pairs them.

    The characters of training are split in two: one half is ever seen in one font, one in the other. Those
    of "test" are seen in neither.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 32,
        *,
        source: Sequence[str] = (REGULAR,),
        target: Sequence[str] = ("slab",),
        characters: Sequence[str] = (),
    ):
        check_split("fonts-unpaired", split)
        _one("fonts-unpaired", "source", source)
        _one("fonts-unpaired", "target", target)
        self.split, self.size = split, _checked(size)
        fonts = tuple(open_font(where) for where in (*source, *target))
        self.characters = agreed(fonts, "".join(characters))
        held = held_out(1, len(self.characters), HELD)[0]
        if split == "test":
            self._places = held.nonzero()[:, 0].expand(2, -1)
        else:
            seen = (~held).nonzero()[:, 0]
            self._places = torch.stack([seen[0 : len(seen) // 2 * 2 : 2], seen[1::2]])
        self._drawn = Drawn(fonts, self.characters, size)
        names = _names(fonts)
        self.facts = Facts(
            "fonts-unpaired",
            channels=1,
            height=size,
            width=size,
            fields=frozenset({"a", "b"}),
            fingerprint=_fingerprint(self._drawn, split, HELD),
            domains=(names[0], names[1]),
        )

    def __len__(self) -> int:
        return self._places.shape[1]

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        _check("fonts-unpaired", indices, len(self))
        fonts = torch.zeros(2, len(indices), dtype=torch.long) + torch.tensor([[0], [1]])
        return {
            "a": self._drawn(fonts[0], self._places[0][indices]),
            "b": self._drawn(fonts[1], self._places[1][indices]),
        }


def fonts(split: str = "train", size: int = 32) -> FontPairs:
    """Letters and digits in the regular stroke font, and in one of eight others."""
    return FontPairs(split, size)


def font_files(
    split: str = "train",
    size: int = 64,
    *,
    source: Sequence[str] = (),
    target: Sequence[str] = (),
    characters: Sequence[str] = (),
) -> FontPairs:
    """Characters in a font of your own, and in one of others; if you name none, those that all have."""
    if not target:
        raise UsageError(
            "Which fonts? Say --source FONT and --target FONT, each a .ttf, .otf or .ttc file "
            "(or, as data, font-files:source=FONT&target=FONT)."
        )
    _one("font-files", "source", source)
    return FontPairs(
        split, size, source=source[0], targets=target, characters="".join(characters), name="font-files"
    )


def agreed(fonts: Sequence[Font], characters: str = "") -> str:
    """The characters asked for; or else the common Chinese ones, or letters, that all fonts have.

    Raises ``DataError`` naming the characters that were asked for and that a font lacks.
    """
    if characters:
        asked = "".join(dict.fromkeys(characters))
        for font in fonts:
            refuse_lacking(font, asked)
        return _enough(asked)
    for known in (common_chinese(), ALPHABET, LATIN):
        lacking = {font.name: set(font.lacking(known)) for font in fonts}
        shared = "".join(c for c in known if not any(c in missing for missing in lacking.values()))
        if 2 * len(shared) < len(known):
            continue
        for name, missing in lacking.items():
            if missing:
                shown = quoted("".join(c for c in known if c in missing))
                _log.warning("the font '%s' has no %s: left out", name, shown)
        return _enough(shared)
    names = " and ".join(f"'{font.name}'" for font in fonts)
    raise DataError(f"The fonts {names} share neither letters nor Chinese characters; say which to learn.")


def _enough(characters: str) -> str:
    if len(characters) < FEWEST:
        raise DataError(
            f"Fonts are learned from {FEWEST} characters or more, got {len(characters)}; name others."
        )
    return characters


def held_out(fonts: int, characters: int, share: float) -> Bool[Tensor, "f c"]:
    """Which characters of each font are kept for testing: others of every font, at least one."""
    count = min(characters - 1, max(1, round(share * characters)))
    held = torch.zeros(fonts, characters, dtype=torch.bool)
    for font in range(fonts):
        order = torch.randperm(characters, generator=torch.Generator().manual_seed(1000 + font))
        held[font, order[:count]] = True
    return held


def _names(fonts: Sequence[Font]) -> tuple[str, ...]:
    """Different names of all fonts."""
    names = [font.name for font in fonts]
    return tuple(f"{n}-{names[:i].count(n) + 1}" if n in names[:i] else n for i, n in enumerate(names))


def _fingerprint(drawn: Drawn, split: str, held: float) -> str:
    parts = (_VERSION, split, held, drawn.size, drawn.characters, [font.fingerprint for font in drawn.fonts])
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _one(data: str, what: str, given: Sequence[str]) -> None:
    if len(given) != 1:
        raise UsageError(f"'{data}' takes one {what} font, got {len(given)}; give one --{what}.")


def _checked(size: int) -> int:
    if size < 8:
        raise UsageError(f"Glyphs need 8 pixels a side, got {size}; choose 32 or 64.")
    return size


def _check(name: str, indices: Tensor, length: int) -> None:
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < length:
        raise IndexError(f"'{name}' holds examples 0 to {length - 1}, got {indices.tolist()}.")
