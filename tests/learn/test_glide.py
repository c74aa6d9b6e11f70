"""GLIDE on two shapes in a relation: words lead better than a noised CLIP, and both better than nothing."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.glide import holes, ways
from sfumato.systems.diffusion.glide import GLIDE

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

COUNT = 256
GAIN = 0.2
"""By which either way of leading is better than none, at least."""


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    return sfumato.train("glide", "laptop", out=tmp_path_factory.mktemp("runs") / "run", quiet=True)


def test_words_lead_better_than_a_clip_and_a_clip_better_than_nothing(system):
    assert isinstance(system, GLIDE)
    found = ways(system, COUNT)
    for name, figures in found.items():
        print(name, figures)
    best = {
        way: max(figures.relation for name, figures in found.items() if name.startswith(way))
        for way in ("words", "CLIP", "unguided")
    }
    assert best["words"] >= best["CLIP"]
    assert best["CLIP"] >= best["unguided"] + GAIN


def test_holes_are_filled_with_what_was_asked_for_and_the_rest_stays(system):
    assert isinstance(system, GLIDE)
    found = holes(system, 96)
    (filled, valid, change), (blank, _, _) = found.values()
    print(found)
    assert change == 0
    assert valid.valid >= 0.8
    assert filled.relation >= blank.relation + GAIN
