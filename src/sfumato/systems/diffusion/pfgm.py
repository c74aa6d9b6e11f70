"""PFGM: data as charges on a plate, whose field lines lead from everywhere above down to them.

Xu, Liu, Tegmark, Jaakkola: Poisson Flow Generative Models, NeurIPS 2022, arXiv 2209.11178. The height above
the plate, z, is our sigma. Two losses: the paper's, against the field of the charges in a batch, and the one
of PFGM++ with one dimension added, which needs no batch of charges and can be told labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from sfumato.core.denoiser import Denoiser, Predicts
from sfumato.core.kernels import StudentT
from sfumato.core.process import Karras, Process, Spacing
from sfumato.core.request import Generate, Invert, Walk
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, Player
from sfumato.errors import UsageError
from sfumato.nn.condition import Condition
from sfumato.nn.unet import UNet, UNetConfig
from sfumato.systems.diffusion.pixels import PixelConfig, PixelDiffusion, laptop

GAMMA = 5.0
"""Added to the length of the field before it is normalised (section 3.2 and appendix B.1.1)."""
LOWEST = 1e-4
"""Least part of the field that points to the plate, against divisions by nothing."""
HUGGING, NEARER = 0.5, 0.7
"""Points whose height is below this share of their noise's width stay within this share of its orders."""


@dataclass(frozen=True)
class PFGMConfig(PixelConfig):
    """One dimension is added, and the field there is learned."""

    predicts: Predicts = "edm"
    process: Process = Process(Karras(sigma_min=1e-3, sigma_max=40.0), StudentT(1.0))
    clip: bool = False
    solver: str = "heun"
    steps: int = 36
    spacing: Spacing = "karras"
    loss: Literal["denoising", "field"] = "denoising"
    """Against each picture alone (PFGM++ with D = 1), or against the field of the batch (the paper)."""
    start: float = 0.01
    """sigma, the width of the noise closest to the data (eq. 5); the widest reaches the schedule's end."""


class PFGM(PixelDiffusion):
    """A denoiser against Cauchy noise, or a network of the field that answers as a denoiser."""

    tasks = (Generate, Invert, Walk)  # branches grow by fresh noise, which must be Gaussian
    Config = PFGMConfig
    config: PFGMConfig

    def __init__(self, config: PFGMConfig):
        if config.loss == "field" and config.by_label:
            raise UsageError(
                "The field of a batch knows no labels; set by_label to false, or loss to denoising."
            )
        super().__init__(config)

    def _denoiser(self, shape: UNetConfig) -> Denoiser[Any]:
        c = self.config
        if c.loss == "denoising":
            return super()._denoiser(shape)
        return Denoiser(Field(replace(shape, out_channels=c.channels + 1), c.data_std), c.process, "x0")

    def players(self) -> dict[str, Player]:
        network = self.denoiser.network
        network = network.unet if isinstance(network, Field) else network
        return {"denoiser": Player((network,), self.config.optim, network.ends)}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """The mean squared error of a denoiser, or that of the normalised field (eq. 4)."""
        field = self.denoiser.network
        if not isinstance(field, Field):
            yield from super().losses(batch, step)
            return
        y = batch["image"]
        x, z = self._perturbed(y, batch.rng)
        along, up = field.vector(x, z, Condition())
        to_x, to_z = field_target(x, z, y)
        yield Loss.sum("denoiser", x=mse_loss(along, to_x), z=mse_loss(up, to_z))

    def _perturbed(self, y: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """Points above the plate, at distances spread evenly over orders of magnitude (eq. 5)."""
        c = self.config
        near, direction = rng.normal(*y.shape[1:]).to(y), rng.normal(*y.shape[1:]).to(y)
        height, share = rng.normal(1).to(y)[:, 0].abs(), rng.uniform().to(y)
        share = torch.where(height < HUGGING, NEARER * share, share)
        top = float(c.process.schedule.sigma(torch.ones(1))) / (c.start * math.sqrt(2 / math.pi))
        wide = c.start * (share * math.log(top)).exp()
        length = wide * near.flatten(1).norm(dim=1) / direction.flatten(1).norm(dim=1)
        return y + length.view(-1, *[1] * (y.ndim - 1)) * direction, wide * height


class Field(nn.Module):
    """A network of the Poisson field, which says where its line meets the plate."""

    def __init__(self, shape: UNetConfig, data_std: float):
        super().__init__()
        self.unet, self.data_std = UNet(shape), data_std

    def vector(
        self, x: Float[Tensor, "b c h w"], z: Float[Tensor, " b"], cond: Condition
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"]]:
        """What points from (x, z) to the charges: its part along the plate, and the one towards it."""
        scale = (z.square() + self.data_std**2).rsqrt().view(-1, 1, 1, 1)
        answer = self.unet(x * scale, z.log() / 4, cond)
        return answer[:, :-1], answer[:, -1].flatten(1).mean(1)

    def forward(
        self, x: Float[Tensor, "b c h w"], clock: Float[Tensor, " b"], cond: Condition
    ) -> Float[Tensor, "b c h w"]:
        """Follow the field's direction down to the plate; ``clock`` is ln(z) / 4."""
        z = (4 * clock).exp().to(x)
        along, up = self.vector(x, z, cond)
        return x + (z / (-up).clamp(min=LOWEST)).view(-1, 1, 1, 1) * along


def field_target(
    x: Float[Tensor, "b ..."], z: Float[Tensor, " b"], charges: Float[Tensor, "k ..."]
) -> tuple[Float[Tensor, "b ..."], Float[Tensor, " b"]]:
    """The negative field of all charges at (x, z), normalised (eq. 3 and 4): its parts along x and z.

    The sum over charges is taken relative to the nearest one, since distances to the power N + 1 overflow.
    """
    flat, at = x.flatten(1).double(), charges.flatten(1).double()
    size = flat.shape[1]
    square = torch.cdist(flat, at).square() + z.double()[:, None] ** 2
    told = (-(size + 1) / 2 * square.log()).softmax(1)
    along, down = told @ at - flat, -z.double()
    length = (along.square().sum(1) + down.square()).sqrt()
    scale = math.sqrt(size) / (length + GAMMA)
    return (scale[:, None] * along).reshape(x.shape).to(x), (scale * down).to(x)


_LAPTOP = laptop(PFGMConfig())
_DIGITS = _LAPTOP["digits"]
PFGM.presets = _LAPTOP | {
    "digits-field": replace(
        _DIGITS,
        config=replace(_DIGITS.config, loss="field", by_label=False),
        train=replace(_DIGITS.train, batch=256, steps=700),
    )
}
