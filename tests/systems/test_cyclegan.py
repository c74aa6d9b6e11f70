"""CycleGAN: who judges whom, what comes home, what the critics remember, and which ways it goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfumato.core.request import Translate
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, TrainConfig
from sfumato.core.trainer import Trainer
from sfumato.data.dataset import Facts
from sfumato.data.domains import plain_to_striped
from sfumato.errors import UsageError
from sfumato.nn.patchgan import PatchCriticConfig
from sfumato.nn.resnet_translator import ResnetTranslatorConfig
from sfumato.systems.gans.cyclegan import CycleGAN, CycleGANConfig

SMALL = CycleGANConfig(
    channels=1,
    height=16,
    width=20,
    generator=ResnetTranslatorConfig(width=2, blocks=1),
    critic=PatchCriticConfig(width=2, layers=1, affine=False),
    history=3,
)


def batch(count: int = 2) -> Batch:
    a = torch.linspace(-1, 1, count * 16 * 20).view(count, 1, 16, 20).sin()
    return Batch({"a": a, "b": (3 * a).cos()}, Rng.training(0, 0, range(count)))


def test_losses_are_the_paper_s():
    system, given = CycleGAN(SMALL), batch()
    a, b = given["a"], given["b"]
    fake_a, fake_b = system.to_a(b), system.to_b(a)
    generators, critics = system.losses(given, 0)
    assert (generators.player, critics.player) == ("generators", "critics")
    game = (system.critic_b(fake_b) - 1).square().mean() + (system.critic_a(fake_a) - 1).square().mean()
    home = (system.to_a(fake_b) - a).abs().mean() + (system.to_b(fake_a) - b).abs().mean()
    still = (system.to_a(a) - a).abs().mean() + (system.to_b(b) - b).abs().mean()
    torch.testing.assert_close(generators.parts["game"], game)
    torch.testing.assert_close(generators.parts["cycle"], 10 * home)
    torch.testing.assert_close(generators.parts["identity"], 5 * still)
    judged = ((system.critic_b(b) - 1).square().mean() + system.critic_b(fake_b).square().mean()) / 2
    torch.testing.assert_close(critics.parts["b"], judged)


def test_no_gradient_crosses_to_the_other_player():
    system = CycleGAN(SMALL)
    _, critics = system.losses(batch(), 0)
    critics.value.backward()
    generators = [*system.to_a.parameters(), *system.to_b.parameters()]
    assert all(p.grad is None for p in generators)
    assert all(p.grad is not None for p in system.critic_a.parameters())


def test_critics_are_shown_past_fakes():
    system = CycleGAN(SMALL)
    list(system.losses(batch(3), 0))
    assert system.past_a.filled == 3
    torch.testing.assert_close(system.past_b.fakes, system.to_b(batch(3)["a"]))
    assert not system.past_b.fakes.requires_grad


def test_without_the_cycle_the_critics_alone_count():
    system = CycleGAN(replace(SMALL, cycle=0.0))
    generators, _ = system.losses(batch(), 0)
    assert set(generators.parts) == {"game", "cycle"}
    torch.testing.assert_close(generators.value, generators.parts["game"])


def test_it_goes_both_ways_by_the_domains_names():
    system = CycleGAN(replace(SMALL, domains=("plain", "striped"))).eval()
    assert system.directions == ("plain-to-striped", "striped-to-plain")
    x = batch()["a"]
    for direction, network in (
        ("", system.to_b),
        *zip(system.directions, (system.to_b, system.to_a), strict=True),
    ):
        *_, answer = system.run(Translate(images=x, count=2, direction=direction))
        assert (answer.pixels - network(x)).abs().max() < 1e-6
    with pytest.raises(UsageError, match="Unknown direction 'plain-to-stripe'; did you mean 'plain-to-"):
        list(system.run(Translate(images=x, direction="plain-to-stripe")))
    with pytest.raises(UsageError, match="Both domains are called 'a'; give them different names"):
        CycleGAN(replace(SMALL, domains=("a", "a")))


def test_it_takes_names_and_sizes_from_the_data():
    fitted = CycleGAN.fit(CycleGANConfig(), plain_to_striped(size=24).facts)
    assert (fitted.domains, fitted.height, fitted.width) == (("plain", "striped"), 24, 24)
    plain = Facts("odd", 1, 24, 40, frozenset({"a", "b"}))
    assert CycleGAN.fit(CycleGANConfig(), plain).domains == ("a", "b")


def test_one_way_cannot_learn():
    system = CycleGAN(replace(SMALL, one_way=True))
    assert not system.players()
    with pytest.raises(UsageError, match="CycleGAN has nothing to train"):
        Trainer(system, plain_to_striped(size=16), TrainConfig(steps=1))
