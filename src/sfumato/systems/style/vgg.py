"""VGG: a network that learned to tell sights apart, kept for what it sees on the way.

Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015, arXiv
1409.1556. Style transfer and dreams look through it; so do public weight files of VGG-16 and VGG-19.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sfumato.compat.torchvision import FIRST, FIRST_NORMALISED, read_vgg
from sfumato.core.request import Event, Request
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.vgg import VGG, VGGConfig

SMALL = VGGConfig(widths=(32, 64, 128, 192), convs=(2, 2, 3, 2), pooling="avg", padding="reflect")
"""The network that comes along: averages and reflected rims, as style transfer likes them."""


@dataclass(frozen=True)
class VGGNetConfig:
    """The network, what it tells apart, and how it learns."""

    network: VGGConfig = SMALL
    classes: tuple[str, ...] = ()
    """Names of the classes in order; empty for files that do not tell them."""
    optim: OptimConfig = OptimConfig(kind="muon", lr=4e-3, weight_decay=0.02, warmup=50, decay=0.6)
    smoothing: float = 0.05
    """Share of each label that is spread over all classes."""
    flips: bool = True
    """Whether pictures are mirrored at random while it learns."""


class VGGNet(System[Request]):
    """A classifier; others ask it for its maps."""

    Config = VGGNetConfig
    needs = frozenset({"image", "label"})
    published = frozenset({FIRST, FIRST_NORMALISED})

    def __init__(self, config: VGGNetConfig):
        super().__init__()
        self.config = config
        self.network = VGG(config.network)
        for layer in self.network.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    @classmethod
    def fit(cls, config: VGGNetConfig, facts: Facts) -> VGGNetConfig:
        if not facts.classes:
            raise UsageError(
                f"A VGG learns labels, but '{facts.name}' has none; give data with labels (a folder with one "
                "subfolder a class)."
            )
        network = replace(config.network, classes=len(facts.classes))
        return replace(config, network=network, classes=facts.classes)

    @classmethod
    def from_file(cls, path: Path) -> VGGNet:
        """A VGG in torchvision's layout or one of the two classic ones (``compat/torchvision.py``)."""
        held = read_vgg(path)
        with torch.device("meta"):
            system = cls(VGGNetConfig(held.config))
        system.network.load_state_dict(dict(held.tensors), assign=True)
        return system

    @property
    def channels(self) -> int:
        return 3

    def players(self) -> dict[str, Player]:
        ends = [self.network.features[0], self.network.classifier]
        return {
            "network": Player((self.network,), self.config.optim, tuple(e for e in ends if e is not None))
        }

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Cross entropy with labels."""
        x, label = batch["image"], batch["label"]
        if self.config.flips:
            mirrored = (batch.rng.uniform() < 0.5).to(x.device)[:, None, None, None]
            x = torch.where(mirrored, x.flip(3), x)
        logits = self.classify(x).float()
        yield Loss.sum(
            "network", cross_entropy=cross_entropy(logits, label, label_smoothing=self.config.smoothing)
        )

    def classify(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Logits of the classes of pictures in [-1, 1]; grey ones count as colourless."""
        return self.network.classify(x.expand(-1, 3, -1, -1))

    def run(self, request: Request) -> Iterator[Event]:
        raise UsageError(
            "A VGG answers no requests; others look through it: give it to stylize or dream as --features."
        )


VGGNet.presets = {
    "laptop": Preset(
        VGGNetConfig(), data="sights", size=48, train=TrainConfig(steps=1400, batch=32, ema=0.99)
    ),
    "paper": Preset(
        VGGNetConfig(
            replace(VGGConfig(), convention="imagenet", hidden=4096),
            optim=OptimConfig(lr=1e-4, weight_decay=5e-4, warmup=2000, decay=0.6),
        ),
        data="folder",
        size=224,
        train=TrainConfig(steps=370_000, batch=256, ema=0.0),
    ),
}
"""The paper's optimiser was SGD with momentum, which this house has not; 370,000 steps are its 74 epochs."""
