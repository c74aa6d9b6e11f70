"""CLIP: one batch is learned by heart, the scale is kept in bounds, labels are averaged over sentences."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from sfumato.core.contrastive import Contrastive, contrastive_losses
from sfumato.core.request import Progress, Ranking, Score
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, OptimConfig, TrainConfig
from sfumato.core.trainer import Trainer
from sfumato.data.dataset import Subset
from sfumato.data.near_misses import NearMisses
from sfumato.data.shapes import Shapes
from sfumato.errors import DataError, UsageError
from sfumato.metrics.retrieval import recall_at
from sfumato.nn.clip import ClipConfig
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.vit import VitConfig
from sfumato.systems.text.clip import CLIP, CLIPConfig

SHAPES = Shapes("train", 16, levels={"short": 1.0}, length=200)
SMALL = CLIPConfig(
    network=ClipConfig(
        VitConfig(patch=4, width=32, layers=1, heads=2, hidden=64),
        ClipTextConfig(length=24, width=32, layers=1, heads=2, hidden=64),
        dimension=16,
    ),
    optim=OptimConfig("muon", lr=1e-2),
)


@pytest.fixture
def small() -> CLIP:
    torch.manual_seed(0)
    return CLIP(CLIP.fit(SMALL, SHAPES.facts))


def test_it_learns_a_few_pairs_by_heart(small):
    data = Subset(SHAPES, range(16))
    batch = data.batch(torch.arange(16))
    untrained = recalled(small, batch)
    for _ in Trainer(small, data, TrainConfig(steps=30, batch=16, ema=0.0, precision="fp32")).run():
        pass
    assert recalled(small, batch) >= 0.9
    assert untrained <= 0.25


@torch.no_grad()
def recalled(model: CLIP, batch) -> float:
    return min(recall_at(model.encode_images(batch["image"]) @ model.encode_texts(batch["caption"]).T))


def test_near_misses_come_from_the_samples_own_streams_and_are_told_from_the_caption(small):
    model = replaced(small, misses=2)
    assert model.prepare(SHAPES) is SHAPES
    fields, seeds = SHAPES.batch(torch.arange(5)), [3, 4, 5, 6, 7]
    loss = next(model.losses(Batch(fields, Rng(seeds)), 0))

    near, rng = NearMisses(SHAPES.batch(torch.arange(200))["caption"]), Rng(seeds)
    captions = fields["caption"]
    wrong = [near.of(captions, rng.uniform().tolist(), rng.uniform().tolist()) for _ in range(2)]
    assert all(a != b for missed in wrong for a, b in zip(missed, captions, strict=True))
    images, texts = model.encode_images(fields["image"]), model.encode_texts(captions)
    misses = torch.stack([model.encode_texts(missed) for missed in wrong], 1)
    want = contrastive_losses(images, texts, model.scale, model.tokens(captions), misses)
    assert {name: part.item() for name, part in loss.parts.items()} == pytest.approx(
        {name: part.item() for name, part in want.items()}, rel=1e-4
    )


def test_the_scale_never_passes_a_hundred(small):
    with torch.no_grad():
        small.network.logit_scale.fill_(7.0)
    batch = Batch(SHAPES.batch(torch.arange(4)), Rng([0, 1, 2, 3]))
    stream = small.losses(batch, 0)
    next(stream)
    assert next(stream, None) is None
    assert small.network.logit_scale.item() == pytest.approx(math.log(100))
    assert small.scale.item() == pytest.approx(100)


@torch.no_grad()
def test_a_score_has_cosines_shares_and_vectors(small):
    batch = SHAPES.batch(torch.arange(7))
    asked = Score(count=7, images=batch["image"], texts=("a red circle", "a blue star on a navy background"))
    *progress, answer = replaced(small, chunk=3).run(asked)
    assert [event.done for event in progress if isinstance(event, Progress)] == [1 / 3, 2 / 3, 1.0]
    assert isinstance(answer, Ranking)
    with torch.no_grad():
        images, texts = small.encode_images(batch["image"]), small.encode_texts(asked.texts)
    torch.testing.assert_close(answer.images, images)
    torch.testing.assert_close(answer.scores, images @ texts.T)
    torch.testing.assert_close(answer.shares, (images @ texts.T * small.scale).softmax(1))
    first, second = answer.best(0)
    assert first[1] >= second[1]
    assert first[2] + second[2] == pytest.approx(1)


def replaced(model: CLIP, **settings: int) -> CLIP:
    other = CLIP(replace(model.config, **settings)).eval()
    other.load_state_dict(model.state_dict())
    return other


@torch.no_grad()
def test_labels_are_means_over_sentences(small):
    sentences = ("a {}", "a {} on a white background")
    found = small.encode_labels(["circle", "star"], sentences)
    texts = [sentence.replace("{}", label) for label in ("circle", "star") for sentence in sentences]
    want = normalize(small.encode_texts(texts).view(2, 2, -1).mean(1), dim=1)
    torch.testing.assert_close(found, want)
    for bad in ((), ("a circle",)):
        with pytest.raises(UsageError, match=r"says by \{\} where the text stands, got '"):
            small.encode_labels(["circle"], bad)


def test_what_does_not_fit_is_told(small):
    long = " and ".join(["a red circle"] * 8)
    [told] = small.unread(["a red circle", long])
    assert (
        told
        == f"The end of '{long}' does not fit and was not read: 'circle and a red circle and a red circle'."
    )
    asked = Score(count=1, images=torch.zeros(1, 3, 16, 16), texts=(long,))
    *_, answer = small.run(asked)
    assert answer.notes == (told,)


def test_nothing_to_compare_with_is_refused(small):
    with pytest.raises(UsageError, match="A score needs texts to compare with"):
        list(small.run(Score(count=1, images=torch.zeros(1, 3, 16, 16), texts=())))
    with pytest.raises(UsageError, match="There are no texts to encode"):
        small.encode_texts([])


def test_a_fingerprint_tells_weights_and_precision_apart(small):
    assert isinstance(small, Contrastive)
    twin = replaced(small, chunk=3)
    assert twin.fingerprint == small.fingerprint
    with torch.no_grad():
        twin.network.visual_projection.weight[0, 0] += 1e-3
    assert twin.fingerprint != small.fingerprint
    assert replaced(small).to(torch.bfloat16).fingerprint != small.fingerprint


def test_it_goes_on_from_another_of_its_kind_alone(small):
    torch.manual_seed(1)
    other = CLIP(small.config)
    other.adopt(small)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), small.parameters(), strict=True))
    strange = CLIP(replace(small.config, network=replace(small.config.network, dimension=8)))
    with pytest.raises(DataError, match=r"CLIP can go on from a CLIP of its own shape and words, got a CLIP"):
        strange.adopt(small)
