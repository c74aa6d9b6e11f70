"""Byte pairs learned from words: every word known becomes one token, every other is still read."""

from __future__ import annotations

from sfumato.data.bpe import learned_merges
from sfumato.data.clip_bpe import ClipTokenizer
from sfumato.data.shapes.captions import VOCABULARY


def test_every_word_learned_becomes_one_token_and_others_are_spelt():
    tokenizer = ClipTokenizer.of(learned_merges(VOCABULARY, 10_000), length=40)
    for word in VOCABULARY:
        assert len(list(tokenizer.numbers(word))) == 1, word
    for text in ("a crimson owl", "größe 12!", "日本"):
        assert tokenizer.decode(list(tokenizer.numbers(text))).replace(" ", "") == text.replace(" ", "")


def test_merges_are_as_many_as_asked_for_and_do_not_depend_on_the_order():
    words = list(VOCABULARY)
    few = learned_merges(words, 30)
    assert len(few) == 30
    assert learned_merges(reversed(words), 30) == few
    assert learned_merges(words, 31)[:30] == few
    assert learned_merges([], 5) == ()


def test_numbers_follow_openais_order():
    """512 symbols, the merges, the marks: so OpenAI's own list of 48,894 merges gives 49,408 tokens."""
    tokenizer = ClipTokenizer.of(("i n", "in g</w>"), length=7)
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad) == (514, 515, 515)
    assert tokenizer.vocabulary["!"] == 0
    assert tokenizer.vocabulary["!</w>"] == 256
    assert tokenizer.vocabulary["ing</w>"] == 513
    assert tokenizer.length == 7
