"""Path lengths against closed forms: a matrix stretches lines, a circle has its angle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sfumato.data.shapes import draw, render
from sfumato.errors import UsageError
from sfumato.metrics.oracle import evaluation_oracle, training_oracle
from sfumato.metrics.path_length import LpipsForm, path_length


class SquaredError:
    """The distance whose path lengths are known."""

    name = "squared error"

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().flatten(1).sum(1)


def latents(count: int = 200, size: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(count, size, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("sampling", ["full", "end"])
def test_a_linear_generator_on_straight_lines(sampling):
    start, end = latents()
    matrix = torch.randn(12, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = path_length(
        lambda w: (w @ matrix.T).view(-1, 1, 3, 4), start, end, SquaredError(), way="lerp", sampling=sampling
    )
    exact = ((end - start) @ matrix.T).square().sum(1).sort().values
    assert found.value == pytest.approx(exact[2:-2].mean().item(), rel=1e-4)
    assert found.n == 196
    assert found.name == f"Perceptual path length (squared error, lerp, {sampling})"
    assert found.spread == pytest.approx((exact[2:-2].std() / 14).item(), rel=1e-3)


def test_on_a_great_circle_every_step_is_the_angle():
    start, end = (z / z.norm(dim=1, keepdim=True) for z in latents())
    found = path_length(lambda z: z.view(-1, 1, 2, 3), start, end, SquaredError(), way="slerp")
    angles = (start * end).sum(1).acos().square().sort().values
    assert found.value == pytest.approx(angles[2:-2].mean().item(), rel=1e-4)


def test_a_jump_anywhere_is_felt_and_a_gentle_generator_is_short():
    start, end = latents()
    smooth = path_length(lambda z: z.view(-1, 1, 2, 3), start, end, SquaredError(), way="lerp").value
    rough = path_length(
        lambda z: (3 * z).sin().view(-1, 1, 2, 3), start, end, SquaredError(), way="lerp"
    ).value
    assert rough > 2 * smooth


def test_the_form_of_lpips_is_its_equation():
    pixels = render(draw(0, torch.arange(4)), 64)
    x, y = pixels[:2], pixels[2:]
    reader = training_oracle()
    expected = torch.zeros(2, dtype=torch.float64)
    for a, b in zip(reader.stages(x), reader.stages(y), strict=True):
        for k in range(2):
            for place_a, place_b in zip(a[k].flatten(1).T.double(), b[k].flatten(1).T.double(), strict=True):
                gap = place_a / place_a.norm() - place_b / place_b.norm()
                expected[k] += gap.square().sum() / a[k][0].numel()
    found = LpipsForm(reader)(x, y)
    assert torch.allclose(found, expected, rtol=1e-6)
    assert torch.allclose(LpipsForm(reader)(y, x), found)
    assert LpipsForm(reader)(x, x).abs().max() == 0
    assert LpipsForm(evaluation_oracle()).name == "LPIPS form, oracle: shapes (evaluation)"


def test_distances_grow_with_noise_through_the_eyes_of_the_judge():
    pixels = render(draw(0, torch.arange(8)), 64)
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    looks = LpipsForm(evaluation_oracle())
    means = [looks(pixels, pixels + strength * noise).mean().item() for strength in (0.02, 0.1, 0.4)]
    assert means[0] < means[1] / 2 < means[2] / 4


def test_paths_need_two_ends():
    with pytest.raises(UsageError, match="3 starts and 2 ends make no paths"):
        path_length(lambda z: z, torch.zeros(3, 2), torch.zeros(2, 2), SquaredError(), way="lerp")
