"""A fast style takes unseen photographs in one pass as far as some fifteen closures of a search do."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.painted import of_fast

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

UNTOUCHED = 0.35
"""Most of the objective of the untouched photograph that may be left; .25 was reached."""
SEARCH = 3.5
"""Times the objective that 50 closures reach; 2.7 was. The paper's networks, trained for hours, reach 1."""


def test_the_preset_reaches_its_figures(tmp_path):
    style, other = (
        sfumato.train("faststyle", out=tmp_path / name, quiet=True, settings={"style": f"texture:{number}"})
        for name, number in (("style", 19), ("other", 26))
    )
    figures, _ = of_fast(style.float(), other.float())
    print(figures)
    assert figures.one_pass <= SEARCH * figures.search
    assert figures.one_pass <= UNTOUCHED * figures.untouched
    assert figures.one_pass < figures.other
