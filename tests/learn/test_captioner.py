"""New captions for badly described pictures: right to the word, and worth much to what learns from them."""

from __future__ import annotations

import pytest

import sfumato
from benchmarks.recaptioning import captions_of, described, pool, right_words, taught, told
from sfumato.data.retold import mixed

pytestmark = [pytest.mark.learn, pytest.mark.timeout(14400)]

STEPS, COUNT, POOL = 400, 500, 16_000


def test_recaptioning_pays(tmp_path):
    captioner = sfumato.train("captioner", "laptop", out=tmp_path / "captioner", quiet=True).float()
    assert right_words(captioner, "test", 1000) >= 0.9

    first_stage = sfumato.train("vqvae", "laptop", data="one-shape", out=tmp_path / "vq", quiet=True).float()
    alt, true = (captions_of(pool(level, POOL)) for level in ("noisy", "full"))
    sources = {
        "alt text": alt,
        "captioner": mixed(alt, described(captioner, pool("noisy", POOL))),
        "true": true,
    }
    reached = {name: told(taught(texts, first_stage, STEPS), COUNT) for name, texts in sources.items()}
    for name, found in reached.items():
        print(name, *(f"\n  {prompts}: {faith}" for prompts, faith in found.items()))
    before, after, ceiling = (found["expanded"].both for found in reached.values())
    assert after >= max(before, reached["alt text"]["as they are"].both) + 0.25
    assert after >= ceiling - 0.1
    assert reached["captioner"]["expanded"].both >= reached["captioner"]["as they are"].both
    assert reached["captioner"]["control: of others"].both < 0.1
