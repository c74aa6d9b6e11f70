"""AdaIN paints photographs it never saw in styles it never saw, as far as a short training brings it."""

from __future__ import annotations

import itertools

import pytest

import sfumato
from benchmarks.painted import ALPHAS, of_adain

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]


RETRIEVAL, EDGES = 0.5, 0.4
"""What is asked; .54 of 80 and .56 were reached (chance is .025)."""


def test_the_preset_reaches_its_figures(tmp_path):
    system = sfumato.train("adain", out=tmp_path / "run", quiet=True)
    found, _ = of_adain(system.float())
    for name, row in found.items():
        print(name, row)
    full = found["alpha 1"]
    assert full.retrieval >= RETRIEVAL
    assert full.edges >= EDGES
    assert full.statistics <= 0.3
    assert found["alpha 0"].retrieval <= 0.1
    assert found["alpha 0"].psnr >= 22
    for less, more in itertools.pairwise(found[f"alpha {alpha:g}"] for alpha in ALPHAS):
        assert more.statistics < less.statistics
        assert more.edges < less.edges
