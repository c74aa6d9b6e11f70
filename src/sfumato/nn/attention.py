"""The one place where attention is computed; it chooses the fastest path for device, dtype and length."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

FUSED_FROM = 128
"""Keys from which PyTorch's fused kernel beats plain products in fp32 on a CPU (measured)."""
TILED_FROM = 512
"""Keys from which bf16 attention on a CPU is computed in row blocks that stay in cache (measured)."""
ROWS = 256


def attention(
    q: Float[Tensor, "b h l d"],
    k: Float[Tensor, "b h s d"],
    v: Float[Tensor, "b h s d"],
    mask: Float[Tensor, "l s"] | None = None,
) -> Float[Tensor, "b h l d"]:
    """Softmax attention, softmax(q k^T / sqrt d + mask) v (Vaswani et al. 2017, eq. 1).

    ``mask`` is added to the scores: 0 where a query may look, -inf where it may not.
    """
    if q.device.type != "cpu" or (q.dtype == torch.float32 and k.shape[2] >= FUSED_FROM):
        return scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if k.shape[2] >= TILED_FROM and mask is None and not torch.is_grad_enabled():
        return _tiled(q, k, v)
    return _plain(q, k, v, mask)


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v


def _tiled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    b, heads, length, d = q.shape
    out = torch.empty(b, heads, length, v.shape[-1], dtype=v.dtype)
    q, k = q * d**-0.5, k.transpose(-1, -2)
    for i in range(b):
        for h in range(heads):
            for start in range(0, length, ROWS):
                rows = slice(start, start + ROWS)
                out[i, h, rows] = (q[i, h, rows] @ k[i, h]).softmax(-1) @ v[i, h]
    return out
