"""A classifier of noisy digits leads a denoiser that is told nothing to the digit asked for."""

from __future__ import annotations

import pytest
import torch

import sfumato
from sfumato.core import bound, guidance
from sfumato.core.request import Generate, Images
from sfumato.core.rng import Rng
from sfumato.data import open_data
from sfumato.metrics.report import digits_gate
from sfumato.nn.condition import Condition
from sfumato.systems.diffusion.adm import ADM

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

COUNT = 600
FIRST_SEED = 1_000_000


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    return sfumato.train("adm", "digits", out=tmp_path_factory.mktemp("runs") / "run", quiet=True)


def accuracy(system, scale: float) -> float:
    request = Generate(count=COUNT, seed=FIRST_SEED, label=tuple(range(10)), guidance=scale)
    *_, answer = system.run(request)
    assert isinstance(answer, Images)
    rows = digits_gate(answer.pixels.cpu(), torch.arange(COUNT) % 10)
    for row in rows:
        print(f"guidance {scale:g}: {row.metric}: {row.value:.3f} (control {row.control}, real {row.real})")
    return next(row.value for row in rows if row.metric == "Accuracy of labels")


def test_the_classifier_leads_to_its_class(system):
    assert accuracy(system, system.config.guidance) >= 0.90
    assert accuracy(system, 0.0) < 0.2


def test_the_learned_variance_costs_no_more_bits_than_the_fixed_one(system):
    """With 25 steps, on pictures it has not learned from (improved DDPM, section 3.4)."""
    assert isinstance(system, ADM)
    images = open_data("digits", split="test", size=8).batch(torch.arange(200))["image"]
    process = system.config.process
    denoise = guidance.clipped(guidance.conditioned(system.denoiser, Condition()))
    times = process.schedule.grid(25, "leading")
    bits = {}
    for variance in ("small", "large", "learned"):
        terms = bound.bits(denoise, process, images, times, Rng.sampling(0, 200), variance)
        bits[variance] = torch.stack(list(terms)).sum(0).mean().item()
        print(f"{variance}: {bits[variance]:.3f} bits a number")
    assert bits["learned"] <= bits["small"]
    assert bits["learned"] <= bits["large"]
