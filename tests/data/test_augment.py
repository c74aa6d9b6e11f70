"""Augmentation leaves pictures alone where it should, and lets gradients through twice."""

from __future__ import annotations

import math

import pytest
import torch

from sfumato.data.augment import ADA_CHANCES, DIFF_CHANCES, ada_augment, diff_augment, warp

FLIP, TURN, ACROSS, BRIGHTNESS, CONTRAST, LUMA = 0, 2, 4, 20, 22, 24
"""Columns of ADA's operations: whether, and behind it how."""
NEVER = 1.0


def pictures(b: int = 3, c: int = 3, h: int = 10, w: int = 16) -> torch.Tensor:
    return torch.rand(b, c, h, w, generator=torch.Generator().manual_seed(h)) * 2 - 1


def ada_only(column: int, how: float, b: int = 3) -> torch.Tensor:
    chances = torch.full((b, ADA_CHANCES), NEVER)
    chances[:, column], chances[:, column + 1] = 0.0, how
    return chances


def diff(**chances: float) -> torch.Tensor:
    """Chances that leave the picture alone, but for the square, which is cut out at the top left."""
    names = ("brightness", "saturation", "contrast", "down", "right", "row", "column")
    plain = dict.fromkeys(names[:5], 0.5) | dict.fromkeys(names[5:], 0.0)
    return torch.tensor([(plain | chances)[name] for name in names]).expand(3, -1)


# --- DiffAugment -------------------------------------------------------------------------------------


def test_the_square_is_grey_and_the_rest_untouched():
    x = pictures()
    y = diff_augment(x, diff(row=0.5, column=0.5))
    hole = (y == 0).all(1)
    assert hole.sum() == 3 * 5 * 8
    assert torch.allclose(torch.where(hole[:, None], x, y), x, atol=1e-6)


def test_colours_move_as_the_chances_say():
    x = pictures()
    y = diff_augment(x, diff(brightness=0.9))
    assert torch.allclose(y[..., 8:], x[..., 8:] + 0.4, atol=1e-6)
    grey = diff_augment(x, diff(saturation=0.0))[..., 8:]
    assert torch.allclose(grey, x.mean(1, keepdim=True)[..., 8:].expand_as(grey), atol=1e-6)
    strong = diff_augment(x, diff(contrast=1.0 - 1e-7))
    mean = x.mean((1, 2, 3), keepdim=True)
    assert torch.allclose(strong[..., 8:], ((x - mean) * 1.5 + mean)[..., 8:], atol=1e-5)


def test_translation_is_by_whole_pixels_with_grey_behind():
    x = pictures()
    y = diff_augment(x, diff(right=0.0))  # two to the right: 1/8 of 16
    assert torch.allclose(y[..., 10:], x[..., 8:-2], atol=1e-6)
    y = diff_augment(x, diff(right=0.999))
    assert torch.allclose(y[..., 8:-2], x[..., 10:], atol=1e-6)
    assert not y[..., -2:].any()


def test_examples_have_nothing_to_do_with_each_other():
    x, chances = pictures(), torch.rand(3, ADA_CHANCES, generator=torch.Generator().manual_seed(1))
    together = ada_augment(x, chances, 0.7), diff_augment(x, chances[:, :DIFF_CHANCES])
    for i in range(3):
        one = slice(i, i + 1)
        alone = ada_augment(x[one], chances[one], 0.7), diff_augment(x[one], chances[one, :DIFF_CHANCES])
        for many, single in zip(together, alone, strict=True):
            assert torch.allclose(many[one], single, atol=1e-5)


# --- ADA ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_without_a_dose_nothing_happens(channels):
    x = pictures(c=channels)
    chances = torch.rand(3, ADA_CHANCES, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ada_augment(x, chances, torch.tensor(0.0)), x, atol=1e-5)
    assert not torch.allclose(ada_augment(x, chances, 1.0), x, atol=0.1)


def test_flips_turns_and_shifts_are_exact():
    x = pictures()
    assert torch.allclose(ada_augment(x, ada_only(FLIP, 0.9), 1.0), x.flip(3), atol=1e-5)
    square = pictures(h=12, w=12)
    turned = ada_augment(square, ada_only(TURN, 0.3), 1.0)
    assert torch.allclose(turned, square.rot90(1, (2, 3)), atol=1e-4) or torch.allclose(
        turned, square.rot90(-1, (2, 3)), atol=1e-4
    )
    shifted = ada_augment(x, ada_only(ACROSS, 1 - 1e-7), 1.0)
    assert torch.allclose(shifted[..., :-2], x[..., 2:], atol=1e-4)


def test_circles_stay_circles_on_oblong_pictures():
    y, x = torch.meshgrid(torch.arange(20) - 9.5, torch.arange(32) - 15.5, indexing="ij")
    radius = x.square() + y.square()
    disc = (-radius / 18).exp()[None, None]
    angle = torch.tensor([math.cos(0.7), -math.sin(0.7), math.sin(0.7), math.cos(0.7)]).view(1, 2, 2)
    angle = angle * torch.tensor([[1, 20 / 32], [32 / 20, 1]])
    turned = warp(disc, torch.cat([angle, torch.zeros(1, 2, 1)], 2))
    assert (turned - disc).abs()[..., radius < 64].max() < 0.03


def test_colours_are_brighter_stronger_or_inverted():
    x = pictures()
    for column, wanted in ((BRIGHTNESS, x + 0.2), (CONTRAST, x * 2**0.5)):
        deviation_one = 0.8413447
        assert torch.allclose(ada_augment(x, ada_only(column, deviation_one), 1.0), wanted, atol=1e-4)
    inverted = ada_augment(x, ada_only(LUMA, 0.9), 1.0)
    assert torch.allclose(inverted.mean(1), -x.mean(1), atol=1e-5)
    assert torch.allclose(inverted - inverted.mean(1, keepdim=True), x - x.mean(1, keepdim=True), atol=1e-5)


def test_looking_up_can_be_differentiated_twice():
    x = pictures(1, 2, 5, 6).double().requires_grad_()
    matrix = torch.tensor([[[0.9, 0.2, 0.1], [-0.3, 1.1, 0.0]]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: warp(v, matrix), x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda v: warp(v, matrix), x, fast_mode=True)


def test_operations_happen_as_often_as_the_dose_says():
    n = 2000
    chances = torch.rand(n, ADA_CHANCES, generator=torch.Generator().manual_seed(0))
    only = torch.full_like(chances, NEVER)
    only[:, 10:12], only[:, 14:16] = chances[:, 10:12], chances[:, 14:16]  # the two free turns
    x = pictures(1, 1, 6, 6).expand(n, -1, -1, -1)
    moved = (ada_augment(x, only, 0.36) - x).abs().amax((1, 2, 3)) > 1e-4
    assert moved.float().mean().item() == pytest.approx(0.36, abs=0.04)
