"""unCLIP's priors on shapes: nearer to a picture's embedding than its text's own, both ways of drawing."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.prior import compare, fresh
from sfumato.systems.text.prior import UnclipPrior

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

GAIN = 0.1
"""By which the cosine with the true embedding grows at least."""
COUNT = 512


@pytest.mark.parametrize("preset", ["laptop", "autoregressive"])
def test_a_prior_comes_nearer_to_the_picture_than_the_text(tmp_path, preset):
    prior = sfumato.train("prior", preset, out=tmp_path / "run", quiet=True)
    assert isinstance(prior, UnclipPrior)
    near = compare(prior, fresh("test", prior.clip.size[0], COUNT), COUNT)
    print("\n".join(f"{name}: {found}" for name, found in near.items()))
    assert near["prior"].cosine >= near["text"].cosine + GAIN
    assert near["prior"].cosine >= near["prior of another text"].cosine + GAIN
    assert near["prior"].cosine > near["mean picture"].cosine
