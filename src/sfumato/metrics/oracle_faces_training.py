"""How the oracles of the face world are trained: ``python -m sfumato.metrics.oracle_faces_training``.

The same lessons as for shapes: fresh pictures at every step, many of them small, blurred, noisy or tinted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate, smooth_l1_loss

from sfumato.core.rng import mix
from sfumato.data.faces.render import render
from sfumato.data.faces.scene import Portraits, draw
from sfumato.metrics.oracle_faces import FacesOracle, agreement
from sfumato.metrics.oracle_training import OracleTraining, command, descend, spoil
from sfumato.metrics.reader import SIDE, OracleConfig

log = logging.getLogger(__name__)

TRAININGS = {
    "faces-evaluation": OracleTraining(
        OracleConfig(channels=24, features=160), seed=11, steps=650, lr=5e-3, warmup=20, muon=True
    ),
    "faces-training": OracleTraining(
        OracleConfig(channels=20, features=128), seed=12, steps=650, lr=5e-3, warmup=20, muon=True
    ),
}
_DIRECTIONS = 6.0
"""Weight of gaze and pose beside the cross entropies."""


def pictures(training: OracleTraining, step: int) -> tuple[Float[Tensor, "n 3 h w"], Portraits]:
    """What is seen at one step, a pure function of seed and step; an eighth is painted at 32 pixels."""
    rows = torch.arange(step * training.batch, (step + 1) * training.batch)
    portraits = draw(mix(training.seed, "portraits"), rows)
    few = training.batch // 8
    small = interpolate(render(portraits[:few], 32), (SIDE, SIDE), mode="bilinear", antialias=True)
    generator = torch.Generator().manual_seed(mix(training.seed, "spoil", step))
    return torch.cat([small, spoil(render(portraits[few:], SIDE), generator)]), portraits


def loss_of(oracle: FacesOracle, pixels: Tensor, portraits: Portraits) -> Float[Tensor, ""]:
    """Cross entropy of every attribute, and the error of the directions."""
    *logits, directions = oracle(pixels)
    total = _DIRECTIONS * smooth_l1_loss(directions.float(), portraits.directions, beta=0.2)
    for values, truth in zip(logits, portraits.table.unbind(1), strict=True):
        total = total + cross_entropy(values.float(), truth)
    return total


def train(training: OracleTraining, name: str) -> Iterator[tuple[int, float, FacesOracle]]:
    """Train; yields step, loss and the network after every hundredth step and the last."""
    torch.manual_seed(training.seed)
    oracle = FacesOracle(training.network, f"faces ({name})")
    for step, loss in descend(oracle, training, lambda step: loss_of(oracle, *pictures(training, step))):
        yield step, loss, oracle


def examine(
    oracle: FacesOracle, count: int, side: int = SIDE, noise: float = 0.0, seed: int = 987_654
) -> Mapping[str, float]:
    """Share read rightly, by attribute, of fresh portraits that no training has seen."""
    portraits = draw(seed, torch.arange(count))
    pixels = render(portraits, side)
    generator = torch.Generator().manual_seed(seed)
    pixels = (pixels + noise * torch.randn(pixels.shape, generator=generator)).clamp(-1, 1)
    return agreement(oracle.read(pixels), portraits.table, portraits.directions)


def reference() -> Float[Tensor, "n 3 64 64"]:
    """Real pictures by which the features are scaled."""
    return render(draw(0, torch.arange(1500)), SIDE)


def main() -> None:
    oracle = command(TRAININGS, train, reference, "Train an oracle of the face world.")
    assert isinstance(oracle, FacesOracle)
    for words, side, noise in (("clean", 64, 0.0), ("at 32 px", 32, 0.0), ("with noise 0.2", 64, 0.2)):
        figures = examine(oracle, 4000, side, noise)
        log.info("%s: %s", words, {name: round(value, 4) for name, value in figures.items()})


if __name__ == "__main__":
    main()
