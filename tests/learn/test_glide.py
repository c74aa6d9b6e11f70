"""GLIDE on two shapes in a relation: it learns to draw them and to fill holes, and half-way there words lead
better than a noised CLIP, which leads better than nothing."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.glide import holes, ways
from benchmarks.imagen import Related
from sfumato.systems.diffusion.glide import GLIDE

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

COUNT = 256
RIGHT = 0.95
HALF = 2000
"""Steps after which guidance has something left to gain; after all of them nothing has."""


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> GLIDE:
    system = sfumato.train("glide", "laptop", out=tmp_path_factory.mktemp("runs") / "run", quiet=True)
    assert isinstance(system, GLIDE)
    return system


def best(found: dict[str, Related], way: str) -> float:
    return max(figures.objects for name, figures in found.items() if name.startswith(way))


def test_half_way_words_lead_better_than_a_clip_and_a_clip_better_than_nothing(tmp_path):
    half = sfumato.train("glide", "laptop", steps=HALF, out=tmp_path / "run", quiet=True)
    assert isinstance(half, GLIDE)
    found = ways(half, COUNT)
    for name, figures in found.items():
        print(name, figures)
    assert best(found, "words") >= best(found, "CLIP") >= best(found, "unguided")


def test_relations_come_out_right_and_no_guidance_harms_them(system):
    found = ways(system, COUNT)
    for name, figures in found.items():
        print(name, figures)
    for way in ("words", "CLIP", "unguided"):
        assert max(figures.relation for name, figures in found.items() if name.startswith(way)) >= RIGHT


def test_holes_are_filled_with_what_was_asked_for_and_the_rest_stays(system):
    found = holes(system, 96)
    (filled, valid, change), (blank, _, _) = found.values()
    print(found)
    assert change == 0
    assert valid.valid >= 0.8
    assert filled.relation >= blank.relation + 0.2
