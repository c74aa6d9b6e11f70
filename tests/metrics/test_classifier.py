"""Oracles of digits and clothes on real pictures they have not seen, and the Gaussian control."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from sfumato.data.digits import Digits
from sfumato.data.fashion import Fashion
from sfumato.errors import DataError
from sfumato.images import open_image, to_tensor
from sfumato.metrics.classifier import (
    WEIGHTS,
    DigitsClassifier,
    FashionClassifier,
    FashionNet,
    fashion_classifier,
    fit_fashion,
    gaussian_control,
    inner_part,
)
from sfumato.metrics.frechet import Moments, frechet_distance
from sfumato.metrics.precision_recall import precision_recall


def everything(dataset) -> tuple[torch.Tensor, torch.Tensor]:
    batch = dataset.batch(torch.arange(len(dataset)))
    return batch["image"], batch["label"]


@pytest.fixture(scope="module")
def digits():
    return everything(Digits("train")), everything(Digits("test"))


def test_digits_it_has_not_seen_are_read(digits):
    (pixels, labels), (fresh, truth) = digits
    judge = DigitsClassifier(pixels, labels)
    assert judge.accuracy(fresh, truth) >= 0.985
    assert judge.accuracy(fresh, truth.roll(1)) < 0.2
    assert judge.features(fresh).shape == (597, 10)


def test_digits_with_a_border_are_read_as_well(digits):
    (pixels, labels), (fresh, truth) = digits
    wide, _ = everything(Digits("test", size=13))
    judge = DigitsClassifier(pixels, labels)
    assert torch.equal(inner_part(wide, 8), fresh)
    assert judge.accuracy(wide, truth) == judge.accuracy(fresh, truth)
    with pytest.raises(DataError, match="8 x 8 pixels or larger, not 5 x 9"):
        judge.accuracy(torch.zeros(2, 1, 5, 9), truth[:2])


def test_distances_between_real_digits_are_those_measured_before(digits):
    """600 training digits against the held-out ones: FD .379, precision .911, recall .916, another split."""
    (pixels, _), (fresh, _) = digits
    real, held = pixels[:600].flatten(1), fresh.flatten(1)
    assert frechet_distance(Moments.of(real), Moments.of(held)).value == pytest.approx(0.379, abs=0.05)
    share = precision_recall(real, held)
    assert share.precision == pytest.approx(0.911, abs=0.03)
    assert share.recall == pytest.approx(0.916, abs=0.03)


def test_the_gaussian_control_is_as_far_as_measured_before_and_looks_like_nothing(digits):
    """FD 1.07, precision .355, recall .494 and, read at random, accuracy .105."""
    (pixels, labels), _ = digits
    control = gaussian_control(pixels, 600)
    real = pixels[:600].flatten(1)
    assert frechet_distance(Moments.of(real), Moments.of(control.flatten(1))).value == pytest.approx(
        1, abs=0.12
    )
    share = precision_recall(real, control.flatten(1))
    assert share.precision == pytest.approx(0.355, abs=0.05)
    assert share.recall == pytest.approx(0.494, abs=0.05)
    assert DigitsClassifier(pixels, labels).accuracy(control, torch.arange(600) % 10) < 0.2


def test_the_control_has_the_moments_of_what_it_imitates():
    x = torch.randn(300, 2, 3, 5, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.2
    drawn = gaussian_control(x, 4000, seed=3)
    ours, theirs = Moments.of(drawn.flatten(1)), Moments.of(x.flatten(1))
    assert torch.allclose(ours.mean, theirs.mean, atol=0.01)
    assert torch.allclose(ours.covariance, theirs.covariance, atol=0.002)
    assert torch.equal(gaussian_control(x, 5, seed=3), drawn[:5])


def test_the_shipped_classifier_of_clothes_is_small_and_in_half_precision():
    assert WEIGHTS.stat().st_size < 1_000_000
    assert WEIGHTS.with_suffix(".md").is_file()
    with safe_open(WEIGHTS, "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    judge = fashion_classifier()
    assert judge.features(torch.zeros(3, 1, 32, 32)).shape == (3, 128)
    assert judge is fashion_classifier()


CLOTHES = Path(__file__).with_name("clothes.png")
"""The first 300 test pictures of Fashion-MNIST (Zalando, MIT licence), in rows of 20, and their labels."""
LABELS = (
    "9211614657457341248025791460938833807579613767212244582284807785112398702623128418595032065367180142"
    "3672785994257052867800993084154191862125100016162244145047937239094742052121309109367994471216328361"
    "1029240798418413167285207762707892905144569268642297655285230480063896130230837401630667545956551988"
)


def test_the_shipped_classifier_reads_clothes_it_has_not_seen():
    sheet = to_tensor(open_image(CLOTHES), 1)
    pixels = sheet.reshape(15, 28, 20, 28).transpose(1, 2).reshape(300, 1, 28, 28)
    labels = torch.tensor([int(label) for label in LABELS])
    judge = fashion_classifier()
    assert judge.accuracy(pixels, labels) >= 0.88
    assert judge.accuracy(pixels, labels.roll(1)) < 0.2
    assert judge.accuracy(pixels + 0.1 * torch.randn(pixels.shape), labels) >= 0.85


@pytest.mark.learn
def test_the_shipped_classifier_can_be_trained_again():
    """Needs Fashion-MNIST on disk and about three minutes of a core."""
    network = fit_fashion(*everything(Fashion("train")))
    assert FashionClassifier(network).accuracy(*everything(Fashion("test"))) >= 0.90
    assert fashion_classifier().accuracy(*everything(Fashion("test"))) >= 0.90


def test_fitting_learns_and_repeats():
    """Light or dark upper halves: two classes a network must tell apart after a few steps."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (256,), generator=generator)
    pixels = 0.3 * torch.randn(256, 1, 28, 28, generator=generator)
    pixels[:, :, :14] += (labels * 2.0 - 1)[:, None, None, None]
    network = fit_fashion(pixels, labels, steps=15, batch=48)
    again = fit_fashion(pixels, labels, steps=15, batch=48)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert FashionClassifier(network).accuracy(pixels, labels) > 0.95


def test_missing_weights_are_said_to_be_missing(tmp_path):
    with pytest.raises(
        DataError, match=r"'fashion-classifier.safetensors' are missing; install sfumato again"
    ):
        FashionClassifier.shipped(tmp_path / "fashion-classifier.safetensors")
    assert sum(p.numel() for p in FashionNet().parameters()) < 250_000
