"""SRResNet and SRGAN: their losses by hand, tiles that leave no seam, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from sfumato.core.request import Images, Progress, Upscale
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.dataset import Facts
from sfumato.errors import DataError, UsageError
from sfumato.metrics.oracle import training_oracle
from sfumato.nn.srresnet import SRResNetConfig, enlarged, reduced
from sfumato.systems.gans.srgan import SRGAN, SRGANConfig, folding, perceptual_loss, turned, whole_levels

NETWORK = SRResNetConfig(width=6, blocks=1, kernel=3, norm=False, skip="bicubic")
RESNET = SRGANConfig(NETWORK)
GAME = SRGANConfig(NETWORK, adversarial=0.3, perceptual=0.2, critic=4, critic_norm=False)
X = torch.rand(2, 3, 21, 34, generator=torch.Generator().manual_seed(0)) * 2 - 1


def system(config: SRGANConfig) -> SRGAN:
    torch.manual_seed(1)
    built = SRGAN(config)
    nn.init.normal_(built.network.conv_last.weight, std=0.05)
    return built


def batch(x: Tensor = X) -> Batch:
    return Batch({"image": x}, Rng.training(0, 0, range(len(x))))


def answer(system: SRGAN, x: Tensor) -> tuple[list[Progress], Tensor]:
    *steps, result = system.run(Upscale(images=x, count=len(x)))
    assert isinstance(result, Images)
    return steps, result.pixels


def test_srresnet_descends_the_squared_error_alone():
    resnet = system(RESNET)
    assert resnet.players().keys() == {"generator"}
    [loss] = resnet.losses(batch(), 0)
    large = turned(X[:, :, :20, :32], batch().rng)
    small = ((reduced(large).clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    assert torch.allclose(loss.value, (resnet.network(small) - large).square().mean())


def test_srgan_plays_against_a_critic_that_moves_first():
    gan = system(GAME)
    critic, generator = gan.losses(batch(), 0)
    assert (critic.player, generator.player) == ("critic", "generator")
    large = turned(folding(X), batch().rng)
    made = gan.network(whole_levels(reduced(large)))
    real, fake = gan.critic(large), gan.critic(made)
    one, zero = torch.ones_like(real), torch.zeros_like(real)
    assert torch.allclose(critic.value, bce(real, one) + bce(fake, zero))
    assert torch.allclose(generator.parts["game"], 0.3 * bce(fake, one))
    assert torch.allclose(generator.parts["pixel"], (made - large).square().mean())
    wanted = 0.2 * perceptual_loss(training_oracle(), made, large)
    assert torch.allclose(generator.parts["perceptual"], wanted)
    gradient = torch.autograd.grad(critic.value, list(gan.network.parameters()), allow_unused=True)
    assert gradient == (None,) * len(gradient), "the critic's loss must not reach the generator"


@pytest.mark.parametrize(("width", "ways"), [(6, 8), (7, 4)])
def test_pictures_are_seen_from_all_sides(width, ways):
    x = torch.arange(6.0 * width).view(1, 1, 6, width).expand(200, -1, -1, -1)
    seen = turned(x, Rng.training(0, 0, range(200)))
    assert len(seen.unique(dim=0)) == ways
    assert torch.equal(seen.flatten(1).sort().values, x.flatten(1))
    changes = {(one.diff(dim=1).mean().item(), one.diff(dim=2).mean().item()) for one in seen}
    sides = {(a * width, b * 1.0) for a in (-1, 1) for b in (-1, 1)}
    assert changes == (sides | {(b, a) for a, b in sides} if ways == 8 else sides)


def test_what_the_frozen_network_sees_tells_pictures_apart():
    oracle, real = training_oracle(), folding(X)
    assert perceptual_loss(oracle, real, real) == 0
    near = perceptual_loss(oracle, real + 0.05 * torch.randn_like(real), real)
    assert 0 < near < perceptual_loss(oracle, real.flip(3), real)
    assert perceptual_loss(oracle, real[:, :1], real[:, 1:2]) > 0


@pytest.mark.parametrize("norm", [False, True])
def test_tiles_leave_no_seam(norm):
    network = replace(NETWORK, norm=norm, kernel=5)
    whole, tiled = (system(replace(RESNET, network=network, tile=side)).eval() for side in (64, 11))
    tiled.load_state_dict(whole.state_dict())
    steps, expected = answer(whole, X)
    assert [step.done for step in steps] == [0.5, 1]
    assert expected.shape == (2, 3, 84, 136)
    steps, pixels = answer(tiled, X[:1])
    assert (pixels - expected[:1]).abs().max() < 1e-5
    assert [step.done for step in steps] == [k / 8 for k in range(1, 9)]


def test_untrained_it_answers_as_the_bicubic_filter():
    pixels = answer(SRGAN(RESNET).eval(), X)[1]
    assert torch.allclose(pixels, enlarged(X, "bicubic").clamp(-1, 1), atol=1e-6)


def test_srgan_starts_from_an_srresnet():
    resnet, gan = system(RESNET), SRGAN(GAME)
    gan.adopt(resnet)
    assert all(map(torch.equal, gan.network.parameters(), resnet.network.parameters()))
    with pytest.raises(DataError, match="starts from an SRResNet of its own shape, got a SRGAN that differs"):
        gan.adopt(system(replace(RESNET, network=replace(NETWORK, width=8))))


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="Tiles need at least 1 pixel a side, got 0; 128 is usual"):
        SRGAN(replace(RESNET, tile=0))
    with pytest.raises(
        UsageError, match="must have 8 pixels a side or more, got 6 x 40; give a larger --size"
    ):
        SRGAN.fit(RESNET, Facts("tiny", 3, 6, 40, frozenset({"image"})))
    with pytest.raises(UsageError, match="enlarges pictures of 3 channels, got 1; convert them first"):
        answer(system(RESNET), X[:, :1])
