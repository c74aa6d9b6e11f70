"""Words as numbers, one a letter, for systems that read and write letter by letter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from sfumato.errors import UsageError


def characters_of(texts: Iterable[str]) -> str:
    """Every character of these texts once, in the order of their code points.

    >>> characters_of(["banana", "Bean"])
    'Baben'
    """
    return "".join(sorted({letter for text in texts for letter in text}))


@dataclass(frozen=True)
class Letters:
    """Numbers for characters, behind ``special`` numbers that stand for no letter.

    Where no capital letter is among the characters, capitals are taken as small letters, as benchmarks of
    reading do; what then is unknown is left out.

    >>> letters = Letters("abc", special=2)
    >>> letters.encode(["Cab", "b!"], 4).tolist()
    [[4, 2, 3, 0], [3, 0, 0, 0]]
    """

    characters: str
    special: int
    """How many numbers come before the first character; 0, the first of them, also fills up short words."""

    def __post_init__(self) -> None:
        if not self.characters:
            raise UsageError("A reader needs characters to read, got none; name them, such as 'abc'.")
        if len(set(self.characters)) != len(self.characters):
            twice = next(c for c in self.characters if self.characters.count(c) > 1)
            raise UsageError(f"The characters hold '{twice}' more than once; give each once.")

    @property
    def size(self) -> int:
        """How many different numbers there are."""
        return len(self.characters) + self.special

    def known(self, text: str) -> str:
        """The text as far as it can be written with the characters."""
        if not any(c.isupper() for c in self.characters):
            text = text.lower()
        return "".join(c for c in text if c in self.characters)

    def encode(self, texts: Sequence[str], longest: int) -> Int[Tensor, "n l"]:
        """Numbers of the letters, at most ``longest``; a longer text is a ``UsageError``."""
        places = {letter: i for i, letter in enumerate(self.characters, start=self.special)}
        out = torch.zeros(len(texts), longest, dtype=torch.long)
        for row, text in zip(out, texts, strict=True):
            known = self.known(text)
            if len(known) > longest:
                raise UsageError(
                    f"'{text}' has {len(known)} letters, and this reader learns words of up to {longest}; "
                    f"leave it out, or train with --longest {len(known)}."
                )
            row[: len(known)] = torch.tensor([places[letter] for letter in known], dtype=torch.long)
        return out

    def decode(self, numbers: Int[Tensor, "n l"]) -> list[str]:
        """The letters back; special numbers are left out."""
        return [
            "".join(self.characters[number - self.special] for number in row if number >= self.special)
            for row in numbers.tolist()
        ]
