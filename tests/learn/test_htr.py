"""Words that nobody has seen, by writers that nobody has seen, are read; on curved words the spline pays."""

from __future__ import annotations

from pathlib import Path

import pytest

import sfumato
from benchmarks.reading import errors, measured, read, unseen

pytestmark = [pytest.mark.learn, pytest.mark.timeout(14400)]

CER, ACCURACY = 0.10, 0.70
"""Of all characters at most, and of all words at least (n = 1000)."""
CONTROL = 0.6
"""Character error rate of other pictures' texts, at least."""
PAYS = 0.03
"""How much less of the characters of curved words is wrong with the spline."""


def passes(found: dict[str, float]) -> None:
    print({name: round(value, 4) for name, value in found.items()})
    assert found["cer"] <= CER
    assert found["accuracy"] >= ACCURACY
    assert found["cer"] < found["cer, templates"] / 2
    assert found["cer, writers seen"] <= found["cer"] + 2 * found["spread of cer"]
    assert found["cer, other texts"] >= CONTROL


def test_the_shipped_reader_reads_new_words_by_new_writers():
    passes(measured(sfumato.load("reader", precision="fp32")))


def test_the_preset_reaches_its_figures(tmp_path):
    passes(measured(sfumato.train("htr", "laptop", out=tmp_path / "run", quiet=True)))


def curved(preset: str, out: Path) -> float:
    """Character error rate on curved words."""
    found = errors(read(sfumato.train("htr", preset, out=out, quiet=True), unseen("curved-words")))
    print(preset, f"cer {found.cer:.4f} +- {found.spread_of_cer():.4f}, accuracy {found.accuracy:.4f}")
    return found.cer


def test_the_spline_pays_on_words_that_lean_and_bow_more_than_those_learned_from(tmp_path):
    rates = {preset: curved(preset, tmp_path / preset) for preset in ("laptop", "no-tps", "ctc")}
    assert rates["no-tps"] - rates["laptop"] >= PAYS
    assert rates["ctc"] < CONTROL
