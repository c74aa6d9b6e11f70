"""T5 on stories of shapes: it finds what was left out, and its states know which object a word belongs to."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.t5 import filled, probed
from sfumato.systems.text.t5 import T5

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]


def test_a_language_is_learned_from_texts_alone(tmp_path):
    system = sfumato.train("t5", "laptop", out=tmp_path / "run", quiet=True)
    assert isinstance(system, T5)
    found, whole, alone = filled(system), probed(system), probed(system, alone=True)
    print(found, whole, alone, sep="\n")
    assert found.right >= found.frequent + 0.5
    assert whole.first >= 0.95
    assert whole.shape >= alone.shape + 0.5
    assert alone.first < 0.6, "words alone do not know where they stand"
