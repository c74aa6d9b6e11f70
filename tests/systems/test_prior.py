"""unCLIP's priors: what their transformers may see, codes and back, draws that depend on their seed alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn.functional import normalize

from sfumato.core.request import Embeddings, Imagine
from sfumato.core.rng import Rng
from sfumato.core.system import OptimConfig, TrainConfig
from sfumato.core.trainer import Trainer
from sfumato.data.dataset import Subset
from sfumato.data.shapes import Shapes
from sfumato.errors import DataError, UsageError
from sfumato.nn.clip import ClipConfig
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.condition import Condition
from sfumato.nn.prior import CodeTransformer, PriorConfig, PriorTransformer
from sfumato.nn.vit import VitConfig
from sfumato.systems.text.clip import CLIP, CLIPConfig
from sfumato.systems.text.prior import (
    AutoregressivePriorConfig,
    DiffusionPriorConfig,
    UnclipPrior,
    UnclipPriorConfig,
)

SHAPES = Shapes("train", 16, levels={"short": 1.0}, length=200)
TOWERS = ClipConfig(
    VitConfig(patch=4, width=16, layers=1, heads=2, hidden=32),
    ClipTextConfig(length=30, width=24, layers=1, heads=2, hidden=32),
    dimension=12,
)
SMALL = PriorConfig(width=32, layers=2, heads=2, hidden=64, dimension=12, tokens=24, length=30)
WAYS = {
    "diffusion": DiffusionPriorConfig(steps=6),
    "autoregressive": AutoregressivePriorConfig(components=9, buckets=8),
}


Way = DiffusionPriorConfig | AutoregressivePriorConfig


def built(*ways: Way) -> UnclipPrior:
    torch.manual_seed(0)
    optim = OptimConfig("muon", lr=1e-2)
    kinds = {DiffusionPriorConfig: "diffusion", AutoregressivePriorConfig: "autoregressive"}
    told = {"diffusion": None} | {kinds[type(way)]: way for way in ways}
    config = UnclipPriorConfig(clip=CLIPConfig(TOWERS), network=SMALL, optim=optim, **told)
    system = UnclipPrior(UnclipPrior.fit(config, SHAPES.facts))
    clip = CLIP(CLIP.fit(CLIPConfig(TOWERS), SHAPES.facts))
    with torch.no_grad():  # untrained towers see all alike: make them look
        for p in clip.network.vision_model.parameters():
            p.mul_(3.0)
    system.adopt(clip)
    for way in system.ways.values():
        way.measure(cloud(), cloud())
    return system


@pytest.fixture(params=WAYS)
def system(request) -> UnclipPrior:
    return built(WAYS[request.param])


def told(count: int) -> Condition:
    draw = torch.Generator().manual_seed(1)
    tokens, vector = torch.randn(count, 30, 24, generator=draw), torch.randn(count, 12, generator=draw)
    return Condition(tokens=tokens, vector=vector)


# --- what they may see -------------------------------------------------------------------------------


@torch.no_grad()
def test_candidates_of_one_text_do_not_see_each_other():
    network, cond = PriorTransformer(SMALL), told(3)
    x, clock = torch.randn(3, 4, 12), torch.tensor([3.0, 500.0, 999.0])
    together = network(x, clock, cond)
    for k in range(4):
        torch.testing.assert_close(network(x[:, k : k + 1], clock, cond)[:, 0], together[:, k])
    for changed in (replace(cond, vector=-cond.vector), replace(cond, tokens=cond.tokens.flip(1))):
        assert not torch.allclose(network(x, clock, changed), together, atol=1e-3)
    assert not torch.allclose(network(x, clock + 40, cond), together, atol=1e-3)


@torch.no_grad()
def test_a_code_is_guessed_from_those_before_it():
    network, cond = CodeTransformer(SMALL, 9, 8), told(2)
    codes, near = torch.randint(0, 8, (2, 9)), torch.tensor([1, 6])
    logits = network(near, codes, cond)
    assert logits.shape == (2, 9, 8)
    for place in range(9):
        other = codes.clone()
        other[:, place] = (other[:, place] + 3) % 8
        same = (network(near, other, cond) - logits).abs().amax((0, 2)) < 1e-6
        assert same.tolist() == [i <= place for i in range(9)], place
    assert (network(near.flip(0), codes, cond) - logits).abs().amax() > 1e-3


# --- codes -------------------------------------------------------------------------------------------


def cloud(count: int = 4000) -> Tensor:
    draw = torch.Generator().manual_seed(2)
    mix = torch.randn(12, 12, generator=draw) * torch.linspace(1.5, 0.05, 12)[:, None]
    return normalize(torch.randn(count, 12, generator=draw) @ mix + 0.5, dim=1)


def test_codes_are_buckets_of_principal_components_and_lead_back():
    pictures = cloud()
    way = built(AutoregressivePriorConfig(components=12, buckets=64)).ways["autoregressive"]
    way.measure(pictures, pictures)
    theirs = PCA(12).fit(pictures.numpy())
    ours = (pictures - way.mean) @ way.basis.T
    want = torch.from_numpy(theirs.transform(pictures.numpy()))
    signs = (ours * want).sum(0).sign()
    torch.testing.assert_close(ours * signs, want, atol=2e-4, rtol=0)

    codes = way.codes(pictures)
    counts = torch.stack([torch.bincount(column, minlength=64) for column in codes.T])
    assert counts.min() >= 55
    assert counts.max() <= 70, "buckets hold equally many"
    found = way.vectors(codes)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)))
    assert (found * pictures).sum(1).mean() > 0.995
    few = built(AutoregressivePriorConfig(components=2, buckets=64)).ways["autoregressive"]
    few.measure(pictures, pictures)
    coarse = (few.vectors(few.codes(pictures)) * pictures).sum(1).mean()
    assert 0.5 < coarse < 0.99, "fewer components say less"


def test_more_components_than_numbers_are_refused():
    with pytest.raises(UsageError, match="An embedding of 12 numbers has no 13 principal components"):
        built(AutoregressivePriorConfig(components=13, buckets=8))


# --- draws -------------------------------------------------------------------------------------------


def drawn(system: UnclipPrior, prompts: tuple[str, ...], seed: int = 3, **more: object) -> Tensor:
    with torch.no_grad():
        *_, answer = system.run(Imagine(count=len(prompts), seed=seed, prompt=prompts, **more))
    assert isinstance(answer, Embeddings)
    assert answer.captions == prompts
    return answer.vectors


def test_a_draw_depends_on_its_seed_and_its_words_alone(system):
    prompts = ("a red circle", "a blue star", "a large green ring")
    together = drawn(system, prompts)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    for i, prompt in enumerate(prompts):
        torch.testing.assert_close(drawn(system, (prompt,), seed=3 + i)[0], together[i], atol=1e-5, rtol=0)
    assert not torch.allclose(drawn(system, prompts, seed=9), together, atol=1e-2)
    assert torch.equal(drawn(system, prompts, guidance=1.0), together)
    assert not torch.equal(drawn(system, prompts, guidance=6.0), together)


def test_of_several_candidates_the_nearest_to_the_text_is_kept():
    prompts = tuple(f"a {colour} circle" for colour in ("red", "blue", "green", "pink", "cyan", "orange"))
    near = {}
    for count in (1, 8):
        system = built(DiffusionPriorConfig(steps=4, candidates=count))
        with torch.no_grad():
            text = system.clip.encode_texts(prompts)
        near[count] = (drawn(system, prompts) * text).sum(1)
    assert (near[8] > near[1]).float().mean() >= 0.8


def taught(way: Way) -> tuple[UnclipPrior, float]:
    """A prior that has seen eight pictures often, and the loss at the end."""
    system, data = built(way), Subset(SHAPES, range(8))
    *_, last = Trainer(system, data, TrainConfig(steps=40, batch=16, ema=0.0, precision="fp32")).run()
    return system, sum(value for name, value in last.values().items() if not name.endswith("norm"))


def test_a_diffusion_learns_a_few_pairs_by_heart():
    system, _ = taught(WAYS["diffusion"])
    batch = SHAPES.batch(torch.arange(8))
    with torch.no_grad():
        true = system.clip.encode_images(batch["image"])
    guess = drawn(system, tuple(batch["caption"]))
    own, others = ((guess.roll(k, 0) * true).sum(1).mean() for k in (0, 1))
    assert own > 0.9
    assert own > others + 0.01


def test_an_autoregression_learns_a_few_pairs_by_heart():
    """Eight codes for each of nine components: ln 8 nats where nothing is known."""
    _, nats = taught(WAYS["autoregressive"])
    assert nats < math.log(8) / 2


def test_it_takes_over_a_clip_of_its_own_shape_only(system):
    with pytest.raises(DataError, match="of its own shape, got a UnclipPrior that differs"):
        system.adopt(system)
    other = CLIP(CLIP.fit(CLIPConfig(replace(TOWERS, dimension=7)), SHAPES.facts))
    with pytest.raises(DataError, match="got a CLIP that differs; train one with 'sfumato train clip'"):
        system.adopt(other)
    moved = {id(p) for player in system.players().values() for p in player.parameters()}
    assert not moved & {id(p) for p in system.clip.parameters()}, "CLIP stays as it is"


def test_one_stream_a_text(system):
    *_, (done, vectors) = system.imagine(["a red circle", "a star"], Rng([5, 5]), 1.0, 3)
    assert done == 1
    assert vectors.shape == (2, 12)


def test_one_prior_may_draw_in_both_ways():
    system = built(*WAYS.values())
    players = system.players()
    assert [*players] == ["diffusion", "autoregressive"]
    prompts = ("a red circle", "a star")
    made = {way: drawn(system, prompts, prior=way) for way in (None, *WAYS, "none")}
    assert torch.equal(made[None], made["diffusion"])
    assert not torch.allclose(made["diffusion"], made["autoregressive"], atol=1e-2)
    with torch.no_grad():
        torch.testing.assert_close(made["none"], system.clip.encode_texts(prompts).float())
    with pytest.raises(UsageError, match="has no prior 'difusion'; did you mean 'diffusion'"):
        drawn(system, prompts, prior="difusion")
    with pytest.raises(UsageError, match="give it 'diffusion', 'autoregressive', or both"):
        UnclipPrior(replace(system.config, diffusion=None, autoregressive=None))
