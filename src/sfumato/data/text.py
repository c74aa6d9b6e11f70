"""Text as numbers: a tokenizer whose tokens are whole words, for systems that learn their own language."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from sfumato.errors import UsageError

PAD, UNKNOWN = 0, 1
"""What stands behind the last word, and what stands for a word that is not in the vocabulary."""
SHOWN = 80
"""Most characters of a text in a note about it."""
_SPECIAL = ("", "?")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """Cut a text into lower-case words and single punctuation marks.

    >>> words("A red circle, and no more.")
    ['a', 'red', 'circle', ',', 'and', 'no', 'more', '.']
    """
    return _WORD.findall(text.lower())


def vocabulary_of(texts: Iterable[str], most: int = 4096) -> tuple[str, ...]:
    """The words of these texts, the most frequent first and at most so many; ties go by the alphabet.

    >>> vocabulary_of(["a red circle", "a blue circle"], most=3)
    ('a', 'circle', 'blue')
    """
    counts = Counter(word for text in texts for word in words(text))
    return tuple(sorted(counts, key=lambda word: (-counts[word], word))[:most])


class Encoded(NamedTuple):
    """Tokens, and of every text how many of its words they leave out."""

    tokens: Int[Tensor, "n l"]
    dropped: Int[Tensor, " n"]
    """Words that were cut off at the end or are not in the vocabulary."""


@dataclass(frozen=True)
class WordTokenizer:
    """Turns texts into ``length`` word numbers each; a configuration in itself, so it is saved as one.

    >>> tokenizer = WordTokenizer(("a", "red", "circle"), length=4)
    >>> tokenizer.encode(["a red circle", "a blue circle"]).tokens.tolist()
    [[2, 3, 4, 0], [2, 1, 4, 0]]
    """

    vocabulary: tuple[str, ...]
    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise UsageError(f"A tokenizer needs a length of at least 1, got {self.length}.")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            twice = next(word for word, count in Counter(self.vocabulary).items() if count > 1)
            raise UsageError(f"The vocabulary holds '{twice}' more than once; give every word once.")
        for word in self.vocabulary:
            if words(word) != [word]:
                raise UsageError(
                    f"'{word}' is not one lower-case word; give the vocabulary as words() cuts it."
                )

    @property
    def size(self) -> int:
        """How many different tokens there are, padding and the unknown word among them."""
        return len(self.vocabulary) + len(_SPECIAL)

    @property
    def room(self) -> int:
        """Most words of a row."""
        return self.length

    @property
    def first(self) -> int:
        """The place in a row where the text begins."""
        return 0

    @property
    def unknown_number(self) -> int:
        """What stands for a word that is not in the vocabulary."""
        return UNKNOWN

    def numbers(self, text: str) -> Iterator[int]:
        """Numbers of all words of a text."""
        known = self._numbers
        return (known.get(word, UNKNOWN) for word in words(text))

    def row(self, numbers: Sequence[int]) -> list[int]:
        """Numbers filled up to ``length``."""
        return [*numbers, *[PAD] * (self.length - len(numbers))]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: k for k, word in enumerate(self.vocabulary, start=len(_SPECIAL))}

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Number the words; what does not fit or is not known is counted, never silent."""
        rows, dropped = [], []
        for text in texts:
            found = list(self.numbers(text))
            kept = found[: self.length]
            dropped.append(len(found) - len(kept) + kept.count(UNKNOWN))
            rows.append(self.row(kept))
        tokens = torch.tensor(rows, dtype=torch.long).view(len(rows), self.length)
        return Encoded(tokens, torch.tensor(dropped, dtype=torch.long))

    def unknown(self, text: str) -> list[str]:
        """The words of a text that are not in the vocabulary, in their order."""
        known = set(self.vocabulary)
        return [word for word in words(text) if word not in known]

    def decode(self, tokens: Int[Tensor, "n l"]) -> list[str]:
        """The words back, with a space between them; the unknown word is '?'."""
        names = _SPECIAL + self.vocabulary
        return [" ".join(names[token] for token in row if token != PAD) for row in tokens.tolist()]


def left_out(texts: Sequence[str], dropped: Int[Tensor, " n"]) -> tuple[str, ...]:
    """A sentence for every text that could not be read whole.

    >>> left_out(["a red circle", "a crimson circle"], torch.tensor([0, 1]))
    ("1 of the words of 'a crimson circle' could not be read and were left out.",)
    """
    return tuple(
        f"{count} of the words of '{_start(text)}' could not be read and were left out."
        for text, count in zip(texts, dropped.tolist(), strict=True)
        if count
    )


def _start(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
