"""AdaIN paints photographs it never saw in styles it never saw, told apart by their patterns."""

from __future__ import annotations

import itertools

import pytest

import sfumato
from benchmarks.painted import ALPHAS, of_adain

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]


def test_the_preset_reaches_its_figures(tmp_path):
    system = sfumato.train("adain", out=tmp_path / "run", quiet=True)
    found, _ = of_adain(system.float())
    for name, row in found.items():
        print(name, row)
    full, control = found["alpha 1"], found["histograms"]
    assert full.retrieval >= 0.5
    assert full.patterns >= 4 * control.patterns
    assert full.edges >= 0.4
    assert full.statistics <= 0.3
    assert found["alpha 0"].psnr >= 22
    for less, more in itertools.pairwise(found[f"alpha {alpha:g}"] for alpha in ALPHAS):
        assert more.statistics < less.statistics
        assert more.edges < less.edges
