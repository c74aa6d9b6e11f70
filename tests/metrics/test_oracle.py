"""The reader of shapes: what it reads from real renders, and how pictures are held against their texts."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import save_file

from sfumato.data.shapes import Scenes, caption, draw, render
from sfumato.data.shapes.scene import ATTRIBUTES
from sfumato.errors import DataError, UsageError
from sfumato.metrics.oracle import (
    ShapesOracle,
    caption_accuracy,
    evaluation_oracle,
    load_oracle,
    training_oracle,
)
from sfumato.metrics.oracle_training import OracleTraining, agreement, crowd, examine, pictures, train
from sfumato.metrics.reader import FOLDER, OracleConfig, save_reader

ORACLES = {"evaluation": evaluation_oracle, "training": training_oracle}
FRESH = 424_242
"""A seed that no training and no card has used."""


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("pairs", ["train", "held"])
def test_shipped_oracles_read_fresh_renders(name, pairs):
    figures = examine(ORACLES[name](), pairs, 250, seed=FRESH)
    assert figures.pop("scene") >= 0.99
    assert min(figures.values()) >= 0.995, figures


@pytest.mark.parametrize("name", ORACLES)
def test_small_and_noisy_pictures_are_read_too(name):
    assert examine(ORACLES[name](), "any", 200, side=32, seed=FRESH)["scene"] >= 0.95
    assert examine(ORACLES[name](), "any", 200, noise=0.1, seed=FRESH)["scene"] >= 0.95


def test_the_two_oracles_share_nothing():
    one, other = evaluation_oracle(), training_oracle()
    assert one.config.channels != other.config.channels
    assert one.config.features != other.config.features
    assert one.name != other.name
    assert all((FOLDER / f"{name}.safetensors").stat().st_size < 1_000_000 for name in ORACLES)
    assert (FOLDER / "README.md").is_file()
    assert not any(parameter.requires_grad for parameter in one.parameters())


def test_pixels_get_gradients_through_an_oracle():
    pixels = render(draw(0, torch.arange(2)), 64).requires_grad_()
    cells, ground = training_oracle()(pixels)
    (sum(logits.sum() for logits in cells) + ground.sum()).backward()
    assert pixels.grad is not None
    assert (pixels.grad.flatten(1).abs().sum(1) > 0).all()


def test_a_judge_refuses_pictures_that_carry_a_gradient():
    judge, pixels = evaluation_oracle(), render(draw(0, torch.arange(2)), 64)
    carrying = pixels.clone().requires_grad_()
    for look in (judge, judge.features, judge.read, judge.stages, judge.look):
        with pytest.raises(UsageError, match=r"'shapes \(evaluation\)' judges results, .* training oracle"):
            look(carrying)
        with pytest.raises(UsageError, match="judges results"):
            look(carrying * 2)
        look(carrying.detach())
    training_oracle().stages(carrying)[-1].sum().backward()
    assert carrying.grad is not None


def test_features_of_real_pictures_have_a_root_mean_square_of_one():
    pixels = render(draw(FRESH, torch.arange(500)), 64)
    for oracle in ORACLES.values():
        assert float(oracle().features(pixels).square().mean().sqrt()) == pytest.approx(1, abs=0.02)


def test_more_than_three_objects_are_counted():
    scenes = crowd(FRESH, 0, 300)
    found = evaluation_oracle().read(render(scenes, 64))
    assert (found.number == scenes.number).float().mean() > 0.97
    assert found.shape.shape == (300, 3)
    assert torch.equal((found.shape >= 0).sum(1), found.number.clamp(max=3))


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(64, 64, 3), (50, 71, 3), (32, 32, 1), (128, 96, 3)]
)
def test_any_size_is_read(height, width, channels):
    pixels = render(draw(0, torch.arange(5)), height, width)[:, :channels]
    oracle = evaluation_oracle()
    found, features = oracle.read(pixels), oracle.features(pixels)
    assert len(found) == 5
    assert features.shape == (5, oracle.config.features)
    alone = oracle.read(pixels[3:4])
    assert all(torch.equal(getattr(alone, f.name)[0], getattr(found, f.name)[3]) for f in fields(Scenes))
    assert torch.allclose(oracle.features(pixels[3:4])[0], features[3], atol=1e-4)


def test_a_wrong_number_of_channels_is_refused():
    with pytest.raises(DataError, match="1 or 3 channels, got 4"):
        evaluation_oracle().read(torch.zeros(1, 4, 64, 64))


def test_features_tell_small_things_apart():
    scenes = draw(0, torch.arange(200), objects=(1,))
    features = evaluation_oracle().features(render(scenes, 64))
    moved = evaluation_oracle().features(render(replace(scenes, jitter=-scenes.jitter), 64))
    same = (features - moved).norm(dim=1).mean()
    assert torch.cdist(features, features).mean() > 3 * same


# Pictures held against texts


def test_true_pictures_keep_to_their_captions_and_shuffled_captions_do_not():
    scenes = draw(FRESH, torch.arange(300), pairs="any")
    pixels = render(scenes, 64)
    for level in ("full", "short"):
        texts = caption(scenes, level, 0)
        report = caption_accuracy(pixels, texts)
        assert report.all.value >= 0.98
        assert report.all.n == 300
        assert caption_accuracy(pixels, texts[1:] + texts[:1]).all.value < 0.05


def test_only_what_is_said_is_counted():
    scenes = draw(FRESH, torch.arange(4), objects=(2,))
    texts = [
        "a red circle", "a large blue square above a ring", "a star on a navy background",
        "a cross and a star and a ring at the top",
    ]  # fmt: skip
    report = caption_accuracy(render(scenes, 64), texts)
    assert {name: share.n for name, share in report.attributes.items()} == {
        "shape": 7, "colour": 2, "size": 1, "texture": 7, "place": 1,
        "number": 4, "background": 1, "relations": 1,
    }  # fmt: skip
    assert {k: share.n for k, share in report.by_number.items()} == {1: 2, 2: 1, 3: 1}
    assert report.objects.n == 7
    assert report.attributes["number"].value == 0.25


def test_a_share_of_nothing_is_not_a_number():
    report = caption_accuracy(render(draw(0, torch.arange(1)), 64), ["on a white background"])
    assert report.objects.n == 0
    assert report.objects.value != report.objects.value


# Training


def test_training_sees_the_same_pictures_again_and_learns():
    training = OracleTraining(OracleConfig(channels=8, features=16), seed=3, steps=30, batch=8, warmup=5)
    first, again = pictures(training, 4), pictures(training, 4)
    assert torch.equal(first[0], again[0])
    assert first[0].shape == (8, 3, 64, 64)
    assert -1 <= first[0].min() <= first[0].max() <= 1
    assert not torch.equal(first[0], pictures(training, 5)[0])
    ((step, loss, oracle),) = train(training, "test")
    ((_, start, _),) = train(replace(training, steps=1), "test")
    assert step == 30
    assert loss < 0.9 * start
    assert isinstance(oracle, ShapesOracle)


def test_agreement_is_whole_with_the_truth_and_broken_by_any_change():
    scenes = draw(0, torch.arange(100))
    assert set(agreement(scenes, scenes).values()) == {1.0}
    turned = {name: getattr(scenes, name)[:, [1, 2, 0]] for name in ATTRIBUTES}
    assert set(agreement(replace(scenes, **turned), scenes).values()) == {1.0}
    size = torch.where(scenes.size >= 0, 1 - scenes.size, -1)
    wrong = agreement(replace(scenes, size=size), scenes)
    assert (wrong["size"], wrong["scene"], wrong["shape"]) == (0.0, 0.0, 1.0)


def test_an_oracle_is_saved_and_loaded(tmp_path):
    oracle = ShapesOracle(OracleConfig(channels=8, features=12)).eval()
    save_reader(oracle, tmp_path / "mine.safetensors")
    loaded = load_oracle(tmp_path / "mine.safetensors")
    pixels = render(draw(0, torch.arange(3)), 64)
    assert loaded.config == oracle.config
    assert torch.allclose(loaded.features(pixels), oracle.features(pixels), atol=5e-3)


def test_what_is_no_oracle_is_refused(tmp_path):
    (tmp_path / "text.safetensors").write_text("no weights")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("text", "other", "missing"):
        with pytest.raises(DataError, match=f"{name}.safetensors' is no oracle .*oracle_training"):
            load_oracle(tmp_path / f"{name}.safetensors")
