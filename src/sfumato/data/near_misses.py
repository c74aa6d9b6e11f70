"""Captions with one word changed that still read well: what must be told from the truth by looking.

Yuksekgonul, Bianchi, Kalluri, Jurafsky, Zou: When and Why Vision-Language Models Behave like Bags-of-Words,
and What to Do About It, ICLR 2023, arXiv 2210.01936. Their captions have words swapped by kind, which takes a
parser; here a word gives way to another that was seen between the same two neighbours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sfumato.data.text import words


class NearMisses:
    """Which words stand between which neighbours in the captions of a dataset."""

    def __init__(self, captions: Iterable[str]):
        seen: dict[tuple[str, str], set[str]] = defaultdict(set)
        for caption in captions:
            found = ["", *words(caption), ""]
            for left, word, right in zip(found, found[1:], found[2:], strict=False):
                seen[left, right].add(word)
        self._between = {around: tuple(sorted(held)) for around, held in seen.items() if len(held) > 1}

    def of(self, captions: Sequence[str], where: Sequence[float], which: Sequence[float]) -> list[str]:
        """Each caption with one word changed, both chosen by numbers in [0, 1); one in which no word can be
        changed stays as it is.

        >>> near = NearMisses(["a red circle", "a red star"])
        >>> near.of(["a red star"], [0.5], [0.5])
        ['a red circle']
        """
        return [self._missed(*given) for given in zip(captions, where, which, strict=True)]

    def _missed(self, caption: str, where: float, which: float) -> str:
        found = words(caption)
        around = [(["", *found][i], [*found, ""][i + 1]) for i in range(len(found))]
        places = [i for i, near in enumerate(around) if set(self._between.get(near, ())) - {found[i]}]
        if not places:
            return caption
        place = places[int(where * len(places))]
        others = [word for word in self._between[around[place]] if word != found[place]]
        return " ".join([*found[:place], others[int(which * len(others))], *found[place + 1 :]])
