"""Words as numbers and back."""

from __future__ import annotations

import string

import pytest
import torch

from sfumato.data.letters import Letters, characters_of
from sfumato.errors import UsageError

PRINTABLE = Letters(string.printable[:94], special=2)


def test_every_word_comes_back():
    words = ["a", "Hello!", string.printable[:94], "[x]^-\\", ""]
    assert PRINTABLE.decode(PRINTABLE.encode(words, 94)) == words
    assert PRINTABLE.size == 96


def test_numbers_begin_behind_those_that_are_no_letters():
    assert Letters("xyz", special=1).encode(["zx"], 3).tolist() == [[3, 1, 0]]
    assert Letters("xyz", special=2).decode(torch.tensor([[0, 1, 4, 2, 1, 0]])) == ["zx"]


def test_capitals_are_small_letters_where_there_are_no_capitals():
    assert Letters("abc", special=2).known("A-Cab!") == "acab"
    assert Letters("aBc", special=2).known("Abc") == "c"


def test_characters_of_texts_are_in_a_fixed_order():
    assert characters_of(["it's", "Its"]) == "'Iist"
    assert characters_of([]) == ""


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="'abcd' has 4 letters, and this reader learns words of up to 3"):
        Letters("abcd", special=2).encode(["abcd"], 3)
    with pytest.raises(UsageError, match="hold 'a' more than once"):
        Letters("aba", special=1)
    with pytest.raises(UsageError, match="needs characters to read, got none"):
        Letters("", special=1)
