"""How close enlarged photographs come to the true ones: bicubic filter, SRResNet and SRGAN in one table.

The photographs are those that training never sees, whole, their sides cut to multiples of four and made
four times smaller by the antialiased bicubic filter. As usual, brightness is compared (Y of ITU-R BT.601 on
16 to 235), without a border of four pixels. "detail" is the root mean square of the Laplacian of Y as a
share of the true photograph's: below 1 it is blurred, above 1 it is noisy.

Example: python benchmarks/upscaling.py runs/srgan-srgan
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfumato import load
from sfumato.core.request import Images, Upscale
from sfumato.core.system import System
from sfumato.data.photos import HELD_OUT, open_photo
from sfumato.device import setup
from sfumato.images import grid, save_png, to_tensor
from sfumato.metrics.psnr import luminance, psnr
from sfumato.metrics.ssim import ssim
from sfumato.nn.srresnet import enlarged, reduced
from sfumato.systems.gans.srgan import folding, whole_levels

BORDER = 4


@dataclass(frozen=True)
class Closeness:
    """Of an enlarged photograph to the true one."""

    psnr: float
    ssim: float
    detail: float


def laplacian(y: Tensor) -> float:
    """Root mean square of the difference of pixels from the mean of their four neighbours, times four."""
    y = y[..., BORDER:-BORDER, BORDER:-BORDER]
    inner = (
        y[..., 1:-1, 1:-1] * 4 - y[..., 2:, 1:-1] - y[..., :-2, 1:-1] - y[..., 1:-1, 2:] - y[..., 1:-1, :-2]
    )
    return inner.square().mean().sqrt().item()


def closeness(made: Tensor, real: Tensor) -> Closeness:
    """Compare one picture, (1, 3, h, w), with the true one."""
    a, b = (255 * (luminance(x) + 1) / 2 for x in (whole_levels(made), real))
    signal, likeness = (measure(a, b, span=255.0, border=BORDER).item() for measure in (psnr, ssim))
    return Closeness(signal, likeness, laplacian(a) / laplacian(b))


def truth(name: str) -> tuple[Tensor, Tensor]:
    """A photograph, and what is left of it at a quarter of its size."""
    real = folding(to_tensor(open_photo(name))[None])
    return real, whole_levels(reduced(real))


def upscaled(system: System, small: Tensor) -> Tensor:
    """What a model makes of a small picture."""
    *_, answer = system.run(Upscale(images=small, count=len(small)))
    assert isinstance(answer, Images)
    return answer.pixels


def compare(models: dict[str, System]) -> dict[str, dict[str, Closeness]]:
    """Every model, and the bicubic filter, on every held-out photograph; "mean" is their mean."""
    table: dict[str, dict[str, Closeness]] = {}
    for name in HELD_OUT:
        real, small = truth(name)
        made = {"bicubic": enlarged(small, "bicubic")} | {k: upscaled(m, small) for k, m in models.items()}
        for way, pixels in made.items():
            table.setdefault(way, {})[name] = closeness(pixels, real)
    for row in table.values():
        means = (float(np.mean([getattr(c, f.name) for c in row.values()])) for f in fields(Closeness))
        row["mean"] = Closeness(*means)
    return table


def strip(models: dict[str, System], side: int = 96) -> Tensor:
    """A square of each held-out photograph: small, bicubic, the models, the truth."""
    rows = []
    for name in HELD_OUT:
        real, small = truth(name)
        top, left = (n // 2 // 4 * 4 - side // 2 for n in real.shape[2:])
        made = [enlarged(small, "bicubic"), *(upscaled(m, small) for m in models.values()), real]
        rows += [x[0, :, top : top + side, left : left + side] for x in made]
    return torch.stack(rows).clamp(-1, 1)


def main() -> None:
    """Print the table; the base of an SRGAN run is its SRResNet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run of srgan; the SRResNet it builds on is found beside it")
    parser.add_argument("--picture", type=Path, help="where to save bicubic, models and truth side by side")
    given = parser.parse_args()
    setup()
    below = given.run / "first_stage"
    models = {"SRResNet": load(below)} if below.exists() else {}
    models["SRGAN" if models else "SRResNet"] = load(given.run)
    for way, row in compare(models).items():
        cells = "  ".join(f"{n} {c.psnr:.2f} dB {c.ssim:.4f} detail {c.detail:.2f}" for n, c in row.items())
        print(f"{way:<9} {cells}")
    if given.picture:
        save_png(grid(strip(models), columns=len(models) + 2), given.picture)


if __name__ == "__main__":
    main()
