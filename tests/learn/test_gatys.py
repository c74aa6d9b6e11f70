"""Neural style through the network that comes along, judged by what it did not optimise.

How near the texture has come is the chi-square distance of histograms of local binary patterns (radii 1, 2
and 3), what is left of the content the correlation of Sobel edges. Pictures are parts of photographs, and
textures, that the network has not seen.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import sobel
from skimage import data
from skimage.exposure import match_histograms
from skimage.feature import local_binary_pattern
from torch import Tensor

from sfumato.apps import load
from sfumato.core.perceptual import LUMA
from sfumato.core.request import Stylize
from sfumato.data.photos import open_photo
from sfumato.images import fit, to_tensor
from sfumato.systems.style.gatys import Gatys

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

SIDE, CLOSURES, STRENGTH = 96, 120, 0.5
CONTENTS = ("cat", "coffee", "temple")
TEXTURES = {"grass": data.grass, "gravel": data.gravel, "brick": data.brick}


def part(name: str) -> Tensor:
    """From the right of a photograph, where the network has not looked."""
    photo = open_photo(name)
    return to_tensor(fit(photo.crop((round(photo.width * 0.7), 0, photo.width, photo.height)), SIDE, SIDE))


def texture(name: str) -> Tensor:
    return to_tensor(fit(Image.fromarray(TEXTURES[name]()).convert("RGB"), SIDE, SIDE))


def grey(x: Tensor) -> NDArray[np.float32]:
    return ((x + 1) / 2 * torch.tensor(LUMA).view(3, 1, 1)).sum(0).numpy()


def patterns(x: Tensor) -> NDArray[np.float64]:
    levels = (grey(x) * 255).round().astype(np.uint8)
    found = [local_binary_pattern(levels, p, r, "uniform") for p, r in ((8, 1), (8, 2), (16, 3))]
    return np.concatenate(
        [np.histogram(f, p + 2, (0, p + 2), density=True)[0] for f, p in zip(found, (8, 8, 16), strict=True)]
    )


def distance(x: Tensor, y: Tensor) -> float:
    a, b = patterns(x), patterns(y)
    return float(((a - b) ** 2 / (a + b + 1e-10)).sum() / 2)


def edges(x: Tensor, y: Tensor) -> float:
    a, b = (np.hypot(sobel(grey(z), 0), sobel(grey(z), 1)).ravel() for z in (x, y))
    return float(np.corrcoef(a, b)[0, 1])


def painted(system: Gatys, content: Tensor, style: Tensor, **asked: object) -> Tensor:
    request = Stylize(**{"images": content[None], "styles": (style,), "steps": CLOSURES} | asked)
    *_, result = system.run(request)
    return result.pixels[0]


@pytest.mark.parametrize("name", ["grass", "gravel", "brick"])
def test_the_texture_comes_and_the_content_stays(name):
    """Controls: histogram matching, which must not do; the texture alone, which must not keep the content."""
    system, style = load.ready(load.upon("gatys"), precision="fp32", device="cpu"), texture(name)
    assert isinstance(system, Gatys)
    rows = []
    for content in map(part, CONTENTS):
        ours = painted(system, content, style, strength=STRENGTH)
        both = (x.permute(1, 2, 0).numpy() for x in (content, style))
        matched = torch.from_numpy(match_histograms(*both, channel_axis=2)).permute(2, 0, 1).float()
        before = distance(content, style)
        rows.append([distance(ours, style) / before, edges(ours, content), distance(matched, style) / before])
    only = Gatys(replace(system.config, content_weight=0.0))
    only.load_state_dict(system.state_dict())
    alone = painted(only, part("coffee"), style, start="noise", strength=STRENGTH)
    chi, edge, matching = np.mean(rows, 0)
    print(
        f"{name}: chi-square {chi:.3f} of the content's, edges {edge:.3f}; each {np.round(rows, 3).tolist()}"
    )
    print(f"  histograms {matching:.3f}; texture alone: edges {edges(alone, part('coffee')):.3f}")
    assert edges(alone, part("coffee")) < 0.2
    assert matching > 0.7
    if name != "brick":  # reported, not asked: no stochastic texture
        assert max(row[0] for row in rows) <= 0.3
        assert min(row[1] for row in rows) >= 0.5
