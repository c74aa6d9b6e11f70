"""Clothes by label, trained by their preset, are recognised by a classifier that knows real ones alone.

Needs the files of Fashion-MNIST: Debian's package dataset-fashion-mnist, or the directory that
``sfumato data fashion --allow-network`` fills.
"""

from __future__ import annotations

import pytest
import torch

import sfumato
from sfumato.core.request import Generate, Images
from sfumato.data.fashion import Fashion
from sfumato.metrics.classifier import fashion_classifier

pytestmark = [pytest.mark.learn, pytest.mark.timeout(14400)]

COUNT = 600
FIRST_SEED = 1_000_000


def test_the_judge_knows_real_clothes():
    test = Fashion("test", 32).batch(torch.arange(2000))
    assert fashion_classifier().accuracy(test["image"], test["label"]) >= 0.90


def test_generated_clothes_are_what_was_asked_for(tmp_path):
    system = sfumato.train("ddpm", "fashion", out=tmp_path / "run", quiet=True)
    *_, answer = system.run(Generate(count=COUNT, seed=FIRST_SEED, label=tuple(range(10))))
    assert isinstance(answer, Images)
    pixels, labels = answer.pixels.cpu(), torch.arange(COUNT) % 10
    judge = fashion_classifier()
    accuracy, control = judge.accuracy(pixels, labels), judge.accuracy(pixels, labels.roll(1))
    print(f"accuracy {accuracy:.3f}, with the labels of other pictures {control:.3f}, n {COUNT}")
    assert accuracy >= 0.85
    assert control < 0.2
