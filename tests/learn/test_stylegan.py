"""What StyleGAN promises holds for the faces that come with the package, and against a DCGAN of equal images.

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

COUNT = 2000
IMAGES = 96_000
"""That either rival sees in training."""
RIVAL_BATCH = 64


@pytest.fixture(scope="module")
def oracle() -> FacesOracle:
    return evaluation_oracle()


@pytest.fixture(scope="module")
def faces() -> StyleGAN:
    system = sfumato.load("faces", precision="fp32")
    assert isinstance(system, StyleGAN)
    return system


def test_truncation_buys_precision_for_recall(faces, oracle):
    found = truncation(faces, oracle, COUNT)
    print(found)
    for wide, narrow in pairwise(PSI):
        assert found[narrow].precision >= found[wide].precision
        assert found[narrow].recall < found[wide].recall


def test_fine_layers_give_colour_and_coarse_layers_shape(faces, oracle):
    found = mixing(faces, oracle, faces.config.network.styles // 2, 24)
    print(found)
    assert found.colour_from_fine >= 0.6
    assert found.shape_from_coarse >= 0.75
    assert found.colour_from_coarse < 0.3
    assert found.shape_from_fine < 0.2


def test_attributes_are_plainer_in_w_than_in_z(faces, oracle):
    w, z = means(separability(faces, oracle, 2 * COUNT))
    print(f"linear accuracy from w {w:.3f}, from z {z:.3f}, n {2 * COUNT}")
    assert w >= z + 0.03


def test_held_out_samples_are_found_again(faces, oracle):
    own = drawn(faces, Generate(count=16, seed=FIRST_SEED + 10_000)).pixels
    found = projection(faces, oracle, own, "w+", 300)
    control = projection(faces, oracle, own, "w+", 1)
    print(found, control)
    assert found.decibels >= 25
    assert found.agreement >= 0.9
    assert control.decibels < 20


def test_it_beats_a_dcgan_of_equal_images_and_its_own_last_step(tmp_path, oracle):
    style = sfumato.train("stylegan", "laptop", out=tmp_path / "style", quiet=True)
    rival = sfumato.train(
        "dcgan",
        "laptop",
        data="faces",
        steps=IMAGES // RIVAL_BATCH,
        batch=RIVAL_BATCH,
        size=32,
        out=tmp_path / "rival",
        quiet=True,
    )
    assert isinstance(style, StyleGAN)
    ours, theirs = (distance(system, oracle, COUNT) for system in (style, rival))
    last = distance(raw(style, tmp_path / "style"), oracle, COUNT)

    print(f"distance {ours:.3f}, of a DCGAN {theirs:.3f}, of the last step's weights {last:.3f}")
    assert ours <= 0.7 * theirs
    assert ours < last
