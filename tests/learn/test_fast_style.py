"""A fast style takes unseen photographs in one pass about as far as the paper's 50 closures of a search."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.painted import of_fast

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

UNTOUCHED = 0.35
"""Most of the objective of the untouched photograph that may be left."""
TEXTURE = 0.6
"""Most of the distance of patterns to the style's that may be left, which nobody optimised."""
SEARCH = 1.1
"""Times the objective that 50 closures of L-BFGS reach from white noise, which varies by a tenth."""


def test_the_preset_reaches_its_figures(tmp_path):
    style, other = (
        sfumato.train("faststyle", out=tmp_path / name, quiet=True, settings={"style": f"texture:{number}"})
        for name, number in (("style", 31), ("other", 26))
    )
    figures, _ = of_fast(style.float(), other.float())
    print(figures)
    assert figures.one_pass <= SEARCH * figures.search
    assert figures.one_pass <= UNTOUCHED * figures.untouched
    assert figures.one_pass < figures.other
    assert figures.texture <= TEXTURE
