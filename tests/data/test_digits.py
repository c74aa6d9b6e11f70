"""Handwritten digits: the same numbers as scikit-learn's, split once and for all."""

from __future__ import annotations

import sys
import time

import pytest
import torch
from sklearn.datasets import load_digits

from sfumato.data.digits import Digits
from sfumato.errors import MissingExtraError, UsageError


@pytest.fixture(scope="module")
def both() -> tuple[Digits, Digits]:
    return Digits("train"), Digits("test")


def test_splits_hold_every_digit_once_as_scikit_learn_has_it(both):
    batches = [d.batch(torch.arange(len(d))) for d in both]
    assert [len(d) for d in both] == [1200, 597]
    image = torch.cat([b["image"] for b in batches])
    label = torch.cat([b["label"] for b in batches])
    bunch = load_digits()
    expected = torch.from_numpy(bunch.images).float() / 8 - 1
    ours = {(row.tobytes(), int(y)) for row, y in zip(image.numpy(), label, strict=True)}
    theirs = {(row.tobytes(), int(y)) for row, y in zip(expected.numpy(), bunch.target, strict=True)}
    assert ours == theirs
    assert image.shape == (1797, 1, 8, 8)
    assert (image.min(), image.max()) == (-1, 1)


def test_facts(both):
    facts = both[0].facts
    assert (facts.name, facts.channels, facts.height, facts.width) == ("digits", 1, 8, 8)
    assert facts.fields == {"image", "label"}
    assert facts.classes == tuple("0123456789")
    assert facts.fingerprint == Digits().facts.fingerprint != both[1].facts.fingerprint
    counts = torch.bincount(both[0].batch(torch.arange(1200))["label"])
    assert counts.min() > 100


def test_batch_follows_the_indices(both):
    one = both[0].batch(torch.tensor([7, 3, 7]))
    assert torch.equal(one["image"][0], one["image"][2])
    assert torch.equal(one["image"][1], both[0].batch(torch.tensor([3]))["image"][0])
    assert one["image"].dtype == torch.float32
    assert one["label"].dtype == torch.int64


@pytest.mark.parametrize("size", [8, 11, 16])
def test_larger_size_is_surrounded_by_black(size):
    large = Digits(size=size).batch(torch.arange(4))["image"]
    start = (size - 8) // 2
    assert large.shape == (4, 1, size, size)
    inner = large[:, :, start : start + 8, start : start + 8].clone()
    assert torch.equal(inner, Digits().batch(torch.arange(4))["image"])
    assert (large + 1).sum() == (inner + 1).sum()


def test_wrong_requests():
    with pytest.raises(UsageError, match="'digits' has no split 'tset'; did you mean 'test'"):
        Digits("tset")
    with pytest.raises(UsageError, match="pictures of 8 x 8 pixels, not 7; give --size 8 or more"):
        Digits(size=7)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sfumato\[data\]'"):
        Digits()


def test_batches_are_fast(both):
    indices = torch.randint(0, 1200, (128,), generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(30):
        start = time.perf_counter()
        both[0].batch(indices)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.002
