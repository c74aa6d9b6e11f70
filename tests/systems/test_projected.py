"""Projected GAN: frozen eyes stay frozen and out of the checkpoint, while gradients pass through them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfumato.core.request import Generate, Images, Video, Walk
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.shapes.single import SingleShapes
from sfumato.nn.dcgan import DCGANNetsConfig
from sfumato.nn.fastgan import FastGANConfig
from sfumato.systems.gans.projected import ProjectedConfig, ProjectedGAN, _eyes

TINY = ProjectedConfig(
    DCGANNetsConfig(height=20, width=28, latent=5, generator=(8, 4)), "shapes", side=24, width=2, inner=4
)
FAST = FastGANConfig(height=20, width=28, latent=5, features=2)


def batch(count: int = 4) -> Batch:
    image = SingleShapes(size=28).batch(torch.arange(count))["image"][:, :, :20]
    return Batch({"image": image}, Rng.training(0, 0, range(count)))


def built(config: ProjectedConfig) -> ProjectedGAN:
    torch.manual_seed(0)
    return ProjectedGAN(config)


def test_gradients_reach_the_generator_and_nothing_that_is_frozen():
    system, eyes = built(TINY), _eyes("shapes", True, "cpu")
    frozen = {name: p.clone() for name, p in system.critic.projection.named_parameters()}
    critic, generator = list(system.losses(batch(), 0))
    critic.value.backward(inputs=system.players()["critic"].parameters())
    assert all(p.grad is None for p in system.generator.parameters())
    generator.value.backward(inputs=system.players()["generator"].parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in system.generator.parameters())
    assert all(p.grad is None for p in [*eyes.parameters(), *system.critic.projection.parameters()])
    now = dict(system.critic.projection.named_parameters())
    assert all(torch.equal(p, now[name]) for name, p in frozen.items())


def test_the_eyes_belong_to_no_checkpoint_and_are_never_the_judge():
    system = built(TINY)
    list(system.losses(batch(), 0))
    names = {name.split(".")[0] for name in system.state_dict()}
    assert names == {"generator", "critic"}
    eyes = _eyes("shapes", True, "cpu")
    assert not eyes.judge
    assert not eyes.training
    system.train()
    assert not eyes.training


def test_the_untrained_control_differs_and_is_the_same_again():
    one, other = _eyes("shapes", False, "cpu"), _eyes("shapes", True, "cpu")
    _eyes.cache_clear()
    again = _eyes("shapes", False, "cpu")
    pixels = batch()["image"]
    assert torch.equal(one.stages(pixels, 24)[-1], again.stages(pixels, 24)[-1])
    assert not torch.allclose(one.stages(pixels, 24)[-1], other.stages(pixels, 24)[-1])


@pytest.mark.parametrize(
    "change",
    [
        {"mixing": "none"}, {"mixing": "channels"}, {"augment": False}, {"trained": False},
        {"generator": FAST},
    ],
)  # fmt: skip
def test_every_configuration_plays(change):
    system = built(replace(TINY, **change))
    for loss in system.losses(batch(), 0):
        assert loss.value.isfinite()
    *_, answer = system.eval().run(Generate(count=2, seed=3))
    assert isinstance(answer, Images)
    assert answer.pixels.shape == (2, 3, 20, 28)


def test_real_pictures_that_score_high_please_the_critics():
    system = built(TINY)
    moving, losses = system.players()["critic"].parameters(), []
    for step in range(12):
        losses.append(next(system.losses(batch(), step)).value)
        with torch.no_grad():
            for p, gradient in zip(moving, torch.autograd.grad(losses[-1], moving), strict=True):
                p -= 0.05 * gradient
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("generator", [TINY.generator, FAST])
def test_a_walk_starts_at_the_picture_of_its_seed(generator):
    system = built(replace(TINY, generator=generator)).eval()
    *_, film = system.run(Walk(count=2, seed=3, frames=3))
    *_, answer = system.run(Generate(count=1, seed=3))
    assert isinstance(film, Video)
    assert isinstance(answer, Images)
    assert film.pixels.shape == (1, 4, 3, 20, 28)
    assert film.seeds == (3, 4)
    assert (film.pixels[0, 0] - answer.pixels[0]).abs().max() < 1e-5
