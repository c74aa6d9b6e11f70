"""Digits by label, the same network at the same cost under four other processes, pass DDPM's gate."""

from __future__ import annotations

import pytest
import torch

import sfumato
from sfumato.core.request import Generate, Images
from sfumato.metrics.report import DIGITS_LIMITS, digits_gate

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

COUNT = 600
FIRST_SEED = 1_000_000


@pytest.mark.parametrize("system", ["edm", "flow", "pfgmpp", "yukawa"])
def test_digits_by_label_pass_the_gate(system, tmp_path):
    trained = sfumato.train(system, "digits", out=tmp_path / "run", quiet=True)
    *_, answer = trained.run(Generate(count=COUNT, seed=FIRST_SEED, label=tuple(range(10))))
    assert isinstance(answer, Images)
    rows = {row.metric: row for row in digits_gate(answer.pixels.cpu(), torch.arange(COUNT) % 10)}
    for row in rows.values():
        print(f"{row.metric}: {row.value:.3f} (limit {row.limit}, control {row.control}, real {row.real})")
    assert DIGITS_LIMITS.keys() <= rows.keys()
    assert not [row for row in rows.values() if row.passed is False]
