"""Attention equals PyTorch's own on every path, with its gradients, and nobody else computes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import sfumato
from sfumato.nn import attention as paths
from sfumato.nn.attention import attention

SHAPES = {
    "short": (3, 2, 5, 7, 6),
    "one key": (2, 3, 4, 1, 5),
    "fused": (2, 3, 70, 129, 4),
    "several heads in a block": (3, 4, 301, 257, 9),
    "several blocks in a head": (1, 2, 1031, 1040, 10),
}


def inputs(shape: tuple[int, int, int, int, int], dtype: torch.dtype) -> list[Tensor]:
    """Queries, keys, values as a network has them: heads beside each other in memory."""
    b, h, length, keys, d = shape
    random = torch.Generator().manual_seed(0)
    flat = [torch.randn(b, n, h * d, generator=random) for n in (length, keys, keys)]
    return [x.to(dtype).unflatten(2, (h, d)).transpose(1, 2).requires_grad_() for x in flat]


def masked(shape: tuple[int, int, int, int, int]) -> Tensor:
    """Nobody looks ahead of its own place, by share of the length."""
    length, keys = shape[2:4]
    ahead = torch.arange(keys)[None] * length > torch.arange(length)[:, None] * keys
    return torch.zeros(length, keys).masked_fill(ahead, -torch.inf)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("with_mask", [False, True], ids=["open", "masked"])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)], ids=str)
def test_values_and_gradients_equal_those_of_pytorch(shape, with_mask, dtype, close):
    mask = masked(shape) if with_mask else None
    given = inputs(shape, dtype)
    exact = [x.detach().double().requires_grad_() for x in given]
    expected = scaled_dot_product_attention(*exact, attn_mask=None if mask is None else mask.double())
    back = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad(expected, exact, back.double())

    with torch.no_grad():
        unasked = attention(*given, mask)
    asked = attention(*given, mask)
    got = torch.autograd.grad(asked, given, back.to(dtype))

    assert unasked.dtype == asked.dtype == dtype
    for mine, theirs in zip((unasked, asked, *got), (expected, expected, *wanted), strict=True):
        assert (mine.double() - theirs).abs().max() <= close * max(theirs.abs().max(), 1)


@pytest.mark.parametrize("with_mask", [False, True], ids=["open", "masked"])
def test_scores_too_many_to_keep_are_computed_anew(with_mask, monkeypatch):
    shape = SHAPES["several blocks in a head"]
    mask, given = masked(shape) if with_mask else None, inputs(shape, torch.bfloat16)
    back = torch.randn(shape[0], shape[1], shape[2], shape[4], generator=torch.Generator().manual_seed(1))
    kept = torch.autograd.grad(attention(*given, mask), given, back.bfloat16())
    monkeypatch.setattr(paths, "KEPT", 0)
    anew = torch.autograd.grad(attention(*given, mask), given, back.bfloat16())
    for mine, theirs in zip(anew, kept, strict=True):
        assert (mine - theirs).abs().max() <= 1e-2 * theirs.abs().max()


def test_quick_exponentials_even_out_and_are_not_learned_through(monkeypatch):
    given = inputs((2, 2, 300, 512, 16), torch.bfloat16)
    expected = scaled_dot_product_attention(*(x.detach().double() for x in given))

    def far(answer: Tensor) -> float:
        return float((answer.detach().double() - expected).norm() / expected.norm())

    monkeypatch.setattr(paths, "KEPT", 0)  # so that what learns goes the same way
    frozen = [x.detach() for x in given]
    assert far(attention(*given)) < 0.01 < far(attention(*frozen)) < 0.025
    monkeypatch.setattr(paths, "QUICK_FROM", 513)
    assert far(attention(*frozen)) < 0.01


def test_under_autocast_everything_is_half_precision():
    given = inputs(SHAPES["fused"], torch.float32)
    expected = scaled_dot_product_attention(*given)
    with torch.autocast("cpu", torch.bfloat16):
        got = attention(*given)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), expected, atol=2e-2, rtol=0)


def test_nobody_else_calls_the_fused_kernel():
    package = Path(sfumato.__file__).parent
    users = {p.name for p in package.rglob("*.py") if "scaled_dot_product_attention" in p.read_text()}
    assert users == {"attention.py"}
