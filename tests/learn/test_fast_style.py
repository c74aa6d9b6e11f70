"""A fast style reaches in one pass what a search reaches in fifty, on photographs it never saw."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.painted import of_fast

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

UNTOUCHED = 0.35
"""Most of the objective of the untouched photograph that may be left."""


def test_the_preset_reaches_its_figures(tmp_path):
    style, other = (
        sfumato.train("faststyle", out=tmp_path / name, quiet=True, settings={"style": f"texture:{number}"})
        for name, number in (("style", 19), ("other", 26))
    )
    figures, _ = of_fast(style.float(), other.float())
    print(figures)
    assert figures.one_pass <= figures.search
    assert figures.one_pass <= UNTOUCHED * figures.untouched
    assert figures.one_pass < figures.other
