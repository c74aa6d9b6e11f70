"""What can be written in a prompt besides words: weights of words, and several prompts at once.

``(word:1.3)`` weighs words, as in public programs for Stable Diffusion; ``a cat :: 2 a dog :: 1`` names
several prompts and the weight of each, as in Midjourney's. Parentheses without a weight are plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.errors import UsageError

LONGEST = 20_000
"""Characters of a prompt that are looked at; the rest is cut, and counted, before it costs time."""
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"
_WEIGHED = re.compile(rf"(?<!\\)\(((?:\\.|[^()\\])*)(?<!\d):\s*({_NUMBER})\s*\)")
"""Behind a digit a colon makes a time or a ratio: ``(at 10:30)`` is plain text."""
_JOINT = re.compile(rf"::\s*({_NUMBER})?(?=\s|$|::)\s*")


class Piece(NamedTuple):
    """A stretch of text and how much it counts; 1 is plain."""

    text: str
    weight: float = 1.0


def mixture(prompt: str) -> tuple[Piece, ...]:
    """The prompts in a prompt, each with its share; shares sum up to 1 and may be negative.

    >>> mixture("hot :: 3 a dog :: 1")
    (Piece(text='hot', weight=0.75), Piece(text='a dog', weight=0.25))
    >>> mixture("a red circle")
    (Piece(text='a red circle', weight=1.0),)
    """
    found, start = [], 0
    for joint in _JOINT.finditer(prompt):
        found.append(Piece(prompt[start : joint.start()].strip(), float(joint[1] or 1)))
        start = joint.end()
    if rest := prompt[start:].strip():
        found.append(Piece(rest))
    if not found:
        return (Piece(prompt),)
    if any(not piece.text for piece in found):
        raise UsageError(f"In the prompt '{prompt}' there is no text before a '::'; write 'text :: weight'.")
    total = sum(piece.weight for piece in found)
    if total <= 0:
        raise UsageError(
            f"The weights in the prompt '{prompt}' sum up to {total:g}, but must sum up to more than 0; "
            "raise one of them."
        )
    return tuple(Piece(piece.text, piece.weight / total) for piece in found)


def pieces(text: str) -> tuple[Piece, ...]:
    r"""The stretches of a prompt between which weights differ; ``\(`` and ``\)`` are parentheses.

    >>> pieces("a (red:1.5) circle (small)")
    (Piece(text='a ', weight=1.0), Piece(text='red', weight=1.5), Piece(text=' circle (small)', weight=1.0))
    """
    found, start = [], 0
    for weighed in _WEIGHED.finditer(text):
        found += [Piece(text[start : weighed.start()]), Piece(weighed[1], float(weighed[2]))]
        start = weighed.end()
    found.append(Piece(text[start:]))
    plain = (Piece(re.sub(r"\\([()])", r"\1", piece.text), piece.weight) for piece in found)
    return tuple(piece for piece in plain if piece.text) or (Piece(""),)


@runtime_checkable
class Tokenizer(Protocol):
    """Texts to numbers."""

    def encode(self, texts: Sequence[str]) -> tuple[Int[Tensor, "n l"], Int[Tensor, " n"]]:
        """Numbers of the tokens, and how many words or tokens of each text they leave out."""
        ...

    def numbers(self, text: str) -> Iterator[int]:
        """Numbers of the text alone, of any length."""
        ...

    def row(self, numbers: Sequence[int]) -> list[int]:
        """What the network is given for these numbers: marks around them, and filled up."""
        ...

    @property
    def room(self) -> int:
        """Most numbers of a text in a row."""
        ...

    @property
    def first(self) -> int:
        """The place in a row where the text begins."""
        ...

    @property
    def unknown_number(self) -> int | None:
        """What stands for a word that is not known, if that is a loss."""
        ...


@dataclass(frozen=True)
class Spoken:
    """Texts as a tower reads them: in rows of the tower's length, one after the other."""

    ids: Int[Tensor, "n k l"]
    weights: Float[Tensor, "n k l"]
    dropped: Int[Tensor, " n"]
    """Tokens of each text that no row holds, or whose word is not known."""


def rows_needed(tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    """How many rows the longest of these texts fills."""
    longest = max(len(list(_weighed(tokenizer, text[:LONGEST]))) for text in texts)
    return max(1, -(-longest // tokenizer.room))


def spoken(tokenizer: Tokenizer, texts: Sequence[str], rows: int = 1) -> Spoken:
    """Tokens and weights of texts, ``rows`` rows each; what does not fit is counted."""
    ids, weights, dropped = [], [], []
    for text in texts:
        found = list(_weighed(tokenizer, text[:LONGEST]))
        kept, room = found[: rows * tokenizer.room], tokenizer.room
        unknown = sum(number == tokenizer.unknown_number for number, _ in kept)
        dropped.append(len(found) - len(kept) + unknown + len(text[LONGEST:].split()))
        parts = [kept[start : start + room] for start in range(0, rows * room, room)]
        ids.append([tokenizer.row([number for number, _ in part]) for part in parts])
        weights.append([_placed([weight for _, weight in part], tokenizer, ids[-1][0]) for part in parts])
    return Spoken(torch.tensor(ids), torch.tensor(weights), torch.tensor(dropped))


def _weighed(tokenizer: Tokenizer, text: str) -> Iterator[tuple[int, float]]:
    for piece in pieces(text):
        yield from ((number, piece.weight) for number in tokenizer.numbers(piece.text))


def _placed(weights: list[float], tokenizer: Tokenizer, row: list[int]) -> list[float]:
    """Weights where the tokens stand; 1 at marks and behind the text."""
    rest = len(row) - tokenizer.first - len(weights)
    return [1.0] * tokenizer.first + weights + [1.0] * rest
