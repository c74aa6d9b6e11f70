"""Short prompts are kept to better when what they leave open is said, by the model that comes along."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.expansion import asked

pytestmark = [pytest.mark.learn, pytest.mark.timeout(3600)]


def test_expansion_pays():
    plain, wide = asked(sfumato.load("shapes"), 400)
    print(f"as they are {plain.all.value:.3f}, expanded {wide.all.value:.3f} (n {plain.all.n})")
    assert wide.all.value >= plain.all.value + 0.05
