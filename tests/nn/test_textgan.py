"""Networks between sentences and pictures: published sizes, what goes where, which captions contradict."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate

from sfumato.data.text import WordTokenizer, vocabulary_of
from sfumato.errors import UsageError
from sfumato.nn.textgan import (
    Affine,
    Augmentation,
    FirstStage,
    FusionConfig,
    FusionCritic,
    FusionGenerator,
    FusionJudge,
    SecondStage,
    StackConfig,
    StackCritic,
    WordAttention,
    doublings,
    halved,
    mismatched,
)

FUSION = FusionConfig(channels=1, base=(3, 5), blocks=3, width=2, noise=6, sentence=7, words=7, attend=1)
STACK = StackConfig(
    channels=1, base=(3, 5), blocks=2, doublings=1, residual=1, width=4, critic=3, noise=6, sentence=7, told=5
)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


# --- deep fusion -------------------------------------------------------------------------------------


def test_deep_fusion_is_as_large_as_published():
    with torch.device("meta"):
        parts = [part(FusionConfig()) for part in (FusionGenerator, FusionCritic, FusionJudge)]
    assert [size(part) for part in parts] == [9_744_131, 6_619_206, 295_936]


def test_deep_fusion_has_the_authors_names():
    with torch.device("meta"):
        names = FusionGenerator(FusionConfig()).state_dict().keys()
        critic = FusionCritic(FusionConfig()).state_dict()
    assert {"fc.weight", "GBlocks.0.fuse1.affine0.fc_gamma.linear1.weight", "to_rgb.1.bias"} <= names
    assert {"GBlocks.5.c_sc.weight", "GBlocks.0.c2.bias"} <= names
    assert "GBlocks.0.c_sc.weight" not in names
    assert critic["DBlocks.5.conv_r.0.weight"].shape == (256, 256, 4, 4)
    assert {"conv_img.weight", "DBlocks.0.conv_s.bias", "DBlocks.0.gamma"} <= critic.keys()


def test_a_block_grows_the_map_as_published():
    """The originals repeat places first; ours does so as late as it can."""
    torch.manual_seed(0)
    network = FusionGenerator(FUSION)
    block = network.GBlocks[0]
    for p in block.parameters():
        nn.init.normal_(p, std=0.3)
    x, told = normal(2, 16, 17, 18), normal(2, 13)
    up = interpolate(x, scale_factor=2)
    h = block.c2(block.fuse2(block.c1(block.fuse1(up, told)), told))
    assert torch.allclose(block(x, told), block.c_sc(up) + h, atol=1e-4)


def test_a_condition_changes_nothing_at_birth_and_scales_and_shifts_later():
    affine, x, told = Affine(4, 3), normal(2, 3, 5, 6), normal(2, 4)
    assert torch.equal(affine(x, told), x)
    for p in affine.parameters():
        nn.init.normal_(p)
    assert torch.allclose(
        affine(x, told)[0, 1], x[0, 1] * affine.fc_gamma(told)[0, 1] + affine.fc_beta(told)[0, 1]
    )


def test_pictures_have_the_size_of_the_first_map_times_its_doublings():
    words, held = normal(4, 8, 7), torch.ones(4, 8, dtype=torch.bool)
    made = FusionGenerator(FUSION)(normal(4, 6), normal(4, 7), words, held)
    assert made.shape == (4, 1, 24, 40)
    seen = FusionCritic(FUSION)(made)
    assert seen.shape == (4, 16, 3, 5)
    assert FusionJudge(FUSION)(seen, normal(4, 7)).shape == (4,)


def test_halving_is_average_pooling():
    x = normal(2, 3, 8, 14)
    assert torch.allclose(halved(x), avg_pool2d(x, 2), atol=1e-6)
    block = FusionCritic(FUSION).DBlocks[0]
    x = normal(2, 2, 8, 14)
    wanted = avg_pool2d(conv2d(x, block.conv_s.weight, block.conv_s.bias), 2)
    assert torch.allclose(block(x), wanted, atol=1e-5), "what a block adds starts from nothing"


def test_places_look_at_words_and_never_at_empty_ones():
    attention, x, words = WordAttention(6, 5), normal(2, 6, 3, 4), normal(2, 7, 5)
    held = torch.arange(7) < torch.tensor([[4], [0]])
    _, looks = attention(x, words, held)
    assert looks.shape == (2, 7, 3, 4)
    assert torch.allclose(looks.sum(1), torch.ones(2, 3, 4))
    assert (looks[0, 4:] == 0).all()
    scores = (x[0, :, 1, 2] @ attention.project(words[0, :4]).T) / 6**0.5
    assert torch.allclose(looks[0, :4, 1, 2], scores.softmax(0), atol=1e-6)
    assert looks.isfinite().all(), "a text without words must not end in NaN"


# --- stacked stages ----------------------------------------------------------------------------------


def test_the_cloud_of_a_condition_and_its_divergence():
    augmentation, sentence, noise = Augmentation(7, 5), normal(4, 7), normal(4, 5)
    told, divergence = augmentation(sentence, noise)
    mean, logvar = augmentation.fc(sentence).chunk(2, 1)
    assert torch.allclose(told, mean + (0.5 * logvar).exp() * noise)
    cloud = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    wanted = torch.distributions.kl_divergence(cloud, torch.distributions.Normal(0.0, 1.0)).mean()
    assert torch.allclose(divergence, wanted, atol=1e-6)


@pytest.mark.parametrize("factor", [1, 2])
def test_the_second_stage_enlarges_what_the_first_made(factor):
    config = replace(STACK, doublings=factor)
    sketch, _ = FirstStage(config)(normal(3, 6), normal(3, 7), normal(3, 5))
    made, _ = SecondStage(config)(sketch, normal(3, 7), normal(3, 5))
    assert sketch.shape == (3, 1, 12, 20)
    assert made.shape == (3, 1, 12 * 2**factor, 20 * 2**factor)
    verdicts = StackCritic(config, config.blocks + factor)(made, normal(3, 7), normal(3, 7))
    assert verdicts.shape == (2, 3)


def test_a_critic_sees_once_and_judges_with_every_sentence():
    critic, x = StackCritic(STACK, 2).eval(), normal(3, 1, 12, 20)
    one, other = normal(3, 7), normal(3, 7) + 1
    both = critic(x, one, other)
    assert torch.allclose(both[0], critic(x, one)[0])
    assert torch.allclose(both[1], critic(x, other)[0])


# --- sizes, and which captions are wrong -------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(30, 32), (5, 8), (36, 44)])
def test_sizes_that_cannot_be_halved_are_refused(height, width):
    with pytest.raises(UsageError, match=f"at least 6, got {height} x {width}; choose another --size"):
        doublings(height, width)


def test_the_wrong_caption_is_the_nearest_that_contradicts():
    captions = [
        "a red circle",
        "a red circle at the top",  # may be true of the first
        "a blue circle",
        "a green star on a white background",
        "a red star",
    ]
    ids = WordTokenizer(vocabulary_of(captions), 9).encode(captions).tokens
    first, second, *others = mismatched(ids).tolist()
    assert {first, second} <= {2, 4}
    assert others == [0, 4, 0]


def test_without_a_contradiction_the_next_caption_is_taken():
    captions = ["a star", "a red star", "a star"]
    ids = WordTokenizer(vocabulary_of(captions), 4).encode(captions).tokens
    assert mismatched(ids).tolist() == [1, 2, 0]
    assert mismatched(ids[:1]).tolist() == [0]
    assert mismatched(torch.zeros(2, 4, dtype=torch.long)).tolist() == [1, 0]
