"""Near misses: one word is changed, into one that was seen between the same neighbours."""

from __future__ import annotations

import torch

from sfumato.data.near_misses import NearMisses
from sfumato.data.shapes import Shapes
from sfumato.data.shapes.scene import COLOURS, SHAPES
from sfumato.data.text import words


def test_exactly_one_word_changes_and_it_could_have_stood_there():
    scenes = Shapes("train", 16, length=600)
    captions = scenes.batch(torch.arange(600))["caption"]
    where, which = torch.rand(2, 600, generator=torch.Generator().manual_seed(0)).tolist()
    wrong = NearMisses(captions).of(captions, where, which)
    around = {t for c in captions for t in zip(["", *words(c)], words(c), [*words(c), ""][1:], strict=False)}
    changed = []
    for right, near in zip(captions, wrong, strict=True):
        before, after = words(right), words(near)
        places = [i for i, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
        assert len(places) == 1, (right, near)
        [i] = places
        assert (["", *after][i], after[i], [*after, ""][i + 1]) in around
        changed.append((before[i], after[i]))
    shapes = [pair for pair in changed if pair[0] in SHAPES]
    assert len(shapes) > 60, "shapes must be looked at"
    assert all(other in SHAPES for _, other in shapes)
    assert {other for _, other in changed} > set(COLOURS)


def test_what_cannot_be_changed_stays():
    near = NearMisses(["a red star", "a blue star"])
    given, kept = ["a red star", "two moons", ""], ["a blue star", "two moons", ""]
    assert near.of(given, [0.9, 0.1, 0.5], [0.0, 0.9, 0.5]) == kept
    assert NearMisses(()).of(["a red star"], [0.0], [0.0]) == ["a red star"]


def test_the_numbers_choose_the_place_and_the_word():
    near = NearMisses(["a red star", "a blue star", "a blue moon", "a red moon", "a pink star"])
    found = {near.of(["a red star"], [where], [which])[0] for where in (0.1, 0.9) for which in (0.1, 0.9)}
    assert found == {"a blue star", "a pink star", "a red moon"}
