"""VGG as a system: what it learns from, and what it is not asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from sfumato.core.request import Generate
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.gaussians import gaussians
from sfumato.data.sights import Sights
from sfumato.errors import UsageError
from sfumato.nn.vgg import VGGConfig
from sfumato.systems.style.vgg import VGGNet, VGGNetConfig

TINY = VGGNetConfig(VGGConfig(widths=(4, 6), convs=(1, 2)), flips=False, smoothing=0.1)


def test_its_loss_is_the_smoothed_cross_entropy():
    torch.manual_seed(0)
    system = VGGNet(replace(TINY, network=replace(TINY.network, classes=5)))
    x, label = torch.rand(3, 3, 10, 14) * 2 - 1, torch.tensor([4, 0, 2])
    [loss] = system.losses(Batch({"image": x, "label": label}, Rng([1, 2, 3])), 0)
    logits = system.network.classify(x)
    wanted = 0.9 * cross_entropy(logits, label) - 0.1 * logits.log_softmax(1).mean()
    torch.testing.assert_close(loss.value, wanted)


def test_pictures_are_mirrored_by_their_own_chance():
    torch.manual_seed(0)
    plain = VGGNet(replace(TINY, network=replace(TINY.network, classes=5)))
    flipping = VGGNet(replace(plain.config, flips=True))
    flipping.load_state_dict(plain.state_dict())
    x, label = torch.rand(8, 3, 10, 14) * 2 - 1, torch.arange(8) % 5
    seeds = list(range(8))
    [seen] = flipping.losses(Batch({"image": x, "label": label}, Rng(seeds)), 0)
    mirrored = Rng(seeds).uniform() < 0.5
    assert 0 < mirrored.sum() < 8
    x[mirrored] = x[mirrored].flip(3)
    [wanted] = plain.losses(Batch({"image": x, "label": label}, Rng(seeds)), 0)
    torch.testing.assert_close(seen.value, wanted.value)


def test_it_takes_the_classes_of_its_data_and_grey_pictures():
    config = VGGNet.fit(TINY, Sights("test", 16).facts)
    assert config.network.classes == len(config.classes) == 19
    assert VGGNet(config).classify(torch.zeros(2, 1, 9, 12)).shape == (2, 19)
    with pytest.raises(UsageError, match="has none; give data with labels"):
        VGGNet.fit(TINY, replace(gaussians().facts, classes=()))


def test_it_answers_nothing_but_says_who_does():
    with pytest.raises(UsageError, match="give it to stylize or dream"):
        VGGNet(TINY).run(Generate())
