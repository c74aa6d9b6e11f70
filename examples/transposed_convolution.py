"""A transposed convolution, step by step, and where its checkerboards come from."""

import argparse

import torch
from torch.nn.functional import conv2d, interpolate, pad

from sfumato.images import grid, save_png
from sfumato.nn.transposed import by_zeros, spread

parser = argparse.ArgumentParser()
parser.add_argument("--out", default="transposed.png")
given = parser.parse_args()

bright = torch.tensor([[0.9, 0.2, 0.6], [0.1, 0.7, 0.3], [0.5, 0.4, 1.0]])[None, None]
even = torch.full((1, 1, 6, 6), 0.6)
soft = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0]))[None, None] / 4
three, four = torch.ones(1, 1, 3, 3) / 2.25, torch.ones(1, 1, 4, 4) / 4
steps = [
    bright,  # a map of 3 x 3 places
    pad(spread(bright, 2), (1, 1, 1, 1)),  # zeros between and around them
    by_zeros(bright, soft, stride=2, padding=1),  # a 3 x 3 kernel slid over that
    by_zeros(even, three, stride=2, padding=1),  # an even map: kernel 3, stride 2
    by_zeros(even, four, stride=2, padding=1),  # kernel 4, divisible by the stride
    conv2d(interpolate(even, scale_factor=2), three / 4, padding=1),  # places repeated, then convolved
]
enlarged = [interpolate(2 * x.clamp(0, 1) - 1, size=(96, 96), mode="nearest") for x in steps]
save_png(grid(torch.cat(enlarged), columns=3), given.out, {})
print(given.out)
