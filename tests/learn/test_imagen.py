"""Imagen on two shapes in a relation: a language reads order, thresholds keep colours, noise beside helps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sfumato
from benchmarks.imagen import bag_bound, captions_of, drawn, related, thresholds_of
from sfumato.metrics.validity import validity

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

COUNT = 256
ORDER = 0.3
"""By which the language reads relations better than a bag of words, at least."""
VALID = 0.05
"""By which more pictures show what can be read."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def language(runs):
    sfumato.train("t5", "laptop", out=runs / "t5", quiet=True)
    return runs / "t5"


@pytest.fixture(scope="module")
def base(runs, language):
    return sfumato.train("imagen", "base", base=language, out=runs / "base", quiet=True)


def test_a_frozen_language_reads_relations_that_a_bag_of_words_cannot(runs, language, base):
    bag = sfumato.train("imagen", "base", settings={"bag": True}, base=language, out=runs / "bag", quiet=True)
    captions = captions_of(COUNT)
    whole, control = (related(drawn(system, captions), captions) for system in (base, bag))
    bound = bag_bound(captions)
    print(f"language: {whole}; bag of words: {control}; the most of any such: {bound}")
    assert whole.relation >= max(control.relation, bound) + ORDER
    assert control.given < 0.65, "a bag of words guesses"


def test_under_strong_guidance_dynamic_thresholding_keeps_more_shapes_and_their_colours(base):
    found = thresholds_of(base, COUNT)
    for way, figures in found.items():
        print(way, *figures)
    (static, cut), (dynamic, drawn_in) = found["static"], found["dynamic:.995"]
    assert dynamic.objects >= static.objects + VALID
    assert drawn_in.saturated < cut.saturated / 2


def test_noise_beside_the_small_picture_helps_to_enlarge_what_was_drawn(runs, base):
    plain = {"augmentation": 0.0, "level": 0.0}
    captions = captions_of(COUNT)
    valid = {}
    for name, settings in (("noised", {}), ("plain", plain)):
        system = sfumato.train(
            "imagen", "laptop", settings=settings, base=runs / "base", out=runs / name, quiet=True
        )
        pixels = drawn(system, captions)
        assert pixels.shape == torch.Size([COUNT, 3, 48, 48])
        valid[name] = validity(pixels)
        print(name, valid[name])
    assert valid["noised"].valid >= valid["plain"].valid + VALID
