"""One shape in few words, number by number: what was said is drawn, and a CLIP chooses better than chance."""

from __future__ import annotations

import pytest
import torch

import sfumato
from benchmarks.dalle import chosen, foretold
from benchmarks.textgans import ask, judge, scenes
from sfumato.nn.quantize import perplexity

pytestmark = [pytest.mark.learn, pytest.mark.timeout(14400)]

COUNT, PROMPTS = 1000, 256
CONTROL = 0.10
"""Both right by chance: about one picture in 48."""


def test_dalle_follows_words_and_clip_chooses_well(tmp_path):
    system = sfumato.train("dalle", "laptop", out=tmp_path / "run", quiet=True).float()
    real, captions = scenes("test", COUNT, 32)
    tokens = torch.cat([system.first_stage.tokens(part) for part in real.split(250)])
    rebuilt = torch.cat([system.first_stage.pictures(part) for part in tokens.split(250)])
    seen, used = judge(rebuilt, captions, real), float(perplexity(tokens, system.network.codes))
    print(f"through the first stage: {seen}, codes in use {used:.1f}")
    assert seen.both >= 0.95
    assert used >= 40

    cost, frequency = foretold(system)
    fresh, control = ask(system, "test", COUNT), ask(system, "test", COUNT, shuffled=True)
    print(f"nats a number {cost:.3f}, by frequency alone {frequency:.3f}\nfresh {fresh}\nshuffled {control}")
    assert cost < frequency - 1
    assert fresh.both >= 0.70
    assert control.both < CONTROL

    settings = {"network.vision.patch": 4}
    words = {"data": "one-shape", "size": 32, "steps": 400, "batch": 64, "settings": settings}
    clip = sfumato.train("clip", "laptop", out=tmp_path / "clip", quiet=True, **words).float()
    one, best = ask(system, "test", PROMPTS), chosen(system, clip, "test", PROMPTS)
    held, best_held = ask(system, "held", PROMPTS), chosen(system, clip, "held", PROMPTS)
    print(f"one {one}\nbest of 16 {best}\nheld-out pairs: one {held}\nbest of 16 {best_held}")
    assert best.both >= one.both + min(0.08, 0.9 * (1 - one.both))
