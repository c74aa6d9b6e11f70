"""The readers of faces: what they read from fresh renders, and what a judge refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfumato.data.faces import ATTRIBUTES, DIRECTIONS, KINDS, Faces, draw, render
from sfumato.errors import DataError, UsageError
from sfumato.metrics.features import Oracle
from sfumato.metrics.oracle_faces import (
    FaceReading,
    FacesOracle,
    agreement,
    evaluation_oracle,
    load_oracle,
    training_oracle,
)
from sfumato.metrics.oracle_faces_training import examine, pictures, train
from sfumato.metrics.oracle_training import OracleTraining
from sfumato.metrics.reader import FOLDER, OracleConfig, save_reader
from sfumato.metrics.report import evaluate

ORACLES = {"evaluation": evaluation_oracle, "training": training_oracle}
FRESH = 424_242
"""A seed that no training and no card has used."""


@pytest.mark.parametrize("name", ORACLES)
def test_shipped_oracles_read_fresh_faces(name):
    figures = examine(ORACLES[name](), 150, seed=FRESH)
    assert figures.keys() == {*ATTRIBUTES, *DIRECTIONS}
    assert min(figures[name] for name in ATTRIBUTES) >= 0.94, figures
    assert min(figures[name] for name in DIRECTIONS) >= 0.78, figures


def test_the_two_oracles_share_nothing():
    one, other = evaluation_oracle(), training_oracle()
    assert one.config.channels != other.config.channels
    assert one.config.features != other.config.features
    assert one.judge
    assert not other.judge
    assert all((FOLDER / f"faces-{name}.safetensors").stat().st_size < 1_500_000 for name in ORACLES)
    assert (FOLDER / "faces.md").is_file()


def test_a_judge_refuses_pictures_that_carry_a_gradient():
    judge, pixels = evaluation_oracle(), render(draw(0, torch.arange(2)), 64).requires_grad_()
    for look in (judge, judge.features, judge.read, judge.stages):
        with pytest.raises(UsageError, match=r"'faces \(faces-evaluation\)' judges results"):
            look(pixels)
    *_, directions = training_oracle()(pixels)
    directions.sum().backward()
    assert pixels.grad is not None
    assert (pixels.grad.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize(("height", "width", "channels"), [(50, 71, 3), (32, 32, 1), (24, 40, 3)])
def test_any_size_is_read(height, width, channels):
    pixels = render(draw(0, torch.arange(5)), height, width)[:, :channels]
    oracle = training_oracle()
    found = oracle.read(pixels)
    assert found.attributes.shape == (5, len(ATTRIBUTES))
    assert oracle.features(pixels).shape == (5, oracle.config.features)
    assert torch.allclose(oracle.read(pixels[3:4]).directions[0], found.directions[3], atol=1e-4)
    sides = [stage.shape[2] for stage in oracle.stages(pixels, 48)]
    assert sides == [48 // pixels_a_place for _, pixels_a_place in oracle.grain]
    widths = [stage.shape[1] for stage in oracle.stages(pixels, 48)]
    assert widths == [oracle.config.channels * multiple for multiple, _ in oracle.grain]


def test_an_edit_is_seen_and_nothing_else():
    people = draw(FRESH, torch.arange(60))
    edited = people.changed(glasses="round")
    found = evaluation_oracle().read(render(edited, 64)).attributes
    assert (found[:, ATTRIBUTES.index("glasses")] == KINDS["glasses"].index("round")).float().mean() > 0.97
    others = [k for k, name in enumerate(ATTRIBUTES) if name != "glasses"]
    assert (found == people.table)[:, others].float().mean() > 0.97


def test_agreement_is_whole_with_the_truth_and_broken_by_any_change():
    people = draw(0, torch.arange(50))
    truth = FaceReading(people.table, people.directions, torch.ones(people.table.shape))
    assert set(agreement(truth, people.table, people.directions).values()) == {1.0}
    table = people.table.clone()
    table[:, 0] = (table[:, 0] + 1) % 4
    moved = replace(truth, directions=people.directions + torch.tensor([0.0, 0.3, 0.1, 0.0]))
    wrong = agreement(moved, table, people.directions)
    assert {name for name, share in wrong.items() if share < 1} == {"head", "gaze_y"}


def test_faces_are_measured_by_their_judge():
    train, held = Faces(size=32, length=60), Faces("test", 32, length=60)
    pixels = held.batch(torch.arange(30))["image"]
    report = evaluate(pixels, train, held=held)
    space = Oracle(evaluation_oracle()).name
    assert space == "oracle: faces (faces-evaluation)"
    assert {f"Frechet distance ({space})", f"Recall ({space})"} <= {row.metric for row in report.rows}


def test_training_sees_the_same_pictures_again_and_learns(tmp_path):
    lesson = OracleTraining(OracleConfig(8, 16), seed=3, steps=12, batch=8, lr=5e-3, warmup=2, muon=True)
    first, again = pictures(lesson, 4), pictures(lesson, 4)
    assert torch.equal(first[0], again[0])
    assert first[0].shape == (8, 3, 64, 64)
    assert not torch.equal(first[0], pictures(lesson, 5)[0])
    ((step, loss, oracle),) = train(lesson, "test")
    ((_, start, _),) = train(replace(lesson, steps=1), "test")
    assert step == 12
    assert loss < 0.98 * start
    assert isinstance(oracle, FacesOracle)
    save_reader(oracle.eval(), tmp_path / "mine.safetensors")
    loaded, pixels = load_oracle(tmp_path / "mine.safetensors"), first[0]
    assert torch.allclose(loaded.features(pixels), oracle.features(pixels), atol=5e-3)
    with pytest.raises(DataError, match=r"other.safetensors' is no oracle .*oracle_faces_training"):
        load_oracle(tmp_path / "other.safetensors")
