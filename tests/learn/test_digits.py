"""Digits by label, trained by their preset, pass the gate that tells digits from their imitation."""

from __future__ import annotations

import pytest
import torch

import sfumato
from sfumato.core.request import Generate, Images
from sfumato.metrics.report import DIGITS_LIMITS, digits_gate

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

COUNT = 600
FIRST_SEED = 1_000_000


def test_digits_by_label_pass_the_gate(tmp_path):
    system = sfumato.train("ddpm", "digits-by-label", out=tmp_path / "run", quiet=True)
    *_, answer = system.run(Generate(count=COUNT, seed=FIRST_SEED, label=tuple(range(10))))
    assert isinstance(answer, Images)
    rows = {row.metric: row for row in digits_gate(answer.pixels.cpu(), torch.arange(COUNT) % 10)}
    for row in rows.values():
        print(f"{row.metric}: {row.value:.3f} (limit {row.limit}, control {row.control}, real {row.real})")
    assert DIGITS_LIMITS.keys() <= rows.keys()
    assert not [row for row in rows.values() if row.passed is False]

    accuracy, precision = rows["Accuracy of labels"], rows["Precision (pixels)"]
    assert accuracy.control is not None
    assert accuracy.control < 0.2, "with the labels of other pictures it must be a guess"
    assert precision.control is not None
    assert precision.control < DIGITS_LIMITS["Precision (pixels)"], "the imitation must fail where we pass"
