"""The one place where attention is computed; it chooses the fastest path for device, dtype and length."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

FUSED_FROM = 64
"""Keys from which PyTorch's fused kernel beats plain products in fp32 on a CPU (measured)."""
NARROW, LANES = 12, 16
"""Heads narrower than the first are filled up to the second in fp32: 0.75 of the time (measured)."""
BLOCK = 2**19
"""Scores computed at once in half precision on a CPU: as many as stay in cache (measured)."""
LEAST_ROWS = 256
"""Queries in a block, however many keys there are (measured)."""
SAFE = 60.0
"""Scores up to which exponentials are taken as they are: e^60 times a million keys is far from overflow."""
QUICK_FROM = 256
"""Keys among which small errors of single exponentials even out."""
STEPS, ONE = 128, 16256
"""Numbers that bfloat16 has between a power of two and the next, and the place of 1.0 among them."""
KEPT = 2**26
"""Scores that are kept for the gradient (128 MB a call); where there are more they are computed anew."""


def attention(
    q: Float[Tensor, "b h l d"],
    k: Float[Tensor, "b h s d"],
    v: Float[Tensor, "b h s d"],
    mask: Float[Tensor, "l s"] | None = None,
) -> Float[Tensor, "b h l d"]:
    """Softmax attention, softmax(q k^T / sqrt d + mask) v (Vaswani et al. 2017, eq. 1).

    ``mask`` is added to the scores: 0 where a query may look, -inf where it may not; it learns nothing.
    In bfloat16 on a CPU, where nothing learns, exponentials are quick and rough (``_exponentials``).
    """
    device = q.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    mask = None if mask is None else mask.to(q.dtype)
    if device != "cpu":
        return scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if q.dtype == torch.float32 and k.shape[2] >= FUSED_FROM:
        return _fused(q, k, v, mask)
    with torch.autocast("cpu", enabled=False):  # which would take the softmax to fp32 and back
        if torch.is_grad_enabled() and q.shape[:3].numel() * k.shape[2] <= KEPT:
            return _look(q * q.shape[-1] ** -0.5, k.transpose(-1, -2), mask) @ v
        return _Blockwise.apply(q, k, v, mask)


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """PyTorch's kernel; narrow heads are filled up with zeros, which is exact and faster."""
    width = q.shape[-1]
    if width >= NARROW:
        return scaled_dot_product_attention(q, k, v, attn_mask=mask)
    q, k, v = (pad(x, (0, LANES - width)) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=width**-0.5)[..., :width]


class _Blockwise(torch.autograd.Function):
    """Attention that holds one block of scores at a time and computes it anew for the gradient."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(q, k, v, mask)
        scale = q.shape[-1] ** -0.5
        safe = mask is None and bool(scale * _longest(q) * _longest(k) <= SAFE)
        many, learns = k.shape[2] >= QUICK_FROM, any(ctx.needs_input_grad)
        quick = safe and many and not learns and q.dtype == torch.bfloat16
        steps = STEPS / math.log(2) if quick else 1.0
        queries, keys, values = _flat(q * (steps * scale)), _flat(k), _flat(v)
        if safe:
            return _exponentials(queries, keys, values, quick).unflatten(0, q.shape[:2])
        out, transposed = torch.empty_like(queries), values.mT.contiguous()
        for heads, rows in _blocks(queries, keys):
            look = _look(queries[heads, rows], keys[heads].mT, mask if mask is None else mask[rows])
            out[heads, rows] = (transposed[heads] @ look.mT).mT
        return out.view(q.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        queries, keys, values, grads = _flat(q * scale), _flat(k), _flat(v), _flat(grad)
        to_q = torch.empty_like(queries)
        to_k, to_v = (torch.zeros_like(values, dtype=torch.float32) for _ in range(2))
        for heads, rows in _blocks(queries, keys):
            look = _look(queries[heads, rows], keys[heads].mT, mask if mask is None else mask[rows])
            to_v[heads] += look.mT @ grads[heads, rows]
            scores = grads[heads, rows] @ values[heads].mT
            scores = torch._softmax_backward_data(scores, look, -1, q.dtype)
            to_q[heads, rows] = scores @ keys[heads] * scale
            to_k[heads] += scores.mT @ queries[heads, rows]
        return to_q.view(q.shape), to_k.to(k.dtype).view(k.shape), to_v.to(v.dtype).view(v.shape), None


def _exponentials(queries: Tensor, keys: Tensor, values: Tensor, quick: bool) -> Tensor:
    """Softmax attention with scores known to be small: no maximum is sought and nothing is divided but the
    answer. A value that is 1 for every key gives the sum to divide by; three passes over the scores less.

    ``quick`` takes scores in steps of bfloat16 and reads them as its bits: exact at powers of two, a straight
    line between (Schraudolph 1999, Neural Computation 11(4)). It takes a quarter of the time; a weight strays
    by 4 % at most from what all are too large by, which falls out.
    """
    ones = torch.cat([values, torch.ones_like(values[..., :1])], -1).mT.contiguous()
    out = values.new_empty(len(queries), ones.shape[1], queries.shape[1])
    for heads, rows in _blocks(queries, keys):
        scores = keys[heads] @ queries[heads, rows].mT
        if quick:
            scores.view(torch.int16).copy_(scores).add_(ONE)
        else:
            scores.exp_()
        out[heads, :, rows] = ones[heads] @ scores
    return (out[:, :-1] / out[:, -1:]).mT


def _longest(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, dtype=torch.float32).amax()


def _look(queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    """How much each query looks at each key; the queries are scaled and the keys transposed already."""
    scores = queries @ keys
    return (scores if mask is None else scores + mask).softmax(-1)


def _flat(x: Tensor) -> Tensor:
    return x.flatten(0, 1).contiguous()


def _blocks(queries: Tensor, keys: Tensor) -> list[tuple[int | slice, slice]]:
    """Heads and rows of each block: several heads, or a part of as many heads as there are threads.

    Each thread then has a head of its own, which takes half to two thirds of the time of sharing one. On one
    thread a head is a number, not a slice: PyTorch copies a transposed batch of one matrix, but not a matrix.
    """
    (count, length, _), many, threads = queries.shape, keys.shape[1], torch.get_num_threads()
    block = BLOCK * min(threads, 2)
    several = block // (length * many)
    if several > 1:
        several = max(several, threads)
        return [(slice(i, i + several), slice(None)) for i in range(0, count, several)]
    rows = max(block // many, LEAST_ROWS)
    heads = [i if threads == 1 else slice(i, i + threads) for i in range(0, count, threads)]
    return [(head, slice(j, j + rows)) for head in heads for j in range(0, length, rows)]


def unscaled(
    q: Float[Tensor, "b h l d"],
    k: Float[Tensor, "b h s d"],
    v: Float[Tensor, "b h s d"],
    bias: Float[Tensor, "_ _ _ s"],
) -> Float[Tensor, "b h l d"]:
    """softmax(q k^T + bias) v, as T5 has it (Raffel et al. 2020, section 2.1): nothing is divided by sqrt d,
    and the softmax is taken in fp32."""
    scores = (q @ k.transpose(-1, -2)).float() + bias.float()
    return scores.softmax(-1).to(v.dtype) @ v
