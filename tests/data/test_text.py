"""The word tokenizer: what it keeps, what it counts as dropped, and that it is a configuration."""

from __future__ import annotations

import pytest
import torch

from sfumato.config import from_dict, to_dict
from sfumato.data.text import PAD, UNKNOWN, WordTokenizer, left_out, vocabulary_of, words
from sfumato.errors import UsageError

TOKENIZER = WordTokenizer(("a", "red", "circle", "above", ",", "it's"), length=5)


def test_words_and_punctuation_are_tokens_of_their_own():
    assert words("A Red  circle,above... it's x-ray\nÉcole") == [
        *("a", "red", "circle", ",", "above", ".", ".", ".", "it's", "x-ray", "école")
    ]
    assert words("") == words(" \n_") == []


def test_known_texts_come_back_as_they_were():
    tokens, dropped = TOKENIZER.encode(["a red circle", "it's a , above", ""])
    assert tokens.shape == (3, 5)
    assert tokens.dtype == torch.long
    assert dropped.tolist() == [0, 0, 0]
    assert TOKENIZER.decode(tokens) == ["a red circle", "it's a , above", ""]
    assert tokens[2].tolist() == [PAD] * 5


def test_what_is_cut_or_unknown_is_counted_for_each_text():
    tokens, dropped = TOKENIZER.encode(["a mauve circle", "a a a a a red red", "a zebra a a a zebra circle"])
    assert tokens[0].tolist() == [2, UNKNOWN, 4, PAD, PAD]
    assert dropped.tolist() == [1, 2, 3]
    assert TOKENIZER.decode(tokens)[0] == "a ? circle"
    assert TOKENIZER.unknown("a mauve Zebra") == ["mauve", "zebra"]


def test_no_text_gives_no_row():
    tokens, dropped = TOKENIZER.encode([])
    assert tokens.shape == (0, 5)
    assert dropped.shape == (0,)


def test_all_numbers_are_below_the_size():
    tokens = TOKENIZER.encode([" ".join(TOKENIZER.vocabulary), "unheard of"]).tokens
    assert int(tokens.max()) < TOKENIZER.size == len(TOKENIZER.vocabulary) + 2


def test_it_is_saved_as_a_configuration():
    assert from_dict(WordTokenizer, to_dict(TOKENIZER)) == TOKENIZER


def test_a_vocabulary_is_ordered_by_frequency_and_then_by_the_alphabet():
    assert vocabulary_of(["b b c", "a c, b"]) == ("b", "c", ",", "a")


@pytest.mark.parametrize(
    ("vocabulary", "length", "message"),
    [
        (("a",), 0, "length of at least 1, got 0"),
        (("a", "b", "a"), 3, "'a' more than once"),
        (("Red",), 3, "'Red' is not one lower-case word"),
        (("red circle",), 3, "'red circle' is not one lower-case word"),
    ],
)
def test_a_bad_vocabulary_is_refused(vocabulary, length, message):
    with pytest.raises(UsageError, match=message):
        WordTokenizer(vocabulary, length)


def test_a_note_shows_the_start_of_a_long_text():
    [note] = left_out(["a red circle " * 40], torch.tensor([104]))
    assert note.startswith("104 of the words of 'a red circle a red")
    assert note.endswith(" ...' could not be read and were left out.")
    assert len(note) < 160
