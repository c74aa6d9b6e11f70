"""CLIP on shapes: fresh scenes find their captions, single shapes get their names, also pairs never seen."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.clip import POOL, measure, untrained

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

RECALL, NAMED, HELD = 0.8, 0.9, 0.7
"""Own caption first among 128; colour and shape named out of all 48 pairs; the same for pairs never shown."""


def test_clip_finds_the_captions_of_scenes(tmp_path):
    model = sfumato.train("clip", "laptop", out=tmp_path / "run", quiet=True)
    fresh, held = measure(model, "shapes", "test"), measure(model, "shapes", "held")
    broken = measure(model, "shapes", "test", shuffled=True)
    print(f"fresh {fresh}\nheld-out pairs {held}\ncaptions of others {broken}")
    assert min(fresh.text, fresh.image, held.text, held.image) >= RECALL
    assert max(broken.text, broken.image) <= 5 / POOL


def test_clip_names_a_shape_in_a_corner(tmp_path):
    model = sfumato.train("clip", "corners", out=tmp_path / "run", quiet=True)
    fresh, held = measure(model, "corner-shape", "test"), measure(model, "corner-shape", "held")
    blank = measure(untrained(model), "corner-shape", "test")
    print(f"fresh {fresh}\nheld-out pairs {held}\nuntrained {blank}")
    assert min(fresh.text, fresh.image) >= RECALL
    assert fresh.label >= NAMED
    assert held.label >= HELD
    assert blank.label <= 0.1
