"""ADM: the bound teaches the variance alone, and the classifier pulls towards its class."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfumato.core.process import Karras, Process
from sfumato.core.request import Generate, Images
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.digits import Digits
from sfumato.errors import UsageError
from sfumato.nn.noised_classifier import NoisedClassifier, NoisedClassifierConfig
from sfumato.systems.diffusion.adm import ADM

CONFIG = ADM.fit(ADM.presets["digits"].config, Digits().facts)


@pytest.fixture
def adm() -> ADM:
    torch.manual_seed(0)
    system = ADM(CONFIG)
    for p in system.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)
    return system.eval()


def batch(rows: int = 5) -> Batch:
    return Batch(Digits().batch(torch.arange(rows)), Rng.training(0, 0, range(rows)))


def test_the_bound_teaches_the_variance_and_the_error_the_noise(adm):
    out = adm.denoiser.network.conv_out
    for share, (noise, variance) in ((0.0, (True, False)), (1e6, (True, True))):
        adm.config = replace(CONFIG, bound=share)
        loss, _ = adm.losses(batch(), 0)
        (gradient,) = torch.autograd.grad(loss.value, out.weight)
        halves = gradient.chunk(2)
        assert (bool(halves[0].any()), bool(halves[1].any())) == (noise, variance)
    adm.config = replace(CONFIG, bound=1e6)
    loss, _ = adm.losses(batch(), 0)
    (with_bound,) = torch.autograd.grad(loss.value, out.weight)
    adm.config = replace(CONFIG, bound=0.0)
    loss, _ = adm.losses(batch(), 0)
    (without,) = torch.autograd.grad(loss.value, out.weight)
    assert torch.equal(with_bound.chunk(2)[0], without.chunk(2)[0])


def test_each_player_learns_from_its_own_loss(adm):
    assert [loss.player for loss in adm.losses(batch(), 0)] == ["denoiser", "classifier"]


def test_guidance_raises_what_the_classifier_says_of_the_class(adm):
    def chance(scale: float) -> float:
        request = Generate(count=16, steps=20, label=tuple(range(10)), guidance=scale)
        *_, answer = adm.run(request)
        assert isinstance(answer, Images)
        t = torch.full((16,), 0.001, dtype=torch.float64)
        logits = adm.logits(answer.pixels, t).log_softmax(1)
        return logits[torch.arange(16), torch.arange(16) % 10].mean().item()

    with torch.no_grad():
        assert chance(50.0) > chance(0.0) + 0.01


def test_it_needs_labels_and_counted_steps():
    with pytest.raises(UsageError, match="give data with labels"):
        ADM.fit(CONFIG, replace(Digits().facts, classes=()))
    with pytest.raises(UsageError, match="choose a schedule of betas"):
        ADM(replace(CONFIG, process=Process(Karras())))


def test_the_classifier_takes_odd_pictures_and_knows_the_time():
    body = replace(CONFIG.classifier, in_channels=2)
    net = NoisedClassifier(NoisedClassifierConfig(body, classes=7, height=6, width=10))
    x = torch.randn(3, 2, 6, 10)
    for p in net.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)
    early, late = (net(x, torch.full((3,), k)) for k in (1.0, 900.0))
    assert early.shape == (3, 7)
    assert not torch.allclose(early, late, atol=1e-3)
    with pytest.raises(UsageError, match="6 x 10 alone, got 6 x 8"):
        net(x[..., :8], torch.ones(3))
