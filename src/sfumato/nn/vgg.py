"""VGG: stages of 3 x 3 convolutions between poolings, whose maps say what a picture shows and how it looks.

Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015, arXiv
1409.1556, table 1 (configurations D and E). Layers stand under torchvision's names (``features.0.weight``),
so that its weight files fit; ``compat/torchvision.py`` reads these and two older conventions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from sfumato.errors import UsageError, nearest

Convention = Literal["unit", "imagenet", "caffe", "normalised"]
"""How a network wants its pictures. ``unit``: RGB in [-1, 1], as this house keeps them. ``imagenet``: RGB in
[0, 1], minus torchvision's mean, over its deviation. ``caffe``: BGR in [0, 255], minus a mean.
``normalised``: RGB in [0, 1]; the network's own first layer does the rest."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)
"""Of blue, green and red."""
_AFFINE: dict[Convention, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": (
        tuple(0.5 / std for std in IMAGENET_STD),
        tuple((0.5 - mean) / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)),
    ),
    "caffe": ((127.5,) * 3, tuple(127.5 - mean for mean in CAFFE_MEAN)),
    "normalised": ((0.5,) * 3, (0.5,) * 3),
}
"""Factor and summand of each colour that turn [-1, 1] into a convention, after its order of colours."""
_POOLED = 7
"""Side of the map that the classic classifiers read."""
_DROP = 0.5


@dataclass(frozen=True)
class VGGConfig:
    """Shape of the network, and the pictures it is used to."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    """Channels of each stage."""
    convs: tuple[int, ...] = (2, 2, 4, 4, 4)
    """Convolutions of each stage; a pooling that halves follows every stage."""
    pooling: Literal["max", "avg"] = "max"
    """Style is smoother with averages (Gatys et al. 2016, section 2)."""
    padding: Literal["zeros", "reflect"] = "zeros"
    ceil: bool = False
    """Whether poolings keep the last row or column of odd sides."""
    first: bool = False
    """Whether a 1 x 1 convolution comes before all, as in the network called normalised."""
    convention: Convention = "unit"
    classes: int = 0
    """0 for a network without a classifier."""
    hidden: int = 0
    """Units of each of the two hidden layers of the classic classifier, which reads 7 x 7 places; 0 for one
    layer upon the mean over all places."""


VGG16 = VGGConfig(convs=(2, 2, 3, 3, 3), convention="imagenet")
VGG19 = VGGConfig(convs=(2, 2, 4, 4, 4), convention="imagenet")


class VGG(nn.Module):
    """A network whose maps are known by name: ``conv3_2`` and ``relu3_2`` in stage 3, ``pool3`` behind it."""

    def __init__(self, config: VGGConfig):
        super().__init__()
        self.config = c = config
        if len(c.widths) != len(c.convs) or not c.widths:
            raise UsageError(
                f"A VGG needs a width and a number of convolutions for each stage, got widths {c.widths} and "
                f"convs {c.convs}; give as many of both."
            )
        layers: list[nn.Module] = []
        self._places: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        wide = 3
        for stage, (width, count) in enumerate(zip(c.widths, c.convs, strict=True), 1):
            for k in range(1, count + 1):
                conv = nn.Conv2d(wide, width, 3, padding=1, padding_mode=c.padding)
                self._add(layers, f"conv{stage}_{k}", conv, width)
                self._add(layers, f"relu{stage}_{k}", nn.ReLU(), width)
                wide = width
            pool = nn.MaxPool2d if c.pooling == "max" else nn.AvgPool2d
            self._add(layers, f"pool{stage}", pool(2, 2, ceil_mode=c.ceil), width)
        self.first = nn.Conv2d(3, 3, 1) if c.first else nn.Identity()
        self.features = nn.Sequential(*layers)
        self.classifier = _classifier(c, wide) if c.classes else None

    def _add(self, layers: list[nn.Module], name: str, layer: nn.Module, width: int) -> None:
        self._places[name], self._channels[name] = len(layers), width
        layers.append(layer)

    @property
    def taps(self) -> tuple[str, ...]:
        """The names of all maps, from the picture inwards."""
        return tuple(self._places)

    def channels_of(self, tap: str) -> int:
        """Channels of a map; a ``UsageError`` if there is none of this name."""
        self._check(tap)
        return self._channels[tap]

    def smallest(self, taps: Sequence[str]) -> int:
        """The shortest side a picture may have for these maps to exist."""
        for tap in taps:
            self._check(tap)
        deepest = max((_stage(tap) for tap in taps), default=1)
        inner = 2 if self.config.padding == "reflect" else 1
        return int(inner * 2 ** (deepest - 1))

    def forward(self, x: Float[Tensor, "n 3 h w"], taps: Sequence[str]) -> dict[str, Tensor]:
        """The named maps of pictures in [-1, 1]; nothing is computed beyond the deepest of them.

        Raises ``UsageError`` for a name there is not, and for pictures too small to have such a map.
        """
        least = self.smallest(taps)
        if min(x.shape[2:]) < least:
            raise UsageError(
                f"Pictures of {x.shape[2]} x {x.shape[3]} pixels are too small for {', '.join(taps)}; they "
                f"need at least {least} a side. Enlarge them, or choose earlier layers."
            )
        wanted = {self._places[tap]: tap for tap in taps}
        found: dict[str, Tensor] = {}
        x = self.first(self.adapted(x))
        for place in range(max(wanted, default=-1) + 1):
            x = self.features[place](x)
            if place in wanted:
                found[wanted[place]] = x
        return {tap: found[tap] for tap in taps}

    def classify(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Logits of the classes; a ``UsageError`` if the network has no classifier."""
        if self.classifier is None:
            raise UsageError("This VGG has no classifier; use one that was made with classes.")
        last = f"pool{len(self.config.widths)}"
        side = _POOLED if self.config.hidden else 1
        logits: Tensor = self.classifier(adaptive_avg_pool2d(self(x, [last])[last], side).flatten(1))
        return logits

    def adapted(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Pictures in [-1, 1] as the network's own convention has them."""
        if self.config.convention == "unit":
            return x
        if self.config.convention == "caffe":
            x = x.flip(1)
        scale, shift = (x.new_tensor(row).view(1, 3, 1, 1) for row in _AFFINE[self.config.convention])
        return x * scale + shift

    def _check(self, tap: str) -> None:
        if tap not in self._places:
            raise UsageError(f"This VGG has no layer '{tap}'{nearest(tap, self._places)}")


def _stage(tap: str) -> int:
    return int(tap[4:].split("_")[0])


def _classifier(config: VGGConfig, width: int) -> nn.Sequential:
    """Torchvision's, with its numbering, or one layer."""
    if not config.hidden:
        return nn.Sequential(nn.Linear(width, config.classes))
    hidden = config.hidden
    return nn.Sequential(
        nn.Linear(width * _POOLED**2, hidden),
        nn.ReLU(),
        nn.Dropout(_DROP),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(_DROP),
        nn.Linear(hidden, config.classes),
    )


def random_vgg(config: VGGConfig, seed: int = 0) -> VGG:
    """A network that has learned nothing, the control of all that have: orthogonal kernels, gain sqrt(2).

    Its statistics still tell textures apart (Ustyuzhaninov et al. 2016, arXiv 1606.00021).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        net = VGG(config)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(layer.weight, 2**0.5, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net.eval().requires_grad_(False)
