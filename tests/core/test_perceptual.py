"""Perceptual losses: what must not change them, and what they must be on cases worked out by hand."""

from __future__ import annotations

import pytest
import torch

from sfumato.core.perceptual import (
    EPS,
    LUMA,
    content_loss,
    gram,
    moments,
    moments_loss,
    recoloured,
    relative_loss,
    style_loss,
    total_variation,
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_gram_matrix_is_symmetric_and_no_product_with_it_is_negative():
    matrices = gram(drawn(3, 6, 5, 4))
    torch.testing.assert_close(matrices, matrices.mT)
    assert (torch.linalg.eigvalsh(matrices) > -1e-7).all()
    torch.testing.assert_close(
        gram(torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])), torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4
    )


def test_a_gram_matrix_does_not_know_where_anything_is_nor_who_else_is_there():
    maps = drawn(3, 6, 5, 4)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(gram(maps.flatten(2)[:, :, order].view(3, 6, 4, 5)), gram(maps))
    torch.testing.assert_close(gram(maps[1:2]), gram(maps)[1:2])
    torch.testing.assert_close(gram(maps.repeat(1, 1, 2, 3)), gram(maps))


def test_losses_vanish_at_their_target_and_only_there():
    maps, other = drawn(2, 6, 5, 4), drawn(2, 6, 5, 4, seed=1)
    target = {"relu1_1": gram(maps)}
    assert content_loss(maps, maps) == style_loss({"relu1_1": maps}, target) == relative_loss(maps, maps) == 0
    assert moments_loss(maps, moments(maps)) == 0
    assert content_loss(other, maps) > 1
    assert style_loss({"relu1_1": other}, target) > 1e-4
    assert moments_loss(other, moments(maps)) > 1e-3
    assert relative_loss(torch.zeros_like(maps), 1000 * maps) == 1


def test_the_batch_does_not_change_what_a_loss_means():
    one = drawn(2, 6, 5, 4).requires_grad_()
    goal = drawn(1, 6, 5, 4, seed=1)
    for loss in (
        lambda x: content_loss(x, goal),
        lambda x: style_loss({"a": x}, {"a": gram(goal)}),
        lambda x: moments_loss(x, moments(goal)),
        total_variation,
    ):
        value = loss(one)
        [slope] = torch.autograd.grad(value, one)
        twice = loss(torch.cat([one, one]))
        [twofold] = torch.autograd.grad(twice, one)
        torch.testing.assert_close(twice, value)
        torch.testing.assert_close(twofold, slope)


def test_moments_are_those_of_all_places():
    maps = drawn(2, 3, 7, 5) * 4 + 2
    found = moments(maps)
    torch.testing.assert_close(found.mean[..., 0, 0], maps.mean((2, 3)))
    torch.testing.assert_close(found.std[..., 0, 0], (maps.var((2, 3)) + EPS).sqrt())
    biased = moments(maps, unbiased=False).std[..., 0, 0]
    torch.testing.assert_close(biased, (maps.var((2, 3), correction=0) + EPS).sqrt())
    assert torch.equal(moments(maps[:, :, :1, :1]).std, torch.full((2, 3, 1, 1), EPS**0.5))


@pytest.mark.parametrize(("power", "slope"), [(1, 0.75), (2, 0.3125)])
def test_the_total_variation_of_a_slope_does_not_depend_on_its_size(power, slope):
    for height, width in ((4, 9), (8, 5)):
        y, x = torch.meshgrid(torch.arange(height) * 0.5, torch.arange(width) * 0.25, indexing="ij")
        torch.testing.assert_close(total_variation((y + x)[None, None], power), torch.tensor(slope))
    assert total_variation(torch.ones(1, 3, 1, 1)) == 0
    assert total_variation(torch.arange(4.0).view(1, 1, 1, 4)) == 1


def test_recoloured_pictures_have_the_brightness_of_one_and_the_colours_of_the_other():
    x, like = drawn(2, 3, 5, 4) * 0.2, drawn(2, 3, 5, 4, seed=1) * 0.2
    out = recoloured(x, like)
    luma = torch.tensor(LUMA).view(1, 3, 1, 1)
    torch.testing.assert_close((out * luma).sum(1), (x * luma).sum(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(out[:, :2] - out[:, 1:], like[:, :2] - like[:, 1:], atol=1e-6, rtol=0)
    torch.testing.assert_close(recoloured(x, x), x)
    assert torch.equal(recoloured(x[:, :1], like[:, :1]), x[:, :1])
