"""PFGM's field against the sum over charges, and against the denoiser of PFGM++ with one dimension added."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.core.charges import Charges
from sfumato.core.kernels import StudentT
from sfumato.core.process import Karras, Process
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.errors import UsageError
from sfumato.nn.condition import Condition
from sfumato.nn.unet import UNetConfig
from sfumato.systems.diffusion.pfgm import GAMMA, PFGM, Field, PFGMConfig, field_target

SMALL = UNetConfig(widths=(8, 16), blocks=(1,), groups=4, middle_attention=False)
LEARNS_FIELD = PFGMConfig(channels=2, height=4, width=6, network=SMALL, loss="field")


def above(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    charges = torch.randn(7, 2, 1, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(count, 2, 1, 3, generator=generator, dtype=torch.float64)
    return x, torch.rand(count, generator=generator, dtype=torch.float64) + 0.1, charges


def test_the_target_points_against_the_field_of_the_charges():
    """Xu et al. 2022, eq. 3, summed as it stands."""
    x, z, charges = above(5)
    flat = torch.cat([x.flatten(1), z[:, None]], 1)
    plate = torch.cat([charges.flatten(1), torch.zeros(7, 1, dtype=torch.float64)], 1)
    apart = flat[:, None] - plate
    field = (apart / apart.norm(dim=2, keepdim=True) ** 7).sum(1)
    along, down = field_target(x, z, charges)
    ours = torch.cat([along.flatten(1), down[:, None]], 1)
    assert torch.nn.functional.cosine_similarity(ours, -field).min() > 1 - 1e-12
    assert bool((ours.norm(dim=1) < 6**0.5).all()), "normalised"
    far = field_target(x + 1e4, z, charges)[0].flatten(1).norm(dim=1)
    assert torch.allclose(far, torch.full_like(far, 6**0.5), rtol=1e-3)


class Told(nn.Module):
    """A U-Net that gives the true field."""

    def __init__(self, charges: torch.Tensor, data_std: float):
        super().__init__()
        self.charges, self.data_std = charges, data_std
        self.anchor = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x, clock, cond):
        z = (4 * clock.double()).exp()
        scale = (z.square() + self.data_std**2).rsqrt().view(-1, 1, 1, 1)
        along, down = field_target(x / scale, z, self.charges)
        return torch.cat([along, down.view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])], 1)


def test_a_network_of_the_field_answers_as_the_denoiser_of_pfgmpp():
    x, z, charges = above(5)
    process = Process(Karras(), StudentT(1.0))
    network = Field(SMALL, 0.5)
    network.unet = Told(charges, 0.5)
    exact = Charges(charges, process)(x, process.schedule.when(z)).x0
    assert torch.allclose(network(x, z.log() / 4, Condition()), exact, atol=1e-8)


def test_training_points_reach_from_the_data_to_the_far_end():
    system = PFGM(LEARNS_FIELD)
    y = torch.zeros(2000, 2, 4, 6)
    x, z = system._perturbed(y, Rng.training(0, 0, range(2000)))
    length = x.flatten(1).norm(dim=1)
    assert 1e-3 < length.median() < 40
    assert length.min() < 0.1
    assert 20 < z.max() < 200
    assert (z > 0).all()


def test_the_loss_vanishes_for_the_true_field_alone():
    system = PFGM(LEARNS_FIELD)
    y = torch.randn(4, 2, 4, 6, generator=torch.Generator().manual_seed(1))
    system.denoiser.network.unet = Told(y.double(), LEARNS_FIELD.data_std)
    [loss] = system.losses(Batch({"image": y}, Rng.training(0, 0, range(4))), 0)
    assert loss.value.item() < 1e-6
    system.denoiser.network.unet = Told(y.double() + 3, LEARNS_FIELD.data_std)
    [loss] = system.losses(Batch({"image": y}, Rng.training(0, 0, range(4))), 0)
    assert loss.value.item() > 0.01
    assert set(loss.parts) == {"x", "z"}
    assert GAMMA == 5


def test_a_field_knows_no_labels():
    with pytest.raises(UsageError, match="knows no labels"):
        PFGM(PFGMConfig(loss="field", by_label=True))
