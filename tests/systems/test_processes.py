"""Systems that differ from DDPM by their process alone: what each adds, and what its kernel forbids."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfumato.core.kernels import StudentT, Yukawa
from sfumato.core.process import Karras, Process
from sfumato.core.request import Generate
from sfumato.core.rng import Rng
from sfumato.core.solvers import Churn
from sfumato.core.system import Batch
from sfumato.errors import UsageError
from sfumato.nn.condition import Condition
from sfumato.nn.unet import UNetConfig
from sfumato.systems.diffusion.edm import EDM, EDMConfig
from sfumato.systems.diffusion.pfgmpp import PFGMPP, PFGMPPConfig

NETWORK = UNetConfig(widths=(8, 16), blocks=(1,), groups=4, middle_attention=False)
PLAIN = EDMConfig(channels=2, height=4, width=6, network=NETWORK, steps=4)


def answer(config: EDMConfig, **request: object) -> torch.Tensor:
    torch.manual_seed(0)
    system = EDM(config).eval()
    with torch.no_grad():
        *_, result = system.run(Generate(**{"count": 2, "seed": 3} | request))
    return result.pixels


def test_churn_adds_fresh_noise_where_it_is_asked_to():
    plain = answer(PLAIN)
    assert torch.equal(plain, answer(replace(PLAIN, churn=Churn(amount=0.0))))
    churned = answer(replace(PLAIN, churn=Churn(low=0.0, high=100.0)))
    assert not torch.equal(plain, churned)
    assert torch.equal(churned, answer(replace(PLAIN, churn=Churn(low=0.0, high=100.0))))


def test_heavy_tails_take_no_fresh_noise():
    config = PFGMPPConfig(channels=2, height=4, width=6, network=NETWORK)
    with pytest.raises(UsageError, match="sums of StudentT noise"):
        list(PFGMPP(config).run(Generate(count=1, steps=3, solver="ancestral")))


@pytest.mark.parametrize("kernel", [StudentT(64.0), Yukawa(10.0), Yukawa(0.5, "field")])
def test_the_loss_of_every_kernel_vanishes_for_its_own_answer(kernel):
    """The network's target moves with the noise: a network that is right about ``moved`` has no loss."""
    config = replace(PLAIN, process=Process(Karras(sigma_min=0.01, sigma_max=20.0), kernel))
    system = EDM(config)
    x0 = torch.randn(3, 2, 4, 6, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
    process = config.process
    n = process.draw(x0, t, Rng.sampling(7, 3))
    alpha, sigma = process.coefficients(t, x0)
    x = alpha * x0 + sigma * n
    start, _ = kernel.moved(x0, n, process.ratio(t))
    denoiser = system.denoiser
    skip, out, _ = denoiser._scales(t, x)
    right = ((start - skip * x) / out).detach()
    anchor = next(denoiser.network.parameters())
    denoiser.network.forward = lambda x, clock, cond: right + 0 * anchor.sum()
    assert denoiser.loss(x0, t, Condition(), Rng.sampling(7, 3)).item() < 1e-6
    denoiser.network.forward = lambda x, clock, cond: right + 1 + 0 * anchor.sum()
    assert denoiser.loss(x0, t, Condition(), Rng.sampling(7, 3)).item() == pytest.approx(1, rel=1e-2)


def test_systems_learn_from_a_batch():
    [loss] = EDM(PLAIN).losses(Batch({"image": torch.zeros(3, 2, 4, 6)}, Rng.training(0, 0, range(3))), 0)
    assert loss.value.isfinite()
