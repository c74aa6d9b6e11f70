"""Byte-pair encoding learned from words: which symbols to join, the most frequent pair first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from sfumato.data.clip_bpe import END, merged, symbols
from sfumato.data.clip_bpe import words as split


def learned_merges(texts: Iterable[str], most: int) -> tuple[str, ...]:
    """At most so many merges, each "left right" (Sennrich et al. 2016, algorithm 1, on bytes).

    They are learned until every word is one symbol; ties go by the alphabet.

    >>> learned_merges(["red", "red reed"], 3)
    ('e d</w>', 'r ed</w>', 'e ed</w>')
    """
    counts = Counter(word for text in texts for word in split(text.lower()))
    parts = {word: symbols(word) for word in counts}
    merges: list[str] = []
    while len(merges) < most:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in counts.items():
            for pair in pairwise(parts[word]):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(" ".join(best))
        parts = {word: merged(part, best) if best[0] in part else part for word, part in parts.items()}
    assert all(END in part[-1] for part in parts.values())
    return tuple(merges)
