"""The VGG that comes along reads what it has not seen; random weights with a trained decision read less."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sfumato.apps.load import load
from sfumato.data.sights import Sights
from sfumato.nn.vgg import VGG, random_vgg
from sfumato.systems.style.vgg import SMALL, VGGNet

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

COUNT, FITTED, RIDGE = 3000, 3000, 1.0


def seen(net: VGG, data: Sights, count: int) -> tuple[Tensor, Tensor]:
    """What a decision is made from: means over all places of the last map, and a 1; and the labels."""
    maps, labels = [], []
    for part in torch.arange(count).split(100):
        batch = data.batch(part)
        with torch.no_grad():
            maps.append(net(batch["image"], ["pool4"])["pool4"].mean((2, 3)))
        labels.append(batch["label"])
    pooled = torch.cat(maps)
    return torch.cat([pooled, torch.ones(len(pooled), 1)], 1).double(), torch.cat(labels)


def test_held_out_styles_shapes_and_photographs_are_read():
    """Control: the same network with random weights, a linear decision fitted by least squares upon it."""
    system = load("vgg-small", precision="fp32", device="cpu")
    assert isinstance(system, VGGNet)
    test = Sights("test", 48, length=COUNT)
    found, labels = seen(system.network, test, COUNT)
    head = system.network.classifier
    assert head is not None
    right = (head(found[:, :-1].float()).argmax(1) == labels).float()
    blind = random_vgg(SMALL)
    known, answers = seen(blind, Sights("train", 48), FITTED)
    scale = known.std(0).clamp(min=1e-9)
    scale[-1] = 1
    known = known / scale
    wanted = torch.nn.functional.one_hot(answers, len(test.facts.classes)).double()
    gram = known.T @ known + RIDGE * torch.eye(known.shape[1], dtype=torch.double)
    fitted = torch.linalg.solve(gram, known.T @ wanted)
    control = (((seen(blind, test, COUNT)[0] / scale) @ fitted).argmax(1) == labels).float().mean().item()
    parts = {name: [k for k, letter in enumerate("tstspt") if letter == name] for name in "tsp"}
    each = {n: torch.cat([right[k::6] for k in places]).mean().item() for n, places in parts.items()}
    print(f"held-out sights: {right.mean():.4f} of {COUNT} ({each}); random weights {control:.4f}")
    assert right.mean() >= 0.90
    assert control <= 0.75
