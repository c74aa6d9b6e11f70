"""unCLIP's decoder: what it is told, noise found and followed back, great circles, masks that hold."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from diffusers import UnCLIPScheduler
from torch import Tensor
from torch.nn.functional import normalize

from sfumato.core import guidance, solvers
from sfumato.core.denoiser import Belief
from sfumato.core.process import Cosine, Process
from sfumato.core.request import Edit, Generate, Images, Interpolate, Request, TextDiff, Vary, Video
from sfumato.core.rng import Rng
from sfumato.core.system import OptimConfig, TrainConfig
from sfumato.core.trainer import Trainer
from sfumato.data.dataset import Subset
from sfumato.data.shapes.corner import CornerShape
from sfumato.errors import DataError, UsageError
from sfumato.nn.clip import ClipConfig
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.condition import Condition
from sfumato.nn.prior import PriorConfig
from sfumato.nn.unclip import EmbeddingDecoder, told, untold
from sfumato.nn.unet import UNetConfig
from sfumato.nn.vit import VitConfig
from sfumato.systems.text.clip import CLIPConfig
from sfumato.systems.text.prior import (
    AutoregressivePriorConfig,
    DiffusionPriorConfig,
    UnclipPrior,
    UnclipPriorConfig,
)
from sfumato.systems.text.unclip import Unclip, UnclipConfig

SHAPES = CornerShape("train", 16, length=40)
TOWERS = ClipConfig(
    VitConfig(patch=4, width=16, layers=1, heads=2, hidden=32),
    ClipTextConfig(length=16, width=24, layers=1, heads=2, hidden=32),
    dimension=12,
)
PRIORS = UnclipPriorConfig(
    clip=CLIPConfig(TOWERS),
    network=PriorConfig(width=16, layers=1, heads=2, hidden=32),
    diffusion=DiffusionPriorConfig(steps=3),
    autoregressive=AutoregressivePriorConfig(components=3, buckets=4),
)
NETWORK = UNetConfig(
    widths=(16, 32), blocks=(1,), attend=(False, True), heads=(2,), depth=(1,), context=10, groups=8, patch=2
)


def woken(module: torch.nn.Module) -> None:
    """Layers that start at zero hide all that lies before them."""
    for p in module.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)


def built(**more: object) -> Unclip:
    torch.manual_seed(0)
    optim = OptimConfig("muon", lr=5e-3)
    config = UnclipConfig(prior=PRIORS, network=NETWORK, predicts="v", steps=4, optim=optim, **more)
    system = Unclip(Unclip.fit(config, SHAPES.facts)).eval()
    with torch.no_grad():  # untrained towers see all alike: make them look
        for p in system.prior.clip.network.vision_model.parameters():
            p.mul_(3.0)
    woken(system)
    return system


@pytest.fixture(scope="module")
def system() -> Unclip:
    return built()


@pytest.fixture
def given() -> Tensor:
    return SHAPES.batch(torch.arange(3))["image"]


@torch.no_grad()
def served(system: Unclip, request: Request) -> Images | Video:
    *progress, answer = system.run(request)
    assert all(0 < event.done <= 1 for event in progress)
    return answer


# --- what the decoder is told ------------------------------------------------------------------------


@torch.no_grad()
def test_an_embedding_is_scaled_and_joins_time_and_tokens():
    torch.manual_seed(0)
    network = EmbeddingDecoder(NETWORK, 12, tokens=3)
    woken(network)
    x, clock, z = torch.randn(2, 3, 12, 20), torch.tensor([5.0, 700.0]), normalize(torch.randn(2, 12), dim=1)
    scaled = network.null + math.sqrt(12) * z
    tokens = network.tokens(scaled).view(2, 3, 10)
    by_hand = network.unet(x, clock, Condition(vector=scaled, tokens=tokens))
    answer = network(x, clock, told(z))
    torch.testing.assert_close(answer, by_hand)
    # Numbers of variance 1 or so: those of unit vectors have 1 / 12.
    assert (math.sqrt(12) * z).square().mean() == pytest.approx(1.0)

    without = network(x, clock, untold(z))
    torch.testing.assert_close(network(x, clock, untold(-3 * z)), without)
    mixed = network(x, clock, told(z).drop(torch.tensor([True, False]), untold(z)))
    torch.testing.assert_close(mixed, torch.stack([answer[0], without[1]]))
    assert (answer - without).abs().max() > 1e-3
    only_tokens = network.unet(x, clock, Condition(vector=scaled, tokens=tokens.flip(0)))
    assert (only_tokens - answer).abs().max() > 1e-4, "attention reads the tokens"


@torch.no_grad()
def test_guidance_goes_beyond_what_is_believed_without_the_embedding(system, given):
    z, t = system.prior.clip.encode_images(given).float(), torch.full((3,), 0.6, dtype=torch.float64)
    with_z, without = (system.denoiser(given, t, cond).x0 for cond in (told(z), untold(z)))
    guided = guidance.classifier_free(system.denoiser, told(z), untold(z), 2.5)(given, t).x0
    torch.testing.assert_close(guided, without + 2.5 * (with_z - without), atol=1e-5, rtol=1e-4)


def test_it_takes_over_priors_of_its_own_shape_only(system):
    other = UnclipPrior(replace(system.config.prior, autoregressive=None))
    with pytest.raises(DataError, match="needs trained priors of its own shape, got a UnclipPrior that diff"):
        system.adopt(other)
    with pytest.raises(DataError, match="got a CLIP that differs; train them with 'sfumato train prior'"):
        system.adopt(system.prior.clip)
    prior = UnclipPrior(system.config.prior)
    fresh = built()
    fresh.adopt(prior)
    assert torch.equal(fresh.prior.clip.network.logit_scale, prior.clip.network.logit_scale)
    moved = {id(p) for player in fresh.players().values() for p in player.parameters()}
    assert not moved & {id(p) for p in fresh.prior.parameters()}, "CLIP and priors stay as they are"


def test_training_sees_every_picture_once_through_clip():
    system = built(drop=0.5)
    data = system.prepare(Subset(SHAPES, range(8)))
    batch = data.batch(torch.tensor([2, 5]))
    torch.testing.assert_close(batch["image"], SHAPES.batch(torch.tensor([2, 5]))["image"])
    with torch.no_grad():
        seen = system.prior.clip.encode_images(batch["image"])
    assert (seen - batch["seen"]).abs().max() < 0.05, "in half precision, where that is fast"
    settings = TrainConfig(steps=25, batch=8, ema=0.0, precision="fp32", log_every=1)
    losses = [r.values()["decoder/mse"] for r in Trainer(built(), Subset(SHAPES, range(4)), settings).run()]
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])


# --- words -------------------------------------------------------------------------------------------


def test_a_prior_may_be_chosen_and_none_takes_the_text(system):
    request = Generate(prompt="a red circle", count=2, seed=4)
    made = {p: served(system, replace(request, prior=p)).pixels for p in (None, *system.prior.ways, "none")}
    assert torch.equal(made[None], made["diffusion"])
    names = ("diffusion", "autoregressive", "none")
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert not torch.equal(made[names[a]], made[names[b]])
    with torch.no_grad():
        text = system.prior.clip.encode_texts(["a red circle"]).float()
        cond = told(text.expand(2, -1)), untold(text.expand(2, -1))
        rng, process = Rng.sampling(4, 2), system.config.process
        x = process.prior(torch.empty(2, 3, 16, 16), rng)
        denoise = guidance.clipped(guidance.classifier_free(system.denoiser, *cond, system.config.guidance))
        times = process.schedule.grid(4, "trailing")
        *_, last = solvers.ddim(denoise, process, x, times)
    torch.testing.assert_close(made["none"], last.x.clamp(-1, 1), atol=1e-4, rtol=0)
    with pytest.raises(UsageError, match="has no prior 'autoregresive'; did you mean 'autoregressive'"):
        served(system, replace(request, prior="autoregresive"))


def test_priors_step_as_public_samplers_do():
    """Ancestral steps of a clean prediction under the cosine schedule: diffusers' UnCLIPScheduler."""
    theirs = UnCLIPScheduler(prediction_type="sample", variance_type="fixed_small_log", clip_sample=False)
    theirs.set_timesteps(25)
    process = Process(Cosine())
    times = process.schedule.grid(25, "linspace")
    assert ((times[:-1] * 1000).round() - 1).tolist() == theirs.timesteps.tolist()

    def belief(x: Tensor) -> Tensor:
        return 0.3 * x.sin()

    x = start = torch.randn(1, 5, generator=torch.Generator().manual_seed(1))
    noise = torch.Generator().manual_seed(7)
    for i, t in enumerate(theirs.timesteps):
        before = theirs.timesteps[i + 1] if i < 24 else None
        x = theirs.step(belief(x), t, x, prev_timestep=before, generator=noise).prev_sample
    walk = solvers.ancestral(lambda x, t: Belief(belief(x)), process, start, times, rng=Rng([7]))
    *_, last = walk
    torch.testing.assert_close(last.x, x, atol=1e-4, rtol=1e-4)


# --- pictures that start from pictures ---------------------------------------------------------------


def test_without_fresh_noise_a_picture_comes_back(system, given):
    """An error of the solver alone, which falls with its steps; with fresh noise nothing comes back."""
    small = given * 0.5
    errors = []
    for steps in (4, 12, 36):
        made = served(system, Vary(images=small, count=3, strength=1e-9, steps=steps)).pixels
        errors.append((made - small).abs().mean().item())
    assert errors[0] > 1.5 * errors[1] > 1.5 * 1.5 * errors[2]
    assert errors[2] < 0.06
    fresh = served(system, Vary(images=small, count=3, strength=1.0, steps=12)).pixels
    assert (fresh - small).abs().mean() > 5 * errors[1]


def test_a_text_difference_of_nothing_changes_nothing(system, given):
    words = {"source": "a red circle", "target": "a blue circle"}
    still = served(system, TextDiff(images=given, count=3, theta=0.0, steps=5, **words)).pixels
    same = served(system, Vary(images=given, count=3, strength=1e-9, steps=5)).pixels
    torch.testing.assert_close(still, same, atol=1e-3, rtol=0)
    moved = served(system, TextDiff(images=given, count=3, theta=0.5, steps=5, **words)).pixels
    back = served(
        system,
        TextDiff(images=given, count=3, theta=0.5, steps=5, source=words["target"], target="a red circle"),
    ).pixels
    assert (moved - still).abs().max() > 1e-4
    assert not torch.equal(moved, back)
    for theta, wrong in ((1.5, "got 1.5"), (-0.1, "got -0.1")):
        with pytest.raises(UsageError, match=f"theta must be from 0 and at most 1, {wrong}"):
            served(system, TextDiff(images=given, count=3, theta=theta, **words))
    with pytest.raises(UsageError, match="'a star' and 'a star' do not differ; give two texts that do"):
        served(system, TextDiff(images=given, count=3, source="a star", target="a star"))


def test_an_interpolation_meets_its_pictures(system, given):
    film = served(system, Interpolate(images=given, count=3, frames=3, steps=6)).pixels
    assert film.shape == (1, 7, 3, 16, 16)
    ends = served(system, Vary(images=given, count=3, strength=1e-9, steps=6)).pixels
    torch.testing.assert_close(film[0, ::3], ends, atol=1e-3, rtol=0)
    assert (film[0, 1] - film[0, 0]).abs().max() > 1e-3
    fixed = served(system, Interpolate(images=given, count=3, frames=3, steps=6, noise="fixed")).pixels
    small = Unclip(replace(system.config, chunk=2)).eval()
    small.load_state_dict(system.state_dict())
    again = served(small, Interpolate(images=given, count=3, frames=3, steps=6, noise="fixed")).pixels
    torch.testing.assert_close(again, fixed, atol=1e-4, rtol=0)
    same = served(system, Vary(images=given[:1], count=1, strength=1.0, steps=6, solver="euler")).pixels
    torch.testing.assert_close(fixed[0, :1], same, atol=1e-3, rtol=0)  # one noise, that of the seed
    with pytest.raises(UsageError, match="takes 2 pictures or more and 1 frame or more between, got 1 and 8"):
        served(system, Interpolate(images=given[:1], count=1))


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_outside_its_mask_a_picture_stays_as_it_was(system, given, strength):
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 2:9, 5:] = 1
    request = Edit(images=given, mask=mask, prompt="a blue star", count=3, steps=4, strength=strength)
    made = served(system, request).pixels
    outside = (mask == 0).expand_as(given)
    assert torch.equal(made[outside], given[outside])
    assert (made - given)[~outside].abs().mean() > 0.05
    loose = served(system, replace(request, keep=False)).pixels
    assert not torch.equal(loose[outside], given[outside])
    torch.testing.assert_close(loose[~outside], made[~outside])
    silent = served(system, replace(request, prompt="")).pixels
    assert not torch.equal(silent, made), "without words, what the picture's embedding says"


def test_what_is_outside_a_mask_is_under_as_much_noise_as_the_rest():
    process, mask = Process(Cosine()), torch.zeros(400, 1, 2, 2)
    mask[..., 0, :] = 1
    project = guidance.keep_outside(process, torch.full((400, 1, 2, 2), 0.5), mask, Rng.sampling(0, 400))
    t = torch.full((400,), 0.4, dtype=torch.float64)
    x = project(torch.full((400, 1, 2, 2), 9.0), t)
    assert (x[..., 0, :] == 9).all()
    [level] = process.levels(t[:1])
    assert x[..., 1, :].mean().item() == pytest.approx(0.5 * level.alpha, abs=0.08)
    assert x[..., 1, :].std().item() == pytest.approx(level.sigma, rel=0.1)


def test_what_makes_no_sense_is_refused(system, given):
    mask = torch.ones(3, 1, 16, 16)
    edit = Edit(images=given, mask=mask, prompt="a star", count=3)
    wrong: list[tuple[Request, str]] = [
        (replace(edit, mask=None), "paints inside a mask of a given picture; give both.*sfumato textdiff"),
        (replace(edit, mask=mask[..., 1:]), "The mask has 16 x 15 pixels and the picture 16 x 16"),
        (replace(edit, negative="red"), "hears no words, so there are none to avoid"),
        (replace(edit, strength=0.0), "strength must be above 0 and at most 1, got 0"),
        (Vary(images=given, negative="red"), "hears no words"),
        (Vary(images=given, strength=1.2), "strength must be above 0 and at most 1, got 1.2"),
    ]
    for request, message in wrong:
        with pytest.raises(UsageError, match=message):
            served(system, request)
