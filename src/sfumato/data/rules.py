"""What a pair must be to be kept: rules for texts and sizes, and a tag for texts that warn of a picture."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sfumato.data.language import NOLANG, checked_languages, language
from sfumato.errors import UsageError

Safety = Literal["unlikely", "unsure", "likely"]
"""How likely a picture is not safe to show, going by its words alone."""


@dataclass(frozen=True)
class Rules:
    """Rules that look at one pair alone; the defaults are LAION-5B's where it has one (section 3.1)."""

    min_chars: int = 5
    """Fewest characters of a text."""
    max_chars: int = 1000
    """Most characters of a text."""
    languages: tuple[str, ...] = ("en", NOLANG)
    """Languages to keep; "nolang" are names, numbers and single words; "any" keeps all."""
    min_bytes: int = 5000
    """Fewest bytes of a picture's file."""
    min_side: int = 64
    """Fewest pixels of a picture's shorter side."""
    max_aspect: float = 3.0
    """Most times that one side may be as long as the other."""
    max_pixels: int = 64_000_000
    """Most pixels of a picture; larger ones are not even decoded."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_chars <= self.max_chars:
            raise UsageError(f"Texts have {self.min_chars} to {self.max_chars} characters; give min <= max.")
        if self.max_aspect < 1:
            raise UsageError(f"max_aspect is longer to shorter side, so at least 1, got {self.max_aspect}.")
        if self.min_side < 1 or self.min_bytes < 0 or self.max_pixels < self.min_side**2:
            raise UsageError(
                f"No picture has {self.min_side} pixels a side, {self.min_bytes} bytes and at most "
                f"{self.max_pixels} pixels; give smaller or larger limits."
            )
        if "any" not in self.languages:
            checked_languages(self.languages)

    def text(self, text: str) -> tuple[str, str]:
        """Why a text is dropped, or nothing; and its language.

        >>> Rules().text("a red circle"), Rules().text("IMG_0042.JPG")
        (('', 'en'), ('text is a file name', ''))
        """
        if len(text) < self.min_chars:
            return "text too short", ""
        if len(text) > self.max_chars:
            return "text too long", ""
        if _FILE_NAME.fullmatch(text):
            return "text is a file name", ""
        found = language(text)
        wanted = "any" in self.languages or found in self.languages
        return ("" if wanted else "language"), found

    def file(self, size: int) -> str:
        """Why a file of so many bytes is dropped, or nothing."""
        return "file too small" if size < self.min_bytes else ""

    def picture(self, height: int, width: int) -> str:
        """Why a picture of so many pixels is dropped, or nothing."""
        short, long = sorted((height, width))
        if short < self.min_side:
            return "too few pixels"
        if long > self.max_aspect * short:
            return "too long and narrow"
        return ""


_FILE_NAME = re.compile(r"(?:https?://|www\.)\S+|\S+\.(?:jpe?g|png|gif|webp|svg|bmp|tiff?)", re.I)

_EXPLICIT = (
    "porn porno pornographic pornography xxx nsfw hentai nude nudes naked topless blowjob cumshot anal "
    "milf fetish bdsm orgy masturbation masturbating genitals penis vagina deepthroat creampie upskirt "
    "camgirl gangbang bestiality incest"
)
_AMBIGUOUS = (
    "sex sexy sexual erotic erotica lingerie bikini underwear boobs breasts butt ass fuck fucking escort "
    "stripper stripped playboy onlyfans gore gory corpse beheading beheaded mutilated suicide bloody rape "
    "execution torture"
)
_WORDS = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class WarningWords:
    """Tags texts by lists of English words: "likely" for explicit ones, "unsure" for ambiguous ones.

    It knows nothing of the picture, of other languages, of spelling tricks and of euphemisms: most unsafe
    pictures of the web carry a harmless alt text and pass. It is a first sieve, not a safety measure.

    >>> WarningWords().tag("a red circle"), WarningWords().tag("sexy dress"), WarningWords().tag("XXX video")
    ('unlikely', 'unsure', 'likely')
    """

    explicit: frozenset[str] = frozenset(_EXPLICIT.split())
    ambiguous: frozenset[str] = frozenset(_AMBIGUOUS.split())

    def tag(self, *texts: str) -> Safety:
        """The gravest word of some texts, such as an alt text and an address."""
        found = {word for text in texts for word in _WORDS.findall(text.lower())}
        if found & self.explicit:
            return "likely"
        return "unsure" if found & self.ambiguous else "unlikely"

    def more(self, words: Iterable[str]) -> WarningWords:
        """The same with further explicit words, one or more a line."""
        new = {found for line in words for found in _WORDS.findall(line.lower())}
        return WarningWords(self.explicit | new, self.ambiguous)
