"""Datasets told in other words, and prompts made longer without changing what they say."""

from __future__ import annotations

import pytest
import torch

from sfumato.data import open_data
from sfumato.data.retold import Retold, mixed
from sfumato.data.shapes import OneShape, Shapes, read
from sfumato.data.shapes.expansion import expanded
from sfumato.errors import DataError, UsageError

ROWS = torch.arange(400)


def test_only_the_words_are_others():
    whole = Shapes("test", 32, length=3)
    told = Retold(whole, ["a red kite", "two", "a"])
    batch, before = told.batch(torch.tensor([2, 0])), whole.batch(torch.tensor([2, 0]))
    assert batch["caption"] == ["a", "a red kite"]
    assert torch.equal(batch["image"], before["image"])
    assert "kite" in told.facts.words
    assert set(whole.facts.words) < set(told.facts.words)
    assert told.facts.fingerprint != Retold(whole, ["a", "two", "a"]).facts.fingerprint
    with pytest.raises(DataError, match="2 captions do not pair with 3 pictures; give one each"):
        Retold(whole, ["a", "b"])


def test_a_share_keeps_its_own_words():
    old, new = [f"old {i}" for i in range(200)], [f"new {i}" for i in range(200)]
    both = mixed(old, new, 0.95)
    assert sum(text.startswith("new") for text in both) == 190
    assert [text.split()[1] for text in both] == [str(i) for i in range(200)]
    assert both != mixed(old, new, 0.95, seed=1)
    assert mixed(old, new, 0.0) == old
    assert mixed(old, new, 1.0) == new
    with pytest.raises(UsageError, match=r"must lie between 0 and 1, got 1.5"):
        mixed(old, new, 1.5)


def test_alt_text_is_wrong_where_careful_captions_are_right():
    careful, careless = open_data("described-shape", size=32), open_data("alt-text-shape", size=32)
    assert len(careful) == 2000
    assert len(careless) == 50_000
    scenes = OneShape("train", 32).scenes(ROWS)
    for data, least, most in ((careful, 1.0, 1.0), (careless, 0.45, 0.65)):
        wanted = [read(text).objects[0] for text in data.batch(ROWS)["caption"]]
        named = [i for i, thing in enumerate(wanted) if thing.colour is not None]
        right = sum(wanted[i].colour == int(scenes.colour[i, 0]) for i in named) / len(named)
        assert least <= right <= most
        assert all(thing.shape == int(scenes.shape[i, 0]) for i, thing in enumerate(wanted))
    assert "download" in careless.facts.words
    assert "download" not in careful.facts.words


PROMPTS = (
    "a red circle",
    "a small dotted star at the bottom left",
    "a red circle above a blue square on a navy background",
    "a pink ring left of a large star and a cyan cross at the bottom right",
    "three objects",
    "",
)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_what_is_said_stays_and_everything_is_said(prompt):
    short = read(prompt)
    for seed in range(5):
        long = read(expanded(prompt, seed))
        assert long.number == (short.number or 1)
        assert long.background is not None
        assert short.background in (None, long.background)
        for thing in long.objects:
            assert None not in (thing.shape, thing.colour, thing.size, thing.texture, thing.place)
        for mine, theirs in zip(short.objects, long.objects, strict=False):
            for name in ("shape", "colour", "size", "texture", "place"):
                assert getattr(mine, name) in (None, getattr(theirs, name))
        for relation in short.relations:
            (row, column), (row2, column2) = (
                divmod(long.objects[k].place, 3) for k in (relation.first, relation.second)
            )
            assert (column < column2, column > column2, row < row2, row > row2)[relation.kind]
        assert len({thing.place for thing in long.objects}) == len(long.objects)


def test_seeds_settle_it_differently_and_always_alike():
    told = [expanded("a red circle", seed) for seed in range(8)]
    assert told == [expanded("a red circle", seed) for seed in range(8)]
    assert len(set(told)) >= 6
    assert expanded("a red star", 1).replace("star", "circle") != expanded("a red circle", 1)
    assert all("at the centre" in expanded("a red circle", s, places=("centre",)) for s in range(8))


def test_a_prompt_without_room_is_refused():
    with pytest.raises(DataError, match="leaves no scene to draw; say less, or ask for fewer objects"):
        expanded("a red circle at the top and a blue star at the top")
