"""T5 against transformers on tiny random weights, with odd lengths and empty places."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers.models.t5.modeling_t5 import T5Attention

from sfumato.compat.t5 import write_shape
from sfumato.errors import UsageError
from sfumato.nn.t5 import T5Network, T5Shape, bucket

SHAPE = T5Shape(
    vocabulary=61,
    width=20,
    head_width=6,
    hidden=28,
    layers=3,
    decoder_layers=2,
    heads=3,
    buckets=12,
    farthest=17,
)
V1 = T5Shape(
    vocabulary=61,
    width=20,
    head_width=6,
    hidden=28,
    layers=2,
    decoder_layers=3,
    heads=3,
    buckets=12,
    farthest=17,
    feed="relu",
    tied=True,
)


def pair(shape: T5Shape) -> tuple[transformers.T5ForConditionalGeneration, T5Network]:
    said = {
        k: v for k, v in write_shape(shape, whole=True).items() if k not in ("architectures", "model_type")
    }
    theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(**said)).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.5)
    ours = T5Network(shape).eval()
    given = {name: t for name, t in theirs.state_dict().items() if "embed_tokens" not in name}
    if shape.tied:
        given.pop("lm_head.weight")
    ours.load_state_dict(given)
    return theirs, ours


def texts() -> torch.Tensor:
    ids = torch.randint(3, 61, (4, 23), generator=torch.Generator().manual_seed(0))
    ids[1, 9:] = 0
    ids[2, 1:] = 0
    return ids


@pytest.mark.parametrize("shape", [SHAPE, V1])
@torch.no_grad()
def test_both_halves_say_what_transformers_says(shape):
    theirs, ours = pair(shape)
    ids = texts()
    mask = (ids != 0).long()
    before = torch.randint(0, 61, (4, 27), generator=torch.Generator().manual_seed(1))
    read = theirs.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    assert (read - ours(ids))[mask.bool()].abs().max() < 2e-5
    told = theirs(input_ids=ids, attention_mask=mask, decoder_input_ids=before).logits
    assert told.std() > 0.1
    assert (told - ours.write(ids, before)).abs().max() < 2e-5 * max(1.0, float(told.abs().max()))


@torch.no_grad()
def test_empty_places_change_nothing_and_no_text_is_finite():
    _, ours = pair(SHAPE)
    ids = texts()
    longer = torch.nn.functional.pad(ids, (0, 6))
    assert torch.allclose(ours(longer)[1, :9], ours(ids)[1, :9], atol=1e-5)
    assert ours(torch.zeros(2, 5, dtype=torch.long)).isfinite().all()


@pytest.mark.parametrize("both", [True, False])
def test_distances_fall_into_transformers_buckets(both):
    distance = torch.arange(70)[None, :] - torch.arange(61)[:, None]
    for buckets, farthest in ((32, 128), (12, 17)):
        told = T5Attention._relative_position_bucket(
            distance, bidirectional=both, num_buckets=buckets, max_distance=farthest
        )
        assert torch.equal(bucket(distance, buckets, farthest, both=both), told)


def test_words_alone_know_nothing_of_their_order():
    _, ours = pair(SHAPE)
    ids = texts()[:1]
    order = torch.randperm(23, generator=torch.Generator().manual_seed(5))
    assert torch.equal(ours.words_alone(ids[:, order]), ours.words_alone(ids)[:, order])
    assert not torch.allclose(ours(ids[:, order]), ours(ids)[:, order], atol=1e-3)


def test_buckets_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match=r"multiple of 4 .* got 30 and 128"):
        T5Shape(buckets=30)
