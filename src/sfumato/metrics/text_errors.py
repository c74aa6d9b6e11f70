"""How wrong texts are that were read: error rates of characters and words, and the share without any."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sfumato.errors import UsageError


def distance(read: Sequence[str], true: Sequence[str]) -> int:
    """The fewest insertions, deletions and substitutions from one sequence to the other (Levenshtein 1966).

    >>> distance("kitten", "sitting")
    3
    """
    row = list(range(len(true) + 1))
    for i, a in enumerate(read, start=1):
        corner, row[0] = row[0], i
        for j, b in enumerate(true, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


@dataclass(frozen=True)
class TextErrors:
    """Of every text: how many edits it needs, of how many characters and words."""

    characters: tuple[int, ...]
    """Edits of single characters that make it true."""
    length: tuple[int, ...]
    """Characters of the true text."""
    words: tuple[int, ...]
    """Edits of whole words."""
    count: tuple[int, ...]
    """Words of the true text."""

    @classmethod
    def of(cls, read: Sequence[str], true: Sequence[str]) -> TextErrors:
        """Compare what was read with what is true; capitals count.

        Raises ``UsageError`` if the numbers of texts differ, or if all true texts are empty.
        """
        if len(read) != len(true):
            raise UsageError(f"{len(read)} texts were read and {len(true)} are true; give as many of both.")
        if not any(true):
            raise UsageError("Rates of error need at least one true text that is not empty.")
        return cls(
            tuple(distance(a, b) for a, b in zip(read, true, strict=True)),
            tuple(len(b) for b in true),
            tuple(distance(a.split(), b.split()) for a, b in zip(read, true, strict=True)),
            tuple(len(b.split()) for b in true),
        )

    @property
    def cer(self) -> float:
        """Character error rate: all edits over all true characters; above 1 where much was made up."""
        return sum(self.characters) / sum(self.length)

    @property
    def wer(self) -> float:
        """Word error rate: the same of whole words."""
        return sum(self.words) / max(1, sum(self.count))

    @property
    def accuracy(self) -> float:
        """Share of the texts without any error."""
        return sum(edits == 0 for edits in self.characters) / len(self.characters)

    def spread_of_cer(self) -> float:
        """Standard error of the character error rate, as a ratio of two sums over the texts."""
        rest = (edits - self.cer * length for edits, length in zip(self.characters, self.length, strict=True))
        return _ratio_error(rest, sum(self.length), len(self.length))

    def spread_of_wer(self) -> float:
        """Standard error of the word error rate."""
        rest = (edits - self.wer * count for edits, count in zip(self.words, self.count, strict=True))
        return _ratio_error(rest, sum(self.count), len(self.count))

    def spread_of_accuracy(self) -> float:
        """Standard error of the share."""
        return (self.accuracy * (1 - self.accuracy) / len(self.characters)) ** 0.5


def _ratio_error(residuals: Iterable[float], whole: int, n: int) -> float:
    """Standard error of a ratio of sums, by its linearisation."""
    if n < 2:
        return 0.0
    squares = sum(value * value for value in residuals)
    return float((squares * n / (n - 1)) ** 0.5 / max(1, whole))
