"""GLIDE: where a CLIP leads, holes that are filled and nothing else, and captions that are withheld."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sfumato.core import guidance
from sfumato.core.denoiser import Belief
from sfumato.core.process import CosineLogSNR, Process
from sfumato.core.request import Branch, Edit, Generate, Images
from sfumato.core.rng import Rng
from sfumato.data.shapes.related import RelatedShapes
from sfumato.errors import UsageError
from sfumato.nn.noised_clip import NoisedClipConfig
from sfumato.nn.transformer import DiTConfig, WordsConfig
from sfumato.nn.unet import UNetConfig
from sfumato.systems.diffusion.glide import BLIND, GLIDE, GLIDEConfig, kept

DATA = RelatedShapes("train", 24, length=40)
WORDS = WordsConfig(length=11, width=16, depth=1, heads=2)
CONFIG = GLIDEConfig(
    text=WORDS,
    network=DiTConfig(patch=4, width=16, depth=1, heads=2),
    clip=NoisedClipConfig(UNetConfig(widths=(8, 16), blocks=(1,), groups=4, patch=2), WORDS, dimension=6),
    process=Process(CosineLogSNR()),
    predicts="v",
    solver="ddim",
    steps=4,
    spacing="linspace",
)
ONE = "a red circle above a blue square"


def built(**settings: object) -> GLIDE:
    torch.manual_seed(0)
    system = GLIDE(GLIDE.fit(replace(CONFIG, **settings), DATA.facts))  # type: ignore[arg-type]
    for p in system.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)
    return system.eval()


@torch.no_grad()
def answer(system: GLIDE, request: Generate | Edit) -> Tensor:
    *_, result = system.run(request)
    assert isinstance(result, Images)
    return result.pixels


def test_a_clip_leads_along_the_gradient_of_its_dot_product():
    """eq. 9, with the gradient worked out here from the towers alone."""
    system = built(led_by="clip")
    x = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    t = torch.full((2,), 0.6, dtype=torch.float64)
    texts = system.clip.texts(system.reader.encode([ONE, "a blue star"])).detach()
    denoise = guidance.towards(
        lambda x, t: Belief(0.5 * x), system.config.process, lambda x, t: system.likeness(texts, x, t), 2.0
    )
    with torch.no_grad():
        led = denoise(x, t).x0
    at = x.clone().requires_grad_()
    seen = system.clip.images(at, torch.full((2,), 600.0))
    (system.clip.scale * (seen * texts).sum()).backward()
    alpha, sigma = (float(f(t)[0]) for f in (CosineLogSNR().alpha, CosineLogSNR().sigma))
    assert at.grad is not None
    assert at.grad.abs().max() > 1e-4
    assert torch.allclose(led, 0.5 * x + 2.0 * sigma**2 / alpha * at.grad, atol=1e-6)


def test_led_by_an_exact_log_likelihood_a_gaussian_becomes_its_posterior():
    """Data x0 ~ N(m, s^2), seen as y = a x0 + e: leading by ln p(y | x_t) gives E[x0 | x_t, y]."""
    process, t = Process(CosineLogSNR()), torch.full((5,), 0.45, dtype=torch.float64)
    m, s, a, e, y = 0.3, 0.8, 1.7, 0.5, 2.0
    alpha, sigma = (float(f(t)[0]) for f in (process.schedule.alpha, process.schedule.sigma))
    x = torch.randn(5, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gain = s**2 * alpha / (alpha**2 * s**2 + sigma**2)
    spread = s**2 * sigma**2 / (alpha**2 * s**2 + sigma**2)  # of x0 given x_t

    def believed(x: Tensor) -> Tensor:
        return m + gain * (x - alpha * m)

    def likely(x: Tensor, t: Tensor) -> Tensor:
        return (-((y - a * believed(x)) ** 2) / (2 * (a**2 * spread + e**2))).flatten(1).sum(1)

    led = guidance.towards(lambda x, t: Belief(believed(x)), process, likely, 1.0)(x, t).x0
    pull = spread * a / (a**2 * spread + e**2)
    assert torch.allclose(led, believed(x) + pull * (y - a * believed(x)), atol=1e-10)


def test_guidance_is_led_by_words_or_by_the_clip_and_both_can_be_off():
    by_words, by_clip = built(), built(led_by="clip")
    request = Generate(prompt=ONE, count=2)
    plain = answer(by_words, replace(request, guidance=1.0))
    assert torch.allclose(answer(by_clip, replace(request, guidance=0.0)), plain, atol=1e-5)
    assert not torch.allclose(answer(by_words, request), plain, atol=1e-2)
    assert not torch.allclose(answer(by_clip, replace(request, guidance=30.0)), plain, atol=1e-2)


def test_a_clip_does_not_lead_where_there_is_nothing_but_noise():
    system = built(led_by="clip", guidance=1e6)
    seen = []
    system.likeness = lambda texts, x, t: seen.append(float(t[0])) or x.flatten(1).sum(1)  # type: ignore[method-assign]
    answer(system, Generate(prompt=ONE, count=1, steps=5))
    assert seen
    assert max(seen) < BLIND


def test_what_is_outside_the_mask_stays_to_the_bit_and_inside_is_new():
    system = built()
    images = DATA.batch(torch.arange(2))["image"]
    mask = torch.zeros(1, 1, 24, 24)
    mask[..., 5:14, 3:20] = 1
    out = answer(system, Edit(prompt=ONE, images=images, mask=mask, count=2))
    outside = mask.expand(2, 3, -1, -1) == 0
    assert torch.equal(out[outside], images[outside])
    assert (out - images)[~outside].abs().mean() > 0.1


def test_the_denoiser_sees_what_is_kept_and_where():
    system = built()
    images = DATA.batch(torch.arange(2))["image"]
    mask = torch.ones(1, 1, 24, 24)
    mask[..., :8, :] = 0
    seen = []
    system.denoiser.network.register_forward_pre_hook(lambda _, given: seen.append(given[2].spatial))
    answer(system, Edit(prompt=ONE, images=images, mask=mask, count=2, guidance=1.0))
    keep = 1 - mask.expand(2, -1, -1, -1)
    assert torch.equal(seen[0], torch.cat([images * keep, keep], 1)), "1 means keep, and the mask comes last"
    seen.clear()
    answer(system, Generate(prompt=ONE, count=2, guidance=1.0))
    assert not seen[0].any(), "a new picture is a hole all over"


def test_a_little_strength_stays_near_the_picture():
    system = built()
    images = DATA.batch(torch.arange(1))["image"]
    request = Edit(prompt=ONE, images=images, mask=torch.ones(1, 1, 24, 24), count=1, steps=10)
    near, far = (answer(system, replace(request, strength=s)) for s in (0.1, 1.0))
    assert (near - images).abs().mean() < (far - images).abs().mean()


def test_holes_are_rectangles_of_a_quarter_to_three_quarters_in_some_pictures():
    keep = kept(20, 28, 0.4, Rng.sampling(0, 400))
    some = keep.flatten(1).any(1)
    assert float(some.float().mean()) == pytest.approx(0.4, abs=0.07)
    holes = 1 - keep[some][:, 0]
    heights, widths = holes.amax(2).sum(1), holes.amax(1).sum(1)
    assert torch.equal(holes.sum((1, 2)), heights * widths), "each is one rectangle"
    assert 5 <= heights.min() < heights.max() <= 15
    assert 7 <= widths.min() < widths.max() <= 21


def test_requests_that_make_no_sense_are_refused():
    system = built()
    images = DATA.batch(torch.arange(1))["image"]
    with pytest.raises(UsageError, match="paints inside a mask of a given picture"):
        answer(system, Edit(prompt=ONE, images=images))
    with pytest.raises(UsageError, match="does not serve a Branch"):
        answer(system, Branch())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="multiples of 4, got 22 x 24"):
        answer(system, Generate(prompt=ONE, height=22, width=24))
    assert Edit in system.can
