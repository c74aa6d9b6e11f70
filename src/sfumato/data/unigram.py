"""The tokenizer of T5: of all ways to cut a text into known pieces, the likeliest.

Kudo: Subword Regularization, ACL 2018, arXiv 1804.10959, section 3.2; as SentencePiece has it, with words
that begin in a mark for the space before them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from sfumato.data.text import Encoded
from sfumato.errors import UsageError

PAD, END, UNKNOWN = 0, 1, 2
"""T5's marks: the empty place, the end of a text, and what no piece covers."""
SPACE = "\u2581"
MARKS = ("<pad>", "</s>", "<unk>")
PENALTY = 10.0
"""How much less likely than the rarest piece an unknown character is (SentencePiece's)."""


@dataclass(frozen=True)
class UnigramTokenizer:
    """Turns texts into ``length`` numbers each; a configuration in itself, so it is saved as one.

    An empty text is nothing at all, ``length`` times ``PAD``; every other ends in ``END``.

    >>> tokenizer = UnigramTokenizer.of(("a", "red", "."), length=5)
    >>> tokenizer.encode(["A red.", ""]).tokens.tolist()
    [[3, 4, 5, 1, 0], [0, 0, 0, 0, 0]]
    """

    pieces: tuple[str, ...] = MARKS
    scores: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Logarithms of how likely the pieces are."""
    length: int = 256
    lower: bool = False
    """Whether capital letters are small ones."""

    def __post_init__(self) -> None:
        if self.length < 2:
            raise UsageError(f"A tokenizer that marks ends needs a length of at least 2, got {self.length}.")
        if len(self.pieces) != len(self.scores):
            raise UsageError(
                f"The tokenizer has {len(self.pieces)} pieces and {len(self.scores)} scores; give one each."
            )

    @classmethod
    def of(cls, words: Sequence[str], length: int) -> UnigramTokenizer:
        """One whose pieces are whole words, all equally likely, and marks of punctuation."""
        pieces = (*MARKS, *(word if not word[0].isalnum() else SPACE + word for word in words))
        return cls(pieces, (0.0,) * len(MARKS) + (-1.0,) * len(words), length, lower=True)

    @property
    def room(self) -> int:
        """Most pieces of a row."""
        return self.length - 1

    @property
    def first(self) -> int:
        """The place in a row where the text begins."""
        return 0

    @property
    def unknown_number(self) -> int:
        """What stands for what no piece covers."""
        return UNKNOWN

    def numbers(self, text: str) -> Iterator[int]:
        """Numbers of the pieces of a text (the path of the highest score, by Viterbi)."""
        text = " ".join(unicodedata.normalize("NFKC", text).split())
        text = text.lower() if self.lower else text
        if not text:
            return iter(())
        return self._best(SPACE + text.replace(" ", SPACE))

    def row(self, numbers: Sequence[int]) -> list[int]:
        """Numbers with the mark of their end, filled up to ``length``."""
        ended = [*numbers, END] if numbers else []
        return [*ended, *[PAD] * (self.length - len(ended))]

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Number the pieces; what does not fit or is not known is counted, never silent."""
        rows, dropped = [], []
        for text in texts:
            found = list(self.numbers(text))
            kept = found[: self.room]
            dropped.append(len(found) - len(kept) + kept.count(UNKNOWN))
            rows.append(self.row(kept))
        tokens = torch.tensor(rows, dtype=torch.long).view(len(rows), self.length)
        return Encoded(tokens, torch.tensor(dropped, dtype=torch.long))

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of some pieces."""
        text = "".join(self.pieces[n] for n in numbers if n not in (PAD, END) and n < len(self.pieces))
        return text.replace(SPACE, " ").strip()

    @cached_property
    def _table(self) -> dict[str, tuple[int, float]]:
        known = zip(self.pieces, self.scores, strict=True)
        return {
            piece: (n, score)
            for n, (piece, score) in enumerate(known)
            if piece not in MARKS and not piece.startswith("<extra_id_")
        }

    @cached_property
    def _limits(self) -> tuple[int, float]:
        """Length of the longest piece, and what an unknown character costs."""
        lowest = min((score for _, score in self._table.values()), default=0.0)
        return max(map(len, self._table), default=1), lowest - PENALTY

    def _best(self, text: str) -> Iterator[int]:
        longest, unknown = self._limits
        best = [0.0] + [float("-inf")] * len(text)
        way: list[tuple[int, int]] = [(0, UNKNOWN)] * (len(text) + 1)
        for end in range(1, len(text) + 1):
            best[end], way[end] = best[end - 1] + unknown, (end - 1, UNKNOWN)
            for start in range(max(0, end - longest), end):
                found = self._table.get(text[start:end])
                if found and best[start] + found[1] > best[end]:
                    best[end], way[end] = best[start] + found[1], (start, found[0])
        path: list[int] = []
        end = len(text)
        while end:
            start, number = way[end]
            if not (number == UNKNOWN and path and path[-1] == UNKNOWN):  # one mark for a stretch of unknowns
                path.append(number)
            end = start
        return reversed(path)
