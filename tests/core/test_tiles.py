"""Pictures in squares: every pixel once, with as much around it as was asked for."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from sfumato.core.tiles import tiles


@pytest.mark.parametrize(("height", "width", "side", "reach"), [(10, 17, 4, 3), (5, 6, 8, 2), (9, 9, 3, 0)])
def test_every_pixel_is_written_once(height, width, side, reach):
    picture = torch.arange(float(height * width)).view(1, height, width)
    written, count = torch.full_like(picture, -1), torch.zeros_like(picture)
    for tile in tiles(height, width, side, reach):
        part = tile.read(picture)
        assert part.shape[1] <= tile.height + 2 * reach
        tile.write(part, written)
        ones = torch.zeros_like(picture)
        tile.write(torch.ones_like(part), ones)
        count += ones
    assert torch.equal(written, picture)
    assert torch.equal(count, torch.ones_like(count))


def test_places_of_several_pixels():
    picture = torch.randn(2, 24, 40)
    small, back = torch.empty(2, 6, 10), torch.empty(2, 24, 40)
    for tile in tiles(6, 10, 4, 1):
        tile.write(avg_pool2d(tile.read(picture, 4), 4), small)
    assert torch.equal(small, avg_pool2d(picture, 4))
    for tile in tiles(6, 10, 4, 1):
        tile.write(interpolate(tile.read(small)[None], scale_factor=4)[0], back, 4)
    assert torch.equal(back, interpolate(small[None], scale_factor=4)[0])
