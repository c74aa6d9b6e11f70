"""Words become the shapes they name: the model that comes with the package, and a preset trained anew.

A picture is right if an independent oracle finds every attribute of every object, their number and the
background as the prompt says, which says all of that. Neither prompts nor seeds were ever seen in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

import sfumato
from benchmarks.captions import FIRST_SCENE, QUESTIONS, Question, ask
from sfumato.core.system import System
from sfumato.data.shapes import Shapes
from sfumato.metrics.oracle import caption_accuracy

pytestmark = [pytest.mark.learn, pytest.mark.timeout(14400)]

COUNT, STEPS, LEVEL = 400, 20, "full"
CONTROL = 0.05
"""Less than this may be reached by a model that does not hear, and by the pictures of other prompts."""
TRAINED = {"one and two objects": 0.88}
"""Less than the preset reached, .934, by what one seed more or less may cost."""
SHIPPED = {
    "one and two objects": 0.94,
    "three objects": 0.89,
    "held-out pairs, one and two objects": 0.94,
}
"""Less than the shipped model reached (.973, .930, .973), by three standard errors."""
CONTROLS = [question for question in QUESTIONS if question.name.startswith("control")]


def named(name: str) -> Question:
    return next(question for question in QUESTIONS if question.name == name)


def reached(system: System[Any], question: Question) -> float:
    found = ask(system, question, COUNT, STEPS, LEVEL).all
    print(f"{question.name}: {found.value:.3f} (n {found.n})")
    return found.value


def keeps(system: System[Any], goals: Mapping[str, float]) -> None:
    """Every goal is reached, and by no control."""
    shares = {name: reached(system, named(name)) for name in goals}
    assert not {name: share for name, share in shares.items() if share < goals[name]}, shares
    assert CONTROLS
    for question in CONTROLS:
        assert reached(system, question) < CONTROL


@pytest.mark.parametrize("name", SHIPPED)
def test_the_oracle_reads_real_pictures(name):
    question = named(name)
    last = FIRST_SCENE + COUNT
    scenes = Shapes(question.split, 64, length=last, objects=question.objects, levels={LEVEL: 1.0})
    batch = scenes.batch(torch.arange(FIRST_SCENE, last))
    assert caption_accuracy(batch["image"], batch["caption"]).all.value >= 0.99


def test_the_shipped_model_follows_words():
    keeps(sfumato.load("shapes"), SHIPPED)


def test_the_preset_reaches_its_figure(tmp_path):
    keeps(sfumato.train("ldm", "shapes", out=tmp_path / "run", quiet=True), TRAINED)
