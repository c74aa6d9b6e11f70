"""How the oracles of the shapes world are trained: ``python -m sfumato.metrics.oracle_training evaluation``.

They learn from crowded pictures (every cell is filled with probability one half, by any pair of colour and
shape, so that nothing is held out from a judge), many of them spoilt by noise, blur, shrinking and a cast
of colour.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate

from sfumato.core.optim import optimiser_of
from sfumato.core.rng import mix
from sfumato.core.system import OptimConfig, Player
from sfumato.data.shapes.render import render
from sfumato.data.shapes.scene import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    TEXTURES,
    Scenes,
    below,
    draw,
    scene_keys,
    unit,
)
from sfumato.device import autocast
from sfumato.errors import DataError
from sfumato.metrics.oracle import ShapesOracle
from sfumato.metrics.reader import FOLDER, SIDE, OracleConfig, Reader, save_reader

log = logging.getLogger(__name__)

_FALLING = 0.7
"""Share of the steps over which the learning rate falls under Muon."""


@dataclass(frozen=True)
class OracleTraining:
    """How one oracle is trained."""

    network: OracleConfig
    seed: int
    steps: int = 2000
    batch: int = 32
    lr: float = 3e-3
    warmup: int = 100
    muon: bool = False
    """Whether matrices move by Muon, which takes two thirds of the steps; all else by AdamW."""
    start: Path | None = None
    """Weights to go on from."""


TRAININGS = {
    "evaluation": OracleTraining(OracleConfig(channels=24, features=128), seed=1),
    "training": OracleTraining(OracleConfig(channels=16, features=96), seed=2),
}


def crowd(seed: int, step: int, count: int) -> Scenes:
    """Pictures with anything in every cell: slot k is cell k, empty as often as not."""
    rows = torch.arange(step * count, (step + 1) * count)
    key = scene_keys(mix(seed, "crowd"), rows)
    cells = range(len(PLACES))
    present = unit(key, range(0, 9)) < 0.5
    limits = (len(SHAPES), len(COLOURS), len(SIZES), len(TEXTURES))
    drawn = [
        torch.stack([below(key, 10 * (a + 1) + k, limit) for k in cells], 1) for a, limit in enumerate(limits)
    ]
    values = [*drawn, torch.arange(len(PLACES)).expand(count, -1)]
    slots = {name: torch.where(present, value, -1) for name, value in zip(ATTRIBUTES, values, strict=True)}
    jitter = unit(key, range(100, 127)).mul(2).sub(1).view(count, len(PLACES), 3)
    background = below(key, 9, len(BACKGROUNDS))
    return Scenes(number=present.sum(1), background=background, jitter=jitter, key=key, **slots)


def spoil(pixels: Float[Tensor, "n 3 h w"], generator: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    """Shrink a quarter of the pictures and enlarge them again, blur a quarter, give half noise and a cast."""
    n, quarter = len(pixels), len(pixels) // 4
    x = pixels.clone()
    x[:quarter] = interpolate(avg_pool2d(x[:quarter], 2), scale_factor=2.0, mode="bilinear")
    blurred = avg_pool2d(x[quarter : 2 * quarter], 3, 1, 1, count_include_pad=False)
    x[quarter : 2 * quarter] = blurred.lerp(x[quarter : 2 * quarter], 0.3)
    spoilt = torch.rand(n, 1, 1, 1, generator=generator) < 0.5
    strength = 0.3 * torch.rand(n, 1, 1, 1, generator=generator)
    cast = 0.1 * torch.randn(n, 3, 1, 1, generator=generator).clamp(-2, 2)
    gain = 1 + 0.1 * torch.randn(n, 1, 1, 1, generator=generator).clamp(-2, 2)
    noisy = x * gain + cast + strength * torch.randn(x.shape, generator=generator)
    return torch.where(spoilt, noisy, x).clamp(-1, 1)


def pictures(training: OracleTraining, step: int) -> tuple[Float[Tensor, "n 3 h w"], Scenes]:
    """What is seen at one step, a pure function of seed and step; a quarter is painted at 32 pixels."""
    scenes = crowd(training.seed, step, training.batch)
    quarter = training.batch // 4
    small = interpolate(render(scenes[:quarter], 32), (SIDE, SIDE), mode="bilinear", antialias=True)
    whole = render(scenes[quarter:], SIDE)
    generator = torch.Generator().manual_seed(mix(training.seed, "spoil", step))
    return torch.cat([small.clamp(-1, 1), spoil(whole, generator)]), scenes


def loss_of(oracle: ShapesOracle, pixels: Tensor, scenes: Scenes) -> Float[Tensor, ""]:
    """Cross entropy of presence, of what is present, and of the background."""
    cells, ground = oracle(pixels)
    present = scenes.shape >= 0
    truth = [getattr(scenes, name) for name in ATTRIBUTES[:4]]
    total = cross_entropy(cells[0].float().flatten(0, 1), present.long().flatten())
    for logits, value in zip(cells[1:], truth, strict=True):
        total = total + cross_entropy(logits[present].float(), value[present])
    return total + 0.3 * cross_entropy(ground.float(), scenes.background)


def train(training: OracleTraining, name: str) -> Iterator[tuple[int, float, ShapesOracle]]:
    """Train; yields step, loss and the network after every hundredth step and the last."""
    torch.manual_seed(training.seed)
    oracle = ShapesOracle(training.network, f"shapes ({name})")
    for step, loss in descend(oracle, training, lambda step: loss_of(oracle, *pictures(training, step))):
        yield step, loss, oracle


def descend(
    oracle: Reader, training: OracleTraining, loss_at: Callable[[int], Float[Tensor, ""]]
) -> Iterator[tuple[int, float]]:
    """Train any reader on the losses of its lessons; yields step and loss after every hundredth step."""
    if training.start is not None:
        oracle.load_state_dict(load_file(training.start))
        oracle.scale.fill_(1.0)
    move = _by_muon(oracle, training) if training.muon else _by_adam(oracle, training)
    for step in range(training.steps):
        with autocast("auto", torch.device("cpu")):
            loss = loss_at(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(oracle.parameters(), 1.0)
        move(step)
        oracle.zero_grad()
        if (step + 1) % 100 == 0 or step + 1 == training.steps:
            yield step + 1, float(loss.detach())


def _by_adam(oracle: Reader, training: OracleTraining) -> Callable[[int], None]:
    optimiser = torch.optim.AdamW(oracle.parameters(), lr=training.lr, weight_decay=0.01)

    def move(step: int) -> None:
        left = (training.steps - step) / training.steps
        for group in optimiser.param_groups:
            group["lr"] = training.lr * min((step + 1) / training.warmup, 1.5 * left, 1.0)
        optimiser.step()

    return move


def _by_muon(oracle: Reader, training: OracleTraining) -> Callable[[int], None]:
    config = OptimConfig(
        kind="muon", lr=training.lr, weight_decay=0.01, warmup=training.warmup, decay=_FALLING
    )
    player = Player((oracle,), config, ends=oracle.ends())
    return optimiser_of(player, training.steps, torch.bfloat16).step


def examine(
    oracle: ShapesOracle, pairs: str, count: int, side: int = SIDE, noise: float = 0.0, seed: int = 987_654
) -> dict[str, float]:
    """Share of attributes and of whole scenes read rightly from fresh renders that no training has seen."""
    scenes = draw(seed, torch.arange(count), pairs=pairs)
    pixels = render(scenes, side)
    generator = torch.Generator().manual_seed(seed)
    pixels = (pixels + noise * torch.randn(pixels.shape, generator=generator)).clamp(-1, 1)
    return agreement(oracle.read(pixels), scenes)


def agreement(found: Scenes, true: Scenes) -> dict[str, float]:
    """Share of objects, by attribute, and of whole scenes that were found as they are, cell by cell."""
    same, present = {}, on_cells(true, "shape") >= 0
    whole = (found.number == true.number) & (found.background == true.background)
    for name in ATTRIBUTES[:4]:
        right = on_cells(found, name) == on_cells(true, name)
        same[name] = float(right[present].float().mean())
        whole &= right.all(1)
    number = float((found.number == true.number).float().mean())
    background = float((found.background == true.background).float().mean())
    return same | {"number": number, "background": background, "scene": float(whole.float().mean())}


def on_cells(scenes: Scenes, name: str) -> Tensor:
    """An attribute laid out over the nine cells, -1 where nothing stands."""
    cells = torch.full((len(scenes), len(PLACES) + 1), -1)
    place = torch.where(scenes.place < 0, len(PLACES), scenes.place)
    return cells.scatter(1, place, getattr(scenes, name))[:, : len(PLACES)]


def command(
    trainings: Mapping[str, OracleTraining],
    train_one: Callable[[OracleTraining, str], Iterator[tuple[int, float, Reader]]],
    real: Callable[[], Float[Tensor, "n 3 h w"]],
    describe: str,
) -> Reader:
    """The command line of all oracle trainings: train, scale the features by real pictures, store."""
    parser = argparse.ArgumentParser(description=describe)
    parser.add_argument("name", choices=sorted(trainings))
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--steps", type=int, default=0, help="0: as many as the shipped weights had")
    parser.add_argument("--start", type=Path, help="weights to go on from, at half the rate")
    parser.add_argument("--seed", type=int, help="of the pictures; another one when training goes on")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    training = trainings[given.name]
    if given.steps:
        training = dataclasses.replace(training, steps=given.steps)
    if given.start:
        training = dataclasses.replace(training, start=given.start, lr=training.lr / 2)
    if given.seed is not None:
        training = dataclasses.replace(training, seed=given.seed)
    oracle, start = None, time.process_time()
    for step, loss, oracle in train_one(training, given.name):  # noqa: B007
        log.info("step %d  loss %.4f  core-seconds %.0f", step, loss, time.process_time() - start)
    if oracle is None:
        raise DataError("Nothing was trained; give at least one step.")
    oracle.eval().set_scale(real())
    save_reader(oracle, given.out / f"{given.name}.safetensors")
    return oracle


def reference() -> Float[Tensor, "n 3 64 64"]:
    """Real pictures by which the features are scaled."""
    return render(draw(0, torch.arange(1500)), SIDE)


def main() -> None:
    oracle = command(TRAININGS, train, reference, "Train an oracle of the shapes world.")
    assert isinstance(oracle, ShapesOracle)
    for pairs in ("train", "held", "any"):
        log.info("%s: %s", pairs, examine(oracle, pairs, 5000))
    log.info("any at 32 px: %s", examine(oracle, "any", 5000, side=32))
    log.info("any with noise 0.2: %s", examine(oracle, "any", 5000, noise=0.2))


if __name__ == "__main__":
    main()
