"""pix2pix: which player sees what, which way it goes, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from sfumato.core.optim import rate
from sfumato.core.request import Translate
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, OptimConfig
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.patchgan import PatchCriticConfig
from sfumato.nn.unet_p2p import TranslatorUNetConfig
from sfumato.systems.gans.pix2pix import Pix2Pix, Pix2PixConfig

SMALL = Pix2PixConfig(
    channels=1,
    generator=TranslatorUNetConfig(width=3, levels=3),
    critic=PatchCriticConfig(width=3, layers=1),
)


def batch(count: int = 2) -> Batch:
    source = torch.linspace(-1, 1, count * 16 * 24).view(count, 1, 16, 24).sin()
    return Batch({"source": source, "image": source.cos()}, Rng.training(0, 0, range(count)))


def test_the_critic_sees_source_and_picture_and_moves_first():
    system, given = Pix2Pix(SMALL), batch()
    x, y = given["source"], given["image"]
    fake = system.generator(x)
    real, made = (system.critic(torch.cat([x, z], 1)) for z in (y, fake))
    critic, generator = system.losses(given, 0)
    expected = (
        bce(real, torch.ones_like(real)) + bce(made, torch.zeros_like(made))
    ) / 2  # equation 1, halved
    torch.testing.assert_close(critic.value, expected)
    torch.testing.assert_close(generator.parts["game"], bce(made, torch.ones_like(made)))
    torch.testing.assert_close(generator.parts["l1"], 100 * (fake - y).abs().mean())


def test_no_gradient_crosses_to_the_other_player():
    system = Pix2Pix(SMALL)
    critic, generator = system.losses(batch(), 0)
    critic.value.backward()
    assert all(p.grad is None for p in system.generator.parameters())
    system.zero_grad()
    generator.value.backward(inputs=list(system.generator.parameters()))
    assert all(p.grad is None for p in system.critic.parameters())
    assert any(p.grad.any() for p in system.generator.parameters())


def test_a_larger_batch_of_the_same_changes_nothing():
    system = Pix2Pix(SMALL)
    one, two = batch(1), batch(1)
    twice = Batch({k: v.repeat(2, 1, 1, 1) for k, v in two.items()}, Rng.training(0, 0, range(2)))
    for a, b in zip(system.losses(one, 0), system.losses(twice, 0), strict=True):
        torch.testing.assert_close(a.value, b.value)


def test_without_the_game_the_distance_alone_counts():
    system = Pix2Pix(replace(SMALL, adversarial=0.0))
    _, generator = system.losses(batch(), 0)
    torch.testing.assert_close(generator.value, generator.parts["l1"])


def test_it_learns_backwards_too():
    given = batch()
    swapped = Batch({"source": given["image"], "image": given["source"]}, given.rng)
    torch.manual_seed(1)
    system = Pix2Pix(SMALL)
    back = Pix2Pix(replace(SMALL, backwards=True))
    back.load_state_dict(system.state_dict())
    for a, b in zip(system.losses(swapped, 0), back.losses(given, 0), strict=True):
        torch.testing.assert_close(a.value, b.value)


def test_it_fits_itself_to_small_pictures():
    facts = Facts("odd", 1, 24, 40, frozenset({"source", "image"}))
    fitted = Pix2Pix.fit(Pix2PixConfig(), facts)
    assert (fitted.channels, fitted.generator.levels) == (1, 4)
    assert Pix2Pix.fit(Pix2PixConfig(), replace(facts, height=512, width=600)).generator.levels == 8


def test_the_paper_s_learning_rate_falls_over_its_second_half():
    """200 epochs, the rate of the last 100 falling in a line to 0 (section 6.2 and the authors' code)."""
    config = Pix2Pix.presets["paper"].config.optim
    assert isinstance(config, OptimConfig)
    shares = [rate(config, step, 200) for step in (0, 99, 100, 150, 199)]
    assert shares == pytest.approx([1, 1, 1, 0.5, 0.01], abs=0.01)


def test_other_ways_are_refused():
    system = Pix2Pix(SMALL)
    with pytest.raises(UsageError, match="goes one way only, got direction 'b-to-a'; leave it out"):
        list(system.run(Translate(images=torch.zeros(1, 1, 16, 16), direction="b-to-a")))
