"""Error rates of texts against torchmetrics, and their spread against resampling."""

from __future__ import annotations

import random
from statistics import stdev

import pytest
from torchmetrics.text import CharErrorRate, EditDistance, WordErrorRate

from sfumato.errors import UsageError
from sfumato.metrics.text_errors import TextErrors, distance

DICE = random.Random(0)
TRUE = ["".join(DICE.choices("abc ", k=DICE.randint(1, 12))).strip() or "a" for _ in range(60)]
READ = [
    "".join(DICE.choice([c, c, c, c, "", "x", c + c]) for c in text) if i % 3 else text
    for i, text in enumerate(TRUE)
]


def test_rates_agree_with_torchmetrics():
    errors = TextErrors.of(READ, TRUE)
    assert errors.cer == pytest.approx(CharErrorRate()(READ, TRUE).item())
    assert errors.wer == pytest.approx(WordErrorRate()(READ, TRUE).item())
    assert sum(errors.characters) == EditDistance(reduction="sum")(READ, TRUE).item()
    assert errors.accuracy == sum(a == b for a, b in zip(READ, TRUE, strict=True)) / 60


def test_distance_is_a_metric():
    words = ["", "a", "ab", "ba", "kitten", "sitting", "kitchen"]
    for a in words:
        assert distance(a, "") == len(a)
        for b in words:
            assert distance(a, b) == distance(b, a)
            assert (distance(a, b) == 0) == (a == b)
            assert all(distance(a, c) <= distance(a, b) + distance(b, c) for c in words)


def test_rates_weigh_by_length_and_can_exceed_one():
    errors = TextErrors.of(["abcdefghi?", "wrong"], ["abcdefghij", "x"])
    assert errors.cer == 6 / 11
    assert TextErrors.of(["banana"], ["x"]).cer == 6
    assert TextErrors.of(["a b c"], ["a c"]).wer == 0.5


def test_the_spread_is_what_resampling_finds():
    errors, dice = TextErrors.of(READ, TRUE), random.Random(1)
    drawn = []
    for _ in range(2000):
        rows = dice.choices(range(60), k=60)
        drawn.append(sum(errors.characters[i] for i in rows) / sum(errors.length[i] for i in rows))
    assert errors.spread_of_cer() == pytest.approx(stdev(drawn), rel=0.1)
    assert errors.spread_of_accuracy() == pytest.approx((errors.accuracy * (1 - errors.accuracy) / 60) ** 0.5)
    assert TextErrors.of(["a"], ["b"]).spread_of_cer() == 0


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match="2 texts were read and 1 are true"):
        TextErrors.of(["a", "b"], ["a"])
    with pytest.raises(UsageError, match="at least one true text that is not empty"):
        TextErrors.of(["a"], [""])
