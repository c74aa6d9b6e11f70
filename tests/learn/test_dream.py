"""Dreams of one oracle of shapes, read by another, and layers that grow as no chance makes them grow.

Both oracles learned the same world, with other seeds and widths. A dream sets out from a blurred, paled part
of a photograph and climbs the first oracle's logits of a shape, of a colour and of anything being there; the
second, the judge, is to read both from it. The control climbs as far in as many steps, at one size and
without shifts. It was expected to be read half as often at most; it is not so: plain ascent crosses from one
of these two oracles to the other nearly as well.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from sfumato.apps.load import load
from sfumato.core.request import Dream
from sfumato.core.rng import Rng
from sfumato.data.photos import Photos
from sfumato.data.shapes.scene import COLOURS, SHAPES
from sfumato.data.shapes.single import CENTRE
from sfumato.metrics.oracle import ShapesOracle, evaluation_oracle, training_oracle
from sfumato.systems.style.dream import Climb, Dreamer, Energy, dreamed

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

RUNS, SIDE = 50, 64
DREAM = Climb(octaves=4, octave_scale=1.4, steps=20, jitter=1, step=3.0, least=1)
STILL = Climb(octaves=1, octave_scale=1.4, steps=1, jitter=0, step=0.0, least=1)
PLAIN = Climb(octaves=1, octave_scale=1.4, steps=80, jitter=0, step=3.0, least=1)


def wanted(run: int) -> tuple[int, int]:
    """A shape and a colour; all pairs come."""
    return run % len(SHAPES), (run * 5 + run // len(SHAPES)) % len(COLOURS)


def energy(oracle: ShapesOracle, shape: int, colour: int) -> Energy:
    def of(x: Tensor) -> Tensor:
        there, shapes, colours, *_ = oracle.cells(x, (CENTRE,))
        return there[0, 0, 1] - there[0, 0, 0] + shapes[0, 0, shape] + colours[0, 0, colour]

    return of


def read(climb: Climb, starts: Tensor) -> tuple[float, float]:
    """Shares of dreams in which the judge reads the shape, and shape and colour."""
    dreamer, judge, right = training_oracle(), evaluation_oracle(), []
    for run, start in enumerate(starts):
        shape, colour = wanted(run)
        *_, (_, dream) = dreamed(energy(dreamer, shape, colour), start[None], climb, Rng([run]))
        with torch.no_grad():
            _, shapes, colours, *_ = judge.cells(dream, (CENTRE,))
        found = int(shapes[0, 0].argmax()) == shape, int(colours[0, 0].argmax()) == colour
        right.append([float(found[0]), float(all(found))])
    shape_alone, both = torch.tensor(right).mean(0).tolist()
    return shape_alone, both


def test_another_oracle_reads_what_one_dreams_of():
    photos = Photos("test", SIDE, length=RUNS).batch(torch.arange(RUNS))["image"]
    starts = 0.3 * interpolate(avg_pool2d(photos, 16), (SIDE, SIDE), mode="bilinear")
    before, dreams, control = read(STILL, starts), read(DREAM, starts), read(PLAIN, starts)
    print(f"shape, and shape with colour, of {RUNS}: {dreams}; plain ascent {control}; nothing {before}")
    assert dreams[0] >= 0.80
    assert dreams[1] >= 0.60
    assert before[1] <= 0.10


def test_a_layer_grows_threefold_and_chance_does_not_do_it():
    """Of the network that comes along, on 8 parts of photographs it has not seen."""
    system = load("dream", precision="fp32", device="cpu")
    assert isinstance(system, Dreamer)
    x = Photos("test", 96, length=8).batch(torch.arange(8))["image"]
    *_, result = system.run(Dream(images=x))
    off = result.pixels - x
    noise = torch.randn(off.shape, generator=torch.Generator().manual_seed(0)) * off.square().mean().sqrt()
    taps = system.config.layers

    def activity(y: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.stack([m.square().mean((1, 2, 3)) for m in system.maps(y, taps).values()]).sum(0)

    dreamt, random = ((activity(y) / activity(x)).tolist() for y in (result.pixels, (x + noise).clamp(-1, 1)))
    beyond = [dream / noisy for dream, noisy in zip(dreamt, random, strict=True)]
    print(
        f"times the layer's energy: dreams {dreamt}, noise {random}; at least {min(beyond):.2f} times noise's"
    )
    assert min(dreamt) >= 3
    assert min(beyond) >= 3
