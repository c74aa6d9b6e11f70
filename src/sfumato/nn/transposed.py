"""The transposed convolution taken apart: zeros between the places of a map, then an ordinary convolution.

Dumoulin & Visin 2016, arXiv 1603.07285, chapter 4. PyTorch's ``conv_transpose2d`` computes the same at once;
this is for looking at it.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad


def spread(x: Float[Tensor, "b c h w"], stride: int) -> Float[Tensor, "b c H W"]:
    """Move the places of a map ``stride`` apart and put zeros between them."""
    b, c, h, w = x.shape
    out = x.new_zeros(b, c, (h - 1) * stride + 1, (w - 1) * stride + 1)
    out[:, :, ::stride, ::stride] = x
    return out


def by_zeros(
    x: Float[Tensor, "b i h w"],
    kernel: Float[Tensor, "i o k l"],
    *,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
) -> Float[Tensor, "b o H W"]:
    """What ``conv_transpose2d(x, kernel, ...)`` gives, by an ordinary convolution.

    Zeros go between the places and around them, and the kernel slides over it, turned by half a circle. The
    border is as wide as the kernel reaches, less ``padding``, which therefore takes away; ``output_padding``
    makes it wider at the bottom and on the right.
    H = (h - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1.
    """
    down, right = (dilation * (side - 1) - padding for side in kernel.shape[2:])
    border = (right, right + output_padding, down, down + output_padding)
    return conv2d(pad(spread(x, stride), border), kernel.flip(2, 3).transpose(0, 1), dilation=dilation)
