"""CGAN is told the label: both networks, at every layer; fakes are judged by the label they were told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfumato.core.request import Generate, Images, Video, Walk
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.dcgan import DCGANNetsConfig
from sfumato.systems.gans.cgan import CGAN, CGANConfig

NAMES = ("plain", "wavy", "loud")
NETS = DCGANNetsConfig(2, 12, 20, latent=6, generator=(8, 6), critic=(4, 8))
TINY = CGANConfig(NETS, classes=NAMES, chunk=4)


@pytest.fixture
def system() -> CGAN:
    torch.manual_seed(0)
    return CGAN(TINY).eval()


def pictures(system: CGAN, **asked: object) -> torch.Tensor:
    *_, answer = system.run(Generate(**asked))  # type: ignore[arg-type]
    assert isinstance(answer, Images)
    return answer.pixels


def test_it_learns_the_classes_of_the_data():
    config = CGAN.fit(TINY, Facts("odd", 1, 9, 14, frozenset({"image", "label"}), classes=("a", "b")))
    assert config.classes == ("a", "b")
    system = CGAN(config)
    assert system.generator.main[0].weight.shape[0] == 6 + 2
    assert system.critic.main[0].weight.shape[1] == 1 + 2
    with pytest.raises(UsageError, match="'mute' has none; give labelled data"):
        CGAN.fit(TINY, Facts("mute", 1, 9, 14, frozenset({"image"})))


def test_the_label_changes_the_picture_and_nothing_else_does(system):
    assert not torch.allclose(*(pictures(system, count=1, label=k) for k in (0, 2)), atol=1e-4)
    assert torch.equal(pictures(system, count=3, label="wavy"), pictures(system, count=3, label=1))
    turns = pictures(system, count=5, seed=2, label=("loud", 0))
    assert torch.allclose(turns[4:], pictures(system, count=1, seed=6, label=2), atol=1e-5)
    assert len(pictures(system, count=9)) == 9


def test_fakes_are_judged_by_the_label_they_were_told(system):
    """With the labels of the batch changed, every part of the game changes."""
    x = Rng.training(1, 0, range(4)).normal(2, 12, 20)
    values = []
    for labels in ([0, 1, 2, 0], [1, 2, 0, 1]):
        batch = Batch({"image": x, "label": torch.tensor(labels)}, Rng.training(0, 0, range(4)))
        values.append([loss.value.detach() for loss in system.losses(batch, 0)])
    assert not torch.equal(values[0][0], values[1][0])
    assert not torch.equal(values[0][1], values[1][1])


def test_a_walk_keeps_its_label_or_changes_it_half_way(system):
    *_, film = system.run(Walk(count=2, frames=4, label="loud"))
    assert isinstance(film, Video)
    assert film.pixels.shape == (1, 5, 2, 12, 20)
    ends = pictures(system, count=2, label=2)
    assert torch.allclose(film.pixels[0, [0, -1]], ends, atol=1e-5)
    *_, free = system.run(Walk(count=4, frames=2, loop=True))
    assert isinstance(free, Video)
    assert free.pixels.shape[1] == 8
    with pytest.raises(UsageError, match="has no truncation"):
        list(system.run(Walk(truncation=0.5)))


def test_wrong_labels(system):
    with pytest.raises(UsageError, match="Unknown label 'wavey'; did you mean 'wavy'"):
        pictures(system, label="wavey")
    with pytest.raises(UsageError, match="Label 3 is out of range; this model knows 0 to 2"):
        pictures(system, label=3)


def test_the_networks_of_a_preset_know_its_classes():
    config = replace(CGAN.presets["laptop"].config, classes=("a", "b", "c"))
    assert CGAN(config).generator.config.classes == 3
