"""zi2zi draws characters in fonts in which it never saw them, and turns printed Chinese into calligraphy."""

from __future__ import annotations

from pathlib import Path

import pytest

import sfumato
from benchmarks.lettering import figures
from sfumato.data import with_settings

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

COPIED, MEAN = 0.6, 0.9
"""Distance from the true glyph, of that of the source and of that of the font's mean glyph."""
READ, NAMED = 0.85, 0.8
"""Shares of drawn glyphs that are read as the right character, and named as of the right font."""
DEAF = 0.3
"""At most so many are named right without the embedding (chance .125)."""
ARPHIC = Path("/usr/share/fonts/truetype/arphic")
"""Where Debian's fonts-arphic-uming and fonts-arphic-ukai lie."""


def passes(found: dict[str, float]) -> None:
    print({name: round(value, 3) for name, value in found.items()})
    assert found["l1 to the source"] <= COPIED
    assert found["l1 to the mean glyph"] <= MEAN
    assert found["character read"] >= READ
    assert found["font named"] >= NAMED
    assert found["font named without embedding"] <= DEAF
    assert found["ways that rise"] >= 0.9


def test_the_shipped_model_draws_letters_it_never_saw():
    passes(figures("lettering"))


def test_the_preset_reaches_its_figures(tmp_path):
    sfumato.train("zi2zi", "laptop", out=tmp_path / "run", quiet=True)
    passes(figures(str(tmp_path / "run")))


@pytest.mark.skipif(not (ARPHIC / "ukai.ttc").exists(), reason="needs Debian's Chinese fonts")
def test_print_becomes_calligraphy(tmp_path):
    fonts = {"source": [str(ARPHIC / "uming.ttc")], "target": [str(ARPHIC / "ukai.ttc")]}
    sfumato.train(
        "zi2zi", "calligraphy", data=with_settings("font-files", fonts), out=tmp_path / "run", quiet=True
    )
    found = figures(str(tmp_path / "run"))
    print({name: round(value, 3) for name, value in found.items()})
    assert found["l1 to the source"] <= COPIED
    assert found["l1 to the mean glyph"] <= MEAN
