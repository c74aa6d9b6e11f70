"""The captioner: its loss by hand, what it says against reading everything anew, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfumato.core.request import Caption, Progress, Text
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.errors import DataError, UsageError
from sfumato.nn.causal import Cache, CausalConfig
from sfumato.nn.clip import ClipConfig
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.vit import VitConfig
from sfumato.systems.autoencoders.kl import KL, KLConfig
from sfumato.systems.text.captioner import Captioner, CaptionerConfig
from sfumato.systems.text.clip import CLIP, CLIPConfig

WORDS = ("a", "red", "blue", "circle", "star", ".")
EYES = VitConfig(channels=1, size=(8, 12), patch=4, width=16, layers=1, heads=2, hidden=24)
CONFIG = CaptionerConfig(EYES, CausalConfig(width=16, depth=2, heads=2), WORDS, length=5)
X = torch.rand(3, 1, 8, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1
CAPTIONS = ["a red circle", "", "a blue star . ."]


def tiny(**changes: object) -> Captioner:
    torch.manual_seed(0)
    return Captioner(replace(CONFIG, **changes)).eval()


def answer(system: Captioner, **request: object) -> Text:
    *progress, result = system.run(Caption(images=X, count=3, **request))
    assert isinstance(result, Text)
    assert [event.done for event in progress if isinstance(event, Progress)][-1] == 1
    return result


def test_the_loss_counts_every_word_and_the_end_and_nothing_behind_it():
    system = tiny()
    [loss] = system.losses(Batch({"image": X, "caption": CAPTIONS}, Rng.training(0, 0, range(3))), 0)
    ids = system.tokenizer.encode(CAPTIONS).tokens
    said = system.network(system.network.look(X), ids).log_softmax(2)
    wanted = [[2, 3, 5, 0], [0], [2, 4, 6, 7, 7, 0]]
    each = [said[i, t, token] for i, row in enumerate(wanted) for t, token in enumerate(row)]
    assert len(each) == 11
    assert torch.allclose(loss.value, -torch.stack(each).mean(), rtol=1e-5)


@torch.no_grad()
def test_a_word_is_foretold_by_the_picture_and_the_words_before_it_alone():
    network, ids = tiny().network, torch.tensor([[2, 3, 5, 4, 6]])
    seen = network.look(X[:1])
    assert seen.shape == (1, 7, 16)
    before = network(seen, ids)
    for place in range(5):
        other = ids.clone()
        other[0, place] = 7
        changed = (network(seen, other) - before).abs().amax((0, 2)) > 1e-6
        assert changed.tolist() == [t > place for t in range(6)]
    assert ((network(network.look(X[1:2]), ids) - before).abs().amax((0, 2)) > 1e-6).all()
    cache = Cache(network.config, 1, 13, seen)
    parts = [network(seen, ids[:, :n], cache) for n in (0, 2, 5)]
    assert torch.allclose(torch.cat(parts, 1), before, atol=1e-5)


@torch.no_grad()
def test_it_says_the_likeliest_words_until_the_end():
    system = tiny()
    told = answer(system)
    for i in range(3):
        seen, ids, spoken = system.network.look(X[i : i + 1]), torch.zeros(1, 0, dtype=torch.long), []
        while ids.shape[1] < 5:
            logits = system.network(seen, ids)[0, -1]
            logits[1] = float("-inf")
            spoken.append(logits.softmax(0).max().log())
            ids = torch.cat([ids, logits.argmax().view(1, 1)], 1)
            if ids[0, -1] == 0:
                break
        assert told.texts[i] == system.tokenizer.decode(ids)[0].replace(" .", ".")
        assert told.confidence[i] == pytest.approx(float(torch.stack(spoken).mean().exp()), rel=1e-4)
    assert "?" not in " ".join(told.texts)


def test_warm_it_says_other_things_by_the_seed():
    system = tiny(chunk=2)
    warm = answer(system, temperature=1.0, seed=3)
    assert warm == answer(tiny(), temperature=1.0, seed=3)
    assert warm != answer(system, temperature=1.0, seed=30)
    assert answer(system, seed=3) == answer(system, seed=30)


def test_pictures_of_another_size_are_refused():
    with pytest.raises(UsageError, match="describes pictures of 1 x 8 x 12, got 1 x 12 x 8; scale and crop"):
        list(tiny().run(Caption(images=X.mT)))


def test_it_begins_with_the_eyes_of_a_clip():
    text = ClipTextConfig(vocabulary=514, length=6, width=8, layers=1, heads=2, hidden=8)
    clip = CLIP(CLIPConfig(ClipConfig(vision=EYES, text=text, dimension=8)))
    system = tiny()
    before = system.network.look(X)
    system.adopt(clip)
    assert torch.equal(system.network.vision_model(X)[0], clip.network.vision_model(X)[0])
    assert not torch.allclose(system.network.look(X), before)
    with pytest.raises(DataError, match="the eyes of a CLIP of its own shape, got a KL that differs"):
        tiny().adopt(KL(KLConfig()))
