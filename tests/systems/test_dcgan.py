"""DCGAN trains with batch norms apart, keeps them in its average, walks, and reckons with concepts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from sfumato.core.request import Edit, Generate, Images, Video, Walk
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, TrainConfig
from sfumato.core.trainer import Trainer
from sfumato.data.dataset import Facts
from sfumato.data.shapes.single import SingleShapes
from sfumato.errors import UsageError
from sfumato.nn.dcgan import DCGANNetsConfig
from sfumato.systems.gans import dcgan
from sfumato.systems.gans.dcgan import DCGAN, DCGANConfig, read_terms

TINY = DCGANConfig(DCGANNetsConfig(3, 12, 20, latent=6, generator=(8, 6), critic=(4, 8)), chunk=5)


@pytest.fixture
def system() -> DCGAN:
    torch.manual_seed(0)
    return DCGAN(TINY).eval()


@pytest.fixture(autouse=True)
def few(monkeypatch) -> None:
    """Concepts are sought among fewer pictures."""
    monkeypatch.setattr(dcgan, "SEARCHED", 128)


def batch(count: int) -> Batch:
    x = Rng.training(1, 0, range(count)).normal(3, 12, 20).tanh()
    return Batch({"image": x}, Rng.training(0, 0, range(count)))


def test_it_takes_the_size_of_the_data():
    config = DCGAN.fit(TINY, Facts("odd", 1, 9, 14, frozenset({"image"})))
    assert (config.network.channels, config.network.height, config.network.width) == (1, 9, 14)
    *_, answer = DCGAN(config).eval().run(Generate(count=2))
    assert isinstance(answer, Images)
    assert answer.pixels.shape == (2, 1, 9, 14)


def test_real_examples_and_fakes_are_normalised_apart(system):
    """Section 3 and every port since: a batch of both would give the critic's batch norm the answer."""
    seen: list[int] = []
    norm = next(layer for layer in system.critic.modules() if isinstance(layer, nn.BatchNorm2d))
    norm.register_forward_pre_hook(lambda _, x: seen.append(len(x[0])))
    players = [loss.player for loss in system.train().losses(batch(7), 0)]
    assert players == ["critic", "generator"]
    assert seen == [7, 7, 7]


def test_the_generator_sees_the_critic_after_its_move(system):
    stream = system.losses(batch(4), 0)
    next(stream)
    with torch.no_grad():
        system.critic.main[-1].weight.zero_()
    assert float(next(stream).value.detach()) == pytest.approx(0.6931, abs=1e-4)


def test_the_average_holds_the_moments_of_batch_norms():
    data = SingleShapes("train", 16, length=32)
    torch.manual_seed(0)
    system = DCGAN(DCGAN.fit(TINY, data.facts))
    train = TrainConfig(steps=6, batch=8, ema=0.5, precision="fp32")
    trainer = Trainer(system, data, train, device=torch.device("cpu"))
    for _ in trainer.run():
        pass
    norm = system.generator.main[1]
    live = norm.running_mean.clone()
    with trainer.averaged():
        kept = norm.running_mean.clone()
        assert int(norm.num_batches_tracked) == 6
    assert kept.any()
    assert not torch.equal(kept, live)
    assert torch.equal(norm.running_mean, live)


def test_a_walk_passes_through_its_keys(system):
    *_, film = system.run(Walk(count=3, seed=4, frames=4, way="lerp"))
    *_, keys = system.run(Generate(count=3, seed=4))
    assert isinstance(film, Video)
    assert isinstance(keys, Images)
    assert film.pixels.shape == (1, 9, 3, 12, 20)
    assert torch.allclose(film.pixels[0, ::4], keys.pixels, atol=1e-5)
    assert film.seeds == (4, 5, 6)
    *_, loop = system.run(Walk(count=3, seed=4, frames=4, loop=True))
    assert isinstance(loop, Video)
    assert loop.pixels.shape[1] == 12


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 0}, "at least 1 picture and 1 frame, got 0 and 16"),
        ({"images": torch.zeros(2, 3, 12, 20)}, "cannot take pictures in; leave them out"),
        ({"truncation": 0.5}, "has no truncation; leave it out"),
        ({"label": 1}, "trained without labels; leave the label out"),
    ],
)
def test_walks_it_cannot_go(system, wrong, message):
    with pytest.raises(UsageError, match=message):
        list(system.run(Walk(**wrong)))


def test_terms_of_latent_arithmetic():
    assert read_terms("Red Circle -red  square+ blue square") == [
        (1.0, "red circle"),
        (-1.0, "red square"),
        (1.0, "blue square"),
    ]
    assert read_terms("- ring + star") == [(-1.0, "ring"), (1.0, "star")]
    with pytest.raises(UsageError, match="Unknown colour or shape 'cirle'; did you mean 'circle'"):
        read_terms("red cirle")
    with pytest.raises(UsageError, match="'red - - blue' is no sum of concepts"):
        read_terms("red - - blue")


class Painter(nn.Module):
    """A generator whose latent says what it paints: nearest of three real pictures."""

    def __init__(self, rows: list[int]):
        super().__init__()
        self.register_buffer("known", SingleShapes("test", 32, length=64).batch(torch.tensor(rows))["image"])

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.known[z[:, : len(self.known)].argmax(1)]


def test_concepts_are_found_and_reckoned_with():
    """Three pictures are known, each the one where its own latent number is largest."""
    data = SingleShapes("test", 32, length=64)
    scenes = data.scenes(torch.arange(64))
    rows = [0, 1, 2]
    names = [f"{dcgan.COLOURS[scenes.colour[i, 0]]} {dcgan.SHAPES[scenes.shape[i, 0]]}" for i in rows]
    assert len(set(names)) == 3
    system = DCGAN(replace(TINY, network=replace(TINY.network, height=32, width=32))).eval()
    system.generator = Painter(rows)
    found, notes = system.find(names)
    assert notes == ()
    for k, name in enumerate(names):
        assert found[name][:3].argmax() == k

    *_, answer = system.run(Edit(prompt=f"{names[0]} - {names[0]} + {names[2]}", count=3, seed=1))
    assert isinstance(answer, Images)
    assert torch.equal(answer.pixels, system.generator.known[2:].expand(3, -1, -1, -1))
    *_, unmoved = system.run(Edit(prompt=f"{names[1]} - {names[0]} + {names[2]}", count=2, strength=0.0))
    assert isinstance(unmoved, Images)
    assert torch.equal(unmoved.pixels, system.generator.known[1:2].expand(2, -1, -1, -1))


def test_what_a_model_hardly_shows_is_said(system):
    *_, answer = system.run(Edit(prompt="red circle - circle", count=1))
    assert isinstance(answer, Images)
    assert answer.notes[0] == "Hardly any picture of this model shows 'red circle'; the result means little."
    with pytest.raises(UsageError, match="cannot take pictures in"):
        list(system.run(Edit(prompt="red", images=torch.zeros(1, 3, 12, 20))))
