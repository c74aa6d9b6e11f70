"""DCGAN's latents can be reckoned with and its critic has learned to see; CGAN shows what it is asked for.

The judge is the evaluation oracle; concepts are found by the training oracle, which shares nothing with it.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

import sfumato
from sfumato.core.request import Edit, Generate, Images
from sfumato.core.system import System
from sfumato.data import open_data
from sfumato.data.digits import Digits
from sfumato.data.shapes.scene import COLOURS, SHAPES
from sfumato.data.shapes.single import CENTRE, SingleShapes, in_a_scene
from sfumato.metrics.classifier import DigitsClassifier, fashion_classifier
from sfumato.metrics.frechet import Moments, frechet_distance
from sfumato.metrics.oracle import evaluation_oracle
from sfumato.metrics.probe import Probe, probe
from sfumato.nn.dcgan import DCCritic, recalibrate
from sfumato.systems.gans.dcgan import DCGAN

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

FIRST_SEED = 1_000_000
SUMS, EACH = 60, 5
"""Sums of concepts, and pictures of each."""
COUNT = 1000


def made(system: System, count: int, **asked: object) -> Tensor:
    *_, answer = system.run(Generate(count=count, seed=FIRST_SEED, **asked))  # type: ignore[arg-type]
    assert isinstance(answer, Images)
    return answer.pixels.cpu()


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> DCGAN:
    out: Path = tmp_path_factory.mktemp("runs") / "dcgan"
    system = sfumato.train("dcgan", "laptop", out=out, device="cpu", quiet=True)
    assert isinstance(system, DCGAN)
    return system


@torch.no_grad()
def seen(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes and colours that the judge reads, and its features."""
    oracle = evaluation_oracle()
    parts = [in_a_scene(part) for part in pixels.split(250)]
    cells = [oracle.cells(part, (CENTRE,)) for part in parts]
    features = torch.cat([oracle.look(part, (CENTRE,))[:, 0] for part in parts]) * oracle.scale
    return *(torch.cat([c[k][:, 0] for c in cells]).argmax(1) for k in (1, 2)), features


def reckoned(system: DCGAN, strength: float) -> tuple[float, float]:
    """How often sums such as "red circle - red square + blue square" show blue, and a blue circle."""
    chance, colours, both = random.Random(0), 0.0, 0.0
    for k in range(SUMS):
        (one, other), (shape, rest) = chance.sample(range(8), 2), chance.sample(range(6), 2)
        names = (COLOURS[one], SHAPES[shape]), (COLOURS[one], SHAPES[rest]), (COLOURS[other], SHAPES[rest])
        prompt = "{} - {} + {}".format(*(" ".join(name) for name in names))
        asked = Edit(prompt=prompt, count=EACH, seed=FIRST_SEED + 100 * k, strength=strength)
        *_, answer = system.run(asked)
        assert isinstance(answer, Images)
        found, colour, _ = seen(answer.pixels)
        colours += float((colour == other).float().mean()) / SUMS
        both += float(((colour == other) & (found == shape)).float().mean()) / SUMS
    return colours, both


def test_latents_can_be_reckoned_with(shapes):
    colour, both = reckoned(shapes, strength=1.0)
    control, neither = reckoned(shapes, strength=0.0)
    print(f"colour {colour:.3f} (n {SUMS * EACH}), without the sum {control:.3f}")
    print(f"colour and shape {both:.3f}, without the sum {neither:.3f}")
    assert colour >= 0.40
    assert control <= 0.10


def test_pictures_come_near_real_ones(shapes):
    size = shapes.config.network.height
    train, test = (
        SingleShapes(split, size).batch(torch.arange(COUNT))["image"] for split in ("train", "test")
    )
    torch.manual_seed(0)
    untrained = DCGAN(shapes.config).eval()
    sets = {"generated": made(shapes, COUNT), "real test": test, "untrained": made(untrained, COUNT)}
    real = Moments.of(seen(train)[2])
    distances = {name: frechet_distance(real, Moments.of(seen(x)[2])).value for name, x in sets.items()}
    print(", ".join(f"Frechet distance, {name} {value:.1f}" for name, value in distances.items()))
    assert distances["generated"] <= 0.3 * distances["untrained"]


def test_the_critic_has_learned_to_see(shapes):
    size = shapes.config.network.height
    train, test = (
        SingleShapes(split, size).batch(torch.arange(n)) for split, n in (("train", 2400), ("test", 1500))
    )
    torch.manual_seed(0)
    critics = {"trained": shapes.critic, "untrained": DCCritic(shapes.config.network)}
    found: dict[str, Probe] = {}
    for name, critic in critics.items():
        recalibrate(critic, [(x,) for x in train["image"].split(200)])
        with torch.no_grad():
            features = [torch.cat([critic.features(x) for x in d["image"].split(300)]) for d in (train, test)]
        found[name] = probe(features[0], train["label"], features[1], test["label"])
    pixels = [d["image"].flatten(1) for d in (train, test)]
    found["pixels"] = probe(pixels[0], train["label"], pixels[1], test["label"])
    print(found)
    assert found["trained"].accuracy >= found["untrained"].accuracy + 0.04
    assert found["trained"].accuracy > found["pixels"].accuracy


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> tuple[Tensor, Tensor]:
    """Digits made by label."""
    out = tmp_path_factory.mktemp("runs") / "cgan"
    system = sfumato.train("cgan", "digits", out=out, device="cpu", quiet=True)
    return made(system, COUNT, label=tuple(range(10))), torch.arange(COUNT) % 10


def test_digits_are_what_was_asked_for(digits):
    pixels, labels = digits
    real = Digits("train").batch(torch.arange(1200))
    judge = DigitsClassifier(real["image"], real["label"])
    agreement, control = judge.accuracy(pixels, labels), judge.accuracy(pixels, labels.roll(1))
    print(f"label agreement {agreement:.3f} (n {COUNT}), with the labels of other pictures {control:.3f}")
    assert agreement >= 0.90
    assert control < 0.2


def test_real_digits_can_be_learned_from_generated_ones(digits):
    test = Digits("test").batch(torch.arange(597))
    taught = DigitsClassifier(*digits)
    score, control = (
        machine.accuracy(test["image"], test["label"])
        for machine in (taught, DigitsClassifier(digits[0], digits[1].roll(1)))
    )
    print(f"real test digits known from generated ones {score:.3f}, taught by wrong labels {control:.3f}")
    assert score >= 0.80
    assert control < 0.2


def test_clothes_are_what_was_asked_for(tmp_path):
    system = sfumato.train("cgan", "laptop", out=tmp_path / "run", device="cpu", quiet=True)
    pixels, labels, judge = (
        made(system, COUNT, label=tuple(range(10))),
        torch.arange(COUNT) % 10,
        fashion_classifier(),
    )
    agreement, control = judge.accuracy(pixels, labels), judge.accuracy(pixels, labels.roll(1))
    real = open_data("fashion", split="test", size=28).batch(torch.arange(2000))
    known = judge.accuracy(real["image"], real["label"])
    print(f"label agreement {agreement:.3f} (n {COUNT}), others' {control:.3f}, real test {known:.3f}")
    assert agreement >= 0.84
    assert control < 0.2
