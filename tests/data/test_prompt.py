"""Weights of words, several prompts at once, and rows of tokens: nothing is cut without being counted."""

from __future__ import annotations

import pytest

from sfumato.data.clip_bpe import ClipTokenizer
from sfumato.data.prompt import LONGEST, Piece, mixture, pieces, rows_needed, spoken
from sfumato.data.text import WordTokenizer
from sfumato.errors import UsageError

WORDS = WordTokenizer(("a", "red", "blue", "circle"), length=4)
CLIP = ClipTokenizer(
    {
        "vocab.json": '{"a</w>": 0, "b</w>": 1, "<|startoftext|>": 8, "<|endoftext|>": 9}',
        "merges.txt": "#version: 0.2\n",
        "tokenizer_config.json": '{"model_max_length": 5}',
    }
)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a cat", [("a cat", 1)]),
        ("", [("", 1)]),
        ("a cat :: 3 a dog", [("a cat", 0.75), ("a dog", 0.25)]),
        ("a cat::3 a dog::1", [("a cat", 0.75), ("a dog", 0.25)]),
        ("a cat:: a dog::", [("a cat", 0.5), ("a dog", 0.5)]),
        ("a cat :: 1.5 fog :: -.5", [("a cat", 1.5), ("fog", -0.5)]),
        ("std::vector", [("std::vector", 1)]),
    ],
)
def test_mixtures(prompt, parts):
    assert mixture(prompt) == tuple(Piece(*part) for part in parts)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (":: 2 a dog", "there is no text before a '::'; write 'text :: weight'"),
        ("a :: 1 b :: -1", "sum up to 0, but must sum up to more than 0"),
    ],
)
def test_mixtures_that_make_no_sense(prompt, message):
    with pytest.raises(UsageError, match=message):
        mixture(prompt)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a (red:1.3) cat", [("a ", 1), ("red", 1.3), (" cat", 1)]),
        ("(a red cat:0)", [("a red cat", 0)]),
        ("(a:-1)(b: 2 )", [("a", -1), ("b", 2)]),
        ("a (small) cat (at 10:30)", [("a (small) cat (at 10:30)", 1)]),
        ("(area 51 :1.5)", [("area 51 ", 1.5)]),
        (r"a \(red:2\) cat", [("a (red:2) cat", 1)]),
        (r"(a \(b\):2)", [("a (b)", 2)]),
        ("", [("", 1)]),
    ],
)
def test_weights_of_words(prompt, parts):
    assert pieces(prompt) == tuple(Piece(*part) for part in parts)


def test_rows_of_words():
    said = spoken(WORDS, ["a (red:2) circle", "a a a dog circle"])
    assert said.ids.tolist() == [[[2, 3, 5, 0]], [[2, 2, 2, 1]]]
    assert said.weights.tolist() == [[[1, 2, 1, 1]], [[1, 1, 1, 1]]]
    assert said.dropped.tolist() == [0, 2]
    assert rows_needed(WORDS, ["a", "a a a a a"]) == 2
    more = spoken(WORDS, ["a a a a (red:3) circle"], 2)
    assert more.ids.tolist() == [[[2, 2, 2, 2], [3, 5, 0, 0]]]
    assert more.weights.tolist() == [[[1, 1, 1, 1], [3, 1, 1, 1]]]
    assert more.dropped.tolist() == [0]


def test_rows_between_marks():
    said = spoken(CLIP, ["a (b a:0.5) b"], 2)
    assert said.ids.tolist() == [[[8, 0, 1, 0, 9], [8, 1, 9, 9, 9]]]
    assert said.weights.tolist() == [[[1, 1, 0.5, 0.5, 1], [1, 1, 1, 1, 1]]]
    assert spoken(CLIP, ["a b a b"]).ids.tolist() == [[[8, 0, 1, 0, 9]]]
    assert spoken(CLIP, ["a b a b"]).dropped.tolist() == [1]
    assert rows_needed(CLIP, [""]) == 1


def test_plain_texts_are_encoded_as_ever():
    texts = ["a red circle", "", "a blue dog and a circle"]
    for tokenizer in (WORDS, CLIP):
        ids, dropped = tokenizer.encode(texts)
        said = spoken(tokenizer, texts)
        assert said.ids[:, 0].tolist() == ids.tolist()
        assert said.dropped.tolist() == dropped.tolist()


def test_a_text_of_a_million_characters_costs_no_time():
    said = spoken(WORDS, ["a " * LONGEST])
    assert said.dropped.tolist() == [LONGEST - 4]
