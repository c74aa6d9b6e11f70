"""CLIP on shapes: fresh scenes find their captions, single objects get their names, also pairs never seen."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.clip import POOL, measure, untrained

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

RECALL, NAMED, HELD = 0.8, 0.9, 0.7
"""Own caption first among 128; colour and shape named out of all 48 pairs; the same for pairs never shown."""


def test_clip_finds_captions_and_names_objects(tmp_path):
    model = sfumato.train("clip", "laptop", out=tmp_path / "run", quiet=True)
    fresh, held = measure(model, "test"), measure(model, "held")
    broken, blank = measure(model, "test", shuffled=True), measure(untrained(model), "test")
    print(f"fresh {fresh}\nheld-out pairs {held}\ncaptions of others {broken}\nuntrained {blank}")
    assert min(fresh.text, fresh.image) >= RECALL
    assert fresh.label >= NAMED
    assert held.label >= HELD
    assert max(broken.text, broken.image, blank.text, blank.image) <= 5 / POOL
    assert blank.label <= 0.1
