"""Written words: what they say, who wrote them, and that nothing of testing is seen in training."""

from __future__ import annotations

import pytest
import torch

from sfumato.data.glyphs.lexicon import held
from sfumato.data.glyphs.skeletons import DIGITS, LOWER
from sfumato.data.words import WRITERS, Words
from sfumato.errors import UsageError

ROWS = torch.arange(40)


def test_no_word_and_no_writer_of_testing_is_in_training():
    train, test = Words("train"), Words("test")
    seen, fresh = set(train.texts(torch.arange(5000))), set(test.texts(torch.arange(1000)))
    assert not seen & fresh
    assert not any(map(held, seen))
    assert all(map(held, fresh))
    assert len(fresh) > 700
    writers = train.writer(torch.arange(5000)), test.writer(torch.arange(1000))
    assert writers[0].max() < WRITERS["train"] <= writers[1].min()
    assert len(writers[1].unique()) == WRITERS["test"]


def test_texts_are_of_the_letters_and_lengths_asked_for():
    texts = Words(letters=(4, 6), capitals=0.5, numbers=0.3).texts(torch.arange(400))
    assert {len(text) for text in texts} == {4, 5, 6}
    assert {c for text in texts for c in text.lower()} == set(LOWER + DIGITS)
    capitals = sum(text[0].isupper() for text in texts) / len(texts)
    numbers = sum(text.isdigit() for text in texts) / len(texts)
    assert 0.25 < capitals < 0.45
    assert 0.2 < numbers < 0.4
    assert set("".join(Words(numbers=0.0).texts(ROWS))) <= set(LOWER)


def test_a_word_is_the_same_in_any_company():
    data = Words("test", 24)
    together = data.batch(torch.tensor([7, 300, 12]))
    alone = data.batch(torch.tensor([300]))
    assert together["text"][1] == alone["text"][0]
    assert torch.allclose(together["image"][1:2], alone["image"], atol=1e-6)
    assert together["image"].shape == (3, 1, 24, 75)


def test_words_fill_the_picture_and_stay_inside():
    data = Words(noise=0.0, slant=0.5, bend=0.5)
    pixels = data.batch(torch.arange(200))["image"]
    paper = pixels.amax((1, 2, 3), keepdim=True)
    dark = pixels < paper - 0.3
    assert not dark[:, :, [0, -1]].any()
    assert not dark[:, :, :, [0, -1]].any()
    columns = dark.any(2)[:, 0].float()
    extent = columns.shape[1] - columns.argmax(1) - columns.flip(1).argmax(1)
    assert extent.float().median() > 75
    assert dark.any(3)[:, 0].sum(1).float().median() > 14


def test_ink_of_every_letter_is_on_the_paper():
    """The same word with one letter more has more ink, at the same height of letters."""
    data = Words(noise=0.0, slant=0.0, bend=0.0)
    writers, keys = torch.tensor([3, 3]), torch.tensor([11, 11])
    short, long = data.written(["mill", "millm"], writers, keys)
    assert short.sum() > 0
    assert long.max() <= 1
    runs = [int((row.any(0).int().diff() == 1).sum()) for row in (short > 0.5, long > 0.5)]
    assert runs[1] > runs[0] > 2


def test_writers_have_hands_of_their_own():
    data = Words(noise=0.0, slant=0.0, bend=0.0)
    texts, keys = ["seven"] * 3, torch.tensor([1, 1, 2])
    mine, other, again = data.written(texts, torch.tensor([4, 5, 4]), keys)
    assert (mine - other).abs().mean() > 0.02
    assert (mine - again).abs().mean() > 0  # the moment differs


def test_slant_and_bend_are_what_they_say():
    keys, writers, texts = torch.arange(300), torch.zeros(300).long(), ["lllllll"] * 300

    def spread(**how: float) -> tuple[float, float]:
        """How differently words lean, and how far their ends are from their middles."""
        inked = Words(noise=0.0, **how).written(texts, writers, keys)
        y, x = torch.arange(32.0)[:, None], torch.arange(100.0)
        weight = inked.sum((1, 2))
        my, mx = (inked * y).sum((1, 2)) / weight, (inked * x).sum((1, 2)) / weight
        dy, dx = y - my[:, None, None], x - mx[:, None, None]
        bow = (inked * dy * (dx / 25).square()).sum((1, 2)) / weight
        heights = inked.any(2).float().sum(1)
        return bow.std().item(), heights.std().item()

    still, bent = spread(slant=0.0, bend=0.0), spread(slant=0.0, bend=0.8)
    assert bent[0] > 3 * still[0]


def test_noise_and_paper_differ_from_word_to_word():
    pixels = Words(noise=0.05).batch(ROWS)["image"]
    corner = pixels[:, 0, 0, :3]
    assert len(corner.unique(dim=0)) == len(ROWS)
    assert pixels.min() >= -1
    assert pixels.max() <= 1


def test_what_cannot_be_written_is_refused():
    with pytest.raises(UsageError, match="Words have 1 to 20 letters, got"):
        Words(letters=(3, 40))
    with pytest.raises(UsageError, match="Words need 12 pixels of height, got 8"):
        Words(size=8)
    with pytest.raises(UsageError, match="'words' has no split 'held'"):
        Words(writers="held")
    with pytest.raises(IndexError, match="Words hold examples 0 to 1999"):
        Words("test").batch(torch.tensor([2000]))
