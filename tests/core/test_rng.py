"""Streams belong to samples."""

from __future__ import annotations

import pytest
import torch

from sfumato.core.rng import Rng, mix
from sfumato.errors import UsageError


def test_picture_i_draws_what_a_plain_generator_draws():
    drawn = Rng.sampling(11, 4).normal(2, 3, 5)
    alone = torch.randn(1, 2, 3, 5, generator=torch.Generator().manual_seed(13))
    assert torch.equal(drawn[2:3], alone)


def test_streams_do_not_depend_on_the_batch():
    whole, part = Rng.training(1, 7, range(8)), Rng.training(1, 7, range(4, 8))
    for draw in (
        lambda r: r.normal(3),
        Rng.uniform,
        lambda r: r.integers(0, 100),
        lambda r: r.chi_square(5.0),
    ):
        assert torch.equal(draw(whole)[4:], draw(part))


@pytest.mark.parametrize("seed", [-1, 2**63, 10**20])
def test_a_seed_that_no_generator_takes_is_refused(seed):
    with pytest.raises(UsageError, match=f"A seed must be from 0 to {2**63 - 1}, got {seed}"):
        Rng.sampling(seed, 1)
    with pytest.raises(UsageError, match="A seed must be from 0"):
        Rng.sampling(2**63 - 2, 3)


def test_steps_and_seeds_differ():
    assert len({mix(seed, "train", step) for seed in range(20) for step in range(20)}) == 400


def test_chi_square_has_its_mean():
    drawn = Rng.training(0, 0, range(20_000)).chi_square(6.0)
    assert abs(drawn.mean().item() - 6) < 0.1
