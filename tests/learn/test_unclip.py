"""unCLIP on shapes in corners: what words ask for, what variations keep and leave open, text differences."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.prior import compare
from benchmarks.unclip import PRIORS, changed, drawn, interpolated, painted, varied
from sfumato.data.shapes.corner import CornerShape
from sfumato.systems.text.unclip import Unclip

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

COUNT = 192


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> Unclip:
    trained = sfumato.train("unclip", "laptop", out=tmp_path_factory.mktemp("runs") / "run", quiet=True)
    assert isinstance(trained, Unclip)
    return trained


@pytest.mark.parametrize("way", ["diffusion", "autoregressive"])
def test_a_prior_comes_nearer_to_the_picture_than_the_text(system, way):
    near = compare(system.prior, CornerShape("test", 32, levels={"full": 1.0}), 512, way)
    assert near["prior"].cosine >= near["text"].cosine + 0.1
    assert near["prior"].cosine >= near["prior of another text"].cosine + 0.1


def test_pictures_show_what_words_ask_for(system):
    joint = {prior: drawn(system, "test", COUNT, prior)[:2] for prior in PRIORS}
    print(joint)
    assert joint["diffusion"][0].value >= 0.8
    assert joint["autoregressive"][0].value >= joint["diffusion"][0].value - 0.1
    assert joint["none"][0].value < joint["diffusion"][0].value
    assert joint["diffusion"][1].value < 0.2


def test_variations_keep_what_is_said_and_leave_the_place_open(system):
    free, still = varied(system, 1.0, 2 * COUNT), varied(system, 0.01, COUNT)
    print(free, still)
    assert free.kept.value >= 0.85
    assert free.of_another.value < 0.2
    assert free.place >= 1.0
    assert still.place < 0.5 * free.place


def test_a_text_difference_changes_the_colour_and_keeps_the_shape(system):
    diff, still = (changed(system, "red", "blue", theta, 24) for theta in (0.5, 0.0))
    print(diff, still)
    assert diff.colour.value >= 0.6
    assert diff.shape.value >= 0.8
    assert still.colour.value == 0


def test_the_ends_of_an_interpolation_show_what_the_pictures_do(system):
    found = interpolated(system, 48)
    print(found)
    assert found.ends.value >= 0.9
    assert found.of_another.value < 0.2


def test_words_are_met_inside_a_mask(system):
    words, control, outside = painted(system, 96)
    print(words, control)
    assert words.value >= control.value + 0.4
    assert outside == 0
