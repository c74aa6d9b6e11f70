"""The game's losses against closed forms, and every penalty against networks whose gradient is known."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import nn

from sfumato.core.adversarial import (
    Game,
    History,
    PathLength,
    clip_weights,
    critic_loss,
    generator_loss,
    gradient_penalty,
    r1,
)

GAMES = get_args(Game)


@pytest.mark.parametrize("game", GAMES)
def test_the_critic_gains_by_telling_apart(game):
    low, high = torch.full((3, 1, 2, 5), -0.8), torch.full((4, 1, 2, 5), 0.7)
    assert critic_loss(game, high, low) < critic_loss(game, low, high)
    assert generator_loss(game, high) < generator_loss(game, low)


@pytest.mark.parametrize("game", GAMES)
def test_twice_the_batch_is_the_same_loss(game):
    real, fake = torch.randn(5, 3), torch.randn(5, 3)
    assert torch.allclose(
        critic_loss(game, real, fake), critic_loss(game, *(x.repeat(2, 1) for x in (real, fake)))
    )
    assert torch.allclose(generator_loss(game, fake), generator_loss(game, fake.repeat(2, 1)))


def test_the_games_of_goodfellow_at_equilibrium():
    """D = 1/2 everywhere: the critic's value is -log 4 (theorem 1)."""
    even = torch.zeros(6, 1)
    assert math.isclose(critic_loss("minimax", even, even), math.log(4), rel_tol=1e-6)
    assert math.isclose(generator_loss("minimax", even), -math.log(2), rel_tol=1e-6)
    assert math.isclose(generator_loss("non_saturating", even), math.log(2), rel_tol=1e-6)


def test_a_confident_critic_leaves_the_minimax_generator_without_gradient():
    lost = torch.full((3,), -20.0, requires_grad=True)
    (saturating,) = torch.autograd.grad(generator_loss("minimax", lost), lost)
    (other,) = torch.autograd.grad(generator_loss("non_saturating", lost), lost)
    assert saturating.abs().max() < 1e-8
    assert (other + 1 / 3).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("game", "value"), [("hinge", 0.0), ("least_squares", 1.0 + 1.0), ("wasserstein", -4.0)]
)
def test_margins(game, value):
    assert (
        critic_loss(game, torch.full((3,), 2.0), torch.full((2,), -2.0 if game != "least_squares" else 1.0))
        == value
    )


def linear(weight: torch.Tensor):
    return lambda x: x.flatten(1) @ weight


def test_r1_of_a_linear_critic_is_the_squared_norm_of_its_weights():
    weight = torch.randn(3 * 4 * 7)
    assert torch.allclose(r1(linear(weight), torch.randn(5, 3, 4, 7)), weight.square().sum())


def test_gradient_penalty_of_linear_critics():
    weight = torch.randn(3 * 4 * 7)
    real, fake, share = torch.randn(5, 3, 4, 7), torch.randn(5, 3, 4, 7), torch.rand(5)
    penalty = gradient_penalty(linear(weight), real, fake, share)
    assert torch.allclose(penalty, (weight.norm() - 1).square())
    assert gradient_penalty(linear(weight / weight.norm()), real, fake, share) < 1e-10


def test_gradient_penalty_looks_between_real_and_fake_an_example():
    """The critic x^2 / 2 has gradient x: its norm tells where the penalty looked."""
    real, fake = torch.full((2, 1), 4.0), torch.full((2, 1), 1.0)
    penalty = gradient_penalty(lambda x: x.square() / 2, real, fake, torch.tensor([0.0, 1.0]))
    assert torch.allclose(penalty, torch.tensor((0.0 + 9.0) / 2))


def test_penalties_reach_the_critic_and_not_the_generator():
    critic, generator = nn.Sequential(nn.Linear(3, 5), nn.LeakyReLU(0.2), nn.Linear(5, 1)), nn.Linear(2, 3)
    fake = generator(torch.randn(7, 2))
    gradient_penalty(critic, torch.randn(7, 3), fake, torch.rand(7)).backward()
    assert critic[0].weight.grad is not None
    assert generator.weight.grad is None


def test_clipping_keeps_weights_in_a_box():
    net = nn.Linear(40, 3)
    before = net.weight.detach().clone()
    clip_weights(net, 0.05)
    assert torch.equal(net.weight, before.clamp(-0.05, 0.05))


def test_path_length_of_a_linear_generator():
    """For G(w) = A w the expected squared path length is |A|^2 / (h w)."""
    torch.manual_seed(0)
    a = torch.randn(3 * 4 * 5, 6) / 4
    styles = torch.randn(4000, 6, requires_grad=True)
    pixels = (styles @ a.T).view(-1, 3, 4, 5)
    noise = torch.randn(4000, 3, 4, 5)
    squares = (noise.flatten(1) @ a).square().sum(1) / 20
    assert torch.allclose(squares.mean(), a.square().sum() / 20, rtol=0.05)
    lengths = PathLength(decay=1.0)
    penalty = lengths(pixels, styles, noise)
    assert torch.allclose(lengths.mean, squares.sqrt().mean(), rtol=1e-4)
    assert torch.allclose(penalty, squares.sqrt().var(correction=0), rtol=1e-3)


def test_path_length_averages_over_layers():
    a, styles = torch.randn(2 * 3 * 5, 7), torch.randn(3, 4, 7, requires_grad=True)
    pixels, noise = (styles.mean(1) @ a.T).view(3, 2, 3, 5), torch.randn(3, 2, 3, 5)
    lengths = PathLength(decay=1.0)
    lengths(pixels, styles, noise)
    one = (noise.flatten(1) @ a / 4).norm(dim=1) / 15**0.5
    assert torch.allclose(lengths.mean, one.mean(), rtol=1e-4)


class TestHistory:
    def test_it_shows_what_is_new_until_it_is_full(self):
        history, fakes = History((2, 3), size=4), torch.randn(4, 2, 3)
        assert torch.equal(history(fakes, torch.zeros(4), torch.zeros(4)), fakes)
        assert torch.equal(history.fakes, fakes)

    def test_then_half_of_what_it_shows_is_past(self):
        history = History((1,), size=50)
        history(torch.zeros(50, 1), torch.zeros(50), torch.zeros(50))
        chance, place = torch.rand(2, 4000, generator=torch.Generator().manual_seed(0))
        shown = history(torch.arange(1.0, 4001.0).unsqueeze(1), chance, place).squeeze(1)
        fresh = (shown == torch.arange(1.0, 4001.0)).float().mean()
        assert abs(fresh - 0.5) < 0.03
        assert torch.equal(fresh, (chance >= 0.5).float().mean())

    def test_it_is_saved_and_lets_no_gradient_through(self):
        history = History((1,), size=2)
        fake = torch.ones(2, 1, requires_grad=True)
        assert not history(fake, torch.zeros(2), torch.zeros(2)).requires_grad
        assert history.state_dict()["filled"] == 2
