"""The unigram tokenizer against the tokenizers library, and by hand."""

from __future__ import annotations

import random

import pytest
import tokenizers

from sfumato.data.unigram import MARKS, SPACE, UnigramTokenizer
from sfumato.errors import UsageError

TEXTS = [
    "abba cab",
    "a  bad\tcab ",
    "zebra",
    "a \N{SNOWMAN}\N{SNOWMAN} b",
    "b\N{SNOWMAN}a",
    "ﬁ bee",
    "abcabcabbbaccaab cab bac",
]


def pieces_of(seed: int) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Random pieces of a small alphabet, with scores under which short and long ones compete."""
    chance = random.Random(seed)
    letters = "abcd"
    found = {SPACE, *letters}
    while len(found) < 40:
        found.add(chance.choice(["", SPACE]) + "".join(chance.choices(letters, k=chance.randint(1, 4))))
    pieces = (*MARKS, *sorted(found))
    return pieces, (0.0, 0.0, 0.0, *(-chance.uniform(1, 9) for _ in found))


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_the_same_pieces_as_the_tokenizers_library(seed):
    pieces, scores = pieces_of(seed)
    theirs = tokenizers.Tokenizer(tokenizers.models.Unigram(list(zip(pieces, scores, strict=True)), 2, False))
    theirs.normalizer = tokenizers.normalizers.NFKC()
    split = tokenizers.pre_tokenizers.WhitespaceSplit()
    space = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always")
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, space])
    ours = UnigramTokenizer(pieces, scores, length=64)
    for text in TEXTS:
        assert list(ours.numbers(text)) == theirs.encode(text).ids, text


def test_rows_end_in_a_mark_and_count_what_they_leave_out():
    tokenizer = UnigramTokenizer.of(("a", "red", "circle", "."), length=4)
    said = tokenizer.encode(["A red circle.", "a crimson", ""])
    assert said.tokens.tolist() == [[3, 4, 5, 1], [3, 2, 1, 0], [0, 0, 0, 0]]
    assert said.dropped.tolist() == [1, 1, 0]
    assert tokenizer.decode([3, 4, 5, 6, 1, 0]) == "a red circle."


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="length of at least 2, got 1"):
        UnigramTokenizer(length=1)
    with pytest.raises(UsageError, match="3 pieces and 1 scores"):
        UnigramTokenizer(MARKS, (0.0,))
