"""Choosing tokens: by their probabilities, among the likeliest, and as seeds say."""

from __future__ import annotations

import pytest
import torch

from sfumato.core.autoregressive import choose, exact
from sfumato.errors import UsageError

LOGITS = torch.tensor([0.1, 0.0, 0.4, 0.2, 0.3]).log()


def shares(**settings: float) -> torch.Tensor:
    """How often each token is chosen by evenly spread numbers."""
    chance = (torch.arange(4000) + 0.5) / 4000
    chosen = choose(LOGITS.expand(4000, -1), chance, **settings)
    return torch.bincount(chosen, minlength=5) / 4000


def test_every_token_has_its_share():
    p = LOGITS.softmax(0)
    assert torch.allclose(shares(), p, atol=1e-3)
    assert shares()[1] == 0
    assert torch.allclose(shares(temperature=0.5), (2 * LOGITS).softmax(0), atol=1e-3)


def test_the_likeliest_alone():
    assert shares(temperature=0.0).tolist() == shares(top_k=1).tolist() == [0, 0, 1, 0, 0]
    two = shares(top_k=2)
    best = LOGITS.softmax(0) * torch.tensor([0, 0, 1, 0, 1])
    assert torch.allclose(two, best / best.sum(), atol=1e-3)
    assert torch.equal(shares(top_k=0), shares(top_k=99))


def test_the_largest_chance_still_means_a_token_that_can_be():
    logits = torch.tensor([[0.0, 1.0, float("-inf")]])
    assert choose(logits, torch.tensor([1.0 - 2**-24])).tolist() == [1]
    assert choose(logits, torch.tensor([1.0])).tolist() == [1]
    assert choose(logits, torch.tensor([0.0])).tolist() == [0]


@pytest.mark.parametrize(("name", "value"), [("temperature", -0.5), ("top_k", -1)])
def test_what_makes_no_sense_is_refused(name, value):
    with pytest.raises(UsageError, match=f"{name} must be at least 0, got {value}; leave it out"):
        choose(torch.zeros(1, 3), torch.zeros(1), **{name: value})


def test_choices_are_made_in_full_precision():
    network = torch.nn.Linear(3, 2)
    assert exact(network) is network
    half = network.bfloat16()
    copy = exact(half)
    assert copy.weight.dtype == torch.float32
    assert half.weight.dtype == torch.bfloat16
    assert torch.equal(copy.weight, half.weight.float())
