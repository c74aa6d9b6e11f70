"""Classifiers that judge generated pictures: oracles, never seen by any model they judge.

``digits``: a support vector machine, fitted on the spot. ``fashion``: a small convolutional network that
comes with the package. Both learn from real training pictures alone.
"""

from __future__ import annotations

import abc
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, pixel_unshuffle

from sfumato.core.rng import Rng
from sfumato.errors import DataError, MissingExtraError
from sfumato.metrics.features import in_batches

WEIGHTS = Path(__file__).parents[1] / "weights" / "oracles" / "fashion-classifier.safetensors"


class Classifier(abc.ABC):
    """Reads the label off a picture in [-1, 1]."""

    name: str
    sure: bool = False
    """Whether its logits are meant as logarithms of probabilities."""

    @abc.abstractmethod
    def logits(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """One score a class; the largest wins."""

    @abc.abstractmethod
    def features(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """What the decision is made from."""

    def accuracy(self, pixels: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> float:
        """Share of pictures read as the given labels."""
        return (self.logits(pixels).argmax(1) == labels).float().mean().item()


class DigitsClassifier(Classifier):
    """Support vector machine with a Gaussian kernel on the 64 pixels of scikit-learn's digits."""

    name = "digits support vector machine"
    side = 8

    def __init__(self, pixels: Float[Tensor, "n 1 h w"], labels: Int[Tensor, " n"]):
        try:
            from sklearn.svm import SVC
        except ImportError as error:
            raise MissingExtraError(
                'The classifier of digits needs scikit-learn; install it with: pip install "sfumato[data]".'
            ) from error
        self._machine: Any = SVC(C=10.0, gamma=0.001)
        self._machine.fit(self._values(pixels), labels.numpy())

    def logits(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        return torch.from_numpy(self._machine.decision_function(self._values(pixels))).float()

    def features(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """The machine has no hidden layer; its decision values stand in."""
        return self.logits(pixels)

    def _values(self, pixels: Tensor) -> Any:
        """Grey levels 0 to 16, as the data has them."""
        return ((inner_part(pixels, self.side) + 1) * 8).flatten(1).double().numpy()


class FashionNet(nn.Module):
    """Three convolutions on patches of 2 x 2 pixels, a hidden layer and a decision between 10 kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(_conv(4, 32), _conv(32, 64, stride=2), _conv(64, 96), nn.MaxPool2d(2))
        self.hidden = nn.Linear(96 * 9, 128)
        self.decide = nn.Linear(128, 10)

    def features(self, x: Float[Tensor, "b 1 28 28"]) -> Float[Tensor, "b 128"]:
        """The hidden layer."""
        return self.hidden(self.convs(pixel_unshuffle(x, 2)).flatten(1)).relu()

    def forward(self, x: Float[Tensor, "b 1 28 28"]) -> Float[Tensor, "b 10"]:
        return self.decide(self.features(x))


def _conv(inner: int, outer: int, *, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer), nn.ReLU())


class FashionClassifier(Classifier):
    """The network above with the weights that come with the package, or others."""

    name = "fashion network"
    sure = True
    side = 28

    def __init__(self, network: FashionNet):
        self.network = network.eval().requires_grad_(False)

    @classmethod
    def shipped(cls, path: Path = WEIGHTS) -> FashionClassifier:
        """Read the weights that come with the package; see the card beside them."""
        if not path.is_file():
            raise DataError(f"The classifier's weights '{path.name}' are missing; install sfumato again.")
        network = FashionNet()
        network.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
        return cls(network)

    def logits(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        return in_batches(self.network, inner_part(pixels, self.side), 500)

    def features(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        return in_batches(self.network.features, inner_part(pixels, self.side), 500)


def inner_part(pixels: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "n 1 s s"]:
    """Grey pictures without the black border by which the datasets fill larger sizes."""
    height, width = pixels.shape[2:]
    if min(height, width) < side:
        raise DataError(
            f"This classifier reads pictures of {side} x {side} pixels or larger, not {height} x {width}; "
            "generate them at the size of the dataset."
        )
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[:, :, top : top + side, left : left + side].float().mean(1, keepdim=True)


@cache
def fashion_classifier() -> FashionClassifier:
    """The shipped classifier of clothes, read once a process."""
    return FashionClassifier.shipped()


def fit_fashion(
    pixels: Float[Tensor, "n 1 28 28"],
    labels: Int[Tensor, " n"],
    *,
    steps: int = 4000,
    batch: int = 128,
    lr: float = 4e-3,
    seed: int = 0,
) -> FashionNet:
    """Train the classifier on real pictures, mirrored, moved by up to two pixels and a little noisy.

    Noise and moves make it judge what is shown, not the fine grain by which a generated picture differs.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FashionNet()
    optimiser = torch.optim.AdamW(network.parameters(), lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, steps, pct_start=0.2)
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(pixels), generator=generator)
        rows, order = order[:batch], order[batch:]
        loss = cross_entropy(network(_varied(pixels[rows], generator)), labels[rows], label_smoothing=0.05)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    return network.eval()


def _varied(x: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures mirrored, the batch moved, noise of a strength up to 0.2 a picture."""
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
    down, right = torch.randint(-2, 3, (2,), generator=generator).tolist()
    x = pad(x, (2, 2, 2, 2), value=-1.0)[:, :, 2 + down : 30 + down, 2 + right : 30 + right]
    strength = 0.2 * torch.rand(len(x), 1, 1, 1, generator=generator)
    return x + strength * torch.randn(x.shape, generator=generator)


def gaussian_control(
    pixels: Float[Tensor, "n c h w"], count: int, *, seed: int = 0
) -> Float[Tensor, "m c h w"]:
    """Pictures from a Gaussian with the mean and covariance of real ones, clipped to [-1, 1].

    That is all a Frechet distance asks for: they score well there and look like nothing. A metric that cannot
    tell them from real pictures proves nothing either, so pair every Frechet distance with precision.
    """
    x = pixels.flatten(1).float()
    mean = x.mean(0)
    mixed = Rng.sampling(seed, count).normal(len(x)) @ (x - mean) / (len(x) - 1) ** 0.5
    return (mean + mixed).clamp(-1, 1).reshape(count, *pixels.shape[1:])
