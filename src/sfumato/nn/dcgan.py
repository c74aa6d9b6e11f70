"""The two networks of DCGAN: convolutions from top to bottom, told a label at every layer if there is one.

Radford, Metz, Chintala 2016, arXiv 1511.06434, section 3, in the form that PyTorch's example made known;
parameters carry that example's names, so its files fit. Labels at every layer: Mirza & Osindero 2014, arXiv
1411.1784, in the convolutional form of Radford's code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, linear

from sfumato.errors import UsageError

SLOPE = 0.2
SPREAD = 0.02
"""Standard deviation of weights at the start (section 4)."""
POOLED = 4
"""Places a side to which activations are pooled as features (section 5.1)."""


@dataclass(frozen=True)
class DCGANNetsConfig:
    """Pictures, latents and widths of both networks."""

    channels: int = 3
    height: int = 64
    width: int = 64
    latent: int = 100
    generator: tuple[int, ...] = (512, 256, 128, 64)
    """Widths of the generator's maps, one for each doubling of their size."""
    critic: tuple[int, ...] = (64, 128, 256, 512)
    """Widths of the critic's maps, one for each halving."""
    classes: int = 0


class Stem(nn.ConvTranspose2d):
    """A transposed convolution of a single place is a linear map, and computed as one."""

    def forward(self, x: Float[Tensor, "b i 1 1"]) -> Float[Tensor, "b o h w"]:  # type: ignore[override]
        out = x.flatten(1) @ self.weight.flatten(1)
        return out.unflatten(1, self.weight.shape[1:])


class Verdict(nn.Conv2d):
    """A convolution to a single place is a linear map, and computed as one."""

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o 1 1"]:
        return linear(x.flatten(1), self.weight.flatten(1))[:, :, None, None]


class DCGenerator(nn.Module):
    """From a latent to a picture: a small map, doubled again and again."""

    def __init__(self, config: DCGANNetsConfig):
        super().__init__()
        self.config = c = config
        _check(c)
        last, known = len(c.generator), c.classes
        small = (-(-c.height // 2**last), -(-c.width // 2**last))
        layers: list[nn.Module] = [Stem(c.latent + known, c.generator[0], small, bias=False)]
        for i, width in enumerate(c.generator):
            layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            out = c.generator[i + 1] if i + 1 < last else c.channels
            layers.append(nn.ConvTranspose2d(width + known, out, 4, 2, 1, bias=False))
        self.main = nn.Sequential(*layers, nn.Tanh())
        start(self)

    def forward(
        self, z: Float[Tensor, "b d"], label: Float[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Pictures in [-1, 1]; ``label`` is one-hot. Sizes that cannot be halved often enough are cut out."""
        x = z[:, :, None, None]
        for layer in self.main:
            x = layer(told(x, label) if isinstance(layer, nn.ConvTranspose2d) else x)
        return x[:, :, : self.config.height, : self.config.width]


class DCCritic(nn.Module):
    """From a picture to one number: how real it looks."""

    def __init__(self, config: DCGANNetsConfig):
        super().__init__()
        self.config = c = config
        _check(c)
        known, wide = c.classes, c.channels
        layers: list[nn.Module] = []
        for i, width in enumerate(c.critic):
            layers.append(nn.Conv2d(wide + known, width, 4, 2, 1, bias=False))
            layers += [nn.BatchNorm2d(width)] if i else []  # The first layer sees colours as they are.
            layers.append(nn.LeakyReLU(SLOPE, inplace=True))
            wide = width
        small = (c.height >> len(c.critic), c.width >> len(c.critic))
        self.main = nn.Sequential(*layers, Verdict(wide + known, 1, small, bias=False))
        start(self)

    def forward(
        self, x: Float[Tensor, "b c h w"], label: Float[Tensor, "b k"] | None = None
    ) -> Float[Tensor, " b"]:
        """One real number a picture, not squashed."""
        for layer in self.main:
            x = layer(told(x, label) if isinstance(layer, nn.Conv2d) else x)
        return x[:, 0, 0, 0]

    def features(
        self, x: Float[Tensor, "b c h w"], label: Float[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b d"]:
        """What every layer sees, pooled to 4 x 4 places at most (section 5.1)."""
        seen = []
        for layer in list(self.main)[:-1]:
            x = layer(told(x, label) if isinstance(layer, nn.Conv2d) else x)
            if isinstance(layer, nn.LeakyReLU):
                side = (min(POOLED, x.shape[2]), min(POOLED, x.shape[3]))
                seen.append(adaptive_max_pool2d(x.float(), side).flatten(1))
        return torch.cat(seen, 1)


def told(x: Float[Tensor, "b c h w"], label: Float[Tensor, "b k"] | None) -> Float[Tensor, "b d h w"]:
    """Maps with the label beside them, the same at every place."""
    if label is None:
        return x
    maps = label.to(x)[:, :, None, None].expand(-1, -1, *x.shape[2:])
    return torch.cat([x, maps], 1)


@torch.no_grad()
def start(network: nn.Module) -> None:
    """Weights N(0, 0.02), scales N(1, 0.02), shifts 0 (section 4)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0, SPREAD)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, SPREAD)
            nn.init.zeros_(layer.bias)


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Set the means and variances of batch norms to those of these inputs, each batch counting the same.

    During training they lag behind the weights, and a critic's mix real examples with fakes. The network is
    left in evaluation mode.
    """
    norms = list(_norms(network))
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # The plain average.
    network.train()
    for batch in batches:
        network(*batch)
    network.eval()
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum


def _norms(network: nn.Module) -> Iterator[nn.BatchNorm2d]:
    return (m for m in network.modules() if isinstance(m, nn.BatchNorm2d))


def _check(c: DCGANNetsConfig) -> None:
    for name, widths in (("generator", c.generator), ("critic", c.critic)):
        if not widths or min(c.height, c.width) < 2 ** len(widths):
            raise UsageError(
                f"Pictures of {c.height} x {c.width} pixels cannot be halved {len(widths)} times; "
                f"give the {name} at least one width, and fewer of them for small pictures."
            )
