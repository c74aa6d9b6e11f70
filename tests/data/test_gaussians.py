"""25 spots, and the measure of how many of them a generator remembers."""

from __future__ import annotations

import torch

from sfumato.data import open_data
from sfumato.data.gaussians import coverage, gaussians
from sfumato.data.toys import SPOT, SPOTS


def test_the_data_set():
    data = open_data("gaussians", needs=frozenset({"image", "label"}))
    assert (data.facts.channels, data.facts.height, data.facts.width) == (2, 1, 1)
    batch = data.batch(torch.arange(20_000))
    x = batch["image"].flatten(1)
    away = x - SPOTS[batch["label"]]
    assert torch.allclose(away.std(0), torch.tensor([SPOT, SPOT]), rtol=0.03)
    assert (torch.bincount(batch["label"], minlength=25) > 700).all()
    assert len(gaussians("test")) == 10_000


def test_coverage_counts_spots_and_points_on_them():
    points = SPOTS.repeat(40, 1)
    assert coverage(points) == (25, 1.0)
    assert coverage(points + torch.tensor([0.079, 0.0])) == (25, 1.0)
    assert coverage(points + torch.tensor([0.081, 0.0])) == (0, 0.0)
    assert coverage(torch.cat([SPOTS[:7].repeat(10, 1), torch.full((70, 2), 0.2)])) == (7, 0.5)
    rare = torch.cat([SPOTS[:1].expand(991, -1), SPOTS[1:2].expand(9, -1)])
    assert coverage(rare)[0] == 1
    assert coverage(torch.cat([rare, SPOTS[1:2]]))[0] == 1, "10 of 1001 are less than 1 %"
    assert coverage(torch.cat([rare, SPOTS[1:2].expand(2, -1)]))[0] == 2
