"""DALL-E: its loss by hand, its drawing against reading everything anew, completion, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sfumato.core.autoregressive import choose
from sfumato.core.likelihood import Gaussian
from sfumato.core.request import Complete, Generate, Images, Progress
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.dataset import Facts
from sfumato.errors import DataError, UsageError
from sfumato.nn.autoencoder import AutoencoderConfig
from sfumato.nn.causal import CausalConfig
from sfumato.nn.patchgan import PatchCriticConfig
from sfumato.systems.autoencoders.kl import KL, KLConfig
from sfumato.systems.autoencoders.vqvae import VQVAE, Hard, Soft, VQVAEConfig
from sfumato.systems.text.dalle import DALLE, DALLEConfig

WORDS = ("a", "red", "blue", "circle", "star")
STAGE = VQVAEConfig(
    AutoencoderConfig(
        channels=1, latent_channels=3, widths=(8,), blocks=1, groups=4, patch=4, attention=False
    ),
    Soft(11),
    Gaussian(0.3),
)
NETWORK = CausalConfig(width=16, depth=2, heads=2, patterns=("row", "conv"), kernel=3)
CONFIG = DALLEConfig(
    height=12, width=20, vocabulary=WORDS, length=4, first_stage=STAGE, network=NETWORK, drop=0.0
)
CAPTIONS = ["a red circle", "a star", "a blue star"]
X = torch.rand(3, 1, 12, 20, generator=torch.Generator().manual_seed(1)) * 2 - 1


def tiny(**changes: object) -> DALLE:
    torch.manual_seed(0)
    return DALLE(replace(CONFIG, **changes)).eval()


def batch(system: DALLE, step: int = 0) -> Batch:
    codes = system.first_stage.tokens(X).flatten(1)
    ids = system.tokenizer.encode(CAPTIONS).tokens
    return Batch({"codes": codes.int(), "ids": ids.int()}, Rng.training(0, step, range(3)))


def answer(system: DALLE, request: Generate | Complete) -> Images:
    *progress, result = system.run(request)
    assert isinstance(result, Images)
    assert all(isinstance(event, Progress) for event in progress)
    return result


# --- learning ----------------------------------------------------------------------------------------


def test_the_loss_is_an_eighth_words_and_seven_eighths_picture():
    system = tiny()
    given = batch(system)
    [loss] = system.losses(given, 0)
    ids, codes = system.network.padded(given["ids"].long()), given["codes"].long()
    said = system.network(given["ids"].long(), codes).log_softmax(2)
    words = -torch.stack([said[i, t, ids[i, t]] for i in range(3) for t in range(4)]).mean()
    first = len(WORDS) + 2 + 4
    picture = -torch.stack([said[i, 4 + n, first + codes[i, n]] for i in range(3) for n in range(15)]).mean()
    assert torch.allclose(loss.value, (words + 7 * picture) / 8, rtol=1e-5)
    assert torch.allclose(loss.parts["words"], words, rtol=1e-5)
    assert torch.allclose(loss.parts["picture"], picture, rtol=1e-5)
    [other] = tiny(picture=1.0).losses(given, 0)
    assert torch.allclose(other.value, (words + picture) / 2, rtol=1e-5)


def test_a_withheld_caption_is_an_empty_one():
    system = tiny(drop=1.0)
    given = batch(system)
    empty = Batch(dict(given) | {"ids": torch.zeros_like(given["ids"])}, Rng.training(0, 0, range(3)))
    [withheld], [said] = system.losses(given, 0), tiny().losses(empty, 0)
    assert torch.equal(withheld.value, said.value)
    [heard] = tiny().losses(given, 0)
    assert not torch.equal(withheld.value, heard.value)


def test_pictures_and_captions_are_numbered_once():
    class Three:
        facts = Facts("three", 1, 12, 20, frozenset({"image", "caption"}), words=WORDS)

        def __len__(self) -> int:
            return 3

        def batch(self, indices: Tensor) -> dict[str, object]:
            return {"image": X[indices], "caption": [CAPTIONS[i] for i in indices.tolist()]}

    system = tiny()
    told = system.prepare(Three()).batch(torch.tensor([2, 0]))
    assert told.keys() == {"codes", "ids"}
    assert torch.equal(told["ids"], batch(system)["ids"][[2, 0]])
    agree = told["codes"] == batch(system)["codes"][[2, 0]]
    assert agree.float().mean() > 0.8, "numbers may differ where bf16 cannot tell two codes apart"


# --- drawing -----------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_it_draws_what_reading_everything_anew_would_draw(scale):
    system = tiny()
    request = Generate(prompt=tuple(CAPTIONS), count=3, seed=4, guidance=scale, temperature=0.7, top_k=5)
    ids, nothing = system.tokenizer.encode(CAPTIONS).tokens, torch.zeros(3, 4, dtype=torch.long)
    chance = torch.special.ndtr(Rng.sampling(4, 3).normal(15).double())
    codes = torch.zeros(3, 0, dtype=torch.long)
    for place in range(15):
        told, untold = (system.network(text, codes)[:, -1, -11:] for text in (ids, nothing))
        told = told if scale == 1 else untold + scale * (told - untold)
        codes = torch.cat([codes, choose(told, chance[:, place], 0.7, 5)[:, None]], 1)
    expected = system.first_stage.pictures(codes.view(3, 3, 5))
    made = answer(system, request)
    assert torch.allclose(made.pixels, expected, atol=1e-5)
    assert made.seeds == (4, 5, 6)
    assert len({tuple(row) for row in codes.tolist()}) == 3


@torch.no_grad()
def test_in_half_precision_the_same_numbers_are_drawn_in_any_company():
    system = tiny().bfloat16()
    together = answer(system, Generate(count=6, seed=2, prompt="a star")).pixels
    for i in range(6):
        alone = answer(system, Generate(count=1, seed=2 + i, prompt="a star")).pixels
        assert (together[i] - alone[0]).abs().max() < 0.05, "codes must be the same; decoding may round"


@torch.no_grad()
def test_previews_grow_row_by_row_and_are_grey_below():
    *progress, result = tiny().run(Generate(count=2, seed=1, prompt="a star"))
    assert [event.done for event in progress] == pytest.approx([1 / 3, 2 / 3, 1])
    first, second, last = (event.preview() for event in progress)
    assert (first[:, :, 4:] == 0).all()
    assert (second[:, :, 8:] == 0).all()
    assert (first[:, :, :4] != 0).any()
    assert torch.equal(last, result.pixels)


def test_words_it_cannot_read_are_told():
    told = answer(tiny(), Generate(count=1, prompt="a red and blue circle circle"))
    assert told.notes == (
        "3 of the words of 'a red and blue circle circle' could not be read and were left out.",
    )


# --- completing --------------------------------------------------------------------------------------


@torch.no_grad()
def test_completion_keeps_the_top_and_draws_the_rest_upon_it():
    system = tiny(chunk=2)
    request = Complete(images=X, count=3, seed=9, prompt=("a red circle", "a star"), keep=0.4)
    made = answer(system, request)
    assert torch.equal(made.pixels[:, :, :4], X[:, :, :4])
    assert made.seeds == (9, 10, 11)
    assert made.captions == ("a red circle", "a star", "a red circle")
    codes = system.first_stage.tokens(X[:, :, :4]).flatten(1)
    ids = system.tokenizer.encode(made.captions).tokens
    chance = torch.special.ndtr(Rng.sampling(9, 3).normal(15).double())
    for place in range(5, 15):
        logits = system.network(ids, codes)[:, -1, -11:]
        codes = torch.cat([codes, choose(logits, chance[:, place])[:, None]], 1)
    expected = system.first_stage.pictures(codes.view(3, 3, 5))
    assert torch.allclose(made.pixels[:, :, 4:], expected[:, :, 4:], atol=1e-5)

    below = torch.cat([X[:, :, :4], X[:, :, 4:].flip(3)], 2)
    assert torch.equal(answer(system, replace(request, images=below)).pixels, made.pixels)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.9, 1.0])
def test_completion_needs_something_to_keep_and_something_to_draw(keep):
    with pytest.raises(UsageError, match=rf"keep must leave 1 to 2 of the 3 rows of tokens, got {keep:g};"):
        answer(tiny(), Complete(images=X, keep=keep))


def test_pictures_of_another_size_are_refused():
    with pytest.raises(
        UsageError, match="completes pictures of 1 x 12 x 20, got 1 x 20 x 12; scale and crop"
    ):
        answer(tiny(), Complete(images=X.mT))
    with pytest.raises(UsageError, match="makes pictures of 12 x 20 pixels; leave height and width out"):
        list(tiny().run(Generate(height=24)))


# --- its first stage ---------------------------------------------------------------------------------


def test_it_adopts_a_first_stage_and_leaves_the_critic():
    stage = replace(STAGE, book=Hard(11), adversarial=0.5, critic=PatchCriticConfig(width=4, layers=1))
    base, system = VQVAE(stage), tiny(first_stage=stage)
    system.adopt(base)
    assert torch.equal(system.first_stage.tokens(X), base.tokens(X))
    assert system.first_stage.critic is None
    assert not any(p.requires_grad for p in system.first_stage.parameters())


@pytest.mark.parametrize(
    "base",
    [
        KL(KLConfig(STAGE.network)),
        VQVAE(replace(STAGE, book=Soft(12))),
        VQVAE(replace(STAGE, network=replace(STAGE.network, widths=(4,)))),
    ],
)
def test_another_first_stage_is_refused(base):
    with pytest.raises(
        DataError, match=f"first stage of its own shape, got a {type(base).__name__} that differs"
    ):
        tiny().adopt(base)


def test_the_published_transformer_has_its_size():
    """Twelve billion parameters: 64 layers, 62 heads of 64 (section 2.2)."""
    with torch.device("meta"):
        system = DALLE(DALLE.presets["paper"].config)
    count = sum(p.numel() for p in system.network.parameters())
    assert round(count / 1e9) == 12
    patterns = system.config.network.patterns
    assert patterns[:7] == ("row", "row", "column", "row", "row", "row", "column")
    assert patterns[-1] == "conv"
    assert len(patterns) == 64
